"""Reads what the parts of a lake left in `state/`, so that any process can tell how it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.lake import durable, locks, tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.watch.alerts_file import firing, read_alerts
from crypto_lake.watch.disk import DiskFigures
from crypto_lake.watch.status import Observation

ALERTS_FRESH_SECONDS = 180.0

_snapshots = msgspec.json.Decoder(CollectorSnapshot)


def snapshot_path(layout: Layout) -> Path:
    return layout.state / "collector.json"


def transform_path(layout: Layout) -> Path:
    return layout.state / "transform.json"


def write_snapshot(layout: Layout, snapshot: CollectorSnapshot) -> None:
    """Leave the snapshot where `status` finds it. Not fsynced."""
    durable.write_fleeting(snapshot_path(layout), msgspec.json.encode(snapshot))


def read_snapshot(layout: Layout) -> tuple[CollectorSnapshot | None, float, str | None]:
    """The last snapshot, its age in real seconds, and why there is none although there is a file."""
    path = snapshot_path(layout)
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
        return _snapshots.decode(path.read_bytes()), age, None
    except FileNotFoundError:
        return None, 0.0, None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return None, 0.0, f"{path} can't be read: {error}; was it written by another version?"


def read_transform(layout: Layout) -> tuple[dict[str, Any] | None, float | None]:
    """The transformer's last report in whatever shape, and its age in real seconds."""
    path = transform_path(layout)
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
        report = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None, None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return {"unreadable": str(error)}, None
    return (report if isinstance(report, dict) else {"report": report}), age


def observe(layout: Layout, disk: DiskFigures, *, locked: bool | None = None) -> Observation:
    """All there is to see now. `locked`: where the caller knows it; else the lock is looked at."""
    snapshot, age, problem = read_snapshot(layout)
    transform, transform_age = read_transform(layout)
    if locked is None:
        try:
            locked = locks.is_held(layout.locks, "capture")
        except OSError:  # not ours to open
            locked = None
    alerts, _ = read_alerts(layout)  # one that can't be read is told by who watches
    # It is written once a minute at least. What nobody has looked at since tells nothing of now.
    fresh = abs(time.time() - alerts.updated_ns / 1e9) < ALERTS_FRESH_SECONDS
    return Observation(
        taken_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        data=str(layout.root),
        locked=locked,
        snapshot=snapshot,
        snapshot_age_seconds=age,
        transform=transform,
        transform_age_seconds=transform_age,
        disk=disk,
        snapshot_problem=problem,
        tasks=tasks.read(layout),
        alerts=firing(alerts) if fresh else (),
        disk_full_in_seconds=alerts.disk_full_in_seconds if fresh else None,
    )
