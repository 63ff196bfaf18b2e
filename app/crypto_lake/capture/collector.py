"""The collector: connections, intake and writer put together, from its lock to its last fsync."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import ssl
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import msgspec

from crypto_lake import __version__
from crypto_lake.capture.assembly import Assembly, Given, OnDurable, Wanted, assemble
from crypto_lake.capture.batch import PROCESS
from crypto_lake.capture.collector_settings import CollectorSettings
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.liveness import WatchSettings, with_judgements
from crypto_lake.capture.probe import ProbeError, read_clock_setting
from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.capture.tls import tls_context
from crypto_lake.capture.writer import Writer
from crypto_lake.completeness.budget_file import open_budget
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import control, durable, locks, parts
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Clock, ExchangeClock, SystemClock
from crypto_lake.model.market import Stream

log = logging.getLogger(__name__)


class CaptureError(RuntimeError):
    """The collector can't go on; the message says why and what to do."""


class Collector:
    """Runs once: `await run()`, until `stop`. A disk that is full or fails does not end it (see writer).

    `on_durable` is called after an fsync, in the writer's thread, with the greatest trade id that is now on the disk
    for good, of each symbol that has a new one.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        layout: Layout,
        *,
        on_durable: OnDurable | None = None,
        watch: WatchSettings | None = None,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._exchange = EXCHANGES[settings.exchange]
        self._clock: Clock = SystemClock()
        self._on_durable = on_durable or (lambda _: None)
        self._wanted = Wanted(self._exchange, settings.symbols, settings.streams)
        self._stopping = asyncio.Event()
        self._reason = ""
        self._failure: BaseException | None = None
        self._started_ns = 0
        self._name = ""
        self._made: Assembly | None = None
        self._budget = open_budget(
            layout,
            self._exchange.name,
            settings.weight_per_minute,
            self._exchange.limits.weight_per_minute,
        )
        self._watch_settings = watch or WatchSettings()
        self._quarantine = Quarantine(layout.quarantine)

    def stop(self, reason: str) -> None:
        """End: close the connections, write and fsync everything received, close every part."""
        self._reason = self._reason or reason
        self._stopping.set()

    def follow(self, symbols: Iterable[str], streams: Iterable[Stream]) -> None:
        """Collect these streams of these symbols from now on. Those that stay are not disturbed."""
        self._wanted.symbols, self._wanted.streams = tuple(symbols), tuple(streams)
        if (made := self._made) is not None:
            names = self._wanted.names()
            made.intake.add_streams(names)
            made.feed.set_streams(names)
            made.writer.follow(self._wanted.symbols)

    def use_weight(self, per_minute: int) -> None:
        """So much of the exchange's REST weight is ours from now on."""
        self._budget.share = per_minute

    async def run(self) -> str:
        """Collect until told to stop; the reason of the end.

        Raises LockHeldError where another collector has this data directory, CaptureError where it can't go on.
        """
        tls = self._tls()
        with self._held():
            self._name = self._layout.collector_id()
            rest = (self._settings.endpoint.rest or self._exchange.rest).rstrip("/")
            if self._settings.clock == "exchange":
                self._clock = await self._follow_exchange(rest, tls)
            self._started_ns = self._clock.now_ns()
            self._salvage()
            await self._collect(
                Given(
                    settings=self._settings,
                    layout=self._layout,
                    wanted=self._wanted,
                    clock=self._clock,
                    collector=self._name,
                    rest=rest,
                    tls=tls,
                    budget=self._budget,
                    quarantine=self._quarantine,
                    watch=self._watch_settings,
                    on_durable=self._on_durable,
                    on_failure=self._failed,
                )
            )
        if self._failure is not None:
            raise CaptureError(
                f"writing to {self._layout.root} failed: {self._failure}. What was fsynced before is safe; free "
                "space or mend the disk, then start again."
            ) from self._failure
        return self._reason

    @contextmanager
    def _held(self) -> Generator[None]:
        """Hold the lock. A directory in which not even that can be made is told before anything is received."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.hold(self._layout.locks, "capture"))
                self._layout.collector_id()
            except OSError as error:
                raise CaptureError(
                    f"{self._layout.root} can't be written: {error}. Mount it writable and give it to this user, or name "
                    "another directory by --data."
                ) from None
            yield

    def _salvage(self) -> None:
        for salvaged in parts.salvage(self._layout, self._quarantine):
            if salvaged.left:
                log.error("%s: %s", salvaged.path, salvaged.problem)
                continue
            log.warning(
                "part %s was left open by a crash: %d bytes kept, %d cut and put into quarantine%s",
                salvaged.path,
                salvaged.kept_bytes,
                salvaged.cut_bytes,
                f" ({salvaged.problem})" if salvaged.problem else "",
            )

    async def _collect(self, given: Given) -> None:
        made = self._made = assemble(given)
        intake, writer, feed = made.intake, made.writer, made.feed
        intake.event(
            PROCESS, control.CollectorStarted(self._name, __version__, self._settings.hole_grace_seconds)
        )
        writer.start()
        intake.add_streams(self._wanted.names())
        helpers: list[asyncio.Task[Any]] = [
            asyncio.create_task(made.probe.run(), name="clock probe"),
            asyncio.create_task(made.watch.run(), name="liveness"),
            asyncio.create_task(made.healing.run(), name="healing"),
            asyncio.create_task(self._cut_forever(intake), name="flush"),
            asyncio.create_task(self._keep_clock(given.rest, given.tls), name="clock"),
            asyncio.create_task(self._stopping.wait(), name="stop"),
        ]
        running: asyncio.Task[Any] = asyncio.create_task(feed.run(), name="feed")
        results: list[Any] = []
        try:
            # None of them ends by itself: the first to end is the order to stop, or a failure.
            await asyncio.wait({running, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await feed.stop()
            for task in helpers:
                task.cancel()
            results += await asyncio.gather(running, *helpers, return_exceptions=True)
            await made.asker.close()
            if self._failure is None:
                intake.event(PROCESS, control.CollectorStopped(self._name, self._reason or "failed"))
                intake.finish()
            writer.finish()
            await asyncio.to_thread(writer.join)
            await asyncio.sleep(0)  # what the writer's last call said arrives
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _cut_forever(self, intake: StreamIntake) -> None:
        """Cut every flush_ms. Each fsync follows a cut at once, so that nothing waits for both."""
        loop = asyncio.get_running_loop()
        flush_seconds, fsync_seconds = self._settings.flush_ms / 1000, self._settings.fsync_ms / 1000
        next_cut = next_sync = loop.time()
        while True:
            now = loop.time()
            sync = now + flush_seconds / 2 >= next_sync
            intake.cut(sync=sync)
            if sync:
                next_sync = now + fsync_seconds
            next_cut = max(now, next_cut + flush_seconds)
            await asyncio.sleep(next_cut - now)

    async def _keep_clock(self, rest: str, tls: ssl.SSLContext | None) -> None:
        """Leave the exchange's clock for the other processes of this lake."""
        clock = self._clock
        if not isinstance(clock, ExchangeClock):
            try:
                self._layout.clock.unlink(missing_ok=True)
            except OSError as error:
                log.error("%s is of another run and can't be removed: %s", self._layout.clock, error)
            return await _forever()
        while True:
            if not clock.speed:  # a market that waits for its start has no speed yet
                with suppress(ProbeError):
                    clock.setting = await read_clock_setting(rest, tls)
            setting = clock.setting
            if (
                not setting.speed
            ):  # it stands until a message moves it: where it stands is all there is to tell
                setting = dataclasses.replace(setting, exchange_ns=clock.now_ns())
            with suppress(OSError):  # a full disk; the writer tells
                durable.write_fleeting(self._layout.clock, msgspec.json.encode(setting))
            await asyncio.sleep(1.0)

    async def _follow_exchange(self, rest: str, tls: ssl.SSLContext | None) -> ExchangeClock:
        try:
            return ExchangeClock(await read_clock_setting(rest, tls))
        except ProbeError as error:
            raise CaptureError(
                f"the exchange's clock can't be read: {error}. 'clock: exchange' is for a simulator that answers there; "
                "a real exchange needs 'clock: system'."
            ) from None

    def _tls(self) -> ssl.SSLContext | None:
        ca_file = self._settings.endpoint.ca_file
        try:
            return tls_context(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise CaptureError(f"endpoint.ca_file {ca_file} can't be used: {error}") from None

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self.stop("writing failed")

    def snapshot(self) -> CollectorSnapshot:
        """What there is to say now; before `run` has begun, almost nothing."""
        nothing_yet = CollectorSnapshot(
            version=__version__,
            collector=self._name,
            exchange=self._exchange.name,
            pid=os.getpid(),
            started_ns=self._started_ns,
            taken_ns=self._clock.now_ns(),
            clock=self._settings.clock,
            clock_speed=self._clock.speed,
            clock_offset_us=None,
            clock_round_trip_us=None,
            streams=[],
            symbols=[],
            connections=[],
            outcomes={},
            reconnects=0,
            quarantined={},
            writer=Writer.nothing_yet(self._settings.queue_bytes),
            idle=not self._wanted.symbols,
        )
        if (made := self._made) is None:
            return nothing_yet
        feed, offset, intake = made.feed.snapshot(), made.probe.latest, made.intake
        streams = intake.stream_snapshots(offset.offset_us if offset else 0, made.feed.acknowledged)
        streams = with_judgements(streams, made.watch.judgements, self._clock)
        wanted = set(self._wanted.names())
        return msgspec.structs.replace(
            nothing_yet,
            clock_offset_us=offset.offset_us if offset else None,
            clock_round_trip_us=offset.round_trip_us if offset else None,
            # One that was removed stays accepted, but nobody waits for it to be live again.
            streams=[stream for stream in streams if stream.name in wanted],
            symbols=made.writer.symbol_snapshots,
            connections=feed.connections,
            outcomes=feed.outcomes,
            reconnects=feed.reconnects,
            quarantined=intake.quarantined,
            writer=msgspec.structs.replace(
                made.writer.snapshot(
                    intake.queued_bytes, self._settings.queue_bytes, intake.queue_full_total
                ),
                lost_messages=sum(stream.lost_messages for stream in streams),
                lost_bytes=sum(stream.lost_bytes for stream in streams),
            ),
            replacements=dict(made.watch.replacements),
            liveness_requests=made.asker.requests,
            healing=made.healing.snapshot(),
        )


async def _forever() -> None:
    await asyncio.Event().wait()
