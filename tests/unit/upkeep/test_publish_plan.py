"""When a day is final, what it is made of, and what may be written over what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake.layout import parse_raw_name
from crypto_lake.lake.manifests import BarsHour
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep import publish_manifest, publish_version
from crypto_lake.upkeep.publish_facts import DayFacts, LedgerFact, RawFact, day_after
from crypto_lake.upkeep.publish_ids import by_collector
from crypto_lake.upkeep.publish_manifest import (
    NOTHING_STANDS,
    PublishedInput,
    PublishedManifest,
    Standing,
    from_metadata,
    to_metadata,
)
from crypto_lake.upkeep.publish_plan import (
    FINAL_ANYWAY_NS,
    Alert,
    Complete,
    FileSeen,
    Make,
    Orphan,
    Ours,
    Unknown,
    UpToDate,
    Waits,
    decide,
    inputs_of,
    recognise,
)
from crypto_lake.upkeep.publish_stage import stage_names

DAY = "2024-08-08"
END_NS = Hour(DAY, 23).end_ns
FIRST_HOUR = Hour(DAY, 0).start_ns // (3600 * 10**9)


def raw(
    collector: str, hour: int, *runs: tuple[int, int], day: str = DAY, late: int = 1, kind: str = "hour"
) -> RawFact:
    file = (
        f"hour_{hour:02d}{f'_{late}' if late > 1 else ''}"
        if kind == "hour"
        else f"healed_{hour:02d}_{late}-{late}"
    )
    name = f"raw/binance/BTCUSDT/{day}/{collector}/{file}.jsonl.zst"
    return RawFact(name, collector, day, hour, kind, 100, f"sha of {name}", 7, runs)


def ledger(
    closed: str = DAY, seen: Sequence[tuple[int, int]] = (), settled: Sequence[tuple[int, int]] = ()
) -> LedgerFact:
    return LedgerFact(
        closed, IntervalSet(Interval(*i) for i in seen), IntervalSet(Interval(*i) for i in settled)
    )


def facts(raws: Sequence[RawFact], **ledgers: LedgerFact) -> DayFacts:
    return DayFacts("binance", "BTCUSDT", DAY, raws, ledgers)


NEXT = day_after(DAY)
WHOLE = facts(
    [raw("a", 5, (1, 10)), raw("a", 23, (11, 20)), raw("a", 0, (21, 30), day=NEXT)],
    a=ledger(seen=[(1, 20)]),
)


def manifest(inputs: Sequence[RawFact], *, version: int = 1, generation: int = 5) -> PublishedManifest:
    record = BarsHour(
        "", "d", 10, 10, 0, tuple(fact.short for fact in inputs if fact.day == DAY), last=(20, 1)
    )
    return PublishedManifest(
        exchange="binance",
        symbol="BTCUSDT",
        day=DAY,
        path="parquet/x",
        schema=1,
        program="0",
        bytes=10,
        sha256=f"file of version {version}",
        rows=10,
        trades=10,
        first_trade_id=1,
        last_trade_id=20,
        final=True,
        inputs=tuple(PublishedInput(f.name, f.bytes, f.sha256, f.generation) for f in inputs),
        hours={FIRST_HOUR + 5: record},
        version=version,
        generation=generation,
        published_ns=1,
        final_because="complete",
        before=NOTHING_STANDS,
        collectors=(),
        missing_ids=0,
        missing=(),
    )


def test_a_whole_day_is_final_as_soon_as_it_is_over() -> None:
    assert decide(WHOLE, END_NS - 1) == Waits(("it is not over",))
    made = decide(WHOLE, END_NS)
    assert isinstance(made, Make)
    assert made.final_because == "complete"
    assert set(made.inputs) == set(WHOLE.raw)


LACKS = {
    "has not closed the day": replace(WHOLE, ledgers={"a": ledger("2024-08-07", [(1, 20)])}),
    "has no ledger": replace(WHOLE, ledgers={}),
    "saw 5 trades": replace(WHOLE, ledgers={"a": ledger(seen=[(1, 20), (6, 6), (40, 44)])}),
    "the hour after the day": replace(WHOLE, raw=[*WHOLE.raw[:2], raw("b", 1, (21, 30), day=NEXT)]),
    "the next trade": replace(WHOLE, raw=WHOLE.raw[:2]),
    "1 missing trades": replace(
        WHOLE,
        raw=[raw("a", 5, (1, 10)), raw("a", 23, (12, 20)), WHOLE.raw[2]],
        ledgers={"a": ledger(seen=[(1, 10), (12, 20)])},
    ),
    "2 missing trades": replace(WHOLE, before=Standing(last=(-2, 0))),
    "no manifest": replace(WHOLE, unproven=["raw/x"]),
    "the day before": replace(WHOLE, day_before_waits=True),
}


@pytest.mark.parametrize("reason", LACKS)
def test_what_lacks_is_waited_for_until_48_hours_have_passed(reason: str) -> None:
    known = LACKS[reason]
    waits = decide(known, END_NS + FINAL_ANYWAY_NS - 1)
    assert isinstance(waits, Waits)
    if reason != "has no ledger":
        assert any(reason in told for told in waits.reasons), waits
    made = decide(known, END_NS + FINAL_ANYWAY_NS)
    assert isinstance(made, Make)
    assert made.final_because == "time"


def test_a_missing_trade_with_an_outcome_is_not_waited_for() -> None:
    raws = [raw("a", 5, (1, 10)), raw("b", 23, (14, 20)), raw("b", 0, (21, 30), day=NEXT)]
    ledgers = {"a": ledger(seen=[(1, 10)]), "b": ledger(seen=[(14, 20)])}
    assert isinstance(decide(facts(raws, **ledgers), END_NS), Waits)
    ledgers["a"] = ledger(seen=[(1, 10)], settled=[(11, 12)])
    assert isinstance(decide(facts(raws, **ledgers), END_NS), Waits)
    ledgers["b"] = ledger(seen=[(14, 20)], settled=[(12, 13)])
    assert isinstance(decide(facts(raws, **ledgers), END_NS), Make)


def test_a_collector_that_stopped_in_the_day_is_not_waited_for_once_its_ledger_is_closed() -> None:
    raws = [
        raw("a", 5, (1, 10)),
        raw("b", 5, (9, 10)),
        raw("b", 23, (11, 20)),
        raw("b", 0, (21, 30), day=NEXT),
    ]
    known = facts(raws, a=ledger(seen=[(1, 10)]), b=ledger(seen=[(9, 20)]))
    assert isinstance(decide(known, END_NS), Make)


def test_trades_are_found_where_they_were_received() -> None:
    strays = [
        raw("a", 23, (1, 2), day=day_after(DAY, -1)),
        raw("a", 9, (15, 15), (90, 99), day=NEXT),
        raw("b", 9, (4, 4), day=day_after(DAY, 2)),
        raw("a", 7, (5, 6), late=2),
        raw("a", 5, (3, 3), late=3, kind="healed"),
    ]
    others = [
        raw("a", 22, (-9, 0), day=day_after(DAY, -1)),
        raw("a", 1, (31, 40), day=NEXT),
        raw("a", 3, day=NEXT),
    ]
    known = replace(WHOLE, raw=[*WHOLE.raw, *strays, *others], before=Standing(last=(0, 1)))
    assert set(inputs_of(known)) == {*WHOLE.raw, *strays}
    # Of the first day ever any trade may be one, however small its id.
    first_ever = raw("a", 5, (-3, -3), day=NEXT)
    assert first_ever in inputs_of(replace(WHOLE, raw=[*WHOLE.raw, first_ever]))
    assert first_ever not in inputs_of(replace(known, raw=[*known.raw, first_ever]))
    # The trade after the day is looked for as far as it must be.
    quiet = raw("a", 0, day=NEXT)
    found = inputs_of(replace(known, raw=[*WHOLE.raw[:2], quiet, *others]))
    assert set(found) == {*WHOLE.raw[:2], quiet, others[1]}


def test_more_inputs_make_a_new_version_and_the_same_ones_do_not() -> None:
    known = replace(WHOLE, published=manifest(WHOLE.raw))
    assert decide(known, END_NS) == UpToDate()
    assert isinstance(decide(known, END_NS, rebuild=True), Make)
    healed = raw("b", 5, (3, 3), kind="healed")
    more = decide(replace(known, raw=[*WHOLE.raw, healed]), END_NS + FINAL_ANYWAY_NS)
    assert isinstance(more, Make)
    assert {fact.name for fact in more.inputs} > {one.path for one in known.published.inputs}  # pyright: ignore[reportOptionalMemberAccess]
    other = replace(known, before=Standing(last=(0, 9), close=4))
    assert isinstance(decide(other, END_NS), Make)


def test_an_object_that_was_replaced_is_an_alert() -> None:
    known = replace(WHOLE, published=manifest(WHOLE.raw))
    swapped = replace(WHOLE.raw[0], sha256="another")
    assert isinstance(decide(replace(known, raw=[swapped, *WHOLE.raw[1:]]), END_NS), Alert)
    again = replace(WHOLE.raw[0], generation=99)
    assert decide(replace(known, raw=[again, *WHOLE.raw[1:]]), END_NS) == UpToDate()
    assert isinstance(decide(replace(WHOLE, changed=[("raw/x", "has bytes 3")]), END_NS), Alert)


def test_an_hour_whose_raw_is_gone_is_carried_over() -> None:
    known = replace(WHOLE, published=manifest(WHOLE.raw), raw=WHOLE.raw[1:])
    seen = decide(known, END_NS)
    assert isinstance(seen, UpToDate)
    assert [one.path for one in seen.gone] == [WHOLE.raw[0].name]
    noted = publish_version.with_gone(manifest(WHOLE.raw), seen.gone)
    assert decide(replace(known, published=noted), END_NS) == UpToDate()
    more = decide(
        replace(known, raw=[*WHOLE.raw[1:], raw("b", 6, (5, 5))], published=noted), END_NS + FINAL_ANYWAY_NS
    )
    assert isinstance(more, Make)
    assert more.carried == {FIRST_HOUR + 5}
    assert [one.path for one in more.gone] == [WHOLE.raw[0].name]


standings = st.builds(
    lambda last: Standing(last=None if last is None else (last, 9), close=last), st.none() | st.integers(0, 9)
)


@given(standings, standings, st.booleans())
def test_what_stood_before_a_day_is_never_less_than_its_version_knew(
    now: Standing, then: Standing, published: bool
) -> None:
    version = msgspec.structs.replace(manifest(WHOLE.raw, version=int(published)), before=then)
    known = publish_version.stood_before(now, version)
    assert known in ((now, then) if published else (now,))
    if published and then.last is not None:
        assert known.last is not None
        assert known.last[0] >= then.last[0]
    if now.last is not None and (then.last is None or now.last[0] >= then.last[0]):
        assert known == now
    assert publish_version.stood_before(now, None) == now


hours = st.builds(
    lambda trades, rows, missing: BarsHour("", "d", rows, trades, 0, missing_ids=missing),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
)


@given(st.dictionaries(st.integers(0, 3), hours), st.dictionaries(st.integers(0, 3), hours))
def test_an_hour_is_worse_that_knows_less_and_got_no_trade(
    before: dict[int, BarsHour], now: dict[int, BarsHour]
) -> None:
    worse = publish_version.hours_worse(msgspec.structs.replace(manifest(WHOLE.raw), hours=before), now)
    assert worse <= before.keys()
    for hour, was in before.items():
        made = now.get(hour)
        if made is None or made.trades < was.trades:
            assert hour in worse
        elif made.trades > was.trades:
            assert hour not in worse
        else:
            assert (hour in worse) is (
                made.rows < was.rows or (made.rows == was.rows and made.missing_ids > was.missing_ids)
            )


def test_a_file_is_ours_or_nobody_touches_it() -> None:
    one, two = manifest(WHOLE.raw), manifest(WHOLE.raw, version=2, generation=0)
    coming = publish_version.begun(one, two)
    first = publish_version.begun(None, manifest(WHOLE.raw, generation=0))
    assert recognise(None, None) == Ours()
    assert recognise(one, FileSeen(5, one.sha256)) == Ours()
    assert recognise(coming, FileSeen(5, one.sha256)) == Ours()
    assert recognise(first, None) == Ours()
    assert recognise(coming, FileSeen(6, two.sha256)) == Complete(two)
    assert recognise(first, FileSeen(6, one.sha256)) == Complete(first.coming[0])
    assert isinstance(recognise(one, FileSeen(6, two.sha256)), Unknown)
    assert isinstance(recognise(coming, FileSeen(6, None)), Unknown)
    assert isinstance(recognise(one, None), Unknown)
    assert isinstance(recognise(None, FileSeen(6, "x")), Orphan)
    assert publish_version.entered(two, 6).coming == ()


def test_a_version_of_a_publisher_that_may_still_be_at_it_is_not_forgotten() -> None:
    one = manifest(WHOLE.raw)
    coming = one
    for number in range(2, 5):
        coming = publish_version.begun(coming, manifest(WHOLE.raw, version=number, generation=0))
        assert recognise(coming, FileSeen(9, "file of version 2")) == Complete(coming.coming[0])
    again = publish_version.begun(coming, manifest(WHOLE.raw, version=4, generation=0))
    assert again == coming


def test_a_manifest_says_the_same_when_it_is_read_again() -> None:
    whole = publish_version.begun(manifest(WHOLE.raw), manifest(WHOLE.raw, version=2, generation=0))
    assert publish_manifest.decode(publish_manifest.encode(whole)) == whole
    label = from_metadata(to_metadata(whole, "names"))
    assert label is not None
    assert (label.version, label.generation, label.names, label.open) == (1, 5, "names", True)
    assert label.after == whole.after.digest != label.before
    assert from_metadata({}) is None
    later = msgspec.json.encode(msgspec.structs.replace(whole, published_schema=2))
    with pytest.raises(msgspec.ValidationError, match="install a later one"):
        publish_manifest.decode(later)


runs = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1])), max_size=4
)


@given(st.dictionaries(st.sampled_from("abc"), runs, min_size=1), st.integers(1, 60), st.integers(0, 30))
def test_ids_across_collectors_are_counted_as_a_set_would(
    held: dict[str, list[tuple[int, int]]], first: int, more: int
) -> None:
    span = set(range(first, first + more + 1))
    sets = {name: {i for low, high in own for i in range(low, high + 1)} & span for name, own in held.items()}
    told = by_collector(
        [raw(name, 5, *sorted(own)) for name, own in held.items()], Interval(first, first + more)
    )
    for one in told:
        own = sets[one.collector]
        others = set[int]().union(*(s for name, s in sets.items() if name != one.collector))
        assert (one.ids, one.only_here, one.missing_ids) == (len(own), len(own - others), len(span - own))
        assert {i for low, high in one.missing for i in range(low, high + 1)} == span - own


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(0, 23), st.integers(1, 3), st.sampled_from(["hour", "healed"])
        ),
        unique=True,
    )
)
def test_each_object_is_staged_once_and_in_its_hour(given_: list[tuple[str, int, int, str]]) -> None:
    raws = [raw(name, hour, late=late, kind=kind) for name, hour, late, kind in given_]
    staged = stage_names(raws)
    assert staged == stage_names(reversed(raws))
    assert sorted(fact.name for facts in staged.values() for fact in facts) == sorted(
        fact.name for fact in raws
    )
    for (day, name), facts in staged.items():
        parsed = parse_raw_name(day, Path(name))
        assert parsed is not None
        assert {(fact.day, fact.hour, fact.kind) for fact in facts} == {(day, parsed.hour.hour, parsed.kind)}
        assert len(facts) == 1 or parsed.kind == "hour"
