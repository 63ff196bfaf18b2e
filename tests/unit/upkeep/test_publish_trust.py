"""What may not happen to a published day, whoever runs beside, whatever is taken away, and whatever is set wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.lake.control import Alive, Subscribed
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, measure
from crypto_lake.upkeep.publish_facts import day_after
from support import publishing as p
from support.publishing import (
    DAY,
    DAY_NS,
    END_NS,
    EXCHANGE,
    HOUR_NS,
    SECOND_NS,
    SOON_NS,
    SYMBOL,
    Machine,
    Tapped,
    send,
    span,
)

NEXT = day_after(DAY)
NEXT_SOON_NS = SOON_NS + 24 * HOUR_NS
NOON_NS = DAY_NS + 12 * HOUR_NS
LATER_NS = END_NS + 49 * HOUR_NS
# Ids run on over three days, with quiet hours at both ends of the second one: its first rows stand on the first day.
FIRST = span(1, 20, NOON_NS)
SECOND = span(21, 40, END_NS + 12 * HOUR_NS)
THIRD = span(41, 60, END_NS + 26 * HOUR_NS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def name(day: str = DAY) -> str:
    year, month, date = day.split("-")
    return f"parquet/{EXCHANGE}/{SYMBOL}/year={year}/month={month}/day={date}/bars.parquet"


def manifest(store: Store, day: str = DAY) -> dict[str, Any]:
    return json.loads(store.read(f"manifests/{name(day)}.json")[1])


def rows(store: Store, day: str = DAY) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(store.read(name(day))[1]))


def three_days(tmp_path: Path, store: Store) -> Machine:
    return send(tmp_path, store, "a", [*FIRST, *SECOND, *THIRD], LATER_NS)


def test_a_day_before_that_another_program_wrote_takes_nothing_from_the_day_after(
    tmp_path: Path, store: Store
) -> None:
    """The day after it is three days later, so that nothing but the published day tells what stood before."""
    far, now_ns = "2024-08-11", LATER_NS + 72 * HOUR_NS
    days = [DAY, far]
    lines = [*FIRST, *span(21, 40, END_NS + 60 * HOUR_NS), *span(41, 60, END_NS + 74 * HOUR_NS)]
    send(tmp_path, store, "a", lines, now_ns)
    assert set(p.outcomes(p.run(store, now_ns, days=days)).values()) == {"published"}
    before = rows(store, far)
    assert before["window_start"].dt.hour().min() == 0
    stored = store.stat(name())
    assert stored is not None
    (tmp_path / "foreign").write_bytes(b"not ours")
    store.put(tmp_path / "foreign", name(), measure(tmp_path / "foreign"), replaces=stored.generation)
    for _ in range(2):
        report = p.run(store, now_ns, days=days)
        assert p.outcomes(report)[DAY] == "alert"
        assert rows(store, far).equals(before)
    assert manifest(store, far)["version"] == 1
    assert store.read(name())[1] == b"not ours"


def test_days_that_were_taken_out_of_the_bucket_take_nothing_from_those_after(
    tmp_path: Path, store: Store
) -> None:
    machine = three_days(tmp_path, store)
    p.run(store, LATER_NS, days=[DAY, NEXT])
    before = rows(store, NEXT)
    for folder in ("parquet", "manifests/parquet", f"raw/{EXCHANGE}/{SYMBOL}/{DAY}"):
        for path in sorted((tmp_path / "bucket" / folder).rglob("*")):
            if path.is_file() and ("day=08" in str(path) or DAY in str(path)):
                path.unlink()
    for path in (tmp_path / "bucket" / f"manifests/raw/{EXCHANGE}/{SYMBOL}/{DAY}").rglob("*.json"):
        path.unlink()
    send(tmp_path, store, "b", [SECOND[0]], LATER_NS)
    report = p.run(store, LATER_NS, days=[NEXT])
    assert not report.problem
    assert rows(store, NEXT).equals(before)
    assert len(manifest(store, NEXT)["collectors"]) == 2
    generation = store.stat(f"manifests/{name(NEXT)}.json")
    p.run(store, LATER_NS, days=[NEXT])
    assert store.stat(f"manifests/{name(NEXT)}.json") == generation
    assert machine.collector == "a"


@pytest.mark.parametrize("put", [1, 2, 3])
def test_who_loses_a_race_goes_on_from_the_winners_day(tmp_path: Path, store: Store, put: int) -> None:
    """Of a backlog: the other one has made both days when this one comes to the second."""
    send(tmp_path, store, "a", [line for line in [*FIRST, *SECOND, *THIRD] if line.trade != 20], LATER_NS)
    raced: list[Any] = []

    def other() -> None:
        send(tmp_path, store, "b", [line for line in FIRST if line.trade == 20], LATER_NS)
        raced.append(p.run(store, LATER_NS, days=[DAY]))

    tapped = Tapped(store, put, before=other)
    report = p.run(tapped, LATER_NS, days=[DAY, NEXT])  # pyright: ignore[reportArgumentType]
    assert [p.outcomes(one)[DAY] for one in (*raced, report)] == ["published", "raced"]
    assert p.outcomes(report)[NEXT] == "published"
    assert manifest(store, NEXT)["before"]["last"][0] == 20
    assert p.run(store, LATER_NS, days=[DAY, NEXT]).up_to_date == 2


def test_the_trade_after_a_day_may_go_without_its_last_rows(tmp_path: Path, store: Store) -> None:
    """The rows up to midnight are known by the next trade, whose raw is taken away; then more comes in."""
    evening = span(21, 40, NOON_NS + 10 * HOUR_NS)
    after = span(41, 60, END_NS + 3 * HOUR_NS)
    lines = [line for line in [*FIRST, *evening, *after] if line.trade != 3]
    send(tmp_path, store, "a", lines, LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    before = rows(store)
    for kind in ("raw", "manifests/raw"):
        for path in (tmp_path / "bucket" / kind / EXCHANGE / SYMBOL / NEXT).rglob("hour*"):
            path.unlink()
    send(tmp_path, store, "b", [line for line in FIRST if line.trade == 3], LATER_NS)
    report = p.run(store, LATER_NS, days=[DAY])
    assert not report.problem
    now = rows(store)
    assert int(now["trade_count"].sum()) == 40
    assert now.height >= before.height
    assert now.filter(pl.col("window_start").dt.hour() >= 22).equals(
        before.filter(pl.col("window_start").dt.hour() >= 22)
    )


def test_a_connection_that_was_opened_the_day_before_is_known(tmp_path: Path, store: Store) -> None:
    machine = Machine(tmp_path / "a", "a")
    machine.receive(FIRST)
    last = NOON_NS + 20 * 30 * SECOND_NS
    connection = f"c-{FIRST[-2].received_ns % 2}"
    machine.events(
        [(DAY_NS - HOUR_NS, connection, Subscribed(("btcusdt@trade",)))]
        + [(last + n * SECOND_NS, connection, Alive((last + n * SECOND_NS) // 1000, 1)) for n in range(60)]
    )
    machine.send(store, LATER_NS)
    assert p.outcomes(p.run(store, LATER_NS))[DAY] == "published"
    assert p.published(store, tmp_path) == p.bars_of(machine, LATER_NS)
    assert rows(store)["window_start"].max().timestamp() == last // SECOND_NS + 56  # pyright: ignore


def test_a_second_is_known_if_any_collector_watched_it(tmp_path: Path, store: Store) -> None:
    """One starts anew while the other goes on; and its clock is ten minutes off."""
    off = 600 * SECOND_NS
    last = NOON_NS + 20 * 30 * SECOND_NS
    one, other = Machine(tmp_path / "a", "a"), Machine(tmp_path / "b", "b")
    one.receive(FIRST)
    connection = f"c-{FIRST[-2].received_ns % 2}"
    one.events(
        [(NOON_NS - SECOND_NS, connection, Subscribed(("btcusdt@trade",)))]
        + [(last + n * SECOND_NS, connection, Alive((last + n * SECOND_NS) // 1000, 1)) for n in range(60)]
    )
    other.events(
        [(last + off + 30 * SECOND_NS, "d-1", Subscribed(("btcusdt@trade",)))]
        + [
            (last + off + n * SECOND_NS, "d-1", Alive((last + n * SECOND_NS) // 1000, 1))
            for n in range(40, 300)
        ]
    )
    one.send(store, LATER_NS)
    other.send(store, LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    assert rows(store)["window_start"].max().timestamp() == last // SECOND_NS + 296  # pyright: ignore


def test_a_collector_of_quotes_alone_keeps_no_day_waiting(tmp_path: Path, store: Store) -> None:
    """It has no trade, so its ledger has no day that it could close."""
    evening = span(21, 40, END_NS - 20 * 30 * SECOND_NS)
    after = span(41, 60, END_NS + SECOND_NS)
    lines = [*FIRST, *evening, *after]
    send(tmp_path, store, "a", lines)
    quotes = [p.quote(9 * n, NOON_NS + n * HOUR_NS // 2) for n in range(1, 26)]
    send(tmp_path, store, "q", quotes)
    report = p.run(store, SOON_NS, days=[DAY])
    assert p.outcomes(report) == {DAY: "published"}
    assert manifest(store)["final_because"] == "complete"
    assert [c["collector"] for c in manifest(store)["collectors"]] == ["a", "q"]


def test_raw_that_is_gone_before_its_day_is_published_is_told(tmp_path: Path, store: Store) -> None:
    lines = [*FIRST, *span(21, 40, END_NS - 20 * 30 * SECOND_NS), *span(41, 60, END_NS + SECOND_NS)]
    send(tmp_path, store, "a", lines)
    gone = f"raw/{EXCHANGE}/{SYMBOL}/{DAY}/a/hour_12.jsonl.zst"
    (tmp_path / "bucket" / gone).unlink()
    told = p.run(store, SOON_NS, days=[DAY]).of("waits")[0].text
    assert "1 objects of it are gone, the first is " + gone in told


def test_late_raw_of_a_clock_that_is_behind_is_looked_at(tmp_path: Path, store: Store) -> None:
    """It received the day's trades in an hour of the day before, as its clock had it, and brings them late."""
    start = DAY_NS + 5 * 60 * SECOND_NS
    early = span(1, 20, start)
    lines = [*early, *span(21, 40, END_NS - 20 * 30 * SECOND_NS), *span(41, 60, END_NS + SECOND_NS)]
    send(tmp_path, store, "a", [line for line in lines if line.trade != 5], LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    assert manifest(store)["missing"] == [[5, 5]]
    behind = Machine(tmp_path / "b", "b")
    behind.receive([p.trade(5, start + 4 * 30 * SECOND_NS, start - 3 * HOUR_NS)])
    behind.send(store, LATER_NS)
    report = p.run(store, LATER_NS, days=[DAY])
    assert p.outcomes(report)[DAY] == "published"
    assert (manifest(store)["version"], manifest(store)["missing"]) == (2, [])


def test_a_trade_that_comes_for_an_hour_whose_raw_is_gone_is_named(tmp_path: Path, store: Store) -> None:
    lines = [*FIRST, *span(21, 40, END_NS - 20 * 30 * SECOND_NS), *span(41, 60, END_NS + SECOND_NS)]
    machine = send(tmp_path, store, "a", [line for line in lines if line.trade != 5], LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    before = rows(store)
    (tmp_path / "bucket" / f"raw/{EXCHANGE}/{SYMBOL}/{DAY}/a/hour_12.jsonl.zst").unlink()
    machine.heal([p.healed(5, NOON_NS + 4 * 30 * SECOND_NS, SOON_NS)], Hour(DAY, 12))
    machine.send(store, LATER_NS)
    told = p.run(store, LATER_NS, days=[DAY]).days[0]
    assert rows(store).equals(before)
    assert told.outcome == "noted"
    assert "hour 12" in told.text
    assert "is gone" in told.text


def test_what_a_publisher_that_was_killed_left_is_taken_away_and_nothing_else(
    tmp_path: Path, store: Store
) -> None:
    import subprocess
    import sys

    send(tmp_path, store, "a", FIRST)
    staging = tmp_path / "staging"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from crypto_lake.upkeep import publish_folder\n"
        "with publish_folder.temporary(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'x').write_bytes(b'raw')\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read(1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    other = staging / "publish-of-another"
    other.mkdir(parents=True)
    (other / "x").write_bytes(b"theirs")
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(staging)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdin is not None
    assert run.stdout is not None
    left = Path(run.stdout.readline().strip())
    assert (left / "x").is_file()
    p.run(store, SOON_NS, staging=staging)
    assert (left / "x").is_file(), "its publisher is alive"
    run.communicate("x")
    assert run.returncode == -9
    assert left.is_dir()
    p.run(store, SOON_NS, staging=staging)
    assert [path.name for path in staging.iterdir()] == [other.name]
    assert (other / "x").is_file()
