"""What to ask, and what an answer means: against a market that is known whole."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness import heal
from crypto_lake.completeness.backfill_day import inexact_days
from crypto_lake.completeness.entries import Hole, Outcome
from crypto_lake.completeness.heal import Wanted
from crypto_lake.completeness.heal_files import Origin, on_disk, outcomes, read_healed, write_healed
from crypto_lake.completeness.heal_holes import HoleReader
from crypto_lake.completeness.ledger import LedgerFile
from crypto_lake.exchanges import BINANCE, PastHost, PastRow
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.simulator.generated import GeneratedMarket

PAST = BINANCE.past
BASE_US = 1_723_161_600 * 10**6


def row(first: int, last: int | None = None, at_us: int = BASE_US) -> PastRow:
    last = first if last is None else last
    if last == first:
        message = (
            b'{"id":%d,"price":"1.0","qty":"2.0","quoteQty":"2.0","time":%d,"isBuyerMaker":true,"isBestMatch":true}'
            % (
                first,
                at_us,
            )
        )
    else:
        message = b'{"a":%d,"p":"1.0","q":"2.0","f":%d,"l":%d,"T":%d,"m":true,"M":true}' % (
            first,
            first,
            last,
            at_us,
        )
    return PastRow(first, last, at_us, first, message)


def wanted(first: int, last: int, symbol: str = "BTCUSDT", before_us: int = BASE_US) -> Wanted:
    return Wanted(symbol, Interval(first, last), BASE_US, before_us)


markets = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=30)


@given(markets, st.integers(0, 40), st.integers(1, 30), st.integers(1, 12))
def test_asked_page_by_page_each_id_is_had_or_known_not_to_exist(
    market: list[tuple[int, bool]], start: int, length: int, page: int
) -> None:
    """Rows of 1 to 4 trades; some ids the exchange has skipped."""
    rows, at = list[PastRow](), 1
    for size, skips in market:
        at += 3 if skips else 0
        rows.append(row(at, at + size - 1))
        at += size
    exists = IntervalSet(Interval(r.first_id, r.last_id) for r in rows)
    want = wanted(start + 1, start + length)
    had, never = IntervalSet(), IntervalSet()
    left, asked = want, want.ids.first - 1
    for _ in range(200):
        first = next((i for i, r in enumerate(rows) if r.last_id >= asked), len(rows))
        told = heal.judge(left, rows[first : first + page])
        assert not told.problem
        for part in heal.covered(told.rows, want.ids):
            had.add_interval(part.first, part.last)
        for part in told.skipped:
            never.add_interval(part.first, part.last)
        if told.reached >= want.ids.last or told.reached < left.ids.first or told.older:
            break
        left = wanted(told.reached + 1, want.ids.last)
        asked = told.reached
        if page == 1:
            asked += 1
    assert all(i.first in exists and i.last in exists and not exists.missing(i) for i in had)
    assert not any(exists.shared_with(i) for i in never)
    # The trade before a hole is one that came.
    if page > 1 and want.ids.first - 1 in exists and want.ids.first <= rows[-1].last_id:
        settled = IntervalSet([*had, *never])
        reached = min(rows[-1].last_id, want.ids.last)
        assert settled.missing(Interval(want.ids.first, reached)) == []


@given(st.permutations(range(6)))
def test_the_most_recent_goes_first(order: list[int]) -> None:
    holes = [wanted(10 * n, 10 * n + 1, before_us=BASE_US + n) for n in order]
    assert [w.before_time_us - BASE_US for w in heal.in_order(holes)] == [5, 4, 3, 2, 1, 0]


def test_what_comes_before_the_exchanges_memory_is_told_apart_from_what_never_was() -> None:
    assert heal.judge(wanted(5, 9), [row(8), row(9)]).older == Interval(5, 7)
    told = heal.judge(wanted(5, 9), [row(4), row(8), row(9)])
    assert told.older is None
    assert told.skipped == (Interval(5, 7),)


def test_an_answer_of_another_market_or_out_of_order_is_not_believed() -> None:
    strange = heal.judge(wanted(5, 9), [row(5, at_us=BASE_US + 3600 * 10**6)])
    assert "another market" in strange.problem
    assert strange.rows == ()
    assert "out of order" in heal.judge(wanted(5, 9), [row(6), row(5)]).problem


def test_exact_trades_are_asked_for_wherever_they_are_served_before_sums() -> None:
    ways = heal.roads(PAST.hosts, (PAST.trades, PAST.aggregates))
    assert [(w.host, w.call.source) for w in ways] == [
        ("https://api.binance.com", "historicalTrades"),
        ("https://api.binance.com", "aggTrades"),
        ("https://data-api.binance.vision", "aggTrades"),
    ]
    only = [PastHost("http://x", frozenset({"aggTrades"}))]
    assert [w.call.source for w in heal.roads(only, (PAST.trades, PAST.aggregates))] == ["aggTrades"]


def test_rows_go_by_the_hour_in_which_they_happened() -> None:
    hour = 3600 * 10**6
    rows = [row(1), row(2, at_us=BASE_US + hour), row(3, at_us=BASE_US + 1), row(4, at_us=BASE_US + hour)]
    split = heal.by_hour(rows)
    assert [[r.first_id for r in of] for _, of in split] == [[1, 3], [2, 4]]
    assert split[0][0] == Hour.of_ns(BASE_US * 1000)


def test_the_exchanges_rows_are_kept_verbatim_with_their_source(tmp_path: Path) -> None:
    layout, hour = Layout(tmp_path), Hour.of_ns(BASE_US * 1000)
    rows = [row(5), row(6)]
    origin = Origin("rest-1", "historicalTrades", BASE_US * 1000)
    healed = write_healed(layout, "binance", "BTCUSDT", hour, rows, Interval(5, 6), origin)
    assert healed.path == "raw/binance/BTCUSDT/2024-08-09/healed_00_5-6.jsonl.zst"
    assert list(read_healed(BINANCE, layout.root / healed.path)) == [("historicalTrades", r) for r in rows]
    again = write_healed(layout, "binance", "BTCUSDT", hour, rows, Interval(5, 6), origin)
    assert again.path.endswith("healed_00_5-6_2.jsonl.zst"), "no file is ever overwritten"
    assert [f.kind for f in layout.raw_files("binance", "BTCUSDT", "2024-08-09")] == ["healed", "healed"]
    [line] = outcomes(healed, Interval(4, 6))
    assert (line.first_id, line.last_id, line.action, line.file) == (5, 6, "historicalTrades", healed.path)


def test_files_that_no_ledger_knows_are_found_and_exact_ones_go_first(tmp_path: Path) -> None:
    """A crash between a file and its line; and single trades that a backfill brought where sums alone were known."""
    layout, hour = Layout(tmp_path), Hour.of_ns(BASE_US * 1000)
    sums = Origin("rest-1", "aggTrades", BASE_US * 1000)
    exact = Origin("rest-1", "archive", BASE_US * 1000)
    write_healed(layout, "binance", "BTCUSDT", hour, [row(3, 9)], Interval(5, 8), sums)
    write_healed(layout, "binance", "BTCUSDT", hour, [row(6), row(7)], Interval(6, 7), exact)
    found = [(o.first_id, o.last_id, o.action) for _, o in on_disk(layout, BINANCE, [wanted(5, 8)])]
    assert sorted(found) == [(5, 5, "aggTrades"), (6, 7, "archive"), (8, 8, "aggTrades")]
    later = on_disk(layout, BINANCE, [], [wanted(5, 8)])
    assert [(o.first_id, o.last_id, o.action) for _, o in later] == [(6, 7, "archive")]


def test_holes_are_read_from_ledgers_as_they_grow(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    reader = HoleReader(layout, "binance")
    assert reader.look() == []
    path = layout.ledger("binance", "BTCUSDT")
    file, _ = LedgerFile.open(path, "binance", "BTCUSDT", "c")
    hole = Hole(first_id=5, last_id=9, after_time_us=1, before_time_us=2, found_ns=3, cause="restart")
    file.append([hole])
    assert [w.ids for w in reader.look()] == [Interval(5, 9)]
    file.append([_outcome(5, 6, "healed", "historicalTrades"), _outcome(7, 7, "healed", "aggTrades")])
    assert [w.ids for w in reader.look()] == [Interval(8, 9)]
    file.append([_outcome(8, 9, "unavailable", "historicalTrades")])
    assert reader.look() == []
    assert [w.ids for w in reader.inexact()] == [Interval(7, 9)]
    file.append([_outcome(7, 8, "healed", "archive")])
    reader.look()
    assert [w.ids for w in reader.inexact()] == [Interval(9, 9)]
    file.append([_outcome(9, 9, "never_existed", "aggTrades")])
    reader.look()
    assert [w.ids for w in reader.inexact()] == [Interval(9, 9)], "by times, sums may leave one out"
    file.append([_outcome(9, 9, "never_existed", "historicalTrades")])
    assert (reader.look(), reader.inexact()) == ([], [])
    file.close()
    path.unlink()
    new, _ = LedgerFile.open(path, "binance", "BTCUSDT", "other")
    new.append([hole])
    assert [w.ids for w in reader.look()] == [Interval(5, 9)], "a ledger that was made anew is read anew"
    new.close()


def _outcome(first: int, last: int, outcome: str, action: str) -> Outcome:
    return Outcome(first_id=first, last_id=last, action=action, outcome=outcome)


def test_an_archives_rows_become_rows_of_rest() -> None:
    line = b"42,61837.57000000,0.01016000,628.26971120,1735689600000000,True,True"
    found = PAST.archive_message(line.split(b","))
    assert (found.first_id, found.time_us) == (42, 1_735_689_600_000_000)
    assert PAST.trades.read(b"[%s]" % found.message) == [found]
    in_ms = PAST.archive_message(line.replace(b"1735689600000000", b"1735689600000").split(b","))
    assert in_ms.time_us == found.time_us
    for bad in (
        b"42,1,1,1,5,True",
        b"id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch",
        b'42,1,1,1,5,"x",True',
    ):
        try:
            PAST.archive_message(bad.split(b","))
        except ValueError:
            continue
        raise AssertionError(bad)


def test_days_of_what_is_not_exact_are_those_that_are_over() -> None:
    hour_us = 3600 * 10**6
    day_us = 24 * hour_us
    now_us = 20_000 * day_us + 5 * hour_us  # on 2024-10-04

    def between(first_us: int, last_us: int, symbol: str = "BTCUSDT") -> Wanted:
        return Wanted(symbol, Interval(1, 2), first_us, last_us)

    over = between(now_us - day_us, now_us - day_us + hour_us)
    assert inexact_days([over], now_us) == {"BTCUSDT": ["2024-10-03"]}
    assert inexact_days([between(now_us - hour_us, now_us)], now_us) == {}, "today has no archive"
    # Over midnights, and with times that are a little out of order.
    long = between(now_us, now_us - 3 * day_us)
    assert inexact_days([long, over], now_us) == {"BTCUSDT": ["2024-10-01", "2024-10-02", "2024-10-03"]}
    assert inexact_days([long], now_us, recent_days=2) == {"BTCUSDT": ["2024-10-02", "2024-10-03"]}
    edge = between(19_998 * day_us - 1, 19_998 * day_us, "ETHUSDT")
    assert inexact_days([edge, over], now_us) == {
        "BTCUSDT": ["2024-10-03"],
        "ETHUSDT": ["2024-10-01", "2024-10-02"],
    }
    assert inexact_days([], now_us) == {}


def test_sums_are_read_on_while_keys_rise_and_the_holes_time_is_not_past() -> None:
    want = wanted(50, 60, before_us=BASE_US + 10**6)
    early = [row(1, 3), row(4, 9)]
    assert heal.leads_on(want, early, None)
    assert heal.leads_on(want, early, 1)
    assert not heal.leads_on(want, early, 4), "the same page again"
    assert not heal.leads_on(want, early, 7), "an earlier page"
    assert not heal.leads_on(want, [], None)
    assert not heal.leads_on(want, [row(4, 9, BASE_US + 62 * 10**6)], 1), "another market's ids"


def test_the_times_of_the_trades_around_a_hole_find_what_is_between_them() -> None:
    """As streams tell them, cut off to the millisecond; the exchange compares the microseconds it has."""
    market = GeneratedMarket(5, ["BTCUSDT"], start_us=BASE_US, activity=3)
    trades = list(market.trades_between("BTCUSDT", BASE_US, BASE_US + 2 * 10**6))
    within = 0  # a hole's trades happened in the millisecond of the one after it
    for before, first, last, after in zip(trades, trades[1:], trades[3:], trades[4:], strict=False):
        around = (trade.time_us // 1000 * 1000 for trade in (before, after))
        query = PAST.aggregates_query("BTCUSDT", *around, 1000)
        start_us, end_us = (int(query[name]) * 1000 for name in ("startTime", "endTime"))
        found = list(market.aggregates_between("BTCUSDT", start_us, end_us + 1))
        assert found[0].first_id <= first.id
        assert found[-1].last_id >= last.id
        within += last.time_us // 1000 == after.time_us // 1000
    assert within > 10
