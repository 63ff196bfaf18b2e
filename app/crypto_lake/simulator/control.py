"""What a test or a person orders of the simulator, and what it reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from crypto_lake.model.symbols import nearest
from crypto_lake.simulator.clock import SimulatorClock
from crypto_lake.simulator.connection import Connection
from crypto_lake.simulator.faults import Duplicate, Late, Mix, Reorder, Rule, Stuck, Swallow
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.hub import Hub
from crypto_lake.simulator.player import Player
from crypto_lake.simulator.rest import Rest

_US_PER_SECOND = 1_000_000
_FOREVER = 2**62
_LONGEST_SECONDS = 366 * 86400

# What each kind of fault takes beside `kind`.
_FIELDS: dict[str, frozenset[str]] = {
    "drop_connections": frozenset({"connection", "n", "how"}),
    "refuse_connections": frozenset({"n", "seconds", "how"}),
    "swallow": frozenset({"stream", "n", "connection"}),
    "stuck": frozenset({"stream", "n", "connection"}),
    "duplicate": frozenset({"stream", "n"}),
    "reorder": frozenset({"stream", "n", "window"}),
    "late": frozenset({"stream", "n", "delay"}),
    "mix": frozenset({"stream", "n", "duplicate", "reorder", "seed"}),
    "garbage": frozenset({"what", "bytes_hex", "binary", "connection"}),
    "freeze": frozenset({"seconds", "connection"}),
    "ack_silent": frozenset({"n", "stream"}),
    "halt": frozenset({"symbol"}),
    "shutdown": frozenset({"seconds", "connection"}),
    "rest": frozenset({"n", "status", "seconds"}),
}


class ControlError(ValueError):
    """An order that can't be followed; the text says what is wrong with it."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault. Which fields a kind takes is in docs/simulator.md."""

    kind: str
    connection: str | None = None
    symbol: str = ""
    stream: str = "*"
    n: int | None = None
    seconds: float | None = None
    window: int = 4
    delay: float = 1.0
    how: str | None = None
    what: str = "json"
    bytes_hex: str | None = None
    binary: bool = False
    duplicate: float = 0.01
    reorder: float = 0.01
    seed: int = 1
    status: int = 503


class Refusal:
    """Whether new WebSocket connections are refused now."""

    def __init__(self) -> None:
        self.left = 0
        self.until_monotonic = 0.0
        self.how = "http"

    def take(self) -> bool:
        """Whether this attempt is refused; each refusal by number is used up."""
        if self.left > 0:
            self.left -= 1
            return True
        return time.monotonic() < self.until_monotonic


class Control:
    def __init__(self, market: Market, clock: SimulatorClock, hub: Hub, player: Player, rest: Rest) -> None:
        self._market, self._clock, self._hub, self._player, self._rest = market, clock, hub, player, rest
        self.refusal = Refusal()
        rest.on_failed = lambda: self._fired("rest")
        self._kinds: dict[str, Callable[[Order], None]] = {
            "drop_connections": self._drop,
            "refuse_connections": self._refuse,
            "swallow": self._swallow,
            "stuck": self._stuck,
            "duplicate": self._duplicate,
            "reorder": self._reorder,
            "late": self._late,
            "mix": self._mix,
            "garbage": self._garbage,
            "freeze": self._freeze,
            "ack_silent": self._ack_silent,
            "halt": self._halt,
            "shutdown": self._shutdown,
            "rest": self._fail_rest,
        }

    # Orders.
    def order(self, body: Mapping[str, Any]) -> None:
        """Order a fault. Raises ControlError where the order is none."""
        try:
            order = msgspec.convert(dict(body), Order)
        except msgspec.ValidationError as error:
            raise ControlError(f'{error}; a fault is {{"kind": …}} with the fields of that kind') from None
        act = self._kinds.get(order.kind)
        if act is None:
            near = nearest(order.kind, self._kinds)
            hint = f"did you mean {near!r}?" if near else f"kinds are {', '.join(self._kinds)}"
            raise ControlError(f"unknown kind of fault {order.kind!r}; {hint}")
        surplus = sorted(set(body) - {"kind"} - _FIELDS[order.kind])
        if surplus:
            known = ", ".join(sorted(_FIELDS[order.kind]))
            raise ControlError(f"{order.kind} takes no {surplus[0]}; its fields are {known}")
        if order.n is not None and order.n < 1:
            raise ControlError(f"n must be 1 or more, not {order.n}")
        for name, seconds in (("seconds", order.seconds), ("delay", order.delay)):
            if seconds is not None and not 0 <= seconds <= _LONGEST_SECONDS:
                raise ControlError(f"{name} is {seconds}; it must be from 0 to {_LONGEST_SECONDS}")
        act(order)

    def clear(self) -> None:
        """End all faults that would still act. What they held is sent now."""
        for delivery in self._hub.faults.clear():
            self._hub.deliver(delivery)
        self._hub.flush()
        self._hub.ack_silent_left = 0
        self._rest.fail_left = 0
        self.refusal.left, self.refusal.until_monotonic = 0, 0.0

    def _fired(self, kind: str, times: int = 1) -> None:
        self._hub.faults.log.fired[kind] += times

    def _connections(self, order: Order) -> list[Connection]:
        if order.connection is None:
            return list(self._hub.connections.values())
        found = self._hub.connections.get(order.connection)
        if found is None:
            raise ControlError(f"there is no connection {order.connection!r}; /control/state lists them")
        return [found]

    def _drop(self, order: Order) -> None:
        if order.how not in (None, "abort", "close"):
            raise ControlError(f"how is {order.how!r}; expected abort or close")
        for connection in self._connections(order)[: order.n]:
            if order.how == "close":
                connection.close("fault")
            else:
                connection.abort("fault")
            self._fired("drop_connections")

    def _refuse(self, order: Order) -> None:
        if (order.n is None) == (order.seconds is None):
            raise ControlError("refuse_connections takes either n or seconds")
        if order.how not in (None, "http", "reset"):
            raise ControlError(f"how is {order.how!r}; expected http (503) or reset")
        self.refusal.how = order.how or "http"
        self.refusal.left = order.n or 0
        self.refusal.until_monotonic = time.monotonic() + (order.seconds or 0.0)

    def _add(self, rule: Rule) -> None:
        self._hub.faults.add(rule)

    def _swallow(self, order: Order) -> None:
        if order.connection is not None:
            self._connections(order)
        self._add(Swallow(order.stream, order.n or 1, order.connection))

    def _stuck(self, order: Order) -> None:
        if order.connection is not None:
            self._connections(order)
        self._add(Stuck(order.stream, order.n or _FOREVER, order.connection))

    def _duplicate(self, order: Order) -> None:
        self._add(Duplicate(order.stream, order.n or 1))

    def _reorder(self, order: Order) -> None:
        if order.window < 2:
            raise ControlError("a window of 1 has no order; give window 2 or more")
        self._add(Reorder(order.stream, order.n or 1, order.window))

    def _late(self, order: Order) -> None:
        self._add(Late(order.stream, order.n or 1, int(order.delay * _US_PER_SECOND)))

    def _mix(self, order: Order) -> None:
        if not (0 <= order.duplicate <= 1 and 0 <= order.reorder <= 1):
            raise ControlError("duplicate and reorder are probabilities, 0 to 1")
        self._add(Mix(order.stream, order.n or _FOREVER, order.seed, order.duplicate, order.reorder))

    def _garbage(self, order: Order) -> None:
        if order.bytes_hex is not None:
            try:
                payload = bytes.fromhex(order.bytes_hex)
            except ValueError:
                raise ControlError(
                    f"bytes_hex is {order.bytes_hex!r}; expected pairs of hex digits"
                ) from None
        else:
            payload = _GARBAGE.get(order.what, b"")
            if not payload:
                raise ControlError(
                    f"what is {order.what!r}; expected one of {', '.join(_GARBAGE)}, or bytes_hex"
                )
        for connection in self._connections(order):
            if connection.open and not connection.frozen:
                connection.put_payload(payload, binary=order.binary)
                connection.flush()
                self._fired("garbage")

    def _freeze(self, order: Order) -> None:
        for connection in self._connections(order):
            connection.freeze(order.seconds if order.seconds is not None else 5.0)
            self._fired("freeze")

    def _ack_silent(self, order: Order) -> None:
        self._hub.ack_silent_left = order.n or 1
        self._hub.ack_silent_streams = frozenset() if order.stream == "*" else frozenset({order.stream})

    def _halt(self, order: Order) -> None:
        if order.symbol not in self._market.symbols:
            raise ControlError(f"there is no symbol {order.symbol!r}; /control/state lists them")
        self._hub.halted.setdefault(order.symbol, self._clock.now_us())
        self._fired("halt")

    def _shutdown(self, order: Order) -> None:
        seconds = order.seconds if order.seconds is not None else 5.0
        for connection in self._connections(order):
            connection.say_shutdown(self._clock.now_us())
            self._fired("shutdown")
            asyncio.get_running_loop().call_later(seconds, connection.close, "shutdown")

    def _fail_rest(self, order: Order) -> None:
        if not 400 <= order.status <= 599:
            raise ControlError(f"status is {order.status}; a request that fails has one from 400 to 599")
        self._rest.fail_left, self._rest.fail_status = order.n or 1, order.status
        self._rest.fail_retry_after = None if order.seconds is None else int(order.seconds)

    # Reports.
    def clock(self) -> dict[str, Any]:
        setting = self._clock.setting()
        return {
            "exchange_ns": setting.exchange_ns,
            "wall_ns": setting.wall_ns,
            "speed": setting.speed,
        }

    def state(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "state": self._clock.phase.value,
            "now_us": self._clock.now_us(),
            "start_us": self._market.start_us,
            "end_us": self._market.end_us,
            "speed": self._clock.speed,
            "lag_ms": round(self._player.lag_us / 1000, 1),
            "symbols": list(self._market.symbols),
            "sent": dict(self._hub.sent),
            "connections": [
                {
                    "id": connection.name,
                    "streams": list(connection.subscriptions),
                    "messages": connection.messages,
                    "age_seconds": round(now - connection.opened_monotonic, 3),
                    "unread_bytes": connection.unread_bytes,
                    "frozen": connection.frozen,
                }
                for connection in self._hub.connections.values()
            ],
            "ended": dict(self._hub.ended_total),
            "rest_requests": {str(status): count for status, count in self._rest.requests.items()},
            "rest_greatest_weight": self._rest.greatest_weight,
        }

    def faults(self) -> dict[str, Any]:
        """How often each kind fired, and what was withheld of which trades."""
        log = self._hub.faults.log
        found: dict[str, Any] = {kind: {"fired": 0} for kind in self._kinds if kind != "mix"}
        for kind, times in log.fired.items():
            found.setdefault(kind, {})["fired"] = times
        for kind, withheld in log.withheld.items():
            found.setdefault(kind, {"fired": 0}).update(withheld.report())
        return found

    def delivered(self, stream: str) -> dict[str, list[tuple[int, int]]]:
        """Per connection, those that ended too, the intervals of trade ids it was handed on this stream."""
        return {
            connection.name: [(interval.first, interval.last) for interval in connection.delivered[stream]]
            for connection in [*self._hub.past, *self._hub.connections.values()]
            if stream in connection.delivered
        }


_GARBAGE = {
    "json": b'{"stream":"btcusdt@trade","data":{"e":"trade","E":17231',
    "utf8": b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"\xff\xfe"}}',
    "newline": b'{"stream":"btcusdt@bookTicker",\n"data":{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}',
}
