"""What a collector is made of for one run: writer, intake, feed and their helpers, built and not yet started."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from crypto_lake.capture.batch import PROCESS
from crypto_lake.capture.collector_settings import CollectorSettings
from crypto_lake.capture.connection import ConnectionSettings
from crypto_lake.capture.feed import Feed, FeedSettings
from crypto_lake.capture.healing import Healing, HealingSettings
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.liveness import LivenessWatch, WatchSettings
from crypto_lake.capture.probe import ClockProbe
from crypto_lake.capture.transport import Target
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.completeness.asking import Asker, open_asker
from crypto_lake.completeness.budget_file import WeightBudget
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Clock
from crypto_lake.model.market import NS_PER_SECOND, Stream

log = logging.getLogger(__name__)

OnDurable = Callable[[dict[str, int]], None]


@dataclass
class Wanted:
    """What is collected. It may change while the collector runs."""

    exchange: Exchange
    symbols: tuple[str, ...]
    streams: tuple[Stream, ...]

    def names(self) -> list[str]:
        """Of the streams, as the exchange names them."""
        return [self.exchange.stream_name(symbol, kind) for symbol in self.symbols for kind in self.streams]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a run is given.

    collector: the id of the data directory. rest: where the exchange's REST interface is.
    on_durable: see Collector. on_failure: called on the event loop where the writer can't go on.
    """

    settings: CollectorSettings
    layout: Layout
    wanted: Wanted
    clock: Clock
    collector: str
    rest: str
    tls: ssl.SSLContext | None
    budget: WeightBudget
    quarantine: Quarantine
    watch: WatchSettings
    on_durable: OnDurable
    on_failure: Callable[[BaseException], None]


@dataclass(frozen=True, eq=False)
class Assembly:
    """The asker has connections that are to be closed; the others hold nothing before they run."""

    writer: Writer
    intake: StreamIntake
    feed: Feed
    probe: ClockProbe
    healing: Healing
    asker: Asker
    watch: LivenessWatch


def assemble(given: Given) -> Assembly:
    """To be called on the event loop, under the lock `capture`: the ledgers are taken up from the disk."""
    writer, intake = _writer_and_intake(given)
    origin = f"{given.collector.rpartition('-')[2]}-{_next_run(given.layout)}"
    settings, wanted = given.settings, given.wanted
    feed = _feed(given, intake, f"c-{origin}")
    probe = ClockProbe(
        given.rest,
        intake,
        given.clock,
        every_seconds=settings.clock_probe_seconds,
        tls=given.tls,
        name=PROCESS,
        recording=lambda: bool(wanted.symbols),
        budget=given.budget,
    )
    healing = Healing(
        given.layout,
        wanted.exchange,
        given.clock,
        intake,
        given.budget,
        f"rest-{origin}",
        HealingSettings(settings.heal, settings.endpoint.rest, given.tls),
    )
    asker = open_asker(given.layout, wanted.exchange, given.rest, given.tls)
    watch = LivenessWatch(
        wanted.exchange,
        feed,
        intake,
        asker,
        given.clock,
        wanted.names,
        given.watch,
        offset_us=lambda: probe.latest.offset_us if probe.latest else 0,
    )
    return Assembly(writer, intake, feed, probe, healing, asker, watch)


def _writer_and_intake(given: Given) -> tuple[Writer, StreamIntake]:
    """Each calls the other, from its own thread: what the writer tells is handed to the event loop."""
    loop = asyncio.get_running_loop()
    settings, wanted = given.settings, given.wanted
    writer = Writer(
        given.layout,
        wanted.exchange,
        given.collector,
        WriterSettings(
            settings.fsync_ms / 1000,
            int(settings.rotate_seconds * NS_PER_SECOND),
            int(settings.hole_grace_seconds * NS_PER_SECOND),
        ),
        given.quarantine,
        on_written=lambda sizes: _call_soon(loop, intake.written, sizes),
        on_durable=given.on_durable,
        on_failure=lambda error: _call_soon(loop, given.on_failure, error),
        on_trouble=lambda cause: _call_soon(loop, intake.trouble, cause),
    )
    for symbol in wanted.symbols:
        writer.open_symbol(symbol)
    writer.follow(wanted.symbols)
    writer.open_leftovers()
    intake = StreamIntake(
        wanted.exchange,
        given.clock,
        writer.put,
        queue_bytes=settings.queue_bytes,
        flush_bytes=settings.flush_bytes,
    )
    return writer, intake


def _feed(given: Given, intake: StreamIntake, name_prefix: str) -> Feed:
    settings, exchange = given.settings, given.wanted.exchange
    url = (settings.endpoint.websocket or exchange.websocket).rstrip("/") + exchange.connect_path
    connection = ConnectionSettings(
        Target(url, given.tls, coalesce_ms=settings.coalesce_ms),
        silence_seconds=settings.silence_seconds,
    )
    return Feed(
        exchange,
        FeedSettings(
            connection,
            streams_per_connection=settings.streams_per_connection,
            handover_seconds=settings.handover_seconds,
        ),
        intake,
        given.clock,
        given.wanted.names(),
        name_prefix,
    )


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(function, *arguments)


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
