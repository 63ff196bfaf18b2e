"""Faults of streams: what becomes of a message between the market and those who listen.

Rules that swallow, double, shuffle or delay are applied in the order they were ordered in. Each counts when it
really did something, and keeps the trade ids it withheld, so that a test can prove its fault fired.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

from crypto_lake.model.intervals import IntervalSet
from crypto_lake.simulator.messages import Message


class Delivery(NamedTuple):
    """A message on its way to all subscribers but those in `except_for`."""

    message: Message
    except_for: frozenset[str] = frozenset()


class Withheld:
    """Trade ids that were not sent, by symbol, and by connection and symbol; and how many messages in all."""

    def __init__(self) -> None:
        self.messages = 0
        self._by_symbol: dict[str, IntervalSet] = defaultdict(IntervalSet)
        self._by_connection: dict[str, dict[str, IntervalSet]] = defaultdict(lambda: defaultdict(IntervalSet))

    def add(self, message: Message, connections: Collection[str], *, from_all: bool) -> None:
        """from_all: no subscriber gets it. Else only `connections` don't."""
        self.messages += 1
        if message.trade_id < 0:
            return
        if from_all:
            self._by_symbol[message.symbol].add(message.trade_id)
        for connection in connections:
            self._by_connection[connection][message.symbol].add(message.trade_id)

    def report(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "withheld": {symbol: _pairs(ids) for symbol, ids in self._by_symbol.items()},
            "by_connection": {
                connection: {symbol: _pairs(ids) for symbol, ids in symbols.items()}
                for connection, symbols in self._by_connection.items()
            },
        }


def _pairs(ids: IntervalSet) -> list[tuple[int, int]]:
    return [(interval.first, interval.last) for interval in ids]


class Rule(ABC):
    """A fault of one stream (`*`: of each). `left` is how often it will still act."""

    kind = ""

    def __init__(self, stream: str, left: int) -> None:
        self.stream, self.left = stream, left

    def concerns(self, stream: str) -> bool:
        return self.stream in ("*", stream)

    @abstractmethod
    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        """What goes on instead of this delivery. Called while `left` is above 0, or something is held."""

    def release(self, log: FaultLog) -> Iterator[Delivery]:
        """What is still held, when nothing more will come."""
        yield from ()

    @property
    def holds(self) -> bool:
        return False


class Swallow(Rule):
    """The next messages are never sent, to nobody or to one connection."""

    kind = "swallow"

    def __init__(self, stream: str, left: int, connection: str | None = None) -> None:
        super().__init__(stream, left)
        self.connection = connection

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        if self.connection is not None and self.connection not in subscribers:
            yield delivery
            return
        self.left -= 1
        log.fired[self.kind] += 1
        if self.connection is None:
            log.withheld[self.kind].add(delivery.message, subscribers, from_all=True)
            return
        log.withheld[self.kind].add(delivery.message, [self.connection], from_all=len(subscribers) == 1)
        yield delivery._replace(except_for=delivery.except_for | {self.connection})


class Stuck(Rule):
    """Instead of the next messages the last one is sent again, to one connection or to all."""

    kind = "stuck"

    def __init__(self, stream: str, left: int, connection: str | None = None) -> None:
        super().__init__(stream, left)
        self.connection = connection
        self._last: dict[str, Message] = {}

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        message = delivery.message
        last = self._last.setdefault(message.stream, message)
        if last is message:  # the one that is repeated from now on
            yield delivery
            return
        if self.connection is None:
            self.left -= 1
            log.fired[self.kind] += 1
            log.withheld[self.kind].add(message, subscribers, from_all=True)
            yield delivery._replace(message=last)
        elif self.connection in subscribers:
            self.left -= 1
            log.fired[self.kind] += 1
            log.withheld[self.kind].add(message, [self.connection], from_all=len(subscribers) == 1)
            yield delivery._replace(except_for=delivery.except_for | {self.connection})
            yield Delivery(last, frozenset(subscribers) - {self.connection})
        else:
            yield delivery


class Duplicate(Rule):
    """The next messages are sent twice."""

    kind = "duplicate"

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        self.left -= 1
        log.fired[self.kind] += 1
        yield delivery
        yield delivery


class Reorder(Rule):
    """The next `left` windows of messages are held until they are full, and sent in the opposite order."""

    kind = "reorder"

    def __init__(self, stream: str, left: int, window: int) -> None:
        super().__init__(stream, left)
        self.window = window
        self._held: dict[str, list[Delivery]] = defaultdict(list)

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        held = self._held[delivery.message.stream]
        if self.left <= 0 and not held:
            yield delivery
            return
        held.append(delivery)
        if self.left <= 0 or len(held) >= self.window:
            self.left -= 1
            yield from self._let_go(held, log)

    def _let_go(self, held: list[Delivery], log: FaultLog) -> Iterator[Delivery]:
        if len(held) > 1:
            log.fired[self.kind] += 1
        yield from reversed(held)
        held.clear()

    def release(self, log: FaultLog) -> Iterator[Delivery]:
        for held in self._held.values():
            yield from self._let_go(held, log)

    @property
    def holds(self) -> bool:
        return any(self._held.values())


class Late(Rule):
    """The next messages are sent `delay_us` of market time later. A trade keeps its time."""

    kind = "late"

    def __init__(self, stream: str, left: int, delay_us: int) -> None:
        super().__init__(stream, left)
        self.delay_us = delay_us

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        self.left -= 1
        log.delay(delivery, delivery.message.pace_us + self.delay_us)
        yield from ()


class Mix(Rule):
    """Each message is doubled, or sent after the next of its stream, with a probability: seeded."""

    kind = "mix"

    def __init__(self, stream: str, left: int, seed: int, duplicate: float, reorder: float) -> None:
        super().__init__(stream, left)
        self._rng = Random(seed)  # noqa: S311  a fault that can be had again, no secret
        self.duplicate, self.reorder = duplicate, reorder
        self._held: dict[str, Delivery] = {}

    def apply(self, delivery: Delivery, subscribers: Collection[str], log: FaultLog) -> Iterator[Delivery]:
        stream = delivery.message.stream
        held = self._held.pop(stream, None)
        ended = self.left <= 0
        self.left -= 1
        if held is None and not ended and self._rng.random() < self.reorder:
            self._held[stream] = delivery
            return
        yield delivery
        if held is not None:
            log.fired["reorder"] += 1
            yield held
        if not ended and self._rng.random() < self.duplicate:
            log.fired["duplicate"] += 1
            yield delivery

    def release(self, log: FaultLog) -> Iterator[Delivery]:
        yield from self._held.values()
        self._held.clear()

    @property
    def holds(self) -> bool:
        return bool(self._held)


class FaultLog:
    """What the faults did: how often each kind fired, what was withheld, what waits to be sent late."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()
        self.withheld: dict[str, Withheld] = defaultdict(Withheld)
        self._late: list[tuple[int, int, Delivery]] = []
        self._order = count()

    def delay(self, delivery: Delivery, due_us: int) -> None:
        heapq.heappush(self._late, (due_us, next(self._order), delivery))

    @property
    def next_due_us(self) -> int | None:
        return self._late[0][0] if self._late else None

    def due(self, now_us: int) -> Iterator[Delivery]:
        """The late messages whose time has come, as messages of that time."""
        while self._late and self._late[0][0] <= now_us:
            due_us, _, delivery = heapq.heappop(self._late)
            self.fired["late"] += 1
            yield delivery._replace(message=delivery.message.delayed(due_us))


class StreamFaults:
    """The rules in force, in order."""

    def __init__(self) -> None:
        self.log = FaultLog()
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        self.rules.append(rule)

    def clear(self) -> list[Delivery]:
        """End all rules; what they held is to be sent now."""
        held = list(self.release())
        self.rules.clear()
        return held

    def release(self) -> Iterator[Delivery]:
        for rule in self.rules:
            yield from rule.release(self.log)

    def apply(self, message: Message, subscribers: Collection[str]) -> list[Delivery]:
        """What is sent of a message to its subscribers (names of connections), and in which order."""
        deliveries = [Delivery(message)]
        for rule in self.rules:
            if rule.concerns(message.stream):
                after: list[Delivery] = []
                for delivery in deliveries:
                    if rule.left > 0 or rule.holds:
                        after += rule.apply(delivery, subscribers, self.log)
                    else:
                        after.append(delivery)
                deliveries = after
        self.rules = [rule for rule in self.rules if rule.left > 0 or rule.holds]
        return deliveries
