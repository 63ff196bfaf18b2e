"""Trades that nobody has at the turn of two days, and across days without any: of which days they are told."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.store import Store
from crypto_lake.upkeep.publish_facts import DayFacts, LedgerFact, RawFact, day_after
from crypto_lake.upkeep.publish_ids import ids_of, missing_of
from crypto_lake.upkeep.publish_manifest import NOTHING_STANDS, Standing
from crypto_lake.upkeep.publish_plan import FINAL_ANYWAY_NS, Make, Waits, decide, decide_made, inputs_of
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
    Line,
    send,
)

NEXT = day_after(DAY)
MS = 10**6
MINUTE_NS = 60 * SECOND_NS
LATER_NS = END_NS + FINAL_ANYWAY_NS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def trades(first: int, last: int, start_ns: int, step_ns: int = SECOND_NS) -> list[Line]:
    return [p.trade(first + n, start_ns + n * step_ns) for n in range(last - first + 1)]


def quotes(*days: str) -> list[Line]:
    """One an hour."""
    return [p.quote(h, Hour(day, 0).start_ns + h * HOUR_NS + MINUTE_NS) for day in days for h in range(24)]


def manifest(store: Store, day: str = DAY) -> dict[str, Any]:
    return json.loads(store.read(f"manifests/{bars_name(day)}.json")[1])


def told(store: Store, day: str = DAY) -> tuple[str, int, list[list[int]]]:
    made = manifest(store, day)
    return made["final_because"], made["missing_ids"], made["missing"]


def bars_name(day: str) -> str:
    year, month, date = day.split("-")
    return f"parquet/{EXCHANGE}/{SYMBOL}/year={year}/month={month}/day={date}/bars.parquet"


def last_bar(store: Store) -> tuple[int, str]:
    """The last trade of the day's last second, and the state of that."""
    rows = pl.read_parquet(io.BytesIO(store.read(bars_name(DAY))[1]))
    return rows.filter(pl.col("trade_count") > 0).select("last_trade_id", "state").row(-1)


EVENING = trades(900, 999, END_NS - 200 * SECOND_NS)
LAST_NS = END_NS - 400_000  # in the day's last millisecond
TOO_LATE = p.trade(1000, LAST_NS, LAST_NS + 3 * MS)  # received in the next day


@pytest.mark.parametrize("outage_ns", [5 * MINUTE_NS, 90 * MINUTE_NS], ids=["short", "past the next hour"])
def test_a_hole_behind_a_last_trade_that_is_received_after_midnight_is_the_days(
    tmp_path: Path, store: Store, outage_ns: int
) -> None:
    back_ns = END_NS + outage_ns
    machine = send(
        tmp_path, store, "a", [*EVENING, TOO_LATE, *quotes(DAY), *trades(1050, 1060, back_ns)], back_ns
    )
    late_ns = back_ns + 2 * HOUR_NS
    machine.send(store, late_ns)
    assert p.run(store, late_ns, days=[DAY]).of("waits")[0].text == "49 missing trades have no outcome yet"
    p.run(store, LATER_NS, days=[DAY])
    assert told(store) == ("time", 49, [[1001, 1049]])
    assert last_bar(store) == (1000, "incomplete")
    # What was missed is fetched after all: before midnight a little of it was.
    machine.heal([p.healed(n, END_NS - MS, LATER_NS) for n in range(1001, 1011)], Hour(DAY, 23))
    machine.heal([p.healed(n, END_NS + n * MS, LATER_NS) for n in range(1011, 1050)], Hour(NEXT, 0))
    machine.send(store, LATER_NS)
    p.run(store, LATER_NS, days=[DAY])
    assert told(store) == ("complete", 0, [])
    assert last_bar(store) == (1010, "healed")


def test_a_day_is_not_complete_before_the_trade_after_its_last_one(tmp_path: Path, store: Store) -> None:
    """Also where the last one is all that was received after midnight; and it does not wait for ever."""
    machine = send(tmp_path, store, "a", [*EVENING, TOO_LATE, *quotes(DAY, NEXT)])
    for now_ns in (SOON_NS, LATER_NS - 1):
        waits = p.run(store, now_ns, days=[DAY]).of("waits")
        assert [day.text for day in waits] == ["the next trade after it is not there yet"]
    p.run(store, LATER_NS, days=[DAY])
    assert told(store) == ("time", 0, [])
    machine.receive(trades(1050, 1060, END_NS + 30 * HOUR_NS))
    machine.send(store, LATER_NS + 24 * HOUR_NS)
    p.run(store, LATER_NS + 24 * HOUR_NS, days=[DAY])
    assert told(store) == ("time", 49, [[1001, 1049]])
    again = p.run(store, LATER_NS + 24 * HOUR_NS, days=[DAY])
    assert (again.up_to_date, again.bytes_read) == (1, 0)


def test_a_hole_between_two_trades_of_the_next_day_is_not_the_days(tmp_path: Path, store: Store) -> None:
    morning = [*trades(1001, 1005, END_NS, MS), *trades(1050, 1060, END_NS + 5 * MINUTE_NS)]
    send(tmp_path, store, "a", [*EVENING, TOO_LATE, *morning])
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"
    assert told(store) == ("complete", 0, [])
    assert last_bar(store) == (1000, "complete")
    send(tmp_path, store, "b", trades(1070, 1070, END_NS + 30 * HOUR_NS), LATER_NS + 24 * HOUR_NS)
    p.run(store, LATER_NS + 24 * HOUR_NS, days=[NEXT])
    assert manifest(store, NEXT)["missing"] == [[1006, 1049], [1061, 1069]]


def test_a_trade_that_one_of_two_collectors_has_is_not_missing(tmp_path: Path, store: Store) -> None:
    """One has the last trade of the day alone, received after midnight; the other has what came after it."""
    one, two = [*EVENING, TOO_LATE, *quotes(NEXT)], [*EVENING, *trades(1001, 1060, END_NS + SECOND_NS)]
    send(tmp_path, store, "one", one)
    send(tmp_path, store, "two", two)
    assert p.outcomes(p.run(store, SOON_NS))[DAY] == "published"
    assert told(store) == ("complete", 0, [])
    who = {each["collector"]: (each["only_here"], each["missing"]) for each in manifest(store)["collectors"]}
    assert who == {"one": (1, []), "two": (0, [[1000, 1000]])}


def test_what_is_missing_across_days_without_trades_is_told_of_each(tmp_path: Path, store: Store) -> None:
    days = [day_after(DAY, n) for n in range(4)]
    ends = [Hour(day, 23).end_ns for day in days]
    machine = send(tmp_path, store, "a", [*EVENING, *quotes(*days[:3])], ends[1])
    p.run(store, ends[2], days=days[:1])
    # Two days after its end no later trade is known.
    assert told(store) == ("time", 0, [])
    machine.receive(trades(1050, 1060, ends[2] + HOUR_NS))
    machine.receive(trades(1061, 1062, ends[3] + HOUR_NS))
    machine.send(store, ends[3] + 2 * HOUR_NS)
    hole = "50 missing trades have no outcome yet"
    waits = p.run(store, ends[2] + 3 * HOUR_NS).of("waits")
    assert [(day.day, day.text) for day in waits][:2] == [
        (days[1], hole),
        (days[2], f"the day before waits; {hole}"),
    ]
    p.run(store, ends[3] + FINAL_ANYWAY_NS)
    assert [told(store, day) for day in days] == [
        ("time", 0, []),
        *[("time", 50, [[1000, 1049]])] * 3,
    ]


@pytest.mark.parametrize("first", [(), (TOO_LATE,)], ids=["none", "one that is received after midnight"])
def test_of_the_first_day_a_lake_has_nothing_is_missing_before_the_first_trade(
    tmp_path: Path, store: Store, first: Sequence[Line]
) -> None:
    send(tmp_path, store, "a", [*quotes(DAY), *first, *trades(1050, 1060, END_NS + MINUTE_NS)])
    report = p.run(store, SOON_NS, days=[DAY])
    if not first:
        assert told(store) == ("complete", 0, [])
        return
    assert report.of("waits")[0].text == "49 missing trades have no outcome yet"
    p.run(store, LATER_NS, days=[DAY])
    assert told(store) == ("time", 49, [[1001, 1049]])


# Ids alone, of any market

STARTS = [Hour(day_after(DAY, n), 0).start_ns for n in range(-1, 4)]


@st.composite
def markets(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, int]]]]:
    """Of each trade, by id: its time, and who received it when. It is missing where nobody did."""
    near = st.sampled_from([-12 * HOUR_NS, -2 * SECOND_NS, -MS, 0, MS, 2 * SECOND_NS, 5 * HOUR_NS])
    times = draw(st.lists(st.builds(int.__add__, st.sampled_from(STARTS[1:4]), near), max_size=14))
    delay = st.sampled_from([-3 * SECOND_NS, 3 * MS, 250 * MS, 3 * SECOND_NS, 2 * HOUR_NS])
    copy = st.tuples(st.sampled_from("ab"), delay)
    return [
        (time, [(who, time + late) for who, late in draw(st.lists(copy, max_size=2))])
        for time in sorted(times)
    ]


def facts_of(market: Sequence[tuple[int, list[tuple[str, int]]]]) -> DayFacts:
    held: dict[tuple[str, Hour], set[int]] = {("a", Hour(DAY, 12)): set()}  # quotes alone
    for id_, (_, copies) in enumerate(market):
        for who, received_ns in copies:
            held.setdefault((who, Hour.of_ns(received_ns)), set()).add(id_)
    raws: list[RawFact] = []
    for (who, hour), ids in sorted(held.items()):
        runs = IntervalSet()
        for id_ in ids:
            runs.add(id_)
        name = f"raw/{EXCHANGE}/{SYMBOL}/{hour.day}/{who}/hour_{hour.hour:02d}.jsonl.zst"
        tuples = tuple((run.first, run.last) for run in runs)
        raws.append(RawFact(name, who, hour.day, hour.hour, "hour", 1, name, 1, tuples))
    seen = [id_ for id_, (time, copies) in enumerate(market) if copies and time < DAY_NS]
    before = Standing(last=(seen[-1], 0)) if seen else NOTHING_STANDS
    of_day = {who: ids_of(raw for raw in raws if (raw.collector, raw.day) == (who, DAY)) for who in "ab"}
    ledgers = {who: LedgerFact(DAY, ids, ended_ns=LATER_NS) for who, ids in of_day.items()}
    return DayFacts(EXCHANGE, SYMBOL, DAY, raws, ledgers, before=before)


@given(markets())
def test_a_day_is_complete_if_every_trade_from_its_neighbour_to_its_neighbour_is_there(
    market: list[tuple[int, list[tuple[str, int]]]],
) -> None:
    facts = facts_of(market)
    job, made = decide(facts, LATER_NS), None
    assert isinstance(job, Make)
    while made is None or made.inputs != job.inputs:
        made = job
        # As making the day finds it: the last of its trades, by their own times, in what it is made of.
        ids = {id_ for fact in job.inputs for first, last in fact.id_runs for id_ in range(first, last + 1)}
        own = [id_ for id_ in ids if DAY_NS <= market[id_][0] < END_NS]
        facts = replace(facts, own_ids=(min(own, default=None), max(own, default=None)))
        job = decide_made(facts, job, LATER_NS)
        assert isinstance(job, Make)
        assert set(job.inputs) >= set(made.inputs)
    seen = [id_ for id_, (_, copies) in enumerate(market) if copies]
    of_day = [id_ for id_ in seen if DAY_NS <= market[id_][0] < END_NS]
    after = [id_ for id_ in seen if market[id_][0] >= END_NS]
    low = facts.last_before if facts.last_before is not None else min(of_day, default=None)
    high = min(after, default=max(of_day, default=None))
    gone = set(range(low, high)) - set(seen) if low is not None and high is not None else set[int]()
    found = {id_ for hole in missing_of(facts, job.inputs) for id_ in range(hole.first, hole.last + 1)}
    assert found == gone
    assert set(job.inputs) == set(inputs_of(facts))
    early = decide_made(facts, job, LATER_NS - 1)
    if gone or not after:
        assert isinstance(early, Waits)
    # One that a clock that is behind puts into the day is not taken for the trade after it.
    elif any(Hour.of_ns(at).day > DAY for _, at in market[after[-1]][1]):
        assert isinstance(early, Make)
    assert job.final_because == ("time" if isinstance(early, Waits) else "complete")
