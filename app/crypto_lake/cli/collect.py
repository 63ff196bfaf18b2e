"""`crypto-lake collect`: one collector, with what watches it, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from crypto_lake.cli.common import CommandError, ExitCode, load_settings, setting_options
from crypto_lake.cli.follow import ConfigFollower, watching

if TYPE_CHECKING:
    from crypto_lake.capture.snapshot import CollectorSnapshot
    from crypto_lake.config.load import Loaded
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.market import Stream
    from crypto_lake.upkeep.pending import Pending, PendingLook
    from crypto_lake.watch.alerts_loop import AlertLoop
    from crypto_lake.watch.lookout import Lookout, Watched

log = logging.getLogger("crypto_lake.cli.collect")

SNAPSHOT_SECONDS = 2.0
CONFIG_POLL_SECONDS = 2.0

OnDurable = Callable[[dict[str, int]], None]


class CollectorLike(Protocol):
    """What this command needs of a collector; capture.collector has the real one."""

    async def run(self) -> str: ...
    def stop(self, reason: str) -> None: ...
    def snapshot(self) -> CollectorSnapshot: ...
    def follow(self, symbols: tuple[str, ...], streams: tuple[Stream, ...]) -> None: ...
    def use_weight(self, per_minute: int) -> None: ...


@click.command()
@setting_options
@click.option(
    "--report-durable",
    type=int,
    metavar="FD",
    help='After each fsync write {"symbol": …, "id": …} lines to this open descriptor: the last trade of each '
    "symbol that is on the disk for good.",
)
@click.option(
    "--supervised", is_flag=True, hidden=True, help="`run` started it and writes the heartbeat itself."
)
def command(report_durable: int | None, supervised: bool, **options: Any) -> int:
    """Collect an exchange's streams into raw parts, until SIGTERM or Ctrl-C.

    Symbols, streams, alerts and more may be changed in the configuration file while it runs; SIGHUP reads it at once.
    """
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch import logs

    loaded = load_settings(options)
    config = loaded.config
    if config.collector.exchange not in EXCHANGES:
        raise CommandError(
            f"collector.exchange: {config.collector.exchange} is not known; known are {', '.join(EXCHANGES)}",
            ExitCode.USAGE,
        )
    layout = Layout(Path(config.data))
    logs.set_up(
        console=config.logging.console,
        file=config.logging.file,
        path=layout.log,
        file_bytes=config.logging.file_bytes,
        file_count=config.logging.file_count,
    )
    on_durable = durable_reporter(report_durable) if report_durable is not None else None
    collector = assemble(loaded, layout, on_durable)
    return asyncio.run(
        operate(
            collector,
            loaded=loaded,
            layout=layout,
            reload=lambda: load_settings(options),
            heartbeat=not supervised,
        )
    )


def assemble(loaded: Loaded, layout: Layout, on_durable: OnDurable | None) -> CollectorLike:
    """The collector for this configuration. Its settings have the names of the configuration's."""
    import msgspec

    from crypto_lake.capture.collector import Collector
    from crypto_lake.capture.collector_settings import CollectorSettings

    settings = CollectorSettings(**msgspec.structs.asdict(loaded.config.collector))
    return Collector(settings, layout, on_durable=on_durable)


def durable_reporter(descriptor: int) -> OnDurable:
    """Writes what is durable to an open descriptor, a line per symbol; stops where its reader is gone."""
    import msgspec

    try:
        os.fstat(descriptor)
    except OSError:
        raise CommandError(f"--report-durable {descriptor}: no open descriptor", ExitCode.USAGE) from None
    gone = False

    def report(durable: dict[str, int]) -> None:
        nonlocal gone
        if gone or not durable:
            return
        lines = memoryview(
            b"".join(msgspec.json.encode({"symbol": s, "id": i}) + b"\n" for s, i in durable.items())
        )
        try:
            while lines:
                lines = lines[os.write(descriptor, lines) :]
        except OSError as error:
            gone = True
            log.warning("durable ids are no longer reported: %s", error)

    return report


async def operate(
    collector: CollectorLike,
    *,
    loaded: Loaded,
    layout: Layout,
    reload: Callable[[], Loaded],
    heartbeat: bool,
) -> int:
    """Run the collector to its end, serving and leaving its snapshot meanwhile; return the exit code.

    Nothing that watches may end the collecting: its failures are logged.
    """
    import msgspec

    from crypto_lake.config.live import waiting
    from crypto_lake.watch.read import write_snapshot
    from crypto_lake.watch.readiness import Readiness
    from crypto_lake.watch.serve import Server

    alerts: AlertLoop | None = None
    lookout = _lookout(loaded.config, layout, collector.snapshot)
    follower = ConfigFollower(loaded, reload, _take_over(collector, lambda: alerts, lookout), waiting)

    def taken() -> CollectorSnapshot:
        return msgspec.structs.replace(
            collector.snapshot(), port=server.port, configuration=follower.configuration
        )

    config, readiness = loaded.config.collector, Readiness()
    server = Server(taken, config.listen, config.port, lookout, readiness)
    hangup = asyncio.Event()
    stopped_by: list[str] = []

    def stop(name: str) -> None:
        if stopped_by and name == "SIGINT":  # Ctrl-C twice: at once, as if we had no handler
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        if stopped_by:
            # SIGTERM may come once for each thread of a supervisor that was killed (see die_with_parent).
            return
        stopped_by.append(name)
        log.info("stopping: %s", name)
        collector.stop(name)

    async def leave_snapshot() -> None:
        snapshot = taken()
        readiness.judge(snapshot)  # so that it knows since when something is missing
        await asyncio.to_thread(write_snapshot, layout, snapshot)

    # On a terminal SIGHUP says that it was closed; to a service, that its configuration has changed.
    on_hangup = stop if sys.stderr.isatty() else lambda _: hangup.set()
    with _handlers({signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: on_hangup}):
        running = asyncio.create_task(collector.run(), name="collector")
        # A collector that may not run (locked) says so at once; before that nothing of another's is touched.
        await asyncio.wait([running], timeout=0.2)
        watchers: list[asyncio.Task[None]] = []
        # As the heartbeat: under `run` that one does it, so that a dead collector is told, too.
        alerts = _alerts(loaded, layout) if heartbeat and not running.done() else None
        try:
            if not running.done():
                try:
                    await server.start()
                except OSError as error:
                    log.warning("/metrics and /status are not served: %s", error)
                names = loaded.config.collector.symbols
                log.info(
                    "collecting %d symbols of %s into %s; /status and /metrics on port %s",
                    len(names),
                    loaded.config.collector.exchange,
                    layout.root,
                    server.port,
                )
                beats: list[tuple[float, float, Callable[[], Coroutine[Any, Any, object]], str]] = [
                    (SNAPSHOT_SECONDS, 0.0, leave_snapshot, "snapshot"),
                ]
                if heartbeat:
                    beats.append((60.0, 5.0, _heartbeat(layout, lambda: follower.config), "heartbeat"))
                watchers = [asyncio.create_task(_repeat(*beat)) for beat in beats]
                watchers.append(asyncio.create_task(follower.forever(hangup, lambda: CONFIG_POLL_SECONDS)))
            reason = await running
            with contextlib.suppress(OSError):
                write_snapshot(layout, taken())
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            if alerts is not None:
                await asyncio.to_thread(alerts.stop)
            await server.close()
    if not stopped_by:
        raise CommandError(f"the collector ended by itself: {reason}")
    return ExitCode.OK


@contextlib.contextmanager
def _handlers(handlers: dict[signal.Signals, Callable[[str], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler, number.name)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


async def _repeat(
    every_seconds: float, first_seconds: float, do: Callable[[], Coroutine[Any, Any, object]], what: str
) -> None:
    """Do it for ever. A failure is told once, and again when it has changed."""
    await asyncio.sleep(first_seconds)
    told = ""
    while True:
        try:
            await do()
            told = ""
        except Exception as error:
            if str(error) != told:
                log.warning("%s: %s", what, error, exc_info=not isinstance(error, OSError))
                told = str(error)
        await asyncio.sleep(every_seconds)


def _heartbeat(layout: Layout, config: Callable[[], Config]) -> Callable[[], Coroutine[Any, Any, object]]:
    from crypto_lake.watch.heartbeat import HeartbeatWriter

    writer = HeartbeatWriter(layout)
    return lambda: asyncio.to_thread(writer.beat, locked=True, limit_bytes=int(config().disk.limit_gb * 1e9))


def _alerts(loaded: Loaded, layout: Layout) -> AlertLoop:
    """Started: it reads what this process leaves on the disk, in a thread of its own."""
    from crypto_lake.cli.alerts import settings_of
    from crypto_lake.watch.alerts_loop import AlertLoop

    loop = AlertLoop(layout, settings_of(loaded.config))
    loop.start()
    return loop


def _watched(config: Config) -> Watched:
    from crypto_lake.watch.lookout import Watched

    return Watched(config.gcs.store_url, int(config.disk.limit_gb * 1e9))


def _lookout(config: Config, layout: Layout, take: Callable[[], CollectorSnapshot]) -> Lookout:
    from crypto_lake.watch.lookout import Lookout

    looks: list[PendingLook] = []

    def pending(url: str) -> Pending:
        """In a thread. What it needs is loaded where there is a bucket, and then at the first look."""
        from crypto_lake.upkeep.pending import PendingLook

        if not looks:
            looks.append(PendingLook(layout))
        return looks[0].look(url)

    return Lookout(layout, take, _watched(config), pending)


def _take_over(
    collector: CollectorLike, alerts: Callable[[], AlertLoop | None], lookout: Lookout
) -> Callable[[Config, Sequence[str]], None]:
    """What changes while the collector runs. The keys are those of config.live."""

    watch = watching(alerts)

    def apply(config: Config, differing: Sequence[str]) -> None:
        changed = {path.partition(".")[0] for path in differing}
        if {"collector.symbols", "collector.streams"} & set(differing):
            collector.follow(config.collector.symbols, config.collector.streams)
            log.info(
                "now collecting %s of %s",
                ",".join(config.collector.streams),
                ",".join(config.collector.symbols) or "no symbol",
            )
        if "collector.weight_per_minute" in differing:
            collector.use_weight(config.collector.weight_per_minute)
        if changed & {"collector", "gcs", "disk"}:
            lookout.follow(_watched(config))
        watch(config, differing)

    return apply
