"""Raw lines of the exact shape in which the exchange writes its messages, to columns, many lines at a time.

Such a line is fixed text with a few numbers of varying length in it. Where its commas are says where each piece
begins; then every byte is compared or read as a digit, eight at a time, for all lines at once. A line that differs
anywhere is left to who reads it as JSON: nothing is guessed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto_lake.bars.template import Template

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_PAD_BEFORE: Final = (
    b"\0" * 31 + b"\n"
)  # digits are read backwards in words, and each line follows a line end
_CONNECTION: Final = re.compile(rb"[A-Za-z0-9._-]+")
_MOST_CONNECTIONS: Final = 64  # told apart in one chunk; lines of further ones are read as JSON
_MOST_WHOLE_DIGITS: Final = (
    10  # before the point: hundred-millionths then fit 64 bits, and a product fits 128
)
_TRADE_COMMAS: Final = 11
_QUOTE_COMMAS: Final = 8
_KLINE_COMMAS: Final = 22

_RECEIVED: Final = b'{"received_ns":'
_RECEIVED_DIGITS: Final = 19
_CONNECTION_KEY: Final = b',"connection":"'
_CONNECTION_AT: Final = len(_RECEIVED) + _RECEIVED_DIGITS + len(_CONNECTION_KEY)

# Of the words that hold the last 8 digits, those before, …: which bytes belong to a number of so many digits.
_KEEP: Final = np.array([0] + [(2**64 - 1) & ~((1 << 8 * (8 - n)) - 1) for n in range(1, 9)], np.uint64)
_SMALLEST: Final = np.array(
    [0, 0] + [10**n for n in range(1, 18)], np.uint64
)  # of so many digits, without leading zeros
_NIBBLES: Final = 0xF0F0F0F0F0F0F0F0
_ZEROS: Final = 0x3030303030303030


@dataclass(frozen=True, slots=True)
class Trades:
    """One row a trade, in the order of the lines. `connection`: place in `connections`; `line`: place of its line."""

    line: Ints
    received_ns: Ints
    connection: Ints
    id: Ints
    time_us: Ints
    price_e8: Ints
    size_e8: Ints
    buyer_is_maker: Mask


@dataclass(frozen=True, slots=True)
class Quotes:
    line: Ints
    received_ns: Ints
    connection: Ints
    u: Ints
    bid_e8: Ints
    bid_size_e8: Ints
    ask_e8: Ints
    ask_size_e8: Ints


@dataclass(frozen=True, slots=True)
class Straight:
    """`ends`: of every line, where its newline is, counted in all texts together. `klines`: lines of that stream, of which
    nothing is read. `odd`: lines that are not straight.
    """

    trades: Trades
    quotes: Quotes
    klines: Ints
    connections: list[str]
    ends: Ints
    odd: Ints


def read_straight(texts: Sequence[bytes], template: Template) -> Straight:
    """Read whole lines; each text ends with a newline. Memory is about five times the size of all of them."""
    symbol, trade, quote, kline = (
        name.encode()
        for name in (template.symbol, template.trade_stream, template.quote_stream, template.kline_stream)
    )
    before = b'","message":{"stream":"'
    trade_head = before + trade + b'","data":{"e":"trade","E":'
    quote_head = before + quote + b'","data":{"u":'
    kline_head = before + kline + b'","data":{"e":"kline",'
    # As much behind as a comparison may look past the last line's end.
    behind = b"\0" * (16 + max(len(trade_head), len(quote_head), len(kline_head)))
    text = _Text(b"".join([_PAD_BEFORE, *texts, behind]))

    marks = np.flatnonzero((text.bytes == ord(",")) | (text.bytes == ord("\n")))
    ends = np.flatnonzero(text.bytes[marks] == ord("\n"))  # places in `marks`; the first is the pad's
    commas = np.diff(ends) - 1
    good = np.zeros(len(commas), np.bool_)
    names = _Connections()

    def place(lines: Ints, mark: int) -> Ints:
        """Where a mark of these lines is, counted back from the line end (0)."""
        return marks[ends[lines + 1] - mark]

    lines = np.flatnonzero(commas == _TRADE_COMMAS)
    start = place(lines, 12) + 1
    received_ns, connection, fits = _envelope(text, start, place(lines, 10), names)
    at = place(lines, 10) - 1
    fits &= text.equal(at, trade_head)
    e_end, id_end, price_end, size_end, time_end = (place(lines, mark) for mark in (7, 5, 4, 3, 2))
    at = at + len(trade_head)
    fits &= text.integer(at, e_end)[1]
    ids = text.after(e_end, b',"s":"' + symbol + b'","t":', id_end, fits)
    prices = text.price(id_end, b',"p":"', price_end, fits)
    sizes = text.price(price_end, b',"q":"', size_end, fits)
    times = text.after(size_end, b',"T":', time_end, fits)
    maker = text.equal(time_end, b',"m":true,')
    fits &= maker | text.equal(time_end, b',"m":false,')
    last = place(lines, 1)
    fits &= text.equal(last, b',"M":true}}}\n') | text.equal(last, b',"M":false}}}\n')
    fits &= (times > 0) & (time_end - size_end <= len(b',"T":') + 16)
    time_us = np.where(times >= 10**15, times, times * 1000)
    good[lines] = fits
    trades = Trades(
        lines[fits],
        received_ns[fits],
        connection[fits],
        ids[fits],
        time_us[fits],
        prices[fits],
        sizes[fits],
        maker[fits],
    )

    lines = np.flatnonzero(commas == _QUOTE_COMMAS)
    start = place(lines, 9) + 1
    at = place(lines, 7) - 1
    received_ns, connection, fits = _envelope(text, start, at + 1, names)
    fits &= text.equal(at, quote_head)
    u_end, symbol_end, bid_end, bid_size_end, ask_end, line_end = (
        place(lines, mark) for mark in (5, 4, 3, 2, 1, 0)
    )
    u, whole = text.integer(at + len(quote_head), u_end)
    named = b',"s":"' + symbol + b'"'
    fits &= whole & text.equal(u_end, named) & (symbol_end == u_end + len(named))
    bids = text.price(symbol_end, b',"b":"', bid_end, fits)
    bid_sizes = text.price(bid_end, b',"B":"', bid_size_end, fits)
    asks = text.price(bid_size_end, b',"a":"', ask_end, fits)
    ask_sizes = text.price(ask_end, b',"A":"', line_end - 3, fits)
    fits &= text.equal(line_end - 3, b"}}}\n")
    good[lines] = fits
    quotes = Quotes(
        lines[fits],
        received_ns[fits],
        connection[fits],
        u[fits],
        bids[fits],
        bid_sizes[fits],
        asks[fits],
        ask_sizes[fits],
    )

    lines = np.flatnonzero(commas == _KLINE_COMMAS)
    at = place(lines, 21) - 1
    fits = _envelope(text, place(lines, 23) + 1, at + 1, names)[2]
    fits &= text.equal(at, kline_head) & text.equal(place(lines, 0) - 4, b"}}}}\n")
    good[lines] = fits
    klines = lines[fits]

    return Straight(
        trades, quotes, klines, names.texts(), marks[ends[1:]] - len(_PAD_BEFORE), np.flatnonzero(~good)
    )


class _Connections:
    """Names of connections in the order in which they were met."""

    def __init__(self) -> None:
        self._names: list[bytes] = []

    def texts(self) -> list[str]:
        return [name.decode() for name in self._names]

    def tell_apart(self, text: _Text, start: Ints, end: Ints, fits: Mask) -> tuple[Ints, Mask]:
        """Which name stands from `start` to `end` in each line; whether it was found out, and is one."""
        found = np.full(len(start), -1, np.int64)
        left = fits.copy()
        for number in range(_MOST_CONNECTIONS):
            if number == len(self._names):
                first = int(np.argmax(left)) if len(left) else 0
                if not len(left) or not left[first]:
                    break
                name = text.data[int(start[first]) : int(end[first])]
                if not _CONNECTION.fullmatch(name):
                    left[first] = False
                    # Whatever else is in doubt is read as JSON; names that are none are no common case.
                    break
                self._names.append(name)
            name = self._names[number]
            same = left & (end - start == len(name)) & text.equal(start, name)
            found[same] = number
            left &= ~same
        return found, found >= 0


def _envelope(text: _Text, start: Ints, connection_end: Ints, names: _Connections) -> tuple[Ints, Ints, Mask]:
    """Receive time and connection of lines that begin at `start`; `connection_end`: the comma behind it."""
    fits = text.equal(start, _RECEIVED)
    received, digits = text.number(start + len(_RECEIVED) + _RECEIVED_DIGITS, _RECEIVED_DIGITS)
    fits &= digits & (received >= 10**18) & (received < 2**63)
    fits &= text.equal(start + len(_RECEIVED) + _RECEIVED_DIGITS, _CONNECTION_KEY)
    connection, known = names.tell_apart(text, start + _CONNECTION_AT, connection_end - 1, fits)
    return received.astype(np.int64), connection, fits & known


class _Text:
    """Bytes that are looked at in many places at once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        # A word begins at every byte; the machine reads them where they lie.
        self._words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))

    def equal(self, at: Ints, text: bytes) -> Mask:
        """Whether `text` stands there."""
        if len(text) < 8:
            kept = np.uint64((1 << 8 * len(text)) - 1)
            return (self._words[at] & kept) == np.uint64(int.from_bytes(text, "little"))
        same = np.ones(len(at), np.bool_)
        for offset in [*range(0, len(text) - 8, 8), len(text) - 8]:
            word = np.uint64(int.from_bytes(text[offset : offset + 8], "little"))
            same &= self._words[at + offset] == word
        return same

    def _eight(self, end: Ints, digits: Ints | int) -> tuple[Words, Mask]:
        """The number whose last digits, up to eight, stand before `end`; whether they are digits."""
        words = self._words[end - 8]
        if not isinstance(digits, int) or digits < 8:
            keep = _KEEP[digits]
            words = (words & keep) | (_ZEROS & ~keep)
        good = (words & _NIBBLES) == _ZEROS
        good &= ((words + 0x0606060606060606) & _NIBBLES) == _ZEROS
        words = ((words & 0x0F0F0F0F0F0F0F0F) * np.uint64(2561)) >> np.uint64(8)
        words = ((words & 0x00FF00FF00FF00FF) * np.uint64(6553601)) >> np.uint64(16)
        words = (words & 0x0000FFFF0000FFFF) * np.uint64(42949672960001)
        return (words >> np.uint64(32)).astype(np.uint64, copy=False), good

    def number(self, end: Ints, digits: Ints | int) -> tuple[Words, Mask]:
        """The number of so many digits before `end`, at most 24 where it is the same for all, else 16."""
        value, good = self._eight(end, digits if isinstance(digits, int) else np.minimum(digits, 8))
        if isinstance(digits, int):
            for done in range(8, digits, 8):
                more, fine = self._eight(end - done, min(digits - done, 8))
                value, good = value + more * np.uint64(10**done), good & fine
            return value, good
        if len(digits) and int(digits.max()) > 8:
            more, fine = self._eight(end - 8, np.clip(digits - 8, 0, 8))
            value, good = value + more * np.uint64(10**8), good & fine
        return value, good & (digits >= 1) & (digits <= 16)

    def integer(self, start: Ints, end: Ints) -> tuple[Ints, Mask]:
        """The number that is all that stands from `start` to `end`: 1 to 16 digits, no leading zero."""
        digits = end - start
        value, good = self.number(end, np.clip(digits, 0, 17))
        good &= value >= _SMALLEST[np.clip(digits, 0, 17)]
        return value.astype(np.int64), good

    def after(self, start: Ints, key: bytes, end: Ints, fits: Mask) -> Ints:
        """The integer behind `key`, which begins at `start`; what is not so falls out of `fits`."""
        value, good = self.integer(start + len(key), end)
        fits &= good
        fits &= self.equal(start, key)
        return value

    def price(self, start: Ints, key: bytes, end: Ints, fits: Mask) -> Ints:
        """The number in quotes behind `key`, with eight decimals, in hundred-millionths; as `after`.

        `end` is behind the closing quote.
        """
        point = end - 10
        whole, good = self.integer(start + len(key), point)
        fits &= good
        fits &= (point - start) <= len(key) + _MOST_WHOLE_DIGITS
        decimals, good = self._eight(end - 1, 8)
        fits &= good
        fits &= self.bytes[point] == ord(".")
        fits &= self.bytes[end - 1] == ord('"')
        fits &= self.equal(start, key)
        return whole * 10**8 + decimals.astype(np.int64)
