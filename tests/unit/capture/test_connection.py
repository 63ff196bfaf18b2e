"""One connection over a transport in memory: what it asks for, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.capture.connection import Connection, ConnectionSettings
from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.outcome import Ending, Outcome, Reason
from crypto_lake.capture.transport import Receiver, Target, TransportError
from crypto_lake.exchanges import BINANCE, UnassignableMessageError
from crypto_lake.lake import control
from crypto_lake.model.clock import SystemClock

# The exchange allows five messages a second; the tests are about their content.
FAST = dataclasses.replace(BINANCE, limits=dataclasses.replace(BINANCE.limits, messages_per_second=100_000))


class Kept:
    """An intake that keeps everything in lists."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, control.AnyEvent]] = []
        self.paused = False

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        controls, greatest, trades = [], 0, 0
        for message in messages:
            self.messages.append((connection, message))
            with contextlib.suppress(UnassignableMessageError):
                head = BINANCE.head(message)
                greatest = max(greatest, head.event_time_us)
                trades += head.trade_id >= 0
                if head.stream is None:
                    controls.append(head)
        return Drained(controls, greatest, trades)

    def event(self, connection: str, event: control.AnyEvent) -> None:
        self.events.append((connection, event))

    def of(self, kind: type[control.Event]) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]


class Wire:
    """A transport in memory, with an exchange at its other end that answers at once."""

    def __init__(self, refuse: Iterable[str] = (), answer: bool = True) -> None:
        self.requests: list[dict[str, Any]] = []
        self.bytes_received = 0
        self.last_received_at = 0.0
        self.closed = self.aborted = False
        self.receiver: Receiver | None = None
        self._refuse = frozenset(refuse)
        self._answer = answer

    async def connect(self, target: Target, receiver: Receiver) -> Wire:
        self.receiver = receiver
        self.last_received_at = asyncio.get_running_loop().time()
        return self

    def deliver(self, *messages: dict[str, Any] | bytes) -> None:
        assert self.receiver is not None
        self.last_received_at = asyncio.get_running_loop().time()
        self.receiver.received([m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages])

    def send(self, message: bytes) -> None:
        request = json.loads(message)
        self.requests.append(request)
        if self._answer:
            bad = self._refuse & set(request["params"]) and request["method"] == "SUBSCRIBE"
            reply = {"code": 2, "msg": "no"} if bad else {"result": None}
            asyncio.get_running_loop().call_soon(self.deliver, reply | {"id": request["id"]})

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def trade(stream: str, number: int = 1, event_ms: int = 1_700_000_000_000) -> dict[str, Any]:
    return {"stream": stream, "data": {"e": "trade", "E": event_ms, "t": number, "T": event_ms}}


SETTINGS = ConnectionSettings(
    Target("ws://x/stream"), alive_seconds=0.02, overlap_seconds=0.0, quiet_seconds=0.0
)
STREAMS = ("btcusdt@trade", "btcusdt@bookTicker", "ethusdt@trade")


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def connection(wire: Wire, kept: Kept, streams: Iterable[str] = STREAMS, **more: Any) -> Connection:
    given_settings = more.pop("settings", SETTINGS)
    more.setdefault("connect", wire.connect)
    return Connection("c-1", FAST, given_settings, kept, SystemClock(), streams, **more)


def test_a_whole_life() -> None:
    async def test() -> None:
        wire, kept, changes = Wire(), Kept(), list[None]()
        subject = connection(wire, kept, replaces="c-0", changed=lambda: changes.append(None))
        assert subject.snapshot().state == "connecting"
        running = asyncio.ensure_future(subject.run())
        await until(lambda: subject.acknowledged)
        assert wire.requests == [{"method": "SUBSCRIBE", "params": sorted(STREAMS), "id": 1}]
        wire.deliver(trade("btcusdt@trade", 5, 1_700_000_000_123), trade("btcusdt@trade", 6), b"not JSON")
        assert subject.covering
        assert changes
        await until(lambda: kept.of(control.Alive))
        snapshot = subject.snapshot()
        assert (snapshot.state, snapshot.streams, snapshot.messages) == ("live", 3, 3)
        subject.end(Reason.LIFETIME, "c-2 took over")
        subject.end(Reason.STOPPED)  # the first reason stands
        assert wire.closed
        outcome = await running
        assert outcome == Outcome(Ending(Reason.LIFETIME, "c-2 took over"), outcome.connected_seconds, 3)
        assert outcome.connected_seconds > 0
        assert [type(event) for _, event in kept.events if not isinstance(event, control.Alive)] == [
            control.Connected,
            control.Subscribed,
            control.Disconnected,
        ]
        assert kept.of(control.Connected) == [control.Connected("ws://x/stream", "c-0")]
        assert kept.of(control.Subscribed) == [control.Subscribed(tuple(sorted(STREAMS)))]
        (ended,) = kept.of(control.Disconnected)
        assert (ended.reason, ended.detail, ended.messages) == ("lifetime", "c-2 took over", 3)
        assert ended.exchange_time_us == 1_700_000_000_123_000
        assert kept.of(control.Alive)[-1] == control.Alive(1_700_000_000_123_000, 3)
        assert {name for name, _ in kept.events} == {name for name, _ in kept.messages} == {"c-1"}

    run(test())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sets(st.sampled_from([f"s{n}usdt@trade" for n in range(12)]), min_size=1), min_size=1, max_size=5
    ),
    st.sets(st.sampled_from([f"s{n}usdt@trade" for n in range(12)])),
    st.integers(1, 5),
    st.booleans(),
)
def test_what_is_acknowledged_becomes_what_is_wanted(
    history: list[set[str]], refuse: set[str], per_request: int, hurried: bool
) -> None:
    """Whatever the wishes, the size of requests, and the streams that the exchange does not give."""

    async def test() -> None:
        wire, kept = Wire(refuse), Kept()
        small = dataclasses.replace(SETTINGS, streams_per_request=per_request)
        # One more that is always given, so that the connection lives.
        wishes = [frozenset(wanted | {"alive@trade"}) for wanted in history]
        subject = connection(wire, kept, wishes[0], settings=small)
        running = asyncio.ensure_future(subject.run())
        for wanted in wishes:
            subject.set_streams(wanted)
            if hurried:
                await asyncio.sleep(0)
            else:
                await until(lambda wanted=wanted: subject.acknowledged == wanted - refuse)
        await until(lambda: subject.acknowledged == wishes[-1] - refuse and subject.covering)
        await until(lambda: subject.refused == wishes[-1] & refuse)
        # The events alone say the same.
        told: set[str] = set()
        for _, event in kept.events:
            if isinstance(event, control.Subscribed):
                assert not told & set(event.streams)
                told |= set(event.streams)
            elif isinstance(event, control.Unsubscribed):
                assert told >= set(event.streams)
                told -= set(event.streams)
        assert told == subject.acknowledged
        assert all(len(request["params"]) <= per_request for request in wire.requests)
        assert len({request["id"] for request in wire.requests}) == len(wire.requests)
        subject.end(Reason.STOPPED)
        await running

    run(test())


def test_it_covers_its_streams_only_when_the_last_is_acknowledged() -> None:
    async def test() -> None:
        wire, kept = Wire(answer=False), Kept()
        subject = connection(wire, kept, settings=dataclasses.replace(SETTINGS, streams_per_request=1))
        running = asyncio.ensure_future(subject.run())
        for number in (1, 2, 3):
            await until(lambda number=number: len(wire.requests) >= number)
            wire.deliver(trade("btcusdt@trade", number))  # messages alone make nothing complete
            assert not subject.covering
            assert subject.snapshot().state == "subscribing"
            wire.deliver({"result": None, "id": number})
        assert subject.covering
        assert subject.snapshot().state == "live"
        subject.set_streams([*STREAMS, "ethusdt@bookTicker"])
        assert not subject.covering
        await until(lambda: len(wire.requests) == 4)
        wire.deliver({"result": None, "id": 4})
        assert subject.covering
        subject.end(Reason.STOPPED)
        assert not subject.covering
        await running

    run(test())


def test_a_connection_that_hands_over_is_given_time_for_what_is_under_way() -> None:
    async def test() -> None:
        for deliver in (True, False):
            wire, changes = Wire(), list[None]()
            patient = dataclasses.replace(SETTINGS, overlap_seconds=0.1, quiet_seconds=0.2)
            subject = connection(wire, Kept(), settings=patient, changed=lambda c=changes: c.append(None))
            running = asyncio.ensure_future(subject.run())
            started = asyncio.get_running_loop().time()
            await until(lambda s=subject: s.acknowledged)
            if deliver:
                wire.deliver(trade("btcusdt@trade"))
            await until(lambda c=changes: c)
            assert asyncio.get_running_loop().time() - started >= (0.1 if deliver else 0.2)
            assert subject.covering
            subject.end(Reason.STOPPED)
            await running

    run(test())


def test_all_streams_refused_ends_it() -> None:
    async def test() -> None:
        outcome = await connection(Wire(STREAMS), Kept()).run()
        assert outcome.reason is Reason.SUBSCRIBE_REFUSED
        assert "@" in outcome.detail

    run(test())


def test_an_unanswered_request_and_silence_end_it() -> None:
    async def test() -> None:
        slow = dataclasses.replace(SETTINGS, reply_seconds=0.05)
        wire, kept = Wire(answer=False), Kept()
        assert (await connection(wire, kept, settings=slow).run()).reason is Reason.TIMEOUT
        assert wire.aborted
        silent = dataclasses.replace(SETTINGS, silence_seconds=0.05)
        assert (await connection(Wire(), kept, settings=silent).run()).reason is Reason.SILENT
        assert [event.reason for event in kept.of(control.Disconnected)] == ["timeout", "silent"]

    run(test())


def test_while_the_intake_is_full_nobody_is_called_silent() -> None:
    async def test() -> None:
        wire, kept = Wire(answer=False), Kept()
        kept.paused = True
        strict = dataclasses.replace(SETTINGS, silence_seconds=0.04, reply_seconds=0.04)
        subject = connection(wire, kept, settings=strict)
        running = asyncio.ensure_future(subject.run())
        await until(lambda: len(kept.of(control.Alive)) >= 10)  # 0.2 s, five times the limits
        assert not subject.may_read()
        assert not running.done()
        kept.paused = False
        assert subject.may_read()
        assert (await running).reason in {Reason.SILENT, Reason.TIMEOUT}  # the limits hold again

    run(test())


def test_shutdown_is_noted_and_replies_to_nobody_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        wire, kept, changes = Wire(), Kept(), list[None]()
        subject = connection(wire, kept, changed=lambda: changes.append(None))
        running = asyncio.ensure_future(subject.run())
        await until(lambda: subject.covering)
        before = len(changes)
        wire.deliver({"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}})
        assert subject.shutdown_announced
        assert len(changes) > before
        for stray in (
            {"result": None, "id": 99},
            {"result": None, "id": "x"},
            {"code": 1, "msg": "?", "id": None},
        ):
            wire.deliver(stray)
        assert caplog.text.count("no request of ours") == 3
        assert not running.done()
        assert subject.acknowledged == frozenset(STREAMS)
        assert wire.receiver is not None
        wire.receiver.ended(Ending(Reason.SERVER_CLOSED, "bye", close_code=1001))
        assert (await running).ending == Ending(Reason.SERVER_CLOSED, "bye", close_code=1001)

    run(test())


def test_an_attempt_that_fails_is_an_outcome_and_an_event() -> None:
    async def test() -> None:
        async def refuse(target: Target, receiver: Receiver) -> Wire:
            raise TransportError(Ending(Reason.REFUSED, "nobody there"))

        kept = Kept()
        outcome = await connection(Wire(), kept, connect=refuse).run()
        assert outcome == Outcome(Ending(Reason.REFUSED, "nobody there"), 0.0, 0)
        assert [type(event) for _, event in kept.events] == [control.Disconnected]

    run(test())


@pytest.mark.parametrize("how", ["end", "cancel"])
def test_ended_while_connecting(how: str) -> None:
    async def test() -> None:
        given_up = False

        async def hang(target: Target, receiver: Receiver) -> Wire:
            nonlocal given_up
            try:
                await asyncio.Event().wait()
            finally:
                given_up = True
            raise AssertionError

        kept = Kept()
        subject = connection(Wire(), kept, connect=hang)
        running = asyncio.ensure_future(subject.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if how == "end":
            subject.end(Reason.STOPPED)
            assert (await running).reason is Reason.STOPPED
        else:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert given_up
        assert [event.reason for event in kept.of(control.Disconnected)] == ["stopped"]

    run(test())


def test_an_intake_that_fails_is_not_swallowed() -> None:
    async def test() -> None:
        class Broken(Kept):
            def event(self, connection: str, event: control.AnyEvent) -> None:
                if isinstance(event, control.Alive):
                    raise OSError("no space")
                super().event(connection, event)

        wire, kept = Wire(), Broken()
        with pytest.raises(ExceptionGroup) as failure:
            await connection(wire, kept).run()
        assert "no space" in str(failure.value.exceptions)
        assert wire.aborted
        assert kept.of(control.Disconnected)[0].reason == "internal_error"

    run(test())


def test_the_pace_of_requests_keeps_the_exchange_s_limit() -> None:
    async def test() -> None:
        wire, kept, at = Wire(), Kept(), list[float]()
        send = wire.send
        wire.send = lambda message: (at.append(asyncio.get_running_loop().time()), send(message))[1]  # type: ignore
        one = dataclasses.replace(SETTINGS, streams_per_request=1)
        subject = Connection("c-1", BINANCE, one, kept, SystemClock(), STREAMS, connect=wire.connect)
        running = asyncio.ensure_future(subject.run())
        await until(lambda: len(subject.acknowledged) == 3)
        subject.end(Reason.STOPPED)
        await running
        # Never closer than a third of a second; a slow machine only makes it more.
        assert all(b - a > 0.32 for a, b in itertools.pairwise(at))

    run(test())


@pytest.mark.parametrize("name", ["", "c 1", 'c"', "ü", "x" * 65])
def test_a_name_that_would_not_stand_in_an_envelope_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="may not name"):
        Connection(name, FAST, SETTINGS, Kept(), SystemClock(), STREAMS)
