"""The collector: connections, intake and writer put together, from its lock to its last fsync."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import ssl
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import msgspec

from crypto_lake import __version__
from crypto_lake.capture.batch import PROCESS
from crypto_lake.capture.collector_settings import CollectorSettings as CollectorSettings
from crypto_lake.capture.connection import ConnectionSettings
from crypto_lake.capture.feed import Feed, FeedSettings, FeedSnapshot
from crypto_lake.capture.healing import Healing, HealingSettings
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.liveness import LivenessWatch, WatchSettings, with_judgements
from crypto_lake.capture.probe import ClockProbe, ProbeError, read_clock_setting
from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.capture.tls import tls_context
from crypto_lake.capture.transport import Target
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.completeness.asking import Asker, open_asker
from crypto_lake.completeness.budget_file import open_budget
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import control, durable, locks, parts
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Clock, ExchangeClock, SystemClock
from crypto_lake.model.market import NS_PER_SECOND, Stream

log = logging.getLogger(__name__)

OnDurable = Callable[[dict[str, int]], None]


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
        self._symbols, self._streams = settings.symbols, settings.streams
        self._stopping = asyncio.Event()
        self._reason = ""
        self._failure: BaseException | None = None
        self._started_ns = 0
        self._name = ""
        self._intake: StreamIntake | None = None
        self._writer: Writer | None = None
        self._feed: Feed | None = None
        self._probe: ClockProbe | None = None
        self._watch: LivenessWatch | None = None
        self._healing: Healing | None = None
        self._asker: Asker | None = None
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
        self._symbols, self._streams = tuple(symbols), tuple(streams)
        if self._feed is not None and self._intake is not None:
            names = self._stream_names()
            self._intake.add_streams(names)
            self._feed.set_streams(names)
            if self._writer is not None:
                self._writer.follow(self._symbols)

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
            await self._collect(rest, tls)
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

    async def _collect(self, rest: str, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        settings, exchange = self._settings, self._exchange
        writer = self._writer = Writer(
            self._layout,
            exchange,
            self._name,
            WriterSettings(
                settings.fsync_ms / 1000,
                int(settings.rotate_seconds * NS_PER_SECOND),
                int(settings.hole_grace_seconds * NS_PER_SECOND),
            ),
            self._quarantine,
            on_written=lambda sizes: _call_soon(loop, intake.written, sizes),
            on_durable=self._on_durable,
            on_failure=lambda error: _call_soon(loop, self._failed, error),
            on_trouble=lambda cause: _call_soon(loop, intake.trouble, cause),
        )
        for symbol in self._symbols:
            writer.open_symbol(symbol)
        writer.follow(self._symbols)
        writer.open_leftovers()
        intake = self._intake = StreamIntake(
            exchange,
            self._clock,
            writer.put,
            queue_bytes=settings.queue_bytes,
            flush_bytes=settings.flush_bytes,
        )
        run = _next_run(self._layout)
        prefix = f"c-{self._name.rpartition('-')[2]}-{run}"
        intake.event(PROCESS, control.CollectorStarted(self._name, __version__, settings.hole_grace_seconds))
        writer.start()

        names = self._stream_names()
        intake.add_streams(names)
        url = (settings.endpoint.websocket or exchange.websocket).rstrip("/") + exchange.connect_path
        feed = self._feed = Feed(
            exchange,
            FeedSettings(
                ConnectionSettings(
                    Target(url, tls, coalesce_ms=settings.coalesce_ms),
                    silence_seconds=settings.silence_seconds,
                ),
                streams_per_connection=settings.streams_per_connection,
                handover_seconds=settings.handover_seconds,
            ),
            intake,
            self._clock,
            names,
            prefix,
        )
        self._probe = ClockProbe(
            rest,
            intake,
            self._clock,
            every_seconds=settings.clock_probe_seconds,
            tls=tls,
            name=PROCESS,
            recording=lambda: bool(self._symbols),
            budget=self._budget,
        )
        self._healing = Healing(
            self._layout,
            exchange,
            self._clock,
            intake,
            self._budget,
            f"rest-{prefix.removeprefix('c-')}",
            HealingSettings(settings.heal, settings.endpoint.rest, tls),
        )
        asker = self._asker = open_asker(self._layout, exchange, rest, tls)
        self._watch = LivenessWatch(
            exchange,
            feed,
            intake,
            asker,
            self._clock,
            self._stream_names,
            self._watch_settings,
            offset_us=self._offset_us,
        )
        helpers: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._probe.run(), name="clock probe"),
            asyncio.create_task(self._watch.run(), name="liveness"),
            asyncio.create_task(self._healing.run(), name="healing"),
            asyncio.create_task(self._cut_forever(intake), name="flush"),
            asyncio.create_task(self._keep_clock(rest, tls), name="clock"),
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
            await asker.close()
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

    def _stream_names(self) -> list[str]:
        return [self._exchange.stream_name(s, kind) for s in self._symbols for kind in self._streams]

    def snapshot(self) -> CollectorSnapshot:
        """What there is to say now; before `run` has begun, almost nothing."""
        feed = self._feed.snapshot() if self._feed else FeedSnapshot([], {}, 0)
        offset = self._probe.latest if self._probe else None
        intake, writer = self._intake, self._writer
        assert (intake is None) == (writer is None)
        live = self._feed.acknowledged if self._feed else frozenset[str]()
        streams = intake.stream_snapshots(offset.offset_us if offset else 0, live) if intake else []
        if self._watch is not None:
            streams = with_judgements(streams, self._watch.judgements, self._clock)
        wanted = set(self._stream_names())
        return CollectorSnapshot(
            version=__version__,
            collector=self._name,
            exchange=self._exchange.name,
            pid=os.getpid(),
            started_ns=self._started_ns,
            taken_ns=self._clock.now_ns(),
            clock=self._settings.clock,
            clock_speed=self._clock.speed,
            clock_offset_us=offset.offset_us if offset else None,
            clock_round_trip_us=offset.round_trip_us if offset else None,
            # One that was removed stays accepted, but nobody waits for it to be live again.
            streams=[stream for stream in streams if stream.name in wanted],
            symbols=writer.symbol_snapshots if writer else [],
            connections=feed.connections,
            outcomes=feed.outcomes,
            reconnects=feed.reconnects,
            quarantined=intake.quarantined if intake else {},
            writer=msgspec.structs.replace(
                writer.snapshot(intake.queued_bytes, self._settings.queue_bytes, intake.queue_full_total),
                lost_messages=sum(stream.lost_messages for stream in streams),
                lost_bytes=sum(stream.lost_bytes for stream in streams),
            )
            if writer and intake
            else Writer.nothing_yet(self._settings.queue_bytes),
            idle=not self._symbols,
            replacements=dict(self._watch.replacements) if self._watch else {},
            liveness_requests=self._asker.requests if self._asker else 0,
            healing=self._healing.snapshot() if self._healing else None,
        )

    def _offset_us(self) -> int:
        offset = self._probe.latest if self._probe else None
        return offset.offset_us if offset else 0


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(function, *arguments)


async def _forever() -> None:
    await asyncio.Event().wait()


def _next_run(layout: Layout) -> int:
    """How often a collector has started here, this time included: so that no connection's name comes twice.

    On a disk that is full it may be a number of another kind, as unlikely to have been used.
    """
    path = layout.state / "runs"
    try:
        run = int(path.read_text()) + 1
    except (FileNotFoundError, ValueError):
        run = 1
    try:
        durable.write(path, b"%d\n" % run)
    except OSError as error:
        log.error("%s can't be written: %s", path, error)
        return time.time_ns() // NS_PER_SECOND
    return run
