"""The fast way of reading lines gives what reading each of them as JSON gives, whatever was done to them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crypto_lake.bars import lines
from crypto_lake.bars.lines import Template, parse, streams_of

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
    each = lines._parse_each(text, [0] * len(text), 1, TEMPLATE)
    assert sorted(read.trades.rows()) == sorted(each.trades.rows())
    assert sorted(read.quotes.rows()) == sorted(each.quotes.rows())
    assert sorted(line for _, line, _ in read.bad) == sorted(line for _, line, _ in each.bad)
    assert read.lines == each.lines


@settings(max_examples=400, deadline=None)
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
def test_both_ways_of_reading_agree(text: list[bytes]) -> None:
    same([line for line in text if b"\n" not in line])


@pytest.mark.parametrize(("line", "kind"), [(TRADE, "trades"), (QUOTE, "quotes")])
def test_lines_as_the_exchange_writes_them_take_the_fast_way(
    line: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a whole line was read the slow way")

    monkeypatch.setattr(lines, "_parse_each", refuse)
    assert getattr(parse((line + b"\n") * 3, TEMPLATE), kind).height == 3
