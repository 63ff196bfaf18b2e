"""Raw lines to columns of trades and quotes.

Lines that have the exact shape in which the exchange writes its messages are split into cells, column by column, and
every cell is checked; any other line (another order of the fields, blanks, a
trade fetched over REST) is read as JSON, one by one. Both ways give the same columns. What is neither is returned
with its reason, never dropped.

Numbers are exact: prices and sizes become integer hundred-millionths (`Int128`). A number with more than eight
decimals, or so great that a product could leave 128 bits, makes its line unreadable.
"""

# pyright: reportUnknownMemberType=false
# Signatures of polars name types of numpy, which is not installed.

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import polars as pl

from crypto_lake.exchanges.binance import to_us
from crypto_lake.lake import envelope
from crypto_lake.model.decimals import InexactDecimalError, parse_e8
from crypto_lake.model.market import Stream

# Where a trade was learned from. The smaller is preferred when two copies of one trade say the same.
STREAMED: Final = 0
REST: Final = 1

TRADE_SCHEMA: Final = pl.Schema(
    {
        "id": pl.Int64(),
        "time_us": pl.Int64(),
        "price": pl.Int128(),
        "size": pl.Int128(),
        "buyer_is_maker": pl.Boolean(),
        "source": pl.UInt8(),
        "received_ns": pl.Int64(),
        "connection": pl.String(),
        "file": pl.UInt32(),
    }
)
QUOTE_SCHEMA: Final = pl.Schema(
    {
        "received_ns": pl.Int64(),
        "u": pl.Int64(),
        "connection": pl.String(),
        "bid": pl.Int128(),
        "bid_size": pl.Int128(),
        "ask": pl.Int128(),
        "ask_size": pl.Int128(),
        "file": pl.UInt32(),
    }
)
# The greatest price or size, and the greatest product of a price and a size, in hundred-millionths: far above any
# market, and so small that no sum over a day leaves 128 bits (1.7e38) or 38 digits.
MAX_E8: Final = 10**29
MAX_PRODUCT: Final = 10**37
_MAX_ID: Final = 10**18
_MAX_TIME_US: Final = 10**17
_MAX_TEXT: Final = 30  # characters of a number below MAX_E8: 21 digits, a point, 8 decimals
_MAX_TEXTS: Final = 39  # of price and size together: their product stays below MAX_PRODUCT

# Digits are counted after the split: counted repeats make the expression a third slower (measured).
_NUMBER = r"[0-9]+\.[0-9]+"
_LINE_END: Final = b"}}}\n"
_RECEIVED: Final = '{"received_ns":'
_UPDATE: Final = '"data":{"u":'
_CELLS_SCHEMA: Final = {f"c{place}": pl.String() for place in range(13)}


@dataclass(slots=True)
class Parsed:
    """What a run of lines held. `lines` and `skipped` count by file; `bad`: file, unreadable line, reason."""

    trades: pl.DataFrame
    quotes: pl.DataFrame
    lines: list[int]
    bad: list[tuple[int, bytes, str]] = field(default_factory=list[tuple[int, bytes, str]])
    skipped: list[int] = field(default_factory=list[int])  # whole and known, and bars don't use them (yet)


class Template:
    """The exact shape of one symbol's lines, as the exchange writes them."""

    def __init__(self, symbol: str, trade_stream: str, quote_stream: str) -> None:
        self.symbol = symbol
        self.trade_stream = trade_stream
        self.quote_stream = quote_stream
        self.trade_head = f'"message":{{"stream":"{trade_stream}"'
        self.quote_head = f'"message":{{"stream":"{quote_stream}"'
        self.symbol_cell = f'"s":"{symbol}"'
        s, t, q = re.escape(symbol), re.escape(trade_stream), re.escape(quote_stream)
        self.pattern = (
            r'^\{"received_ns":[0-9]+,"connection":"[A-Za-z0-9._-]+","message":\{"stream":"(?:'
            rf'{t}","data":\{{"e":"trade","E":[0-9]+,"s":"{s}","t":[0-9]+,"p":"{_NUMBER}","q":"{_NUMBER}",'
            r'"T":[0-9]+,"m":(?:true|false),"M":(?:true|false)'
            rf'|{q}","data":\{{"u":[0-9]+,"s":"{s}","b":"{_NUMBER}","B":"{_NUMBER}","a":"{_NUMBER}","A":"{_NUMBER}"'
            r")\}\}\}$"
        )


def parse(text: bytes, template: Template) -> Parsed:
    """Read whole lines."""
    return parse_files([text], template)


def parse_files(texts: Sequence[bytes], template: Template) -> Parsed:
    """Read whole lines of several files at once; the columns' `file` is the place in `texts`.

    Each text ends with a newline. Memory is about eight times the size of all of them.
    """
    text = b"".join(texts) if len(texts) > 1 else texts[0]
    try:
        lines = pl.scan_lines(io.BytesIO(text), name="line").collect().to_series()
    except pl.exceptions.ComputeError:  # broken UTF-8 somewhere; what is whole is still read fast
        return concat([_parse_broken(text, at, template) for at, text in enumerate(texts)])
    if lines.is_empty():
        return Parsed(empty_trades(), empty_quotes(), [0] * len(texts))
    counts = [len(lines)] if len(texts) == 1 else [text.count(b"\n") for text in texts]
    if sum(counts) == len(lines):
        parsed = _parse_split(text, counts, template)
        if parsed is not None:
            return parsed
    if len(texts) > 1:  # tell the lines apart file by file; it is rare
        return concat([_at(parse(text, template), at) for at, text in enumerate(texts)])
    fits = lines.str.contains(template.pattern)
    others = [line.encode() for line in lines.filter(~fits)]
    straight = lines.filter(fits)
    first = Parsed(empty_trades(), empty_quotes(), [0])
    if not straight.is_empty():
        joined = "\n".join(straight).encode() + b"\n"
        split = None if fits.all() else _parse_split(joined, [len(straight)], template)
        # Where a number is out of range, each line is looked at.
        first = split or _parse_each([line.encode() for line in straight], [0] * len(straight), 1, template)
    second = _parse_each(others, [0] * len(others), 1, template)
    both = concat([first, second])
    return Parsed(both.trades, both.quotes, [first.lines[0] + second.lines[0]], both.bad, second.skipped)


def _at(parsed: Parsed, place: int) -> Parsed:
    """The same, as what stands in the file at `place`."""
    file = pl.lit(place, pl.UInt32).alias("file")
    return Parsed(
        parsed.trades.with_columns(file),
        parsed.quotes.with_columns(file),
        parsed.lines,
        [(place, line, reason) for _, line, reason in parsed.bad],
        parsed.skipped,
    )


def concat(parsed: list[Parsed]) -> Parsed:
    if len(parsed) == 1:
        return parsed[0]
    return Parsed(
        pl.concat([p.trades for p in parsed]),
        pl.concat([p.quotes for p in parsed]),
        [count for p in parsed for count in p.lines],
        [bad for p in parsed for bad in p.bad],
        [count for p in parsed for count in p.skipped],
    )


def empty_trades() -> pl.DataFrame:
    return pl.DataFrame(schema=TRADE_SCHEMA)


def empty_quotes() -> pl.DataFrame:
    return pl.DataFrame(schema=QUOTE_SCHEMA)


def _parse_broken(text: bytes, place: int, template: Template) -> Parsed:
    whole: list[bytes] = []
    broken: list[tuple[int, bytes, str]] = []
    for line in text.split(b"\n"):
        try:
            line.decode()
        except UnicodeDecodeError:
            broken.append((place, line, "broken UTF-8"))
        else:
            whole.append(line)
    parsed = _at(parse(b"\n".join(whole), template), place)
    return Parsed(
        parsed.trades, parsed.quotes, [parsed.lines[0] + len(broken)], broken + parsed.bad, parsed.skipped
    )


def _parse_split(text: bytes, counts: Sequence[int], template: Template) -> Parsed | None:
    """Columns of lines that all fit the template. None where one does not, or a number of it is out of range.

    Split at the comma, a line is a row of cells such as `"p":"61837.63000000"`. Every cell must begin with its key
    and go on as a plain number, or be equal to what it always is: together they are every byte of the line.
    """
    try:
        table = pl.scan_csv(
            io.BytesIO(text),
            quote_char=None,
            has_header=False,
            schema=_CELLS_SCHEMA,
            truncate_ragged_lines=True,
            missing_columns="insert",
        ).collect()
    except pl.exceptions.PolarsError:
        return None
    # As many line ends as rows: so every row ends with the braces, and no comma hides behind its last cell.
    if table.height != sum(counts) or text.count(_LINE_END) != sum(counts):
        return None
    places = [pl.repeat(place, count, dtype=pl.UInt32, eager=True) for place, count in enumerate(counts)]
    table = table.with_columns((pl.concat(places) if len(places) > 1 else places[0]).alias("file"))
    is_trade = (pl.col("c2") == template.trade_head).fill_null(False)  # a line of one cell is not to vanish
    times = _integer("c9", '"T":')
    trades, quotes = pl.collect_all(
        [
            table.lazy()
            .filter(is_trade)
            .select(
                _integer("c6", '"t":').alias("id"),
                pl.when(times >= 10**15).then(times).otherwise(times * 1000).alias("time_us"),
                _e8("c7", "p").alias("price"),
                _e8("c8", "q").alias("size"),
                (pl.col("c10") == '"m":true').alias("buyer_is_maker"),
                pl.lit(STREAMED, pl.UInt8).alias("source"),
                _integer("c0", _RECEIVED).alias("received_ns"),
                _connection().alias("connection"),
                "file",
                (
                    _frame(12)
                    & (pl.col("c3") == '"data":{"e":"trade"')
                    & (pl.col("c5") == template.symbol_cell)
                    & _integer("c4", '"E":').is_not_null()
                    & _plain("c4", '"E":', 18)
                    & _plain("c6", '"t":', 18)
                    & _plain("c9", '"T":', 16)
                    & _eight_decimals("c7", "p")
                    & _eight_decimals("c8", "q")
                    & (pl.col("c7").str.len_bytes() + pl.col("c8").str.len_bytes() <= _MAX_TEXTS + 12)
                    & (times > 0)
                    & pl.col("c10").is_in(['"m":true', '"m":false'])
                    & pl.col("c11").is_in(['"M":true}}}', '"M":false}}}'])
                ).alias("good"),
            ),
            table.lazy()
            .filter(~is_trade)
            .select(
                _integer("c0", _RECEIVED).alias("received_ns"),
                _integer("c3", _UPDATE).alias("u"),
                _connection().alias("connection"),
                _e8("c5", "b").alias("bid"),
                _e8("c6", "B").alias("bid_size"),
                _e8("c7", "a").alias("ask"),
                _e8("c8", "A", '"}}}').alias("ask_size"),
                "file",
                (
                    _frame(9)
                    & (pl.col("c2") == template.quote_head)
                    & (pl.col("c4") == template.symbol_cell)
                    & _plain("c3", _UPDATE, 18)
                    & _eight_decimals("c5", "b")
                    & _eight_decimals("c6", "B")
                    & _eight_decimals("c7", "a")
                    & _eight_decimals("c8", "A", '"}}}')
                ).alias("good"),
            ),
        ]
    )
    for frame in (trades, quotes):
        # A number that could not be read is null, and a comparison with it, too.
        if frame.height and (
            not frame["good"].all(ignore_nulls=False) or any(s.null_count() for s in frame.get_columns())
        ):
            return None
    return Parsed(trades.drop("good"), quotes.drop("good"), list(counts), [], [0] * len(counts))


def _frame(cells: int) -> pl.Expr:
    """What all lines have: so many cells, a receive time and a connection."""
    return (
        pl.col(f"c{cells}").is_null()
        & (pl.col("c0").str.len_bytes() == len('{"received_ns":') + 19)
        & _plain("c0", _RECEIVED, 19)
        & pl.col("c1").str.contains(r'^"connection":"[A-Za-z0-9._-]+"$')
    )


def _connection() -> pl.Expr:
    return pl.col("c1").str.strip_prefix('"connection":"').str.strip_suffix('"')


def _integer(cell: str, key: str) -> pl.Expr:
    return pl.col(cell).str.strip_prefix(key).str.to_integer(strict=False)


def _plain(cell: str, key: str, digits: int) -> pl.Expr:
    """A digit comes first, so no sign, and there are not too many: what else there could be, `_integer` refuses."""
    return (
        (pl.col(cell) >= key + "0")
        & (pl.col(cell) < key + ":")
        & (pl.col(cell).str.len_bytes() <= len(key) + digits)
    )


def _e8(cell: str, key: str, end: str = '"') -> pl.Expr:
    """Exact, since the text has eight decimals and fits: the cast alone would round a ninth one."""
    text = pl.col(cell).str.strip_prefix(f'"{key}":"').str.strip_suffix(end)
    return text.cast(pl.Decimal(38, 8), strict=False).to_physical()


def _eight_decimals(cell: str, key: str, end: str = '"') -> pl.Expr:
    """A digit first, a point before the last eight, no exponent: what else there could be, `_e8` refuses."""
    return (
        (pl.col(cell) >= f'"{key}":"0')
        & (pl.col(cell) < f'"{key}":":')
        & (pl.col(cell).str.len_bytes() <= _MAX_TEXT + 5 + len(end))
        & (pl.col(cell).str.slice(-9 - len(end), 1) == ".")
        & pl.col(cell).str.ends_with(end)
        & ~pl.col(cell).str.contains("e", literal=True)
        & ~pl.col(cell).str.contains("E", literal=True)
    )


# One line at a time


class _Data(msgspec.Struct, gc=False):
    e: str | None = None
    s: str | None = None
    t: int | None = None
    p: str | None = None
    q: str | None = None
    T: int | None = None
    m: bool | None = None
    u: int | None = None
    b: str | None = None
    B: str | None = None
    a: str | None = None
    A: str | None = None


class _Message(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _RestTrade(msgspec.Struct, gc=False, rename="camel"):
    """A row of GET /api/v3/historicalTrades."""

    id: int
    price: str
    qty: str
    time: int
    is_buyer_maker: bool


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_rest = msgspec.json.Decoder(_RestTrade).decode
_Trade = tuple[int, int, int, int, bool, int, int, str]
_Quote = tuple[int, int, str, int, int, int, int]


class _UnreadableError(ValueError):
    """The text is the reason for quarantine."""


def _parse_each(lines: Sequence[bytes], places: Sequence[int], files: int, template: Template) -> Parsed:
    trades: list[tuple[object, ...]] = []
    quotes: list[tuple[object, ...]] = []
    bad: list[tuple[int, bytes, str]] = []
    counts, skipped = [0] * files, [0] * files
    for line, place in zip(lines, places, strict=True):
        if not line or line.isspace():
            continue
        counts[place] += 1
        try:
            read = _parse_line(line, template)
        except _UnreadableError as error:
            bad.append((place, line, str(error)))
            continue
        if read is None:
            skipped[place] += 1
        elif len(read) == 8:
            trades.append((*read, place))
        else:
            quotes.append((*read, place))
    return Parsed(
        pl.DataFrame(trades, schema=TRADE_SCHEMA, orient="row"),
        pl.DataFrame(quotes, schema=QUOTE_SCHEMA, orient="row"),
        counts,
        bad,
        skipped,
    )


def _parse_line(line: bytes, template: Template) -> _Trade | _Quote | None:
    try:
        read = envelope.decode(line)
        if not 0 < read.received_ns < 2**63:
            raise _UnreadableError("receive time out of range")
        if read.source == "historicalTrades":
            return _rest_trade(read)
        if read.source is not None:
            return None  # merging of aggTrades and archives is not there yet; their lines stay in raw
        message = _decode_message(read.message)
        if message.stream == template.trade_stream:
            return _trade(read, _decode_data(message.data), template)
        if message.stream == template.quote_stream:
            return _quote(read, _decode_data(message.data), template)
    except msgspec.MsgspecError:
        raise _UnreadableError("not a raw line") from None
    except UnicodeDecodeError:
        raise _UnreadableError("broken UTF-8") from None
    raise _UnreadableError("a message of another stream")


def _trade(read: envelope.Envelope, data: _Data, template: Template) -> _Trade:
    if data.e != "trade" or data.s != template.symbol:
        raise _UnreadableError("a message of another stream")
    if data.t is None or data.T is None or data.p is None or data.q is None or data.m is None:
        raise _UnreadableError("a trade without one of its fields")
    return _checked(read, data.t, data.T, data.p, data.q, data.m, STREAMED)


def _rest_trade(read: envelope.Envelope) -> _Trade:
    row = _decode_rest(read.message)
    return _checked(read, row.id, row.time, row.price, row.qty, row.is_buyer_maker, REST)


def _checked(
    read: envelope.Envelope, id_: int, time: int, price: str, size: str, maker: bool, source: int
) -> _Trade:
    time_us = to_us(time)
    if not 0 <= id_ < _MAX_ID or not 0 < time_us < _MAX_TIME_US:
        raise _UnreadableError("trade id or time out of range")
    price_e8, size_e8 = _number(price), _number(size)
    if price_e8 * size_e8 >= MAX_PRODUCT:
        raise _UnreadableError("a number out of range")
    return id_, time_us, price_e8, size_e8, maker, source, read.received_ns, read.connection


def _quote(read: envelope.Envelope, data: _Data, template: Template) -> _Quote:
    if data.s != template.symbol:
        raise _UnreadableError("a message of another stream")
    if data.u is None or data.b is None or data.B is None or data.a is None or data.A is None:
        raise _UnreadableError("a quote without one of its fields")
    if not 0 <= data.u < _MAX_ID:
        raise _UnreadableError("update id out of range")
    return (
        read.received_ns,
        data.u,
        read.connection,
        _number(data.b),
        _number(data.B),
        _number(data.a),
        _number(data.A),
    )


def _number(text: str) -> int:
    try:
        value = parse_e8(text)
    except InexactDecimalError:
        raise _UnreadableError("a number that eight decimals can't hold") from None
    if not 0 <= value < MAX_E8:
        raise _UnreadableError("a number out of range")
    return value


def streams_of(symbol: str) -> tuple[str, str]:
    """Names of the symbol's two streams, as its messages bear them."""
    lower = symbol.lower()
    return f"{lower}@{Stream.TRADE.value}", f"{lower}@{Stream.BOOK_TICKER.value}"
