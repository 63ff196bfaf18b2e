"""The market that follows from a seed."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from crypto_lake.model.symbols import DEFAULT_SYMBOLS, validate_symbol
from crypto_lake.simulator.generator import (
    BLOCK_US,
    Block,
    SimulatedTrade,
    State,
    generate_block,
    initial_state,
)
from crypto_lake.simulator.history import ChunkStart, Market, aggregate
from crypto_lake.simulator.klines import Kline, fold, merge
from crypto_lake.simulator.messages import AggregateMessage, Message, QuoteMessage, TradeMessage
from crypto_lake.simulator.profiles import Profile, profile_of

_MINUTE_US = 60_000_000
_GREATEST_ACTIVITY = 1000  # ten seconds of one symbol are made in one go
_STATE_FIELDS = len(State._fields)
_KEPT_BLOCKS = 32  # of each symbol; others are made again when asked for


class _Symbol:
    """One symbol's blocks: the state before each (72 bytes), and the last few of them whole."""

    def __init__(self, seed: int, profile: Profile, activity: float, start_us: int) -> None:
        self._seed, self._profile, self._activity, self._start_us = seed, profile, activity, start_us
        self._first_number = start_us // BLOCK_US
        self._states = array("q", initial_state(profile))
        self._kept: OrderedDict[int, Block] = OrderedDict()
        self.minutes: list[Kline] = []  # those with trades; the last may be in the making

    def count(self) -> int:
        """Blocks made so far, and the one that can be made next."""
        return len(self._states) // _STATE_FIELDS

    def state(self, index: int) -> State:
        return State(*self._states[index * _STATE_FIELDS : (index + 1) * _STATE_FIELDS])

    def column(self, index: int, field: int) -> int:
        return self._states[index * _STATE_FIELDS + field]

    def index_at(self, time_us: int) -> int:
        index = max(time_us // BLOCK_US - self._first_number, 0)
        while self.count() <= index:
            self.block(self.count() - 1)
        return index

    def block(self, index: int) -> Block:
        found = self._kept.get(index)
        if found is not None:
            self._kept.move_to_end(index)
            return found
        made = generate_block(
            self._seed,
            self._profile,
            self._activity,
            self._first_number + index,
            self._start_us,
            self.state(index),
        )
        self._kept[index] = made
        if len(self._kept) > _KEPT_BLOCKS:
            self._kept.popitem(last=False)
        if index == self.count() - 1:
            self._states.extend(made.after)
            self._add_minutes(made)
        return made

    def _add_minutes(self, block: Block) -> None:
        for kline in fold(block.trades, _MINUTE_US):
            if self.minutes and self.minutes[-1].open_us == kline.open_us:
                self.minutes[-1] = next(merge((self.minutes[-1], kline), _MINUTE_US))
            else:
                self.minutes.append(kline)


class GeneratedMarket(Market):
    """A market of (seed, symbols, start, activity), for ever.

    Each symbol's part depends on its own name only, not on which others there are. `activity` scales how many
    orders and quotes there are a second: 1 is about 1,400 messages a second for the default symbols.
    """

    end_us = None

    def __init__(
        self,
        seed: int = 1,
        symbols: Iterable[str] = DEFAULT_SYMBOLS,
        *,
        start_us: int,
        activity: float = 1.0,
    ) -> None:
        if not 0 < activity <= _GREATEST_ACTIVITY:
            raise ValueError(
                f"activity is {activity}; it scales the rates and must be above 0, {_GREATEST_ACTIVITY} at most"
            )
        self.symbols = tuple(dict.fromkeys(validate_symbol(symbol) for symbol in symbols))
        if not self.symbols:
            raise ValueError("a market needs at least one symbol")
        self.seed = seed
        self.activity = activity
        self.start_us = start_us
        self._of = {symbol: _Symbol(seed, profile_of(symbol), activity, start_us) for symbol in self.symbols}

    def streams(self) -> None:
        return None

    def messages(self) -> Iterator[Sequence[Message]]:
        pending: list[Message] = []
        for index in count():
            for symbol in self.symbols:
                pending += self._block_messages(symbol, index)
                yield ()
            # Stable: of what has the same time, a symbol's trades come before the quote they caused.
            pending.sort(key=lambda message: message.pace_us)
            end_us = (self.start_us // BLOCK_US + index + 1) * BLOCK_US
            ready = [message for message in pending if message.pace_us < end_us]
            pending = pending[len(ready) :]
            yield ready

    def _block_messages(self, symbol: str, index: int) -> Iterator[Message]:
        of = self._of[symbol]
        lower = symbol.lower()
        trade_stream, quote_stream, aggregate_stream = (
            f"{lower}@trade",
            f"{lower}@bookTicker",
            f"{lower}@aggTrade",
        )
        block = of.block(index)
        for trade in block.trades:
            yield TradeMessage(symbol, trade_stream, trade)
        for found in aggregate(block.trades, of.state(index).next_aggregate_id):
            yield AggregateMessage(symbol, aggregate_stream, found)
        for quote in block.quotes:
            yield QuoteMessage(symbol, quote_stream, quote)

    def _chunk(self, symbol: str, index: int) -> Sequence[SimulatedTrade]:
        return self._of[symbol].block(index).trades

    def _chunk_start(self, symbol: str, index: int) -> ChunkStart:
        state = self._of[symbol].state(index)
        return ChunkStart(state.next_id, state.next_aggregate_id)

    def _chunk_at(self, symbol: str, time_us: int) -> int:
        return self._of[symbol].index_at(time_us)

    def _chunk_count(self, symbol: str) -> int:
        return self._of[symbol].count()

    def _minutes(self, symbol: str, start_us: int, end_us: int) -> Iterable[Kline]:
        of = self._of[symbol]
        of.index_at(end_us)

        def open_us(kline: Kline) -> int:
            return kline.open_us

        return of.minutes[
            bisect_left(of.minutes, start_us, key=open_us) : bisect_left(of.minutes, end_us, key=open_us)
        ]
