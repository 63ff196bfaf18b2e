"""What a market has done: trades by id and time, aggregates, klines, whichever source they come from.

A source gives its trades in chunks, each with the ids it starts at; everything else follows here.
`until_us` (excluded) hides what comes later: the exchange serves only what has happened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.klines import INTERVALS_US, Kline, fill, fold, merge
from crypto_lake.simulator.messages import Aggregate, Message

_MINUTE_US = 60_000_000
_time_of = attrgetter("time_us")


class UnknownSymbolError(KeyError):
    """A symbol that the market does not have."""

    def __init__(self, symbol: str) -> None:
        super().__init__(f"symbol {symbol!r} is not in this market")


class ChunkStart(NamedTuple):
    """The ids that the first trade and the first aggregate of a chunk have, or will have."""

    trade_id: int
    aggregate_id: int


def aggregate(trades: Iterable[SimulatedTrade], first_aggregate_id: int) -> Iterator[Aggregate]:
    """Consecutive trades of one time, price and side as one, numbered from first_aggregate_id."""
    current: Aggregate | None = None
    for trade in trades:
        if (
            current is not None
            and trade.time_us == current.time_us
            and trade.price_e8 == current.price_e8
            and trade.buyer_is_maker == current.buyer_is_maker
        ):
            current = current._replace(
                size_e8=current.size_e8 + trade.size_e8, last_id=trade.id, event_us=trade.event_us
            )
            continue
        if current is not None:
            yield current
        id_ = current.id + 1 if current is not None else first_aggregate_id
        current = Aggregate(
            id_,
            trade.price_e8,
            trade.size_e8,
            trade.id,
            trade.id,
            trade.time_us,
            trade.event_us,
            trade.buyer_is_maker,
        )
    if current is not None:
        yield current


class Market(ABC):
    """A market: what it says in the streams, and what it has done.

    symbols: in the order given. start_us: its clock when it starts. end_us: when its last message is told,
    None where it goes on for ever.
    """

    symbols: tuple[str, ...]
    start_us: int
    end_us: int | None

    @abstractmethod
    def messages(self) -> Iterator[Sequence[Message]]:
        """All messages in the order they are sent, pace_us never decreasing, in batches of bounded work.

        A batch may be empty: a piece of work was done and no message is ready yet.
        """

    @abstractmethod
    def streams(self) -> frozenset[str] | None:
        """The streams it can send besides klines; None where each symbol has all that is known."""

    # What a source gives.
    @abstractmethod
    def _chunk(self, symbol: str, index: int) -> Sequence[SimulatedTrade]: ...

    @abstractmethod
    def _chunk_start(self, symbol: str, index: int) -> ChunkStart: ...

    @abstractmethod
    def _chunk_at(self, symbol: str, time_us: int) -> int:
        """The last chunk with the first trade not after time_us, or 0; makes what is not made yet."""

    @abstractmethod
    def _chunk_count(self, symbol: str) -> int: ...

    def _minutes(self, symbol: str, start_us: int, end_us: int) -> Iterable[Kline]:
        """Bars of whole minutes with trades, for start_us..end_us (whole minutes)."""
        return fold(self.trades_between(symbol, start_us, end_us), _MINUTE_US)

    # What follows.
    def require(self, symbol: str) -> None:
        if symbol not in self.symbols:
            raise UnknownSymbolError(symbol)

    def first_id(self, symbol: str) -> int:
        """The id of the market's first trade."""
        self.require(symbol)
        return self._chunk_start(symbol, 0).trade_id

    def newest_id(self, symbol: str, until_us: int) -> int | None:
        """The id of the last trade before until_us, None where there is none."""
        self.require(symbol)
        index = self._chunk_at(symbol, until_us - 1)
        within = bisect_left(self._chunk(symbol, index), until_us, key=_time_of)
        newest = self._chunk_start(symbol, index).trade_id + within - 1
        return newest if newest >= self.first_id(symbol) else None

    def trades_between(self, symbol: str, start_us: int, end_us: int) -> Iterator[SimulatedTrade]:
        """Trades with start_us <= time < end_us, in order."""
        self.require(symbol)
        if end_us <= start_us:
            return
        last = self._chunk_at(symbol, end_us - 1)
        for index in range(self._chunk_at(symbol, start_us), last + 1):
            chunk = self._chunk(symbol, index)
            yield from chunk[
                bisect_left(chunk, start_us, key=_time_of) : bisect_left(chunk, end_us, key=_time_of)
            ]

    def trades(
        self, symbol: str, first_id: int, last_id: int, until_us: int | None = None
    ) -> list[SimulatedTrade]:
        """Trades first_id..last_id, both included, as far as they exist (before until_us).

        Without until_us the market is not looked at beyond what was made already, or was sent.
        """
        self.require(symbol)
        if until_us is not None:
            newest = self.newest_id(symbol, until_us)
            if newest is None:
                return []
            last_id = min(last_id, newest)
        first_id = max(first_id, self.first_id(symbol))
        found: list[SimulatedTrade] = []
        for index in range(self._index_of(symbol, first_id, 0), self._chunk_count(symbol)):
            start = self._chunk_start(symbol, index).trade_id
            if start > last_id:
                break
            found += self._chunk(symbol, index)[max(first_id - start, 0) : max(last_id + 1 - start, 0)]
        return found

    def aggregates(self, symbol: str, first_id: int, until_us: int) -> Iterator[Aggregate]:
        """Aggregates from the id first_id on, before until_us."""
        self.require(symbol)
        last = self._chunk_at(symbol, until_us - 1)
        for index in range(self._index_of(symbol, first_id, 1), last + 1):
            for found in self._chunk_aggregates(symbol, index):
                if found.time_us >= until_us:
                    return
                if found.id >= first_id:
                    yield found

    def aggregates_between(self, symbol: str, start_us: int, end_us: int) -> Iterator[Aggregate]:
        """Aggregates with start_us <= time < end_us."""
        self.require(symbol)
        if end_us > start_us:
            index = self._chunk_at(symbol, start_us)
            for found in self.aggregates(symbol, self._chunk_start(symbol, index).aggregate_id, end_us):
                if found.time_us >= start_us:
                    yield found

    def newest_aggregate_id(self, symbol: str, until_us: int) -> int | None:
        index = self._chunk_at(symbol, until_us - 1)
        newest = self._chunk_start(symbol, index).aggregate_id - 1
        for found in self._chunk_aggregates(symbol, index):
            if found.time_us >= until_us:
                break
            newest = found.id
        return newest if newest >= self._chunk_start(symbol, 0).aggregate_id else None

    def klines(
        self, symbol: str, interval: str, start_us: int, end_us: int, until_us: int | None = None
    ) -> list[Kline]:
        """Bars that open in start_us..end_us (end excluded), from trades before until_us, empty ones included.

        The first bar is the one of the market's first trade. Without until_us all of a bar's trades count.
        """
        self.require(symbol)
        interval_us = INTERVALS_US[interval]
        first = -(-start_us // interval_us) * interval_us
        beyond = -(-end_us // interval_us) * interval_us
        limit = beyond if until_us is None else min(beyond, until_us)
        if self.end_us is not None:
            limit = min(limit, self.end_us + 1)
        if limit <= first:
            return []
        cut = first
        minutes: Iterable[Kline] = ()
        if interval_us % _MINUTE_US == 0:
            cut = max(first, limit - limit % _MINUTE_US)
            minutes = self._minutes(symbol, first, cut)
        rest = fold(self.trades_between(symbol, cut, limit), _MINUTE_US if cut > first else interval_us)
        newest = self.newest_id(symbol, first)
        close_e8 = self.trades(symbol, newest, newest, first)[0].price_e8 if newest is not None else 0
        traded = merge(chain(minutes, rest), interval_us)
        return list(fill(traded, interval_us, first, limit, close_e8))

    def _index_of(self, symbol: str, id_: int, field: int) -> int:
        """The last chunk that starts at the trade (field 0) or aggregate (1) id_ or before it, or 0."""
        return max(
            bisect_left(
                range(self._chunk_count(symbol)),
                id_ + 1,
                key=lambda index: self._chunk_start(symbol, index)[field],
            )
            - 1,
            0,
        )

    def _chunk_aggregates(self, symbol: str, index: int) -> Iterator[Aggregate]:
        return aggregate(self._chunk(symbol, index), self._chunk_start(symbol, index).aggregate_id)
