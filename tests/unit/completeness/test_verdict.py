"""Seeded errors in bars: each second that an error changes is flagged, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.completeness import klines
from crypto_lake.completeness.entries import Hole, Seen
from crypto_lake.completeness.verdict import (
    COMPARED,
    Counted,
    Explained,
    Known,
    Verdict,
    Why,
    difference,
    explain,
    judge,
    known,
)
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.model.decimals import ONE_E8, to_decimal
from crypto_lake.model.market import Trade
from crypto_lake.simulator.generated import GeneratedMarket
from support.klines import MarketKlines

SYMBOL = "BTCUSDT"
START = 1_723_161_240
SECONDS = 20
SPAN = (START, START + SECONDS)


@cache
def market() -> GeneratedMarket:
    return GeneratedMarket(11, [SYMBOL], start_us=START * 10**6, activity=0.6)


@cache
def trades() -> tuple[Trade, ...]:
    """Times in milliseconds, as the exchange tells them by default: several share one."""
    return tuple(
        Trade(t.id, t.time_us // 1000 * 1000, t.price_e8, t.size_e8, t.buyer_is_maker)
        for t in market().trades_between(SYMBOL, START * 10**6, SPAN[1] * 10**6)
    )


@cache
def theirs() -> pl.DataFrame:
    asked = MarketKlines(market()).klines(SYMBOL, START * 10**6, SPAN[1] * 10**6)
    return klines.table(asyncio.run(asked))


def truncated(price: int, size: int) -> int:
    return price * size // ONE_E8


def bars_of(
    given_trades: list[Trade], quote: Callable[[int, int], int] = truncated, **changes: Any
) -> pl.DataFrame:
    """Bars by plain adding, with nothing of the program's: the trades in the order in which they stand."""
    by_second: dict[int, list[Trade]] = {}
    for trade in given_trades:
        by_second.setdefault(trade.time_us // 10**6, []).append(trade)
    rows: list[dict[str, Any]] = []
    close = 0
    for second in range(*SPAN):
        of = by_second.get(second, [])
        if not of and not close:
            continue
        prices = [t.price_e8 for t in of] or [close]
        close = prices[-1]
        taken = [t for t in of if not t.buyer_is_maker]
        numbers = {
            "open": prices[0],
            "high": max(prices),
            "low": min(prices),
            "close": close,
            "volume_base": sum(t.size_e8 for t in of),
            "volume_quote": sum(quote(t.price_e8, t.size_e8) for t in of),
            "taker_buy_base": sum(t.size_e8 for t in taken),
            "taker_buy_quote": sum(quote(t.price_e8, t.size_e8) for t in taken),
        }
        rows.append(
            {name: to_decimal(value) for name, value in numbers.items()}
            | {
                "exchange": "binance",
                "symbol": SYMBOL,
                "window_start": datetime.fromtimestamp(second, UTC),
                "trade_count": len(of),
                "first_trade_id": min((t.id for t in of), default=None),
                "last_trade_id": max((t.id for t in of), default=None),
                "state": "complete",
            }
            | changes
        )
    return pl.DataFrame(rows, schema={name: BAR_SCHEMA[name] for name in BAR_SCHEMA}, orient="row")


def flagged(verdicts: pl.DataFrame) -> set[int]:
    wrong = verdicts.filter(pl.col("verdict") != Verdict.VERIFIED.value)
    return set(wrong["window_start"].dt.epoch("s").to_list())


def changed(bars: pl.DataFrame) -> set[int]:
    """Seconds in which these bars are others than the right ones."""
    fields = ["window_start", *klines.FIELDS]
    right, wrong = (frame.select(fields).rows() for frame in (bars_of(list(trades())), bars))
    return {int(row[0].timestamp()) for row in set(right) ^ set(wrong)}


def dropped(chance: Random) -> pl.DataFrame:
    of = list(trades())
    del of[chance.randrange(1, len(of))]
    return bars_of(of)


@cache
def edges() -> list[int]:
    """Trades that share a millisecond with the next and not its price, where one of them opens or closes a second."""
    of = trades()
    second = [t.time_us // 10**6 for t in of]
    return [
        i
        for i in range(1, len(of) - 2)
        if of[i].time_us == of[i + 1].time_us
        and of[i].price_e8 != of[i + 1].price_e8
        and (second[i - 1] != second[i] or second[i + 2] != second[i])
    ]


def swapped(chance: Random) -> pl.DataFrame:
    """Two trades of one millisecond in the other order, at a second's edge: its open or its close is another one."""
    of = list(trades())
    i = chance.choice(edges())
    return bars_of([*of[:i], of[i + 1], of[i], *of[i + 2 :]])


def in_the_wrong_second(chance: Random) -> pl.DataFrame:
    of = list(trades())
    i = chance.randrange(1, len(of))
    step = 10**6 if of[i].time_us // 10**6 + 1 < SPAN[1] else -(10**6)
    of[i] = replace(of[i], time_us=of[i].time_us + step)
    return bars_of(of)


@pytest.mark.parametrize("error", [dropped, swapped, in_the_wrong_second])
def test_every_seeded_error_is_flagged(error: Callable[[Random], pl.DataFrame]) -> None:
    for seed in range(15):
        bars = error(Random(seed))
        wrong = changed(bars)
        assert wrong, "the seeded error must change a bar"
        verdicts = judge(bars, theirs(), [SPAN], SPAN, Known())
        assert flagged(verdicts) == wrong
        assert Counted(verdicts).unexplained == len(wrong)


def test_right_bars_are_verified_all() -> None:
    verdicts = judge(bars_of(list(trades())), theirs(), [SPAN], SPAN, Known())
    counted = Counted(verdicts)
    assert (counted.verified, counted.mismatched, counted.unverifiable) == (SECONDS, 0, 0)
    assert all(verdicts[difference(name)].null_count() == SECONDS for name in COMPARED)


def test_rounding_instead_of_truncation_is_flagged() -> None:
    """On a trade whose product has more than eight decimals; of whole cents times 10^-5 there is nothing to round."""
    price, size = 612_345_679, 33_333_335  # 6.12345679 x 0.33333335
    product = price * size
    assert product % ONE_E8 >= ONE_E8 // 2
    quote = product // ONE_E8
    row = KlineRow(START * 10**6, price, price, price, price, size, quote, 1, size, quote)
    only = [Trade(7, START * 10**6, price, size, False)]
    span = (START, START + 1)
    right = bars_of(only).head(1)
    assert judge(right, klines.table([row]), [span], span, Known())["verdict"].to_list() == ["verified"]
    wrong = bars_of(only, lambda p, s: (p * s + ONE_E8 // 2) // ONE_E8).head(1)
    verdict = judge(wrong, klines.table([row]), [span], span, Known()).row(0, named=True)
    assert verdict["verdict"] == "mismatch"
    assert verdict["fields"] == "volume_quote,taker_buy_quote"
    assert verdict["volume_quote_difference"] == Decimal("0.00000001")
    assert verdict["explained"] == ""


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(klines.FIELDS), st.integers(0, SECONDS - 1), st.integers(1, 10**12), st.booleans())
def test_any_change_of_any_field_is_told_with_its_difference(
    field: str, at: int, by: int, minus: bool
) -> None:
    bars = bars_of(list(trades()))
    amount = -by if minus else by
    step = pl.lit(amount) if field == "trade_count" else pl.lit(to_decimal(amount), dtype=pl.Decimal(38, 8))
    second = pl.col("window_start").dt.epoch("s") == START + at
    wrong = bars.with_columns(
        pl.when(second).then(pl.col(field) + step).otherwise(pl.col(field)).alias(field)
    )
    verdicts = judge(wrong, theirs(), [SPAN], SPAN, Known())
    assert flagged(verdicts) == {START + at}
    row = verdicts.filter(second).row(0, named=True)
    assert field in row["fields"].split(",")
    told = row[difference(field)]
    assert told == (amount if field == "trade_count" else to_decimal(amount))


def test_ids_that_do_not_add_up_are_a_mismatch() -> None:
    bars = bars_of(list(trades()), last_trade_id=10**12)
    assert set(judge(bars, theirs(), [SPAN], SPAN, Known())["fields"].to_list()) <= {"trade_ids", ""}
    assert flagged(judge(bars, theirs(), [SPAN], SPAN, Known()))


def test_what_was_not_answered_is_unverifiable_and_only_that() -> None:
    answered = [(START, START + 5), (START + 9, SPAN[1])]
    some = theirs().filter(~pl.col("window_start").dt.epoch("s").is_between(START + 5, START + 8))
    verdicts = judge(bars_of(list(trades())), some, answered, SPAN, Known())
    kinds = dict(zip(verdicts["window_start"].dt.epoch("s"), verdicts["verdict"], strict=True))
    assert [s for s, kind in kinds.items() if kind == "unverifiable"] == list(range(START + 5, START + 9))
    assert [s for s, kind in kinds.items() if kind == "verified"] == [
        s for s in range(*SPAN) if not START + 5 <= s < START + 9
    ]


def hole(first_second: int, last_second: int) -> Hole:
    return Hole(
        first_id=1,
        last_id=2,
        after_time_us=first_second * 10**6,
        before_time_us=last_second * 10**6,
        found_ns=0,
        cause="disconnect",
    )


def seen(first_id: int, second: int) -> Seen:
    return Seen(hour="x", first_id=first_id, last_id=first_id, first_time_us=second * 10**6, last_time_us=0)


def test_a_hole_that_the_ledger_knows_explains_what_is_missing_and_nothing_else() -> None:
    without = START + 7
    bars = bars_of([t for t in trades() if t.time_us // 10**6 != without])
    bars = bars.filter(pl.col("window_start").dt.epoch("s") != without)

    def why(of: Known) -> tuple[str, str]:
        row = (
            judge(bars, theirs(), [SPAN], SPAN, of).filter(pl.col("verdict") != "verified").row(0, named=True)
        )
        return row["reason"], row["explained"]

    assert why(known([hole(without, without)])) == (Why.NO_BAR.value, Explained.HOLE.value)
    assert why(known([hole(without + 2, without + 3)])) == (Why.NO_BAR.value, "")
    assert why(Known()) == (Why.NO_BAR.value, "")
    # A bar that says it is whole has no excuse; one that says it is not has that.
    part = [t for t in trades() if t.time_us // 10**6 != without or t.id % 2]
    for state, explained in (("complete", ""), ("healed", ""), ("incomplete", "hole")):
        verdicts = judge(bars_of(part, state=state), theirs(), [SPAN], SPAN, known([hole(without, without)]))
        assert verdicts.filter(pl.col("verdict") == "mismatch")["explained"].to_list() == [explained]
    # The ledger learns of it later.
    verdicts = judge(bars, theirs(), [SPAN], SPAN, Known())
    assert Counted(verdicts).unexplained == 1
    assert Counted(explain(verdicts, known([hole(without, without)]))).explained == {"hole": 1}


def test_the_first_second_and_the_last_are_explained_where_they_are_cut() -> None:
    first = [t for t in trades() if t.time_us >= START * 10**6 + 400_000]
    bars = bars_of(first, state="incomplete").head(SECONDS)
    of = known([seen(first[0].id + 9, START + 3), seen(first[0].id, START)])
    assert of.first_second == START
    verdicts = judge(bars, theirs(), [SPAN], SPAN, of)
    assert verdicts.filter(pl.col("verdict") == "mismatch")["explained"].to_list() == ["before_first"]
    last = bars_of([t for t in trades() if t.time_us < SPAN[1] * 10**6 - 500_000], state="incomplete")
    verdicts = judge(last, theirs(), [SPAN], SPAN, Known(last_second=SPAN[1] - 1))
    assert verdicts.filter(pl.col("verdict") == "mismatch")["explained"].to_list() == ["after_last"]


def test_a_halt_is_explained_by_the_exchange_and_a_trade_without_a_kline_by_nothing() -> None:
    empty, traded = START + 4, START + 8
    bars = bars_of([t for t in trades() if t.time_us // 10**6 != empty])
    some = theirs().filter(~pl.col("window_start").dt.epoch("s").is_in([empty, traded]))
    verdicts = judge(bars, some, [SPAN], SPAN, Known())
    told = {
        int(row["window_start"].timestamp()): (row["reason"], row["explained"])
        for row in verdicts.filter(pl.col("verdict") == "mismatch").iter_rows(named=True)
    }
    assert told[empty] == ("no_kline", "halt")
    assert told[traded] == ("no_kline", "")


def test_an_aggregated_bar_may_differ_in_the_last_digits_of_two_fields_alone() -> None:
    bars = bars_of(list(trades()), state="aggregated")

    def explained(**by: int) -> set[str]:
        wrong = bars.with_columns(
            (pl.col(name) + pl.lit(to_decimal(amount), dtype=pl.Decimal(38, 8))).alias(name)
            for name, amount in by.items()
        )
        verdicts = judge(wrong, theirs(), [SPAN], SPAN, Known())
        busy = verdicts.filter(pl.col("verdict") == "mismatch")
        return set(busy["explained"].to_list())

    assert explained() == set()
    most = int(theirs()["trade_count"].min() or 0)
    assert most > 1, "a market in which each second has trades"
    assert explained(volume_quote=1, taker_buy_quote=1) == {"aggregated"}
    assert explained(volume_quote=-1) == {""}
    assert explained(volume_quote=1, close=1) == {""}
    assert "" in explained(volume_quote=10**6)


def test_klines_are_read_as_the_exchange_writes_them() -> None:
    row = [1790873078000, "84322.01000000", "84322.01000000", "84322.01000000", "84322.01000000",
           "0.00000000", 1790873078999, "0.00000000", 0, "0.00000000", "0.00000000", "0"]  # fmt: skip
    read = BINANCE.present.read_klines(msgspec.json.encode([row]))
    assert read[0].open_us == 1790873078000000
    assert klines.table(read)["close"].to_list() == [Decimal("84322.01")]
    others = [row[:10], [*row[:8], "x", *row[9:]], [row[0], 84322.01, *row[2:]], [row[0], "1e5", *row[2:]]]
    for broken in (b"{}", b"[[1,2]]", b"[", *(msgspec.json.encode([other]) for other in others)):
        with pytest.raises(ValueError):  # noqa: PT011  msgspec's are of that kind
            BINANCE.present.read_klines(broken)
