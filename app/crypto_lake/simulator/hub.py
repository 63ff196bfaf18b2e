"""Who listens to what, and the way of a message from the market to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from crypto_lake.simulator.connection import Connection
from crypto_lake.simulator.faults import Delivery, StreamFaults
from crypto_lake.simulator.klines import INTERVALS_US
from crypto_lake.simulator.messages import Message


class Hub:
    """The connections and their subscriptions.

    sent: messages handed to at least one connection, by stream. ended_total: connections that ended, by reason.
    """

    def __init__(
        self,
        now_us: Callable[[], int],
        known_symbols: Iterable[str],
        known_streams: frozenset[str] | None,
        slow_client_bytes: int,
    ) -> None:
        self.now_us = now_us
        self.connections: dict[str, Connection] = {}
        self.past: list[Connection] = []
        self.subscribers: dict[str, dict[str, Connection]] = {}
        self.klines: dict[str, tuple[str, str]] = {}  # stream -> symbol, interval
        self.sent: Counter[str] = Counter()
        self.ended_total: Counter[str] = Counter()
        self.faults = StreamFaults()
        self.ack_silent_left = 0
        self.ack_silent_streams: frozenset[str] = frozenset()  # empty: all of the request
        self.halted: dict[str, int] = {}  # symbol -> when it stopped trading
        self.quotes: dict[str, Message] = {}  # the standing best quote, whoever heard of it
        self.on_subscribed: Callable[[], None] = lambda: None
        self._symbols = {symbol.lower(): symbol for symbol in known_symbols}
        self._quote_streams = frozenset(f"{name}@bookTicker" for name in self._symbols)
        self._known_streams = known_streams
        self._slow_client_bytes = slow_client_bytes
        self._names = 0

    def next_name(self) -> str:
        self._names += 1
        return f"c{self._names}"

    def opened(self, connection: Connection) -> None:
        self.connections[connection.name] = connection

    def ended(self, connection: Connection) -> None:
        self.ended_total[connection.outcome] += 1
        if self.connections.pop(connection.name, None) is not None:
            self.past.append(connection)
        for stream in list(connection.subscriptions):
            self.unsubscribe(connection, stream)

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        silent = self._acknowledged_only(frozenset(streams))
        for stream in streams:
            if stream in silent:
                continue
            if not self.sends(stream):
                continue  # acknowledged, as the exchange does, and nothing comes
            self.subscribers.setdefault(stream, {})[connection.name] = connection
            kline = self._kline(stream)
            if kline is not None:
                self.klines[stream] = kline
        self.on_subscribed()

    def _acknowledged_only(self, streams: frozenset[str]) -> frozenset[str]:
        """The fault: which of these, subscribed now, are acknowledged and never sent."""
        concerned = streams & self.ack_silent_streams if self.ack_silent_streams else streams
        if self.ack_silent_left <= 0 or not concerned:
            return frozenset()
        self.ack_silent_left -= 1
        self.faults.log.fired["ack_silent"] += 1
        return concerned

    def unsubscribe(self, connection: Connection, stream: str) -> None:
        found = self.subscribers.get(stream)
        if found is not None:
            found.pop(connection.name, None)
            if not found:
                del self.subscribers[stream]
                self.klines.pop(stream, None)

    def sends(self, stream: str) -> bool:
        """Whether anything can ever come on a stream of this name."""
        if self._known_streams is not None and stream in self._known_streams:
            return True
        if self._kline(stream) is not None:
            return True
        symbol, _, kind = stream.partition("@")
        return (
            self._known_streams is None
            and symbol in self._symbols
            and kind in ("trade", "bookTicker", "aggTrade")
        )

    def _kline(self, stream: str) -> tuple[str, str] | None:
        """The symbol and interval of a kline stream that is made here."""
        if self._known_streams is not None and stream in self._known_streams:
            return None  # the recording has its own
        symbol, _, kind = stream.partition("@kline_")
        if symbol in self._symbols and kind in INTERVALS_US:
            return self._symbols[symbol], kind
        return None

    def readers(self) -> list[Connection]:
        """Connections that something is sent to: subscribed, and not frozen."""
        found = {
            name: connection
            for subscribed in self.subscribers.values()
            for name, connection in subscribed.items()
            if not connection.frozen
        }
        return list(found.values())

    def send(self, message: Message) -> None:
        """Through the faults to all who subscribed to its stream; nothing is written before `flush`."""
        if message.symbol in self.halted and message.happened_us() >= self.halted[message.symbol]:
            return
        if message.stream in self._quote_streams:
            self.quotes[message.symbol] = message
        subscribers = self.subscribers.get(message.stream)
        if not subscribers:
            return
        if self.faults.rules:
            for delivery in self.faults.apply(message, subscribers.keys()):
                self.deliver(delivery)
            return
        self._hand_over(message, subscribers.values())

    def deliver(self, delivery: Delivery) -> None:
        """Past the faults: to the subscribers there are now, but those it is kept from."""
        subscribers = self.subscribers.get(delivery.message.stream, {})
        to = [connection for name, connection in subscribers.items() if name not in delivery.except_for]
        self._hand_over(delivery.message, to)

    def _hand_over(self, message: Message, connections: Iterable[Connection]) -> None:
        reached = False
        for connection in connections:
            if connection.frozen:
                self.faults.log.withheld["freeze"].add(message, [connection.name], from_all=False)
            else:
                connection.put(message)
                reached = True
        if reached:
            self.sent[message.stream] += 1

    def flush(self, *, cut_slow: bool = False) -> None:
        for connection in list(self.connections.values()):
            connection.flush()
            if cut_slow and connection.unread_bytes > self._slow_client_bytes:
                connection.abort("slow_client")
