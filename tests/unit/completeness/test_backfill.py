"""Filling a day over REST, on a scripted exchange: all of it is had, and what is noted of it is true."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness import backfill as filling
from crypto_lake.completeness.backfill import Backfill, BackfillError
from crypto_lake.completeness.backfill_day import DAY_US, HOUR_US, Day, DayRecord, start_us
from crypto_lake.completeness.heal import Road, by_hour
from crypto_lake.completeness.heal_files import Origin, write_healed
from crypto_lake.completeness.heal_rest import Reply, RoadClosedError
from crypto_lake.completeness.held import around, held_ids
from crypto_lake.exchanges import BINANCE, Exchange, PastRow
from crypto_lake.lake import records
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import Interval, IntervalSet
from support.lakes import At

PAST = BINANCE.past
DAY = "2026-03-01"
START_US = start_us(DAY)
END_US = START_US + DAY_US
PAGE = 10
VOID = (-1, -1)
FIRST_KEY = 7  # of the first aggregate: not a trade's id
MINUTE_US = HOUR_US // 60

Trades = list[tuple[int, int]]  # id and time


def day_of(count: int, step_us: int = MINUTE_US, first_id: int = 1000) -> Trades:
    return [(first_id + n, START_US + n * step_us) for n in range(count)]


def single(id_: int, time_us: int) -> bytes:
    text = '{"id":%d,"price":"1.0","qty":"2.0","quoteQty":"2.0","time":%d,"isBuyerMaker":true,"isBestMatch":true}'
    return (text % (id_, time_us)).encode()


class Market:
    """Answers for the first `told` of its trades, without an aggregate that they hold in part. `closes`: which call is served no more after so many requests.

    Each aggregate holds trades of one time, as many as `groups` says in turn; those at `voids` hold none.
    """

    def __init__(
        self,
        trades: Trades,
        *,
        groups: Sequence[int] = (1,),
        voids: Sequence[int] = (),
        closes: tuple[str, int] = ("", 0),
    ) -> None:
        self.trades, self.told = trades, len(trades)
        self.closes, self.closed = closes, 0
        self.asked: list[str] = []
        self._sums: list[tuple[int, int, int]] = []  # first and last id, and time
        at = 0
        while at < len(trades):
            while len(self._sums) in voids:
                self._sums.append((*VOID, trades[at][1]))
            end = at + groups[at % len(groups)]
            same = [id_ for id_, time_us in trades[at:end] if time_us == trades[at][1]]
            self._sums.append((same[0], same[-1], trades[at][1]))
            at += len(same)

    def known(self) -> Trades:
        last = max((last for _, _, last, _ in self._told_sums()), default=-1)
        return [trade for trade in self.trades if trade[0] <= last]

    def _told_sums(self) -> list[tuple[int, int, int, int]]:
        """Key, first and last id, and time."""
        last = self.trades[self.told - 1][0] if self.told > 0 else -1
        return [(FIRST_KEY + n, *row) for n, row in enumerate(self._sums) if row[1] <= last]

    async def ask(self, road: Road, query: Mapping[str, str]) -> Reply:
        source = road.call.source
        self.asked.append(source)
        if source == self.closes[0] and self.asked.count(source) > self.closes[1]:
            self.closed += 1
            raise RoadClosedError(f"{road.name}: HTTP 451")
        sums = self._told_sums()
        if source == PAST.trades.source:
            found = [single(*trade) for trade in self.known() if trade[0] >= int(query["fromId"])]
        else:
            if "fromId" in query:
                sums = [row for row in sums if row[0] >= int(query["fromId"])]
            else:
                span = range(int(query["startTime"]) * 1000, int(query["endTime"]) * 1000 + 1)
                sums = [row for row in sums if row[3] in span]
            text = '{"a":%d,"p":"1.0","q":"2.0","f":%d,"l":%d,"T":%d,"m":true,"M":true}'
            found = [(text % row).encode() for row in sums]
        body = b"[" + b",".join(found[: int(query["limit"])]) + b"]"
        return Reply(road.call.read(body), 200, body)


def with_pages_of(rows: int) -> Exchange:
    trades, aggregates = (dataclasses.replace(call, rows=rows) for call in (PAST.trades, PAST.aggregates))
    return dataclasses.replace(BINANCE, past=dataclasses.replace(PAST, trades=trades, aggregates=aggregates))


def backfill(
    root: Path,
    market: Market,
    now_us: int = END_US + 2 * DAY_US,
    *,
    single_trades: bool = True,
    rows: int = PAGE,
) -> Backfill:
    exchange = with_pages_of(rows)
    calls = [exchange.past.trades] * single_trades + [exchange.past.aggregates]
    rest: Any = market
    nothing: Any = None  # no archive is asked for
    roads = [Road("http://x", call) for call in calls]
    clock = At(now_us * 1000)
    return Backfill(Layout(root), exchange, clock, rest, roads, nothing, "rest-2", source="rest")


def fill(root: Path, market: Market, *, single_trades: bool = True) -> DayRecord:
    return asyncio.run(backfill(root, market, single_trades=single_trades).fill("BTCUSDT", DAY))


def hold(root: Path, trades: Trades) -> None:
    rows = [PastRow(id_, id_, time_us, id_, single(id_, time_us)) for id_, time_us in trades]
    origin = Origin("rest-1", PAST.trades.source, START_US * 1000)
    for hour, of_hour in by_hour(rows):
        ids = Interval(of_hour[0].first_id, of_hour[-1].last_id)
        write_healed(Layout(root), "binance", "BTCUSDT", hour, of_hour, ids, origin)


def told(record: DayRecord) -> tuple[str, int, int, int, bool]:
    return record.source, record.trades, record.fetched, record.missing, record.whole


@pytest.mark.parametrize("held", [0, PAGE - 1, 3 * PAGE, 59, 60])
def test_sums_go_on_behind_pages_that_are_held_whole(tmp_path: Path, held: int) -> None:
    trades = day_of(60)
    hold(tmp_path, trades[:held])
    record = fill(tmp_path, Market(trades), single_trades=False)
    if held < 60:
        assert told(record) == ("aggTrades", 60, 60 - held, 0, False)
    else:
        assert told(record) == ("", 60, 0, 0, True), "single trades that are held are no sums"


@pytest.mark.parametrize("pages", range(7))
def test_where_single_trades_are_closed_sums_bring_the_rest(tmp_path: Path, pages: int) -> None:
    trades = day_of(55)
    # What follows tells the day's end.
    market = Market([*trades, (1055, END_US + 1)], closes=(PAST.trades.source, pages))
    record = fill(tmp_path, market)
    assert market.closed == (pages < 6)
    if market.closed:
        assert told(record) == ("aggTrades", 55, 55, 0, False)
    else:
        assert told(record) == ("historicalTrades", 55, 55, 0, True)


def test_a_day_whose_last_trades_the_exchange_has_not_told_yet_is_not_whole(tmp_path: Path) -> None:
    trades = day_of(60)
    market = Market(trades)
    market.told = 55
    second_us = 10**6

    async def at(now_us: int) -> DayRecord:
        return await backfill(tmp_path, market, now_us).fill("BTCUSDT", DAY)

    async def scenario() -> None:
        assert told(await at(END_US + second_us)) == ("historicalTrades", 55, 55, 0, False)
        market.told = 60
        assert told(await at(END_US + HOUR_US)) == ("historicalTrades", 60, 5, 0, False)
        assert backfill(tmp_path, market).done("BTCUSDT") == {}
        # The next day went by without a trade, or has one.
        assert told(await at(END_US + DAY_US)) == ("", 60, 0, 0, True)
        market.trades.append((1060, END_US + second_us))
        market.told = 61
        assert list(backfill(tmp_path, market).done("BTCUSDT")) == [DAY]

    asyncio.run(scenario())


def test_the_next_days_first_trade_ends_a_day_that_is_whole_at_once(tmp_path: Path) -> None:
    market = Market([*day_of(12), (1012, END_US)])
    record = asyncio.run(backfill(tmp_path, market, END_US + 1).fill("BTCUSDT", DAY))
    assert told(record) == ("historicalTrades", 12, 12, 0, True)


def test_what_single_trades_lack_at_the_days_end_is_missing(tmp_path: Path) -> None:
    """Two calls of the exchange may know differently much: that the day ends later the aggregates tell."""
    market = Market([*day_of(12), (1012, END_US)])
    ask = market.ask

    async def behind(road: Road, query: Mapping[str, str]) -> Reply:
        market.told = 9 if road.call.source == PAST.trades.source else 13
        return await ask(road, query)

    market.ask = behind
    assert told(fill(tmp_path, market)) == ("historicalTrades", 9, 9, 3, False)


def test_aggregates_without_trades_at_a_days_beginning_are_passed_over(tmp_path: Path) -> None:
    trades = [*day_of(12), (1012, END_US)]
    record = fill(tmp_path, Market(trades, voids=range(PAGE - 1)))
    assert (record.first_id, told(record)) == (1000, ("historicalTrades", 12, 12, 0, True))
    with pytest.raises(BackfillError, match=f"on {DAY} holds a trade"):
        fill(tmp_path, Market(trades, voids=range(PAGE)))


def test_what_lies_behind_a_page_of_aggregates_without_trades_is_missing(tmp_path: Path) -> None:
    market = Market([*day_of(40), (1040, END_US)], voids=range(25, 25 + PAGE))
    assert told(fill(tmp_path, market, single_trades=False)) == ("aggTrades", 25, 25, 15, False)
    assert told(fill(tmp_path, market)) == ("historicalTrades", 40, 40, 0, True), "single trades need no key"


def test_a_day_without_trades_is_whole_when_the_next_one_is_over(tmp_path: Path) -> None:
    quiet = Market([(1000, START_US - 1)])
    record = asyncio.run(backfill(tmp_path, quiet, END_US + HOUR_US).fill("BTCUSDT", DAY))
    assert told(record) == ("", 0, 0, 0, False)
    assert told(fill(tmp_path, quiet)) == ("", 0, 0, 0, True)


@pytest.mark.parametrize("told_of", [85, 95, 100])
def test_trades_of_the_next_day_that_are_held_before_rest_tells_of_them_are_not_the_days(
    tmp_path: Path, told_of: int
) -> None:
    trades = [*day_of(100), *((1100 + n, END_US + n * 1000) for n in range(20))]
    hold(tmp_path, trades[90:])
    market = Market(trades)
    market.told = told_of
    record = asyncio.run(backfill(tmp_path, market, END_US + 10**6).fill("BTCUSDT", DAY))
    fetched = min(told_of, 90)
    assert told(record) == ("historicalTrades", fetched + 10, fetched, 90 - fetched, False)
    assert (record.last_id, record.ends_known) == (1099, False)


def test_a_day_that_an_earlier_version_took_for_whole_is_looked_at_again(tmp_path: Path) -> None:
    """Notes as it wrote them: of what was held alone, and of an archive."""
    trades = [*day_of(100), (1100, END_US)]
    hold(tmp_path, trades[:30])
    note = (
        '{"day":"%s","source":"%s","trades":30,"fetched":0,"files":0,"first_id":1000,"last_id":1029,'
        '"missing":0,"whole":%s,"sha256":"%s","ended_ns":1}\n'
    )
    notes = tmp_path / "state/backfill/binance/BTCUSDT.jsonl"
    notes.parent.mkdir(parents=True)
    notes.write_text(
        note % (DAY, "", "true", "")
        + note % ("2026-02-01", "archive", "true", "ab12")
        + note % ("2026-02-02", "archive", "false", "ab12")
    )
    work = backfill(tmp_path, Market(trades))
    assert list(work.done("BTCUSDT")) == ["2026-02-01"]
    record = asyncio.run(work.fill("BTCUSDT", DAY))
    assert told(record) == ("historicalTrades", 100, 70, 0, True)
    assert work.done("BTCUSDT")[DAY] == record


@pytest.mark.parametrize(
    ("had", "begins", "ends", "missing"),
    [
        ([], None, None, 0),
        ([], 5, None, 1),
        ([], 5, 9, 5),
        ([(5, 9)], 5, 9, 0),
        ([(6, 8)], 5, 9, 2),
        ([(5, 6), (8, 9)], None, None, 1),
        ([(3, 12)], 5, 9, 0),
    ],
)
def test_ids_are_missing_from_the_first_that_is_known_to_the_last(
    had: list[tuple[int, int]], begins: int | None, ends: int | None, missing: int
) -> None:
    ids = IntervalSet(Interval(*part) for part in had)
    work = Day("BTCUSDT", DAY, IntervalSet(), ids, begins_at=begins, ends_at=ends)
    assert work.missing() == missing
    assert work.is_whole(END_US - 1, archived=True) is False
    assert work.is_whole(END_US, archived=True) is (missing == 0)
    assert work.is_whole(END_US, archived=False) is (missing == 0 and ends is not None)
    assert work.is_whole(END_US + DAY_US, archived=False) is (missing == 0)


# Any market, and any part of it in raw

PAUSES_US = [0, 0, 1, 1000, MINUTE_US, HOUR_US, 7 * HOUR_US]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    at_us = START_US + draw(st.sampled_from([-HOUR_US, -1, 0, 5 * HOUR_US]))
    pauses = draw(st.lists(st.sampled_from(PAUSES_US), max_size=40))
    first_id = draw(st.sampled_from([0, 1, 999]))
    trades: Trades = []
    for n, pause_us in enumerate(pauses):
        at_us += pause_us
        trades.append((first_id + n, at_us))
    market = Market(
        trades,
        groups=draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        voids=draw(st.lists(st.integers(0, 20), max_size=2)),
        closes=draw(st.sampled_from([("", 0), (PAST.trades.source, 0), (PAST.trades.source, 2)])),
    )
    market.told -= draw(st.sampled_from([0, 0, 1, 7]))
    return market


@settings(max_examples=60)
@given(
    markets(),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=3),
    st.sampled_from([4, 7, 100]),
    st.sampled_from([-HOUR_US, 10**6, HOUR_US, DAY_US]),
)
def test_what_is_noted_of_a_day_is_true(
    market: Market, parts: list[tuple[int, int]], rows: int, after_us: int
) -> None:
    if after_us >= DAY_US:
        market.told = len(market.trades)
    held, exact, sums, written = IntervalSet(), IntervalSet(), IntervalSet(), list[int]()
    for at, length in parts:
        for id_, _ in market.trades[at : at + length]:
            held.add(id_)
            exact.add(id_)

    def write(
        _layout: Any, _exchange: str, _symbol: str, _hour: Any, got: Sequence[PastRow], *_: Any
    ) -> None:
        for row in got:
            into = exact if b'"id"' in row.message else sums
            into.add_interval(row.first_id, row.last_id)
            written.append(row.last_id - row.first_id + 1)

    def held_of(_layout: Any, _exchange: Any, _symbol: str, days: Sequence[str]) -> IntervalSet:
        """As if each was received when it was traded."""
        spans = [range(start_us(day), start_us(day) + DAY_US) for day in days]
        found = IntervalSet()
        for id_, time_us in market.trades:
            if id_ in held and any(time_us in span for span in spans):
                found.add(id_)
        return found

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(filling, "held_ids", held_of)
        patched.setattr(filling, "write_healed", write)
        patched.setattr(records, "append_lines", lambda *_: None)
        now_us = END_US + after_us
        record = asyncio.run(backfill(Path(folder), market, now_us, rows=rows).fill("BTCUSDT", DAY))

    of_day = {id_ for id_, time_us in market.trades if START_US <= time_us < END_US}
    known = {id_ for id_, _ in market.known()}
    assert all(id_ in exact or id_ in sums for id_ in of_day & known), "all that the exchange tells is had"
    if record.whole:
        assert after_us >= 0
        assert all(id_ in exact for id_ in of_day)
        assert (record.trades, record.missing) == (len(of_day), 0)
    elif not market.closed:
        # Nothing but time, or what the exchange has yet to tell, keeps it from being whole.
        ended = after_us >= DAY_US or any(us >= END_US for id_, us in market.trades if id_ in known)
        assert after_us < 0 or not ended
    if record.trades:
        assert record.trades == sum(id_ in exact or id_ in sums for id_ in of_day), "and none of another day"
    assert record.fetched == sum(written)


def test_what_was_fetched_is_held(tmp_path: Path) -> None:
    """By the files themselves, which the tests above partly leave out."""
    fill(tmp_path, Market(day_of(25)))
    assert held_ids(Layout(tmp_path), BINANCE, "BTCUSDT", around(DAY)) == IntervalSet([Interval(1000, 1024)])
