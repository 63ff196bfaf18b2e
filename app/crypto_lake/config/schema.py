"""What can be configured, with its defaults. Loading and merging is in config.load.

Every field has a default; an unknown key is an error. Durations are in the unit their name says, or text such as
7d (config.durations). A value out of its range is refused where it is loaded, not where it is used.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from crypto_lake.model.market import Stream
from crypto_lake.model.symbols import DEFAULT_SYMBOLS

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Paths of values that no output may show.
SECRETS: Final = frozenset({"alerting.webhook_url"})

Positive = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Endpoint(Section, frozen=True):
    """Where the exchange is; empty: the exchange's own public addresses."""

    websocket: str = ""  # wss://host[:port], without a path
    rest: str = ""  # https://host[:port]
    # A file with certificates (PEM) to trust beside the system's: for a simulator's, made on the spot.
    ca_file: str = ""


class CollectorConfig(Section, frozen=True):
    exchange: str = "binance"
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
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
    queue_bytes: Bytes = 64 * 1024 * 1024  # received and not yet written; above it reading pauses
    # HTTP for /metrics, /status, /healthz, /readyz. Port 0: any free one, told by `status`; -1: none.
    listen: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=-1, le=65535)] = 9464


class TransformConfig(Section, frozen=True):
    every_minutes: Positive = 60.0
    memory_mb: Annotated[int, Meta(ge=200)] = 400  # less would not do for one process


class RetentionConfig(Section, frozen=True):
    raw: str = "7d"


class GcsConfig(Section, frozen=True):
    bucket_name: str = ""
    prefix: str = ""
    upload_retention_days: Annotated[int, Meta(ge=0)] = 7


class Condition(Section, frozen=True):
    type: Literal["disk_usage", "data_gap", "collector_down", "transform_late", "clock_offset", "quarantine"]
    threshold: float | None = None
    threshold_minutes: float | None = None


class AlertingConfig(Section, frozen=True):
    webhook_url: str = ""
    conditions: tuple[Condition, ...] = (
        Condition(type="disk_usage", threshold=80),
        Condition(type="data_gap", threshold_minutes=5),
    )


class LoggingConfig(Section, frozen=True):
    console: str = "WARNING"
    file: str = "DEBUG"
    file_bytes: Bytes = 10 * 1024 * 1024
    file_count: Annotated[int, Meta(ge=1, le=1000)] = 5


class Config(Section, frozen=True):
    data: str = "data"
    collector: CollectorConfig = CollectorConfig()
    transform: TransformConfig = TransformConfig()
    retention: RetentionConfig = RetentionConfig()
    gcs: GcsConfig = GcsConfig()
    alerting: AlertingConfig = AlertingConfig()
    logging: LoggingConfig = LoggingConfig()
