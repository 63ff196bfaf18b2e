"""One connection: from its attempt over its subscriptions to its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crypto_lake.capture.backoff import MessagePace
from crypto_lake.capture.intake_protocol import Intake
from crypto_lake.capture.opening import open_transport
from crypto_lake.capture.outcome import Ending, Outcome, Reason
from crypto_lake.capture.snapshot import ConnectionSnapshot
from crypto_lake.capture.subscriptions import Request, Subscriptions
from crypto_lake.capture.transport import Connector, Target, Transport, TransportError
from crypto_lake.exchanges import Exchange, Head
from crypto_lake.lake import control
from crypto_lake.lake.envelope import CONNECTION_NAME
from crypto_lake.model.clock import Clock

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.25  # how often the limits of time are looked at, at most


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Limits of one connection, in seconds of real time.

    silence_seconds: without any byte for so long, it is given up.
    reply_seconds: a request must be answered within this.
    overlap_seconds: before a connection covers its streams, so that one handing over to it ends no earlier. What two
        servers of the exchange send is not in step: a message that the new one left out may be under way on the old.
    quiet_seconds: so long after all streams were acknowledged they count as covered, though no message came.
    streams_per_request: how many are asked for in one message.
    """

    target: Target
    silence_seconds: float = 60.0
    reply_seconds: float = 10.0
    alive_seconds: float = 5.0
    overlap_seconds: float = 2.0
    quiet_seconds: float = 5.0
    streams_per_request: int = 128


class Connection:
    """Runs once. `run` returns when the connection has ended, for whatever reason; it raises nothing of the network.

    While it runs, `set_streams` changes what it carries and `end` ends it. `changed` is called when it came to
    cover its streams, was told to shut down, or its streams were refused.
    """

    def __init__(
        self,
        name: str,
        exchange: Exchange,
        settings: ConnectionSettings,
        intake: Intake,
        clock: Clock,
        streams: Iterable[str],
        *,
        replaces: str | None = None,
        connect: Connector = open_transport,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        if not CONNECTION_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} may not name a connection: letters, digits, '.', '_', '-', at most 64"
            )
        self.name = name
        self.messages = 0  # of streams
        self.exchange_time_us = 0
        self.condemned = ""  # why it is to be replaced although it stands
        self.shutdown_announced = False
        self.connected_at: float | None = None  # the loop's time
        self.last_message_at: float | None = None
        self._exchange = exchange
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._subscriptions = Subscriptions(streams, settings.streams_per_request)
        self._pace = MessagePace(exchange.limits.messages_per_second)
        self._replaces = replaces
        self._connect = connect
        self._changed = changed
        self._state = "connecting"
        self._connected_ns = 0
        self._transport: Transport | None = None
        self._ending: Ending | None = None
        self._ended = asyncio.Event()
        self._work = asyncio.Event()  # there may be something to ask for
        self._covered_at: float | None = None  # when all wanted streams were acknowledged
        self._was_covering = False

    # What others see

    @property
    def acknowledged(self) -> frozenset[str]:
        return self._subscriptions.acknowledged

    @property
    def acknowledged_at(self) -> Mapping[str, float]:
        """The loop's time, of each stream that is acknowledged."""
        return self._subscriptions.acknowledged_at

    @property
    def refused(self) -> frozenset[str]:
        return self._subscriptions.refused

    @property
    def covering(self) -> bool:
        """Every wanted stream was acknowledged a while ago, and a message came or the streams are quiet."""
        if self._ending is not None or self._covered_at is None:
            return False
        wait = (
            self._settings.quiet_seconds if self.last_message_at is None else self._settings.overlap_seconds
        )
        return asyncio.get_running_loop().time() >= self._covered_at + wait

    @property
    def quiet_since(self) -> float | None:
        """The loop's time since which it is subscribed and not one message of a stream came; None: not so."""
        return self._covered_at if self.last_message_at is None else None

    def snapshot(self) -> ConnectionSnapshot:
        return ConnectionSnapshot(
            name=self.name,
            state=self._state,
            streams=len(self.acknowledged),
            connected_ns=self._connected_ns,
            messages=self.messages,
            bytes=0 if self._transport is None else self._transport.bytes_received,
            exchange_time_us=self.exchange_time_us,
        )

    # What others ask

    def set_streams(self, streams: Iterable[str]) -> None:
        self._subscriptions.want(streams)
        self._settle_coverage()
        self._work.set()

    def end(self, reason: Reason, detail: str = "") -> None:
        """End it, once what has come by now is taken. `run` returns soon after; the socket is closed at once."""
        if self._ending is not None:
            return
        self._state = "closing"
        if self._transport is not None:
            self._transport.close()
        self._finish(Ending(reason, detail))

    # The run

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        unforeseen = Ending(Reason.INTERNAL_ERROR, "see the log")
        try:
            await self._open(loop)
            if self._ending is None:
                async with asyncio.TaskGroup() as tasks:
                    helpers = [tasks.create_task(self._ask()), tasks.create_task(self._watch(loop))]
                    await self._ended.wait()
                    for helper in helpers:
                        helper.cancel()
        except asyncio.CancelledError:
            unforeseen = Ending(Reason.STOPPED, "cancelled")
            raise
        finally:
            self._state = "closing"
            if self._transport is not None:
                self._transport.abort()
            self._finish(unforeseen)
            outcome = self._outcome(loop.time())
            self._intake.event(
                self.name,
                control.Disconnected(
                    reason=outcome.reason.value,
                    detail=outcome.detail,
                    exchange_time_us=self.exchange_time_us,
                    connected_seconds=round(outcome.connected_seconds, 3),
                    messages=self.messages,
                ),
            )
        return outcome

    def _outcome(self, now: float) -> Outcome:
        assert self._ending is not None
        seconds = 0.0 if self.connected_at is None else now - self.connected_at
        return Outcome(self._ending, seconds, self.messages)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, unless `end` comes first."""
        opening = asyncio.ensure_future(self._connect(self._settings.target, self))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({opening, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            opening.cancel()  # without effect where it is done
            await asyncio.wait({opening})
            # Taken here, so that nobody cancelled between leaves an open socket behind.
            if not opening.cancelled() and opening.exception() is None:
                self._transport = opening.result()
        if opening.cancelled() or self._ending is not None:
            return
        error = opening.exception()
        if isinstance(error, TransportError):
            self._finish(error.ending)
            return
        if error is not None:
            raise error
        self.connected_at = loop.time()
        self._connected_ns = self._clock.now_ns()
        self._state = "subscribing"
        self._intake.event(self.name, control.Connected(self._settings.target.url, self._replaces))
        self._work.set()

    async def _ask(self) -> None:
        """Send requests, one after the other and not too fast, until what was asked for is what is wanted."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            if self._subscriptions.next_request() is None:
                self._work.clear()
                continue
            await asyncio.sleep(self._pace.wait_seconds(loop.time()))
            # Looked at again: it may have changed while we waited.
            if (request := self._subscriptions.next_request()) is None or self._transport is None:
                continue
            request_id = self._subscriptions.sent(request, loop.time())
            message = self._exchange.subscribe if request.subscribe else self._exchange.unsubscribe
            self._transport.send(message(request.streams, request_id))
            self._pace.sent(loop.time())

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Limits of time, and the sign of life."""
        settings = self._settings
        tick = min(
            _WATCH_SECONDS, settings.silence_seconds / 4, settings.alive_seconds, settings.reply_seconds / 4
        )
        next_alive = loop.time() + settings.alive_seconds
        unpaused_at = loop.time()
        while self._transport is not None:
            await asyncio.sleep(tick)
            now = loop.time()
            # While reading pauses, nothing can be said of the server's silence, nor of an answer's delay.
            if self._intake.paused:
                unpaused_at = now
            if now - max(self._transport.last_received_at, unpaused_at) > settings.silence_seconds:
                self._fail(Reason.SILENT, f"no byte for {settings.silence_seconds:g} s")
                return
            unanswered_since = self._subscriptions.unanswered_since
            if (
                unanswered_since is not None
                and now - max(unanswered_since, unpaused_at) > settings.reply_seconds
            ):
                self._fail(Reason.TIMEOUT, f"a request had no reply for {settings.reply_seconds:g} s")
                return
            if now >= next_alive:
                next_alive = now + settings.alive_seconds
                self._intake.event(self.name, control.Alive(self.exchange_time_us, self.messages))
            self._tell_if_covering()

    # Receiver

    def received(self, messages: list[bytes]) -> None:
        drained = self._intake.drain(self.name, self._clock.now_ns(), messages)
        if drained.exchange_time_us > self.exchange_time_us:
            self.exchange_time_us = drained.exchange_time_us
        count = len(messages) - len(drained.controls)
        if count:
            self.messages += count
            self.last_message_at = asyncio.get_running_loop().time()
        for head in drained.controls:
            self._take_control(head)
        if not self._was_covering:
            self._tell_if_covering()

    def ended(self, ending: Ending) -> None:
        self._finish(ending)

    def may_read(self) -> bool:
        return not self._intake.paused

    def _take_control(self, head: Head) -> None:
        if head.control == "shutdown":
            self.shutdown_announced = True
            _log.info("%s: the exchange will close this connection", self.name)
            self._changed()
            return
        request = self._subscriptions.answered(head.request_id)
        if request is None:
            _log.warning(
                "%s: a reply to no request of ours: %s, id %r", self.name, head.control, head.request_id
            )
            return
        if head.control == "error":
            self._refused(request)
        else:
            self._subscriptions.accept(request, asyncio.get_running_loop().time())
            told = control.Subscribed if request.subscribe else control.Unsubscribed
            self._intake.event(self.name, told(request.streams))
        self._settle_coverage()
        self._work.set()

    def _refused(self, request: Request) -> None:
        if not request.subscribe:
            self._fail(Reason.SUBSCRIBE_REFUSED, f"could not unsubscribe {', '.join(request.streams[:5])}")
            return
        refused = self._subscriptions.refuse(request)
        if refused is None:
            return
        _log.error("%s: the exchange refuses the stream %s", self.name, refused)
        if self._subscriptions.all_refused:
            self._fail(Reason.SUBSCRIBE_REFUSED, f"all streams were refused, the last was {refused}")
        self._changed()

    def _settle_coverage(self) -> None:
        if self._subscriptions.complete:
            if self._covered_at is None:
                self._covered_at = asyncio.get_running_loop().time()
            if self._state == "subscribing":
                self._state = "live"
        else:
            self._covered_at = None
            self._was_covering = False
            if self._state == "live":
                self._state = "subscribing"

    def _tell_if_covering(self) -> None:
        if not self._was_covering and self.covering:
            self._was_covering = True
            self._changed()

    def _fail(self, reason: Reason, detail: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._finish(Ending(reason, detail))

    def _finish(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._ended.set()
