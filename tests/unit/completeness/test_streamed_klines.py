"""Klines of the stream: read as REST's are, chosen from, and asked for only where they have no word."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness import klines, verdict_table
from crypto_lake.completeness.klines import Source
from crypto_lake.completeness.raw_klines import Told, tell
from crypto_lake.completeness.verdict import VERDICT_SCHEMA, Counted, Known, in_doubt, judge
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.simulator.klines import Kline
from crypto_lake.simulator.messages import COMBINED, MICROSECONDS, KlineMessage
from crypto_lake.simulator.rest_rows import kline_row

SYMBOL = "BTCUSDT"
START = 1_723_161_240
NUMBERS = st.integers(0, 10**17)
ROWS = st.builds(
    lambda second, numbers, count: Kline(second * 10**6, *numbers[:6], count, *numbers[6:], 1, count),
    st.integers(START, START + 9),
    st.tuples(*[NUMBERS] * 8),
    st.integers(0, 10**6),
)


def message(kline: Kline, variant: int = COMBINED, *, closed: bool = True) -> bytes:
    stream = f"{SYMBOL.lower()}@kline_1s"
    return KlineMessage(
        kline.open_us + 10**6 + 5000, SYMBOL, stream, "1s", 10**6, kline, closed=closed
    ).payload(variant)


def row(second: int, price: int = 7) -> KlineRow:
    return KlineRow(second * 10**6, price, price, price, price, 1, 1, 1, 1, 1)


@settings(deadline=None)
@given(ROWS, st.booleans(), st.booleans())
def test_the_stream_is_read_as_rest_is(kline: Kline, microseconds: bool, closed: bool) -> None:
    rest = BINANCE.present.read_klines(json.dumps([kline_row(kline, 10**6, 1000)]).encode())
    streamed = BINANCE.present.read_kline(
        message(kline, COMBINED | (MICROSECONDS if microseconds else 0), closed=closed)
    )
    assert streamed is not None
    assert (streamed.row, streamed.symbol, streamed.last_id) == (rest[0], SYMBOL, kline.last_id)
    assert streamed.closed is closed


def test_what_is_no_kline_of_a_second_is_none() -> None:
    good = message(Kline(START * 10**6, *[1] * 6, 1, 1, 1, 5, 5))
    assert BINANCE.present.read_kline(good) is not None
    for broken in (
        good.replace(b'"i":"1s"', b'"i":"1m"'),
        good.replace(b'"o":"0.', b'"o":"x'),
        good.replace(b'"v":"0.00000001"', b'"v":"0.000000001"'),
        good.replace(b'"x":true,', b""),
        good.replace(b'"n":1', b'"n":"1"'),
        good[:-1],
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"t":5}}',
        b'{"result":null,"id":1}',
        b"\xff",
    ):
        assert broken != good
        assert BINANCE.present.read_kline(broken) is None
    # On the way to the disk no more is read of it than of others.
    assert BINANCE.head(good).stream == "btcusdt@kline_1s"
    assert BINANCE.head(good).event_time_us == START * 10**6 + 1_005_000
    assert BINANCE.head(good).trade_id == -1


@given(st.lists(st.tuples(st.integers(START, START + 3), st.integers(1, 3)), max_size=12), st.randoms())
def test_copies_agree_or_have_no_word_in_whatever_order_they_come(
    given: list[tuple[int, int]], chance: Any
) -> None:
    told: Told = {}
    for second, price in given:
        tell(told, second, row(second, price))
    by_second = {second: {p for s, p in given if s == second} for second, _ in given}
    assert told == {
        second: row(second, *prices) if len(prices) == 1 else None for second, prices in by_second.items()
    }
    # Told in parts, each in any order, it comes to the same.
    chance.shuffle(given)
    parts: list[Told] = [{}, {}]
    for at, (second, price) in enumerate(given):
        tell(parts[at % 2], second, row(second, price))
    joined: Told = {}
    for part in parts:
        for second, found in part.items():
            tell(joined, second, found)
    assert joined == told


@given(st.sets(st.integers(0, 400), max_size=60), st.integers(1, 50))
def test_spans_hold_what_is_wanted_and_are_as_few_as_can_be(seconds: set[int], most: int) -> None:
    found = klines.spans(seconds, most)
    assert seconds == {second for second in seconds for start, end in found if start <= second < end}
    assert all(0 < end - start <= most for start, end in found)
    assert all(start in seconds and end - 1 in seconds for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    # No two firsts fit one span: each needs one of its own.
    assert all(after[0] - before[0] >= most for before, after in pairwise(found))


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_what_rest_was_asked_for_goes_by_rest(
    of_stream: set[int], of_rest: set[int], asked: set[int]
) -> None:
    streamed = klines.table((row(s, 1) for s in of_stream), Source.STREAM)
    answered = klines.table(row(s, 2) for s in of_rest & asked)
    found = klines.chosen(streamed, answered, klines.spans(asked, 1))
    told = dict(zip(found["window_start"].dt.epoch("s").to_list(), found["source"].to_list(), strict=True))
    assert told == dict.fromkeys(of_stream - asked, "stream") | dict.fromkeys(of_rest & asked, "rest")
    assert klines.revised(streamed, answered) == len(of_stream & of_rest & asked)
    assert klines.revised(streamed, streamed) == 0


def bar(second: int, price: int = 7, **changes: Any) -> dict[str, Any]:
    one = klines.table([row(second, price)]).drop("source").row(0, named=True)
    ids = {"first_trade_id": second, "last_trade_id": second}
    return one | ids | {"exchange": "binance", "symbol": SYMBOL, "state": "complete"} | changes


def test_a_verdict_says_whose_word_it_goes_by_and_a_doubt_is_of_the_streams() -> None:
    seconds = range(START, START + 6)
    bars = pl.DataFrame([bar(s, 8 if s in (START, START + 3) else 7) for s in seconds])
    streamed = klines.table((row(s) for s in seconds[:3]), Source.STREAM)
    answered = klines.table(row(s) for s in (START + 3, START + 4))
    spans, span = [(START + 3, START + 5)], (START, START + 6)
    verdicts = judge(bars, klines.chosen(streamed, answered, spans), spans, span, Known())
    assert verdicts["source"].to_list() == ["stream"] * 3 + ["rest"] * 2 + [""]
    assert verdicts["verdict"].to_list() == [
        "mismatch", "verified", "verified", "mismatch", "verified", "unverifiable"
    ]  # fmt: skip
    assert Counted(verdicts).by_stream == 3
    # Of the two that differ, REST has spoken on one; what the ledger explains is in no doubt either.
    assert in_doubt(verdicts) == [START]
    incomplete = bars.with_columns(pl.lit("incomplete").alias("state"))
    holes = Known(holes=((START * 10**6, START * 10**6),))
    assert in_doubt(judge(incomplete, streamed, [], (START, START + 3), holes)) == []
    # REST was asked and has no kline: the exchange has none, whatever the stream said.
    none = judge(
        bars,
        klines.chosen(streamed, answered.head(0), [(START, START + 1)]),
        [(START, START + 1)],
        span,
        Known(),
    )
    assert none.row(0, named=True)["reason"] == "no_kline"
    assert none["source"].to_list() == ["rest", "stream", "stream", "", "", ""]


def test_verdicts_of_the_schema_before_stand_and_were_asked_for(tmp_path: Path) -> None:
    bars = pl.DataFrame([bar(START), bar(START + 1)])
    rows = judge(bars, klines.table([row(START)]), [(START, START + 1)], (START, START + 2), Known())
    path = tmp_path / "verdicts.parquet"
    hours = {START // 3600: verdict_table.CheckedHour("x", START, START + 2)}
    told = {str(START // 3600): {"digest": "x", "since": START, "until": START + 2}}
    metadata = {"crypto_lake.hours": json.dumps(told)}
    older = rows.drop("source")
    older.write_parquet(path, metadata=metadata | {"crypto_lake.schema": "1"})
    read = verdict_table.read(path)
    assert read is not None
    assert read[0].equals(rows)
    assert read[0]["source"].to_list() == ["rest", ""]
    assert read[1] == hours
    verdict_table.write(path, rows, hours)
    assert pl.read_parquet_metadata(path)["crypto_lake.schema"] == "2"
    assert pl.read_parquet_schema(path) == dict(VERDICT_SCHEMA)
    # Of another schema, or without what its own says, it is made anew.
    for schema, frame in (("3", rows), ("2", older), ("1", older.drop("fields"))):
        frame.write_parquet(path, metadata=metadata | {"crypto_lake.schema": schema})
        assert verdict_table.read(path) is None


@pytest.mark.parametrize("field", klines.FIELDS)
def test_a_kline_revised_in_any_field_is_counted(field: str) -> None:
    one = klines.table([row(START), row(START + 1)], Source.STREAM)
    other = one.with_columns(
        (pl.col(field) + pl.lit(1).cast(one.schema[field])).cast(one.schema[field]).alias(field)
    )
    assert klines.revised(one, other.head(1)) == 1
