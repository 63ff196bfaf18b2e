"""Runs of `publish` on a bucket: versions, what is never dropped or overwritten, and runs that are cut off or meet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.completeness.entries import Hole, Outcome
from crypto_lake.lake import locks, uploads
from crypto_lake.lake.control import Alive, Subscribed
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, Unavailable, measure
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
    Killed,
    Machine,
    Tapped,
    killed,
    send,
    span,
)

NOON_NS = DAY_NS + 12 * HOUR_NS
LATER_NS = END_NS + 49 * HOUR_NS
BARS = "parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet"
MANIFEST = f"manifests/{BARS}.json"


# 1..20 at noon, 21..40 up to the end of the day, 41..60 from there on.
NOON = span(1, 20, NOON_NS)
EVENING = span(21, 40, END_NS - 20 * 30 * SECOND_NS)
AFTER = span(41, 60, END_NS + SECOND_NS)
WHOLE = [*NOON, *EVENING, *AFTER]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def manifest(store: Store) -> dict[str, Any]:
    return json.loads(store.read(MANIFEST)[1])


def rows(store: Store) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(store.read(BARS)[1]))


def ids(store: Store) -> int:
    return int(rows(store)["trade_count"].sum())


def tree(root: Path) -> dict[str, bytes]:
    """All objects of a `file://` bucket."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".store" not in path.parts
    }


def test_a_final_day_is_published_once_and_then_costs_nothing(tmp_path: Path, store: Store) -> None:
    machine = send(tmp_path, store, "a", WHOLE)
    early = p.run(store, END_NS - 1)
    assert [(day.outcome, day.text) for day in early.of("waits")][:1] == [("waits", "it is not over")]
    assert store.stat(BARS) is None
    dry = p.run(store, SOON_NS, dry_run=True)
    assert p.outcomes(dry)[DAY] == "planned"
    assert store.stat(BARS) is None
    report = p.run(store, SOON_NS)
    assert p.outcomes(report) == {DAY: "published", "2024-08-09": "waits"}
    assert not report.problem
    assert p.published(store, tmp_path) == p.bars_of(machine, SOON_NS)
    told, stored = manifest(store), store.stat(BARS)
    assert stored is not None
    assert (told["generation"], told["sha256"], told["version"]) == (stored.generation, stored.sha256, 1)
    assert (told["final_because"], told["missing_ids"], told["coming"]) == ("complete", 0, [])
    assert told["collectors"][0] | {"bytes": 0} == {
        "collector": "a",
        "objects": 3,
        "bytes": 0,
        "ids": 40,
        "only_here": 40,
        "missing_ids": 0,
        "missing": [],
    }
    noon = told["hours"][str(NOON_NS // HOUR_NS)]
    assert noon["inputs"] == ["2024-08-08/a/hour_12.jsonl.zst"]
    again = p.run(store, SOON_NS)
    assert (again.up_to_date, again.bytes_read, p.outcomes(again)) == (1, 0, {"2024-08-09": "waits"})
    assert store.stat(BARS) == stored


def test_a_lost_volume_and_its_successor_make_one_day(tmp_path: Path, store: Store) -> None:
    """The first directory is gone with its last hour; the second has another collector's name, and hours of the same name."""
    send(tmp_path, store, "prod-0-aaaa", NOON[:24], NOON_NS + 2 * HOUR_NS)
    (tmp_path / "prod-0-aaaa").rename(tmp_path / "lost")
    new = Machine(tmp_path / "data", "prod-0-bbbb")
    new.receive([*NOON[16:], *EVENING, *AFTER])
    new.send(store, SOON_NS)
    names = [stored.name for stored in store.list("raw/binance/BTCUSDT/2024-08-08/")]
    assert [name for name in names if name.endswith("hour_12.jsonl.zst")] == [
        f"raw/binance/BTCUSDT/2024-08-08/prod-0-{c}/hour_12.jsonl.zst" for c in ("aaaa", "bbbb")
    ]
    # Nobody knows what else the lost one would have brought.
    waits = p.run(store, SOON_NS).of("waits")
    assert "prod-0-aaaa has not closed the day" in waits[0].text
    report = p.run(store, LATER_NS, layout=new.layout)
    assert not report.problem
    assert (ids(store), manifest(store)["missing_ids"]) == (40, 0)
    one = p.one_machine(tmp_path / "one", [NOON[:24], [*NOON[16:], *EVENING, *AFTER]])
    assert p.published(store, tmp_path) == p.bars_of(one, LATER_NS)
    told = {c["collector"]: (c["ids"], c["only_here"]) for c in manifest(store)["collectors"]}
    assert told == {"prod-0-aaaa": (12, 8), "prod-0-bbbb": (32, 28)}


def test_what_comes_later_makes_a_new_version(tmp_path: Path, store: Store) -> None:
    hole = [line for line in WHOLE if line.trade not in (5, 6)]
    machine = send(tmp_path, store, "a", hole)
    assert "2 missing trades" in p.run(store, SOON_NS).of("waits")[0].text
    p.run(store, LATER_NS)
    first = store.stat(BARS)
    assert first is not None
    assert (ids(store), manifest(store)["missing"], manifest(store)["final_because"]) == (
        38,
        [[5, 6]],
        "time",
    )
    heal = [p.healed(n, NOON_NS + (n - 1) * 30 * SECOND_NS, SOON_NS) for n in (5, 6)]
    machine.heal(heal, Hour(DAY, 12))
    machine.send(store, LATER_NS + HOUR_NS)
    report = p.run(store, LATER_NS + HOUR_NS)
    assert [(day.outcome, day.version) for day in report.of("published")] == [("published", 2)]
    second = store.stat(BARS)
    assert second is not None
    assert second.generation > first.generation
    assert (ids(store), manifest(store)["generation"], manifest(store)["missing"]) == (
        40,
        second.generation,
        [],
    )
    assert "healed" in set(rows(store)["state"])
    assert p.published(store, tmp_path) == p.bars_of(machine, LATER_NS + HOUR_NS)


def test_holes_with_an_outcome_are_not_waited_for(tmp_path: Path, store: Store) -> None:
    machine = Machine(tmp_path / "a", "a")
    machine.receive([line for line in WHOLE if line.trade != 5])
    hole = Hole(
        first_id=5, last_id=5, after_time_us=0, before_time_us=0, found_ns=SOON_NS, cause="disconnect"
    )
    machine.note(hole, Outcome(first_id=5, last_id=5, action="rest", outcome="unavailable"))
    machine.send(store, SOON_NS + 25 * HOUR_NS)  # the line is of the next day: its piece closes with that
    report = p.run(store, SOON_NS + 25 * HOUR_NS)
    assert p.outcomes(report)[DAY] == "published"
    assert (manifest(store)["final_because"], manifest(store)["missing"]) == ("complete", [[5, 5]])


def test_more_of_the_same_is_noted_and_changes_no_file(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", WHOLE)
    p.run(store, SOON_NS)
    first = store.stat(BARS)
    copies = [line for line in WHOLE if line.trade is not None]
    send(tmp_path, store, "b", copies)
    report = p.run(store, SOON_NS)
    assert p.outcomes(report)[DAY] == "noted"
    assert store.stat(BARS) == first
    told = manifest(store)
    assert (told["version"], len(told["collectors"]), told["collectors"][0]["only_here"]) == (1, 2, 0)
    assert p.run(store, SOON_NS).of("noted", "published") == []


def test_raw_that_is_gone_from_the_bucket_takes_no_row_with_it(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", [line for line in WHOLE if line.trade != 33])
    p.run(store, LATER_NS)
    before = rows(store)
    folder = tmp_path / "bucket" / "raw" / EXCHANGE / SYMBOL / DAY / "a"
    (folder / "hour_12.jsonl.zst").unlink()  # such as by a rule of the bucket's
    report = p.run(store, LATER_NS, rebuild=True)
    assert not report.problem
    assert rows(store).equals(before)
    assert [one["path"] for one in manifest(store)["inputs"] if one.get("gone")] == [
        "raw/binance/BTCUSDT/2024-08-08/a/hour_12.jsonl.zst"
    ]
    # Then more comes: of the hour that is kept, and of one that is made anew.
    other = [line for line in [*NOON, *EVENING] if line.trade in (3, 33)]
    send(tmp_path, store, "b", other, LATER_NS)
    report = p.run(store, LATER_NS)
    assert [(day.outcome, day.version, day.carried_hours) for day in report.of("published")] == [
        ("published", 2, 1)
    ]
    after, noon = rows(store), pl.col("window_start").dt.hour() == 12
    assert after.filter(noon).equals(before.filter(noon))
    assert ids(store) == 40
    assert p.run(store, LATER_NS, days=[DAY]).days == []


def test_what_another_wrote_is_never_overwritten(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", WHOLE)
    p.run(store, SOON_NS)
    stored = store.stat(BARS)
    assert stored is not None
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not ours")
    store.put(foreign, BARS, measure(foreign), replaces=stored.generation)
    for _ in range(2):
        report = p.run(store, LATER_NS)
        assert p.outcomes(report)[DAY] == "alert"
        assert "another program wrote it" in report.problem
    send(tmp_path, store, "b", [p.trade(1, NOON_NS)])
    assert p.outcomes(p.run(store, LATER_NS, rebuild=True))[DAY] == "alert"
    assert store.read(BARS)[1] == b"not ours"


def test_a_lost_manifest_is_made_again_where_the_file_is_what_raw_makes(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", WHOLE)
    p.run(store, SOON_NS)
    first, told = store.stat(BARS), manifest(store)
    (tmp_path / "bucket" / MANIFEST).unlink()
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "completed"
    assert (store.stat(BARS), manifest(store)) == (first, told)
    (tmp_path / "bucket" / MANIFEST).unlink()
    send(
        tmp_path, store, "b", [p.trade(20, NOON_NS + HOUR_NS)]
    )  # says otherwise: a conflict, and another file
    heal = Machine(tmp_path / "c", "c")
    heal.heal([p.healed(20, NOON_NS + HOUR_NS, SOON_NS)], Hour(DAY, 13))
    heal.send(store, SOON_NS)
    assert p.outcomes(p.run(store, LATER_NS))[DAY] == "alert"
    assert store.stat(BARS) == first


def test_raw_that_is_not_what_its_manifest_says_is_an_alert(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", WHOLE)
    path = tmp_path / "bucket" / "raw" / EXCHANGE / SYMBOL / DAY / "a" / "hour_12.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    report = p.run(store, LATER_NS)
    assert p.outcomes(report)[DAY] == "alert"
    assert "hour_12.jsonl.zst has crc32c" in report.problem
    assert store.stat(BARS) is None


def test_a_new_version_of_a_day_reaches_the_day_after(tmp_path: Path, store: Store) -> None:
    """A quote is all that is known of the second day's beginning; a trade that comes later gives its close."""
    machine = send(
        tmp_path,
        store,
        "a",
        [*NOON, p.quote(900, NOON_NS + 5 * HOUR_NS), *span(41, 60, END_NS + 3 * HOUR_NS)],
        LATER_NS,
    )
    p.run(store, LATER_NS + 24 * HOUR_NS)
    before = END_NS - HOUR_NS
    machine.heal([p.healed(n, before - n * SECOND_NS, LATER_NS) for n in range(21, 41)], Hour(DAY, 22))
    machine.send(store, LATER_NS)
    report = p.run(store, LATER_NS + 24 * HOUR_NS)
    assert [(day.day, day.outcome, day.version) for day in report.days] == [
        (DAY, "published", 2),
        ("2024-08-09", "published", 2),
    ]
    for day in (DAY, "2024-08-09"):
        assert p.published(store, tmp_path, day) == p.bars_of(machine, LATER_NS + 24 * HOUR_NS, day)


def test_a_symbol_that_is_no_longer_traded_ends_where_its_connection_was_last_seen(
    tmp_path: Path, store: Store
) -> None:
    machine = Machine(tmp_path / "a", "a")
    machine.receive(NOON)
    last = NOON_NS + 20 * 30 * SECOND_NS
    connection = f"c-{NOON[-2].received_ns % 2}"
    machine.events(
        [(NOON_NS - SECOND_NS, connection, Subscribed(("btcusdt@trade",)))]
        + [(last + n * SECOND_NS, connection, Alive((last + n * SECOND_NS) // 1000, 1)) for n in range(60)]
    )
    machine.send(store, LATER_NS)
    assert p.outcomes(p.run(store, LATER_NS)) == {DAY: "published"}
    assert p.published(store, tmp_path) == p.bars_of(machine, LATER_NS)
    assert rows(store)["window_start"].max().timestamp() == last // SECOND_NS + 56  # pyright: ignore
    assert len(manifest(store)["control"]) == 2


def test_local_raw_is_taken_only_where_it_is_the_same(tmp_path: Path, store: Store) -> None:
    machine = send(tmp_path, store, "a", WHOLE)
    path = machine.layout.raw_day(EXCHANGE, SYMBOL, DAY) / "hour_12.jsonl.zst"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\0")
    report = p.run(store, SOON_NS, layout=machine.layout)
    assert not report.problem
    assert report.bytes_read == len(data)
    path.write_bytes(data)
    assert p.published(store, tmp_path) == p.bars_of(machine, SOON_NS)
    # Who cleans up learns from it that the day is in the bucket.
    p.run(store, SOON_NS, layout=machine.layout)
    record = uploads.read(machine.layout, EXCHANGE, SYMBOL, DAY, store.url)[BARS]
    assert record.generation == manifest(store)["generation"]
    assert not list((machine.layout.state / "publishing").iterdir())
    task = json.loads((machine.layout.state / "tasks" / "publish.json").read_bytes())
    assert (task["ok"], task["figures"]["up_to_date"]) == (True, 1)
    with locks.hold(machine.layout.locks, "upload"), pytest.raises(locks.LockHeldError, match="upload"):
        p.run(store, SOON_NS, layout=machine.layout)


# Runs that are cut off, and runs that meet


PUTS = [MANIFEST, BARS, MANIFEST]
# Before the first put, between two (after one is before the next), and after the last.
BETWEEN = [(1, False), (2, False), (3, False), (3, True)]
# Of a first or a second version, and whether other raw comes in meanwhile.
VARIANTS = [
    pytest.param(2, True),
    *(pytest.param(*one, marks=pytest.mark.faults) for one in ((1, False), (1, True), (2, False))),
]


@pytest.mark.parametrize(("version", "more"), VARIANTS)
@pytest.mark.parametrize(("put", "after"), BETWEEN)
def test_a_publish_that_is_cut_off_anywhere_is_completed(
    tmp_path: Path, store: Store, version: int, after: bool, put: int, more: bool
) -> None:
    """`more`: other raw comes in before the next run, so that it would make other bytes."""
    send(tmp_path, store, "a", [line for line in WHOLE if line.trade not in (5, 6)], SOON_NS)
    if version == 2:
        p.run(store, LATER_NS, days=[DAY])
        send(tmp_path, store, "b", [line for line in NOON if line.trade == 5], LATER_NS)
    was = p.published(store, tmp_path)
    tapped = Tapped(store, put, **{"after" if after else "before": killed})
    with pytest.raises(Killed):
        p.run(tapped, LATER_NS, days=[DAY])  # pyright: ignore[reportArgumentType]
    assert tapped.names == PUTS[:put]
    now = p.published(store, tmp_path)
    done = put + after > 2  # the file was put
    assert (now == was) is not done
    if more:
        send(tmp_path, store, "c", [line for line in NOON if line.trade == 6], LATER_NS)
    report = p.run(store, LATER_NS, days=[DAY])
    assert not report.problem
    told, stored = manifest(store), store.stat(BARS)
    assert stored is not None
    assert (told["generation"], told["sha256"], told["coming"]) == (stored.generation, stored.sha256, [])
    assert told["version"] == version + (more and done)
    assert ids(store) == 38 + (version == 2) + more
    if done and not more:
        assert p.published(store, tmp_path) == now
    last = p.run(store, LATER_NS, days=[DAY])
    assert (last.up_to_date, last.days) == (1, [])


@pytest.mark.parametrize(("version", "more"), VARIANTS)
@pytest.mark.parametrize(("put", "after"), BETWEEN)
def test_of_two_publishers_one_wins_and_the_other_says_so(
    tmp_path: Path, store: Store, version: int, after: bool, put: int, more: bool
) -> None:
    """The second one runs whole within a put of the first. `more`: it knows of raw that the first has not seen."""
    send(tmp_path, store, "a", [line for line in WHOLE if line.trade not in (5, 6)], SOON_NS)
    if version == 2:
        p.run(store, LATER_NS, days=[DAY])
        send(tmp_path, store, "b", [line for line in NOON if line.trade == 5], LATER_NS)
    reports: list[Any] = []

    def other() -> None:
        if more:
            send(tmp_path, store, "c", [line for line in NOON if line.trade == 6], LATER_NS)
        reports.append(p.run(store, LATER_NS, days=[DAY]))

    tapped = Tapped(store, put, **{"after" if after else "before": other})
    reports.append(p.run(tapped, LATER_NS, days=[DAY]))  # pyright: ignore[reportArgumentType]
    assert len(reports) == 2
    assert not any(report.problem for report in reports), reports
    # Whoever comes next completes what is left, and there is nothing of the race to be seen.
    assert not p.run(store, LATER_NS, days=[DAY]).problem
    told, stored = manifest(store), store.stat(BARS)
    assert stored is not None
    assert (told["generation"], told["sha256"], told["coming"]) == (stored.generation, stored.sha256, [])
    assert ids(store) == 38 + (version == 2) + more
    last = p.run(store, LATER_NS, days=[DAY])
    assert (last.up_to_date, last.days) == (1, [])


@pytest.mark.parametrize("put", [1, 2])
def test_the_file_of_a_slow_publisher_is_known_though_another_began_meanwhile(
    tmp_path: Path, store: Store, put: int
) -> None:
    """The other one makes more of it, and is killed: before its file, or when the slow one's is there already."""
    send(tmp_path, store, "a", [line for line in WHOLE if line.trade not in (5, 6)], SOON_NS)

    def other() -> None:
        send(tmp_path, store, "b", [line for line in NOON if line.trade == 5], LATER_NS)
        with pytest.raises(Killed):
            p.run(Tapped(store, 1, after=killed), LATER_NS, days=[DAY])  # pyright: ignore[reportArgumentType]

    slow = Tapped(store, put, **{"after" if put == 1 else "before": other})
    report = p.run(slow, LATER_NS, days=[DAY])  # pyright: ignore[reportArgumentType]
    assert (report.problem, p.outcomes(report)[DAY]) == ("", "raced")
    assert (ids(store), manifest(store)["version"], len(manifest(store)["coming"])) == (38, 0, 2)
    report = p.run(store, LATER_NS, days=[DAY])
    assert [day.outcome for day in report.days] == ["completed", "published"]
    assert (ids(store), manifest(store)["version"], manifest(store)["coming"]) == (39, 2, [])


def test_a_store_that_fails_ends_the_run_and_says_why(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, "a", WHOLE)

    def fail() -> None:
        raise Unavailable("no answer", at=store.url, hint="Try again later.")

    report = p.run(Tapped(store, 2, before=fail), SOON_NS)  # pyright: ignore[reportArgumentType]
    assert (report.error_is_transient, "no answer" in report.problem) == (True, True)
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"
