"""health/heartbeat.json and health/health.md: how the lake is, for whoever looks at the folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.tasks import TaskReport
from crypto_lake.watch.disk import DiskFigures, DiskScanner, Seldom, space_of
from crypto_lake.watch.page import markdown
from crypto_lake.watch.read import observe
from crypto_lake.watch.status import LakeStatus, Limits, judge

INTERVAL_SECONDS = 60.0


class TaskBeat(msgspec.Struct, frozen=True):
    """A task's last run: `ok`, `failed`, or `running` (or it died in it)."""

    state: str
    last_ok_at: str | None
    failures: int  # in a row
    problem: str


class Heartbeat(msgspec.Struct, frozen=True):
    """heartbeat.json. Sizes in GB are 10^9 bytes. Fields are added, never renamed."""

    schema: int
    timestamp: str
    status: str
    reasons: list[str]
    raw_files: int
    parquet_files: int
    parquet_rows: int
    disk_usage_gb: float  # what the lake takes up
    disk_free_gb: float
    disk_used_percent: float
    collector: str | None
    pid: int | None
    symbols: int
    streams_live: int
    messages: int
    holes_open: int
    ids_missing: int
    quarantined: int
    last_trade_at: str | None
    last_bars_at: str | None
    transform_age_seconds: float | None
    alerts: list[str] = []  # keys of those that fire
    disk_full_in_seconds: float | None = None  # at the rate of the last hours; None: never, or not known yet
    tasks: dict[str, TaskBeat] = {}


def heartbeat(status: LakeStatus) -> Heartbeat:
    """The status in short. Pure."""
    collector, disk = status.collector, status.disk
    last_trade_us = max((symbol.last_trade_time_us for symbol in status.symbols), default=0)
    return Heartbeat(
        schema=1,
        timestamp=status.taken_at,
        status=status.health,
        reasons=[reason.message for reason in status.reasons],
        raw_files=disk.raw_files,
        parquet_files=disk.parquet_files,
        parquet_rows=disk.parquet_rows,
        disk_usage_gb=round(disk.lake_bytes / 1e9, 6),
        disk_free_gb=round(disk.free_bytes / 1e9, 3),
        disk_used_percent=round(disk.used_percent, 1),
        collector=collector.name if collector else None,
        pid=collector.pid if collector else None,
        symbols=len(status.symbols),
        streams_live=collector.streams_live if collector else 0,
        messages=collector.messages if collector else 0,
        holes_open=collector.holes_open if collector else 0,
        ids_missing=collector.ids_missing if collector else 0,
        quarantined=collector.quarantined if collector else 0,
        last_trade_at=utc(last_trade_us / 1e6),
        last_bars_at=utc(disk.last_bars_ns / 1e9),
        transform_age_seconds=_rounded(status.transform_age_seconds),
        alerts=[alert.key for alert in status.alerts],
        disk_full_in_seconds=_rounded(status.disk_full_in_seconds),
        tasks={name: _task(report) for name, report in status.tasks.items()},
    )


def _task(report: TaskReport) -> TaskBeat:
    return TaskBeat(
        "running" if not report.ended_ns else "ok" if report.ok else "failed",
        utc(report.last_ok_ns / 1e9),
        report.failures,
        report.problem,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def utc(seconds: float) -> str | None:
    """Seconds since 1970 as ISO 8601, None for 0: it has not happened."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class HeartbeatWriter:
    """Looks and writes. It reads files alone, so that any process may do it; it blocks: call it in a thread."""

    def __init__(self, layout: Layout, limits: Limits = Limits()) -> None:  # noqa: B008  # it is frozen
        self._layout = layout
        self._limits = limits
        self._scan: Seldom[DiskFigures] = Seldom(DiskScanner(layout).scan)

    def look(self, limit_bytes: int = 0) -> DiskFigures:
        """Figures of files as they were seen last, of the file system as they are now. `limit_bytes`: as of `beat`."""
        seen, space = self._scan(), space_of(self._layout.root)
        return msgspec.structs.replace(
            seen,
            total_bytes=space.total_bytes,
            free_bytes=space.free_bytes,
            total_inodes=space.total_inodes,
            free_inodes=space.free_inodes,
            limit_bytes=limit_bytes,
        )

    def beat(self, *, locked: bool | None = None, limit_bytes: int = 0) -> LakeStatus:
        """Write both files and return what they say. `limit_bytes`: what the lake may take of its disk, 0: all.

        Raises OSError where they can't be written.
        """
        disk = self.look(limit_bytes)
        status = judge(observe(self._layout, disk, locked=locked), self._limits)
        folder: Path = self._layout.health
        durable.write_fleeting(folder / "heartbeat.json", msgspec.json.encode(heartbeat(status)) + b"\n")
        durable.write_fleeting(folder / "health.md", markdown(status).encode())
        return status
