"""Collectors that come and go: one that ended is waited for no longer than its last word takes, one that crashed is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness.entries import AnyLine, Ended, Hole, Resumed, Seen
from crypto_lake.lake import uploads
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.store import Store
from crypto_lake.upkeep.bucket_verify import verify_bucket
from crypto_lake.upkeep.pending import Pending, PendingLook
from crypto_lake.upkeep.publish_facts import DayFacts, LedgerFact, RawFact, day_after
from crypto_lake.upkeep.publish_look import ledger_fact
from crypto_lake.upkeep.publish_plan import FINAL_ANYWAY_NS, Make, Waits, decide
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
    span,
)

NEXT = day_after(DAY)
LATE_NS = END_NS - HOUR_NS // 2  # in the day's last hour
BEFORE = span(1, 40, LATE_NS - 40 * 30 * SECOND_NS)
MOVED = span(41, 50, LATE_NS, 20 * SECOND_NS)  # both have them
REST = span(51, 150, LATE_NS + 10 * 20 * SECOND_NS)  # into the next day


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def two_collectors(tmp_path: Path) -> tuple[Machine, Machine]:
    """A symbol that moves from one to the other half an hour before the day ends."""
    old, new = Machine(tmp_path / "old", "old"), Machine(tmp_path / "new", "new")
    old.receive([*BEFORE, *MOVED])
    new.receive([*MOVED, *REST])
    return old, new


def pending(machine: Machine, store: Store) -> Pending:
    return PendingLook(machine.layout).look(store.url)


def ledger_names(store: Store, collector: str) -> list[str]:
    names = (stored.name for stored in store.list("ledger/"))
    return [name.removeprefix(f"ledger/{EXCHANGE}/{SYMBOL}/") for name in names if f"/{collector}" in name]


def test_a_symbol_that_moved_in_the_last_hour_holds_no_day_up(tmp_path: Path, store: Store) -> None:
    old, new = two_collectors(tmp_path)
    old.note(Ended(ended_ns=LATE_NS + 300 * SECOND_NS))
    for machine in (old, new):
        machine.send(store, SOON_NS)
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"


def test_one_that_crashed_in_the_last_hour_does(tmp_path: Path, store: Store) -> None:
    old, new = two_collectors(tmp_path)
    for machine in (old, new):
        machine.send(store, SOON_NS)
    waiting = p.run(store, SOON_NS).of("waits")[0]
    assert (waiting.day, waiting.text) == (DAY, "old has yet to upload the hour after the day")
    # And so does one that had ended, went on, and crashed then.
    old.note(Ended(ended_ns=LATE_NS + 300 * SECOND_NS), Resumed(resumed_ns=LATE_NS + 400 * SECOND_NS))
    old.send(store, SOON_NS + 23 * HOUR_NS)
    assert p.outcomes(p.run(store, SOON_NS + 23 * HOUR_NS))[DAY] == "waits"
    assert p.outcomes(p.run(store, END_NS + FINAL_ANYWAY_NS))[DAY] == "published"


def test_one_that_ended_has_nothing_left_before_its_day_is_over(tmp_path: Path, store: Store) -> None:
    old, new = two_collectors(tmp_path)
    now_ns = END_NS - HOUR_NS // 4
    old.send(store, now_ns)
    assert ledger_names(store, "old") == [], "it may go on"
    assert pending(old, store).bytes > 0
    old.note(Ended(ended_ns=now_ns))
    sealed_ns = END_NS + 120 * SECOND_NS
    old.send(store, sealed_ns)
    assert pending(old, store) == Pending(0, 0)
    assert ledger_names(store, "old") == [f"{DAY}/old.1.jsonl"]
    # Its volume is gone by now; the day is closed as soon as the other's is.
    assert p.outcomes(p.run(store, sealed_ns))[DAY] == "waits"
    new.send(store, SOON_NS)
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"
    assert verify_bucket(store).differences == []


def test_a_symbol_that_comes_back_the_same_day_closes_it_once(tmp_path: Path, store: Store) -> None:
    machine = Machine(tmp_path / "a", "a")
    noon_ns, evening_ns = DAY_NS + 12 * HOUR_NS, DAY_NS + 20 * HOUR_NS
    machine.receive(span(1, 10, noon_ns))
    machine.note(Ended(ended_ns=noon_ns + HOUR_NS))
    machine.send(store, noon_ns + 2 * HOUR_NS)
    assert pending(machine, store) == Pending(0, 0)
    machine.note(Resumed(resumed_ns=evening_ns))
    machine.send(store, evening_ns + 1)
    assert ledger_names(store, "a") == [f"{DAY}/a.1.jsonl", f"{DAY}/a.2.jsonl"]
    # As far as the bucket knows it may have gone on to the end of the day.
    assert "has not closed the day" in p.run(store, SOON_NS).of("waits")[0].text
    machine.receive(span(11, 20, evening_ns))
    machine.receive(span(21, 30, END_NS + SECOND_NS))
    machine.send(store, SOON_NS)
    assert ledger_names(store, "a") == [f"{DAY}/a.1.jsonl", f"{DAY}/a.2.jsonl", f"{DAY}/a.jsonl"]
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"
    assert verify_bucket(store).differences == []


def test_pieces_whose_records_are_lost_are_found_in_the_bucket(tmp_path: Path, store: Store) -> None:
    """Also where the day that they went before is over: its piece then holds what they do not."""
    machine = Machine(tmp_path / "a", "a")
    noon_ns = DAY_NS + 12 * HOUR_NS
    machine.receive(span(1, 10, noon_ns))
    for ended_ns in (noon_ns + HOUR_NS, noon_ns + 3 * HOUR_NS):
        machine.note(Ended(ended_ns=ended_ns))
        machine.send(store, ended_ns + HOUR_NS)
        machine.note(Resumed(resumed_ns=ended_ns + HOUR_NS))
    uploads.path_of(machine.layout, EXCHANGE, SYMBOL, uploads.LEDGER).unlink()
    machine.receive(span(11, 20, noon_ns + 9 * HOUR_NS))
    machine.send(store, SOON_NS)
    assert ledger_names(store, "a") == [f"{DAY}/a.1.jsonl", f"{DAY}/a.2.jsonl", f"{DAY}/a.jsonl"]
    report = verify_bucket(store)
    assert (report.differences, report.by_kind["ledger"]) == ([], 3)


# What a ledger says of a day


def seen(day: str, hour: int, id_: int) -> Seen:
    return Seen(hour=f"{day}T{hour:02d}", first_id=id_, last_id=id_, first_time_us=0, last_time_us=0)


@given(
    st.lists(st.tuples(st.integers(0, 47), st.sampled_from(["seen", "hole", "ended", "resumed"])), max_size=8)
)
def test_a_day_is_left_where_nothing_of_it_follows_an_end(steps: list[tuple[int, str]]) -> None:
    lines: list[AnyLine] = []
    left = False
    for number, (hour, what) in enumerate(sorted(steps, key=lambda step: step[0])):
        at_ns = DAY_NS + hour * HOUR_NS
        match what:
            case "seen":
                lines.append(seen(DAY if hour < 24 else NEXT, hour % 24, number))
            case "hole":
                made = Hole(
                    first_id=number,
                    last_id=number,
                    after_time_us=0,
                    before_time_us=0,
                    found_ns=at_ns,
                    cause="restart",
                )
                lines.append(made)
            case "ended":
                lines.append(Ended(ended_ns=at_ns))
            case _:
                lines.append(Resumed(resumed_ns=at_ns))
        if what == "ended":
            left = True
        elif hour < 24:
            left = False
    assert (ledger_fact(DAY, "", lines).ended_ns is not None) is left


def raw(collector: str, day: str, hour: int, *runs: tuple[int, int]) -> RawFact:
    name = f"raw/{EXCHANGE}/{SYMBOL}/{day}/{collector}/hour_{hour:02d}.jsonl.zst"
    return RawFact(name, collector, day, hour, "hour", 100, f"sha of {name}", 7, runs)


@given(
    hours=st.sets(st.integers(18, 23), min_size=1),
    ended=st.none() | st.tuples(st.integers(18, 25), st.integers(0, 3599)),
    closed=st.booleans(),
    next_hour=st.booleans(),
    to_come=st.booleans(),
)
def test_a_collector_is_waited_for_unless_it_ended_or_is_past_the_day(
    hours: set[int], ended: tuple[int, int] | None, closed: bool, next_hour: bool, to_come: bool
) -> None:
    """Beside one that has it all."""
    ended_ns = DAY_NS + ended[0] * HOUR_NS + ended[1] * SECOND_NS if ended else None
    whole = [raw("whole", DAY, 23, (1, 24)), raw("whole", NEXT, 0, (25, 30))]
    part = [raw("part", DAY, hour, (hour, hour)) for hour in sorted(hours)]
    part += [raw("part", NEXT, 0, (26, 26))] if next_hour else []
    ids = IntervalSet(Interval(hour, hour) for hour in hours)
    if to_come:
        ids.add(17)
    ledgers = {
        "whole": LedgerFact(DAY, IntervalSet([Interval(1, 24)])),
        "part": LedgerFact(DAY if closed else "", ids, ended_ns=ended_ns),
    }
    decided = decide(DayFacts(EXCHANGE, SYMBOL, DAY, [*whole, *part], ledgers), SOON_NS)
    by_its_word = ended_ns is not None and ended_ns >= Hour(DAY, max(hours)).start_ns
    past = closed and (next_hour or 23 not in hours)
    assert isinstance(decided, Make if (by_its_word or past) and not to_come else Waits), decided
