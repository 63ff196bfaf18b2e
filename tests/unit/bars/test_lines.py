"""The fast way of reading lines gives what reading each of them as JSON gives, whatever was done to them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crypto_lake.bars import each, lines, straight
from crypto_lake.bars.columns import Parsed
from crypto_lake.bars.lines import parse
from crypto_lake.bars.template import Template, streams_of

TEMPLATE = Template("BTCUSDT", *streams_of("BTCUSDT"))
TRADE = (
    b'{"received_ns":1723161254087896568,"connection":"c-1","message":{"stream":"btcusdt@trade","data":{"e":"trade",'
    b'"E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,'
    b'"M":true}}}'
)
QUOTE = (
    b'{"received_ns":1723161254087896568,"connection":"c-1","message":{"stream":"btcusdt@bookTicker","data":{'
    b'"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}}'
)
KLINE = (
    b'{"received_ns":1723161255087896568,"connection":"c-1","message":{"stream":"btcusdt@kline_1s","data":{"e":"kline",'
    b'"E":1723161255005,"s":"BTCUSDT","k":{"t":1723161254000,"T":1723161254999,"s":"BTCUSDT","i":"1s","f":7,"L":9,'
    b'"o":"61837.63000000","c":"61837.63000000","h":"61837.63000000","l":"61837.63000000","v":"0.02000000","n":3,'
    b'"x":true,"q":"1236.75260000","V":"0.02000000","Q":"1236.75260000","B":"0"}}}}'
)
FRAGMENTS = [
    b'"',
    b"{",
    b"}",
    b":",
    b",",
    b"e",
    b"E",
    b"+",
    b"-",
    b".",
    b"0",
    b"9",
    b" ",
    b"p",
    b"q",
    b"\x00",
    b"\xff",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    line = bytearray(draw(st.sampled_from([TRADE, QUOTE])))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(line) - 1))
        fragment = draw(st.sampled_from(FRAGMENTS))
        match draw(st.sampled_from(["put", "over", "out"])):
            case "put":
                line[at:at] = fragment
            case "over":
                line[at : at + 1] = fragment
            case _:
                del line[at]
    return bytes(line)


def same(text: list[bytes]) -> None:
    read = parse(b"".join(line + b"\n" for line in text), TEMPLATE)
    one = each.parse_each(text, [0] * len(text), 1, TEMPLATE)
    assert sorted(read.trades.rows()) == sorted(one.trades.rows())
    assert sorted(read.quotes.rows()) == sorted(one.quotes.rows())
    assert sorted(line for _, line, _ in read.bad) == sorted(line for _, line, _ in one.bad)
    assert (read.lines, read.skipped, read.klines) == (one.lines, one.skipped, one.klines)


@settings(max_examples=100, deadline=None)
@given(st.lists(damaged(), min_size=1, max_size=3))
@example([b"garbage"])
@example([TRADE, b"garbage", QUOTE])
@example([TRADE.replace(b'"p":"61837.63000000","q":"0.02000000"', b'"q":"0.02000000","p":"61837.63000000"')])
@example([TRADE.replace(b'"p":"61837.63000000"', b'"p":"1.00000e5"')])
@example([TRADE.replace(b'"p":"61837.63000000"', b'"p":"+1837.63000000"')])
@example([TRADE.replace(b'"p":"61837.63000000"', b'"p":"61837.630000001"')])
@example([TRADE.replace(b'"t":3735683259', b'"t":-735683259')])
@example([TRADE.replace(b'"t":3735683259', b'"t":"735683259"')])
@example([TRADE.replace(b"}}}", b"}}")])
@example([TRADE.replace(b"}}}", b'},"source":1}')])
@example([QUOTE.replace(b'"b":', b'"d":')])
@example([QUOTE.replace(b"BTCUSDT", b"ETHUSDT")])
@example([QUOTE + b',"x"'])
@example([KLINE])
@example([TRADE, KLINE, QUOTE, KLINE.replace(b"btcusdt@", b"ethusdt@")])
@example([KLINE.replace(b'"stream":', b'"stream": ')])
@example([KLINE.replace(b"}}}}", b"}}}")])
def test_both_ways_of_reading_agree(text: list[bytes]) -> None:
    same([line for line in text if b"\n" not in line])


NUMBERS = st.integers(0, 10**18 - 1).flatmap(
    lambda most: st.integers(0, most).map(lambda e8: f"{e8 // 10**8}.{e8 % 10**8:08d}")
)
INTEGERS = st.integers(1, 16).flatmap(lambda digits: st.integers(10 ** (digits - 1), 10**digits - 1))
STAMPS = st.integers(10**18, 2**63 - 1)
TIMES = st.integers(10**12, 10**13 - 1) | st.integers(10**15, 10**16 - 1)
NAMES = st.text("abcXYZ0189._-", min_size=1, max_size=24)
FLAGS = st.sampled_from(["true", "false"])
MARKET_LINES = st.builds(
    lambda ns, c, e, t, p, q, at, m, also: (
        f'{{"received_ns":{ns},"connection":"{c}","message":{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{e},'
        f'"s":"BTCUSDT","t":{t},"p":"{p}","q":"{q}","T":{at},"m":{m},"M":{also}}}}}}}'.encode()
    ),
    STAMPS, NAMES, TIMES, INTEGERS, NUMBERS, NUMBERS, TIMES, FLAGS, FLAGS,
) | st.builds(
    lambda ns, c, u, b, bs, a, asz: (
        f'{{"received_ns":{ns},"connection":"{c}","message":{{"stream":"btcusdt@bookTicker","data":{{"u":{u},'
        f'"s":"BTCUSDT","b":"{b}","B":"{bs}","a":"{a}","A":"{asz}"}}}}}}'.encode()
    ),
    STAMPS, NAMES, INTEGERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(MARKET_LINES, min_size=1, max_size=8))
def test_numbers_of_any_width_are_read_straight_and_as_json_they_are_the_same(text: list[bytes]) -> None:
    assert straight.read_straight([line + b"\n" for line in text], TEMPLATE).odd.tolist() == []
    same(text)


@given(
    st.lists(st.lists(st.sampled_from([TRADE, QUOTE, b"garbage", b""]), max_size=4), min_size=1, max_size=5)
)
def test_rows_know_their_file(files: list[list[bytes]]) -> None:
    read = lines.parse_files([b"".join(line + b"\n" for line in file) for file in files], TEMPLATE)
    for frame, kind in ((read.trades, TRADE), (read.quotes, QUOTE)):
        assert frame["file"].to_list() == [
            at for at, file in enumerate(files) for line in file if line == kind
        ]
    assert [at for at, _, _ in read.bad] == [
        at for at, file in enumerate(files) for x in file if x == b"garbage"
    ]
    assert read.lines == [sum(line != b"" for line in file) for file in files]


@given(st.lists(st.lists(st.sampled_from([TRADE, QUOTE, KLINE]), max_size=5), min_size=1, max_size=3))
def test_klines_are_counted_and_leave_the_rest_as_it_is(files: list[list[bytes]]) -> None:
    def read(chosen: list[list[bytes]]) -> Parsed:
        return lines.parse_files([b"".join(line + b"\n" for line in file) for file in chosen], TEMPLATE)

    some = read(files)
    without = read([[line for line in file if line != KLINE] for file in files])
    assert some.trades.equals(without.trades)
    assert some.quotes.equals(without.quotes)
    assert some.bad == without.bad == []
    assert some.klines == [file.count(KLINE) for file in files]
    assert some.skipped == [0] * len(files)
    assert some.lines == [len(file) for file in files]


def test_more_connections_than_are_told_apart_lose_nothing() -> None:
    text = [TRADE.replace(b'"c-1"', b'"c-%d"' % n) for n in range(200)]
    assert len(straight.read_straight([line + b"\n" for line in text], TEMPLATE).odd) == 200 - 64
    same(text)


def test_a_kline_is_passed_over_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "parse_each", None)
    read = parse((KLINE + b"\n" + TRADE + b"\n") * 3, TEMPLATE)
    assert (read.trades.height, read.klines, read.skipped, read.bad) == (3, [3], [0], [])


@pytest.mark.parametrize(("line", "kind"), [(TRADE, "trades"), (QUOTE, "quotes")])
def test_lines_as_the_exchange_writes_them_take_the_fast_way(
    line: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a whole line was read the slow way")

    monkeypatch.setattr(lines, "parse_each", refuse)
    assert getattr(parse((line + b"\n") * 3, TEMPLATE), kind).height == 3


@pytest.mark.faults
@settings(max_examples=2000, deadline=None)
@given(st.lists(damaged(), min_size=1, max_size=3))
def test_both_ways_of_reading_agree_at_length(text: list[bytes]) -> None:
    same(text)


@pytest.mark.faults
@settings(max_examples=1000, deadline=None)
@given(st.lists(MARKET_LINES, min_size=1, max_size=8))
def test_numbers_of_any_width_at_length(text: list[bytes]) -> None:
    assert straight.read_straight([line + b"\n" for line in text], TEMPLATE).odd.tolist() == []
    same(text)
