"""However a day's trades were shared out between two collectors: the same day, and it is told who had what."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.cli.main import main
from crypto_lake.lake.manifests import BarsHour
from crypto_lake.model.copies import Copies, PublishedCopies, replica_of, summed
from crypto_lake.model.intervals import Interval
from crypto_lake.store import Store
from crypto_lake.upkeep.publish_copies import copies_of, differing_of, told
from crypto_lake.upkeep.publish_facts import RawFact
from crypto_lake.upkeep.publish_manifest import Differing
from support import publishing as p
from support.publishing import DAY, DAY_NS, END_NS, HOUR_NS, SECOND_NS, Line, Machine, send

A, B = "lake-a-0-9f3a", "lake-b-0-12cd"
# Both of one replica, as when a symbol moved to another shard.
A_MOVED = "lake-a-1-77aa"
BARS = "parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet"
LATER_NS = END_NS + 49 * HOUR_NS
FIRST, LAST = 1000, 1079
AFTER = [p.trade(LAST + 1, END_NS + SECOND_NS)]  # so that nothing of the day hangs on who watched its end


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def manifest(store: Store) -> dict[str, Any]:
    return json.loads(store.read(f"manifests/{BARS}.json")[1])


def trade(id_: int, received_ns: int = 0) -> Line:
    """Trades lie about four hours, several in a second."""
    time_ns = DAY_NS + 10 * HOUR_NS + (id_ - FIRST) // 3 * 600 * SECOND_NS
    return p.trade(id_, time_ns, received_ns or time_ns + 5_000_000)


def other(line: Line, old: str, new: str) -> Line:
    """A copy that says something else."""
    assert old.encode() in line.data
    return Line(line.received_ns, line.data.replace(old.encode(), new.encode(), 1), line.trade)


# Who has which


@dataclass(frozen=True)
class Split:
    """Of each id: how often a and b received it, and how late."""

    times: Mapping[int, tuple[int, int]]
    seed: int

    def lines(self, which: int) -> list[Line]:
        chance = random.Random(f"{self.seed} {which}")
        found: list[Line] = []
        for id_, times in self.times.items():
            for _ in range(times[which]):
                late_ns = chance.choice([3, 40, 250, 70_000, 2 * 3_600_000]) * 10**6
                found.append(trade(id_, trade(id_).received_ns + late_ns))
        return found

    def ids(self, which: int) -> set[int]:
        return {id_ for id_, times in self.times.items() if times[which]}


splits = st.builds(
    Split,
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=LAST - FIRST + 1, max_size=LAST - FIRST + 1
    ).map(lambda times: dict(enumerate(times, start=FIRST))),
    st.integers(0, 2**32),
)


def check_a_split(tmp: Path, split: Split) -> None:
    a, b = split.ids(0), split.ids(1)
    if not a | b:
        return
    wanted = p.bars_of(p.one_machine(tmp / "one", [split.lines(0), split.lines(1), AFTER]), LATER_NS)
    if {FIRST, LAST} <= a | b and len(a | b) == LAST - FIRST + 1:
        whole = p.one_machine(tmp / "whole", [[trade(id_) for id_ in split.times], AFTER])
        assert wanted == p.bars_of(whole, LATER_NS), "a copy or the order of receipt changed a bar"
    store = p.bucket(tmp / "bucket")
    for name, lines in ((A, split.lines(0)), (B, [*split.lines(1), *AFTER])):
        send(tmp, store, name, lines, LATER_NS)
    report = p.run(store, LATER_NS, days=[DAY])
    assert not report.problem, report
    assert p.published(store, tmp) == wanted
    made = manifest(store)
    holes = set(range(min(a | b), LAST + 1)) - a - b
    assert made["copies"] == {
        "trades": len(a | b),
        "shared": len(a & b),
        "only_a": len(a - b),
        "only_b": len(b - a),
        "only_other": 0,
        "missing": len(holes),
        "differing": 0,
    }
    assert made["trades"] == len(a | b)
    assert made["differing"] == []
    store.close()


@settings(max_examples=2, deadline=None, derandomize=True)
@given(split=splits)
def test_any_split_makes_the_same_day_and_is_counted(
    tmp_path_factory: pytest.TempPathFactory, split: Split
) -> None:
    check_a_split(tmp_path_factory.mktemp("lake"), split)


@pytest.mark.faults
@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(split=splits)
def test_any_split_makes_the_same_day_and_is_counted_at_length(
    tmp_path_factory: pytest.TempPathFactory, split: Split
) -> None:
    check_a_split(tmp_path_factory.mktemp("lake"), split)


COLLECTORS = (A, B, A_MOVED, "b", "one-machine-0a1b")
runs = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1])), max_size=4
)


def fact(collector: str, id_runs: Sequence[tuple[int, int]]) -> RawFact:
    name = f"raw/binance/BTCUSDT/{DAY}/{collector}/hour_05.jsonl.zst"
    return RawFact(name, collector, DAY, 5, "hour", 1, "sha", 7, tuple(sorted(id_runs)))


def record(trades: int, *conflicting: int) -> BarsHour:
    return BarsHour("", "", 1, trades, 0, conflicts=len(conflicting), conflicting=conflicting)


@given(
    st.dictionaries(st.sampled_from(COLLECTORS), runs, min_size=1),
    st.integers(1, 60),
    st.integers(0, 30),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_copies_are_counted_by_replica_as_sets_would(
    held: dict[str, list[tuple[int, int]]], first: int, more: int, conflicts: int, missing: int
) -> None:
    span = set(range(first, first + more + 1))
    copies: dict[str, set[int]] = {}
    for name, own in held.items():
        ids = {i for low, high in own for i in range(low, high + 1)} & span
        copies.setdefault(replica_of(name) or f"one: {name}", set()).update(ids)
    held_by = {i: [copy for copy, ids in copies.items() if i in ids] for i in set().union(*copies.values())}

    def only(copy: str) -> int:
        return sum(holders == [copy] for holders in held_by.values())

    hours = {5: record(len(held_by), *range(conflicts))}
    found = copies_of(
        [fact(*one) for one in held.items()], Interval(first, first + more), hours, missing=missing
    )
    assert found == Copies(
        trades=len(held_by),
        shared=sum(len(holders) > 1 for holders in held_by.values()),
        only_a=only("a"),
        only_b=only("b"),
        only_other=sum(only(copy) for copy in copies if copy.startswith("one")),
        missing=missing,
        differing=conflicts,
    )
    assert found.shared + found.only_a + found.only_b + found.only_other == found.trades
    twice = summed(DAY, [found, found])
    assert (twice.day, twice.symbols, twice.trades, twice.differing) == (
        DAY,
        2,
        2 * found.trades,
        2 * conflicts,
    )


def test_a_day_without_a_trade_has_no_copies_to_count() -> None:
    assert copies_of([fact(A, [])], None, {}, missing=0) == Copies()
    assert summed(DAY, []) == PublishedCopies(day=DAY, symbols=0)


@pytest.mark.parametrize(
    ("collector", "replica"),
    [
        (A, "a"),
        (B, "b"),
        ("my-b-lake-a-12-0f0f", "a"),
        ("a", ""),
        ("lake-c-0-9f3a", ""),
        ("host-9f3a", ""),
        ("lake-a-0", ""),
    ],
)
def test_a_collectors_name_tells_its_replica(collector: str, replica: str) -> None:
    assert replica_of(collector) == replica


def test_who_has_a_copy_of_a_trade_that_differs_is_named() -> None:
    facts = [fact(A, [(1, 500)]), fact(B, [(1, 3), (5, 400)]), fact("m", [(9, 9)])]
    found = differing_of(facts, {5: record(9, 4, 9), 6: record(9, 1)})
    assert found == (Differing(1, (A, B)), Differing(4, (A,)), Differing(9, (A, B, "m")))
    assert told(found, Copies(differing=3)) == f"two copies of 3 trades differ, the first is 1 of {A}, {B}"
    assert told((), Copies()) == told((), None) == ""
    assert len(differing_of(facts, {5: record(9, *range(100)), 6: record(9, *range(100, 200))})) == 100


# Copies that differ

WHOLE = [trade(id_) for id_ in range(FIRST, LAST + 1)]
# One of each field that a copy may differ in, of trades whose buyers are makers.
TIME_MS = (trade(FIRST + 7).received_ns - 5_000_000) // 10**6
STRANGE = {
    FIRST + 3: ('"p":"6', '"p":"5'),
    FIRST + 4: ('"q":"0', '"q":"7'),
    FIRST + 6: ('"m":true', '"m":false'),
    FIRST + 7: (f'"T":{TIME_MS}', f'"T":{TIME_MS + 1}'),
}


def strange(line: Line) -> Line:
    """What another collector has of the same trade."""
    return other(line, *STRANGE[line.trade]) if line.trade in STRANGE else line


def test_copies_that_differ_are_told_and_the_same_one_is_taken_whoever_has_it(tmp_path: Path) -> None:
    odd = [strange(line) for line in WHOLE]
    ids = sorted(STRANGE)
    bytes_of: list[bytes | None] = []
    for number, (of_a, of_b) in enumerate(((WHOLE, odd), (odd, [*WHOLE, WHOLE[0]]))):
        folder = tmp_path / str(number)
        place = p.bucket(folder / "bucket")
        send(folder, place, A, of_a, LATER_NS)
        send(folder, place, B, [*of_b, *AFTER], LATER_NS)
        report = p.run(place, LATER_NS, days=[DAY])
        made = manifest(place)
        assert made["differing"] == [{"id": id_, "collectors": [A, B]} for id_ in ids]
        assert (made["copies"]["differing"], made["copies"]["shared"]) == (4, len(WHOLE))
        (day,) = report.days
        assert (day.outcome, day.trades, day.differing) == ("published", len(WHOLE), 4)
        assert day.differ == f"two copies of 4 trades differ, the first is {ids[0]} of {A}, {B}"
        assert report.differing == [day]
        assert not report.problem, "the day stands"
        bytes_of.append(p.published(place, folder))
        place.close()
    assert bytes_of[0] == bytes_of[1] is not None


def test_the_copies_of_one_trade_in_two_hours_are_told_though_not_named(tmp_path: Path, store: Store) -> None:
    """Both are counted, each in its hour: that, at least, is known."""
    time_ms = (DAY_NS + 10 * HOUR_NS) // 10**6
    late = other(trade(FIRST + 2), f'"T":{time_ms}', f'"T":{time_ms + 7_200_000}')
    send(tmp_path, store, A, [*WHOLE, *AFTER], LATER_NS)
    send(tmp_path, store, B, [*WHOLE[:2], late, *WHOLE[3:]], LATER_NS)
    report = p.run(store, LATER_NS)
    assert [day.differ for day in report.differing] == [
        "two copies of 1 trade differ, in an hour beside their own"
    ]
    assert manifest(store)["copies"]["differing"] == 1


def test_the_command_tells_of_copies_that_differ_and_ends_with_3(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    send(tmp_path, store, A, [*WHOLE, *AFTER], LATER_NS)
    send(tmp_path, store, B, [*WHOLE[:3], strange(WHOLE[3]), *WHOLE[4:]], LATER_NS)
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "left"
    arguments = ["publish", "--set", f"gcs.url={store.url}", "--outcome", str(left)]
    assert main(arguments) == 3
    assert f"two copies of 1 trade differ, the first is {FIRST + 3} of {A}, {B}: first version" in (
        capsys.readouterr().out
    )
    outcome = json.loads(left.read_bytes())
    assert (outcome["ok"], outcome["problem"]) == (True, "")
    assert main([*arguments, "-o", "json"]) == 0, "the day stands, and is not told again"
    assert json.loads(capsys.readouterr().out)["copies"] == outcome["copies"], "it is told on"
    assert outcome["copies"]["day"] == "2024-08-09"


# What is told of the last published day


def test_the_last_published_day_tells_of_all_its_symbols(tmp_path: Path, store: Store) -> None:
    for name, ids in ((A, range(FIRST, LAST - 4)), (B, range(FIRST + 10, LAST + 2))):
        machine = Machine(tmp_path / name, name)
        machine.receive([trade(id_) for id_ in ids if id_ <= LAST])
        machine.receive(AFTER if ids[-1] > LAST else [])
        machine.receive(
            [p.trade(id_, DAY_NS + 5 * HOUR_NS, symbol="ETHUSDT") for id_ in range(5, 9)], symbol="ETHUSDT"
        )
        machine.send(store, LATER_NS)
    first = p.run(store, LATER_NS, days=[DAY])
    wanted = PublishedCopies(
        day=DAY, symbols=2, trades=len(WHOLE) + 4, shared=len(WHOLE) - 15 + 4, only_a=10, only_b=5
    )
    assert (first.last_published_day, first.copies) == (DAY, wanted)
    again = p.run(store, LATER_NS, days=[DAY])
    assert (again.up_to_date, again.copies) == (2, wanted), "by the listing alone"
    assert p.run(store, LATER_NS, symbols=["BTCUSDT"]).copies is None
    assert p.run(store, END_NS - 1).copies == wanted


def test_what_is_gone_from_the_bucket_is_told_on(tmp_path: Path, store: Store) -> None:
    send(tmp_path, store, A, WHOLE, LATER_NS)
    send(tmp_path, store, B, [*WHOLE[5:], *AFTER], LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    before = manifest(store)["copies"]
    assert before["only_a"] == 5
    folder = tmp_path / "bucket" / "raw" / "binance" / "BTCUSDT" / DAY / A
    for path in folder.iterdir():
        path.unlink()
    p.run(store, LATER_NS, days=[DAY], rebuild=True)
    made = manifest(store)
    assert made["copies"] == before
    assert any(one.get("gone") for one in made["inputs"])
