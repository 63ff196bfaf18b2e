"""What can be configured, with its defaults. Loading and merging is in config.load.

Every field has a default; an unknown key is an error. Durations are in the unit their name says, or text such as
7d (config.durations). A value out of its range is refused where it is loaded, not where it is used.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from crypto_lake.model.market import Stream
from crypto_lake.model.series import DEFAULT_SERIES
from crypto_lake.model.symbols import DEFAULT_SYMBOLS

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Paths of values that no output may show.
SECRETS: Final = frozenset({"alerting.webhook_url", "macro.proxy"})

Positive = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(gt=0)]
Percent = Annotated[float, Meta(gt=0, le=100)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Endpoint(Section, frozen=True):
    """Where the exchange is; empty: the exchange's own public addresses."""

    websocket: str = ""  # wss://host[:port], without a path
    rest: str = ""  # https://host[:port]
    # A file with certificates (PEM) to trust beside the system's: for a simulator's, made on the spot.
    ca_file: str = ""
    archive: str = ""  # https://host[:port] of the daily archives


class CollectorConfig(Section, frozen=True):
    exchange: str = "binance"
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    idle: bool = False  # symbols may be empty: a shard that has none
    streams: tuple[Stream, ...] = (Stream.TRADE, Stream.BOOK_TICKER)
    endpoint: Endpoint = Endpoint()
    # "exchange": follow the time and speed of a simulator.
    clock: Literal["system", "exchange"] = "system"
    streams_per_connection: Annotated[int, Meta(ge=1, le=1024)] = 256
    # How long reads are gathered: CPU against precision of receive times.
    coalesce_ms: Annotated[float, Meta(ge=0, le=1000)] = 5.0
    silence_seconds: Positive = 60.0  # a connection without any byte for so long is given up
    handover_seconds: Positive = 23 * 3600.0  # a connection's age when its replacement is opened
    clock_probe_seconds: Positive = 60.0
    flush_ms: Positive = 250.0
    flush_bytes: Bytes = 256 * 1024
    fsync_ms: Positive = 1000.0
    rotate_seconds: Positive = 60.0
    # How long a missing id may still come before it is a hole.
    hole_grace_seconds: Annotated[float, Meta(ge=0)] = 5.0
    queue_bytes: Bytes = (
        64 * 1024 * 1024
    )  # received and not yet fsynced; above it reading pauses for up to 10 s
    heal: bool = True  # fetch missed trades over REST
    # Of the exchange's REST weight, what this lake (this collector of it) may use; the exchange counts by address.
    weight_per_minute: Annotated[int, Meta(ge=25, le=100_000)] = 3000
    # HTTP for /metrics, /status, /healthz, /readyz. Port 0: any free one, told by `status`; -1: none.
    listen: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=-1, le=65535)] = 9464


class TransformConfig(Section, frozen=True):
    every_minutes: Positive = 60.0
    memory_mb: Annotated[int, Meta(ge=200)] = 400  # less would not do for one process


class CheckConfig(Section, frozen=True):
    """Bars held against the exchange's own klines."""

    enabled: bool = True
    every_minutes: Positive = 60.0


class RetentionConfig(Section, frozen=True):
    raw: str = "7d"  # or never
    every_minutes: Positive = 60.0


class GcsConfig(Section, frozen=True):
    """The bucket. Nothing is uploaded where there is none."""

    bucket_name: str = ""
    prefix: str = ""
    url: str = ""  # gs://bucket/prefix or file:///folder; it goes before the two above
    every_minutes: Positive = 60.0
    workers: Annotated[int, Meta(ge=1, le=64)] = 4
    bandwidth_mb_per_s: Annotated[float, Meta(ge=0)] = 0.0  # 10^6 bytes; 0: no limit
    # How long bars stay here once they are published and verified; 0: for good.
    upload_retention_days: Annotated[int, Meta(ge=0)] = 0

    @property
    def store_url(self) -> str:
        """The bucket as a URL, "" where there is none."""
        if self.url or not self.bucket_name:
            return self.url
        name = self.bucket_name.removeprefix("gs://").strip("/")
        prefix = self.prefix.strip("/")
        return f"gs://{name}/{prefix}" if prefix else f"gs://{name}"


class DiskConfig(Section, frozen=True):
    """What happens as the disk fills. Percentages of the file system, or of `limit_gb` where that is set."""

    shed_percent: Percent = 90.0
    stop_derived_percent: Percent = 95.0
    limit_gb: Annotated[float, Meta(ge=0)] = (
        0.0  # what this lake may take of a shared disk, in 10^9 bytes; 0: all
    )


class Condition(Section, frozen=True):
    """Changes one condition of model.alerting; those that no entry names are on, with their defaults."""

    type: str
    enabled: bool = True
    threshold: float | None = None
    threshold_minutes: float | None = None
    threshold_hours: float | None = None


class AlertingConfig(Section, frozen=True):
    webhook_url: str = ""
    webhook_url_file: str = ""  # a file that holds it (a mounted secret), read at each sending; it goes first
    format: Literal["auto", "json", "slack", "discord"] = "auto"
    name: str = ""  # how alerts call this lake; empty: its data directory
    repeat_minutes: Positive = 60.0  # at most one message so often for each condition and subject
    every_seconds: Annotated[float, Meta(ge=0.1)] = 15.0
    conditions: tuple[Condition, ...] = ()
    # Tasks that are started beside a collector, as by cron: one that never reports is late, too. `run` knows its own.
    expected_tasks: tuple[Literal["transform", "upload", "cleanup"], ...] = ()


class MacroConfig(Section, frozen=True):
    """Daily series beside the bars, such as stock indices; see docs/macro.md."""

    series: tuple[str, ...] = DEFAULT_SERIES
    start: date = date(2017, 1, 1)  # the first day of a series of which nothing is known
    # So many days before the latest known one are asked for again, for they may be revised.
    revisit_days: Annotated[int, Meta(ge=0, le=36500)] = 14
    patience_seconds: Annotated[float, Meta(ge=0)] = 300.0  # for all waits of a run together
    proxy: str = ""  # http://[user:password@]host:port
    ca_file: str = ""  # certificates (PEM) to trust beside the usual ones


class LoggingConfig(Section, frozen=True):
    console: str = "WARNING"
    file: str = "DEBUG"
    file_bytes: Bytes = 10 * 1024 * 1024
    file_count: Annotated[int, Meta(ge=1, le=1000)] = 5


class Config(Section, frozen=True):
    data: str = "data"
    collector: CollectorConfig = CollectorConfig()
    transform: TransformConfig = TransformConfig()
    check: CheckConfig = CheckConfig()
    retention: RetentionConfig = RetentionConfig()
    gcs: GcsConfig = GcsConfig()
    disk: DiskConfig = DiskConfig()
    alerting: AlertingConfig = AlertingConfig()
    macro: MacroConfig = MacroConfig()
    logging: LoggingConfig = LoggingConfig()
