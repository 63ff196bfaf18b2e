"""Plays a market to the hub: at its speed, or as fast as it is read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from crypto_lake.simulator.clock import SimulatorClock
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.hub import Hub
from crypto_lake.simulator.klines import INTERVALS_US
from crypto_lake.simulator.messages import KlineMessage, Message

_BURST_MESSAGES = 512  # between two looks at the event loop
_KLINE_GRID_US = 500_000
_KLINE_LAG_US = 10_000  # a bar is told a little after its end, as the exchange does
_SECOND_US = 1_000_000
_IDLE_SECONDS = 0.005


class _Ahead:
    """The messages to come, a batch or two made in advance."""

    def __init__(self, market: Market) -> None:
        self._source = market.messages()
        self._batches: deque[Sequence[Message]] = deque()
        self._at = 0
        self.exhausted = False

    def make(self) -> None:
        """Do one bounded piece of work."""
        batch = next(self._source, None)
        if batch is None:
            self.exhausted = True
        elif batch:
            self._batches.append(batch)

    @property
    def batches(self) -> int:
        return len(self._batches)

    def peek(self) -> Message | None:
        return self._batches[0][self._at] if self._batches else None

    def skip(self) -> None:
        self._at += 1
        if self._at == len(self._batches[0]):
            self._batches.popleft()
            self._at = 0


class Player:
    def __init__(self, market: Market, hub: Hub, clock: SimulatorClock, tick_seconds: float) -> None:
        self._market, self._hub, self._clock = market, hub, clock
        self._tick_seconds = tick_seconds
        self._ahead = _Ahead(market)
        self._kline_at_us = self._next_grid(clock.now_us())
        self.begun = asyncio.Event()
        self.done = asyncio.Event()

    @property
    def lag_us(self) -> int:
        """How far the messages sent are behind the clock: above a tick, the machine does not keep up."""
        message = self._ahead.peek()
        return max(self._clock.now_us() - message.pace_us, 0) if message is not None else 0

    async def run(self) -> None:
        await self.begun.wait()
        self._clock.start()
        await (self._run_paced() if self._clock.speed else self._run_read())
        for delivery in list(self._hub.faults.release()):
            self._hub.deliver(delivery)
        self._hub.flush()
        self._clock.finish()
        self.done.set()
        while self._clock.speed:  # klines of what has happened go on to their last bar
            self._tell_klines(self._clock.now_us())
            self._hub.flush(cut_slow=True)
            await asyncio.sleep(self._tick_seconds)

    async def _next(self) -> Message | None:
        message = self._ahead.peek()
        while message is None and not self._ahead.exhausted:
            self._ahead.make()
            await asyncio.sleep(0)
            message = self._ahead.peek()
        return message

    async def _run_paced(self) -> None:
        while True:
            now_us = self._clock.now_us()
            in_burst = 0
            while True:
                message = await self._next()
                if message is None or message.pace_us > now_us:
                    break
                self._tell(message)
                in_burst += 1
                if in_burst == _BURST_MESSAGES:
                    in_burst = 0
                    self._hub.flush(cut_slow=True)
                    await asyncio.sleep(0)
            self._tell_due(now_us)
            self._hub.flush(cut_slow=True)
            if message is None and self._hub.faults.log.next_due_us is None:
                return
            if self._ahead.batches < 2 and not self._ahead.exhausted:
                self._ahead.make()
            await asyncio.sleep(self._tick_seconds)

    async def _run_read(self) -> None:
        while True:
            readers = self._hub.readers()
            if not readers:
                await asyncio.sleep(_IDLE_SECONDS)
                continue
            message = None
            for _ in range(_BURST_MESSAGES):
                message = await self._next()
                if message is None:
                    break
                self._tell(message)
            self._hub.flush()
            for reader in readers:
                await reader.drain()
            if message is None:
                break
            await asyncio.sleep(0)
        while (due_us := self._hub.faults.log.next_due_us) is not None:
            self._tell_due(due_us)

    def _tell(self, message: Message) -> None:
        """Send the message at the head of those to come."""
        self._ahead.skip()
        self._tell_due(message.pace_us)
        self._clock.told(message.pace_us)
        self._hub.send(message)

    def _tell_due(self, now_us: int) -> None:
        """What is due beside the market's own messages: late ones, and klines."""
        late = self._hub.faults.log.next_due_us
        if late is not None and late <= now_us:
            for delivery in self._hub.faults.log.due(now_us):
                self._clock.told(delivery.message.pace_us)
                self._hub.deliver(delivery)
        if self._kline_at_us <= now_us:
            self._tell_klines(now_us)

    @staticmethod
    def _next_grid(now_us: int) -> int:
        return ((now_us - _KLINE_LAG_US) // _KLINE_GRID_US + 1) * _KLINE_GRID_US + _KLINE_LAG_US

    def _tell_klines(self, now_us: int) -> None:
        if self._hub.klines:
            while self._kline_at_us <= now_us:
                self._tell_grid(self._kline_at_us)
                self._kline_at_us += _KLINE_GRID_US
        else:
            self._kline_at_us = self._next_grid(now_us)

    def _tell_grid(self, at_us: int) -> None:
        """The closed bars that end here, and the bars in the making: 1s each half, others every 2 s."""
        edge_us = at_us - _KLINE_LAG_US
        for stream, (symbol, interval) in list(self._hub.klines.items()):
            interval_us = INTERVALS_US[interval]
            closed = edge_us % interval_us == 0
            if not (closed or interval_us == _SECOND_US or edge_us % (2 * _SECOND_US) == 0):
                continue
            open_us = (edge_us - 1) - (edge_us - 1) % interval_us
            for kline in self._market.klines(symbol, interval, open_us, open_us + interval_us, edge_us):
                self._clock.told(at_us)
                self._hub.send(
                    KlineMessage(at_us, symbol, stream, interval, interval_us, kline, closed=closed)
                )
