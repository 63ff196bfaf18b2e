"""How a lake is: one value that status, heartbeat and the live line print. Pure; who reads the files is in `read`.

The shape is a contract (`schema`): fields are added, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot, Configuration
from crypto_lake.completeness.liveness import DEAD
from crypto_lake.lake.tasks import TaskReport
from crypto_lake.model.alert_message import duration
from crypto_lake.model.alerting import Severity
from crypto_lake.watch.collector_status import (
    CollectorStatus,
    SymbolStatus,
    collector_status,
    streams_live,
    symbol_statuses,
)
from crypto_lake.watch.disk import DiskFigures
from crypto_lake.watch.reasons import CONDITION_OF, WHAT_TO_DO, Reason

SCHEMA = 1
Health = Literal["ok", "degraded", "down"]


class AlertStatus(msgspec.Struct, frozen=True):
    """An alert that fires. `last_sent_ns` 0: no message about it was delivered yet. Times are Unix ns."""

    key: str
    type: str
    severity: Severity
    message: str
    started_ns: int
    last_sent_ns: int


class Limits(msgspec.Struct, frozen=True):
    """From when on something is a reason. Seconds are real ones."""

    snapshot_age_seconds: float = 15.0  # it is written every 2 s
    unwritten_seconds: float = 10.0
    queue_fraction: float = 0.8
    disk_used_percent: float = 90.0
    clock_offset_seconds: float = 1.0
    transform_age_seconds: float | None = None  # None: not judged


class LakeStatus(msgspec.Struct, frozen=True):
    """`transform` is the transformer's own last report, as it wrote it; None where there is none."""

    schema: int
    taken_at: str  # UTC, ISO 8601, real time
    health: Health
    reasons: list[Reason]
    data: str
    collector: CollectorStatus | None
    symbols: list[SymbolStatus]
    transform: dict[str, Any] | None
    transform_age_seconds: float | None
    disk: DiskFigures
    tasks: dict[str, TaskReport] = {}  # each task's last report
    alerts: list[AlertStatus] = []  # what fires, as of the last look of whoever watches
    disk_full_in_seconds: float | None = None  # at the rate of the last hours; None: never, or not known yet
    gaps_healed: int = 0  # gaps that were filled
    pending_bytes: int | None = (
        None  # what is not verified in the bucket yet; None: no bucket, or nobody looked
    )
    last_verified_upload_ns: int | None = None  # real time; 0: never; None: no bucket
    configuration: Configuration | None = None  # the collector's


class Observation(msgspec.Struct, frozen=True):
    """What was found on the disk, before it is judged.

    locked: whether a process holds the lock `capture`; None where that can't be known.
    snapshot_problem: why there is no snapshot although there is a file.
    """

    taken_at: str
    data: str
    locked: bool | None
    snapshot: CollectorSnapshot | None
    snapshot_age_seconds: float
    transform: dict[str, Any] | None
    transform_age_seconds: float | None
    disk: DiskFigures
    snapshot_problem: str | None = None
    tasks: dict[str, TaskReport] = {}
    alerts: tuple[AlertStatus, ...] = ()
    disk_full_in_seconds: float | None = None
    pending_bytes: int | None = None
    last_verified_upload_ns: int | None = None


def judge(seen: Observation, limits: Limits = Limits()) -> LakeStatus:  # noqa: B008  # it is frozen
    """The status. `down`: no collector runs. `degraded`: it runs, and there is a reason to look."""
    snapshot = seen.snapshot
    down = _why_down(seen, limits)
    reasons = list(down)
    if snapshot is not None:
        if not down:
            reasons += running_reasons(snapshot, limits)
        reasons += _gap_reasons(snapshot)
    if seen.disk.used_percent >= limits.disk_used_percent:
        free_gb = seen.disk.room_bytes / 1e9
        reasons.append(
            Reason("disk", f"the disk is {seen.disk.used_percent:.0f}% full, {free_gb:.1f} GB are free")
        )
    failed = (seen.transform or {}).get("failed")
    if isinstance(failed, dict) and failed:
        names = ", ".join(str(name) for name in list(failed)[:3]) + (" …" if len(failed) > 3 else "")
        reasons.append(
            Reason(
                "transform_failed", f"bars of {len(failed)} symbols could not be made ({names}); see the log"
            )
        )
    age, limit = seen.transform_age_seconds, limits.transform_age_seconds
    if limit is not None and age is not None and age > limit and not down:
        reasons.append(Reason("transform_late", f"the transformer last reported {_ago(age)}"))
    # What fires and is no reason yet, such as an upload that fails, bears its type as its code.
    told = {reason.code for reason in reasons} | {CONDITION_OF.get(reason.code, "") for reason in reasons}
    reasons += [Reason(alert.type, alert.message) for alert in seen.alerts if alert.type not in told]
    return LakeStatus(
        schema=SCHEMA,
        taken_at=seen.taken_at,
        health="down" if down else "degraded" if reasons else "ok",
        reasons=_with_what_to_do(reasons),
        data=seen.data,
        collector=None
        if snapshot is None
        else collector_status(snapshot, seen.snapshot_age_seconds, running=not down),
        symbols=[] if snapshot is None else symbol_statuses(snapshot),
        transform=seen.transform,
        transform_age_seconds=age,
        disk=seen.disk,
        tasks=seen.tasks,
        alerts=list(seen.alerts),
        disk_full_in_seconds=seen.disk_full_in_seconds,
        gaps_healed=0 if snapshot is None else sum(symbol.holes_healed for symbol in snapshot.symbols),
        pending_bytes=seen.pending_bytes,
        last_verified_upload_ns=seen.last_verified_upload_ns,
        configuration=None if snapshot is None else snapshot.configuration,
    )


def _with_what_to_do(reasons: list[Reason]) -> list[Reason]:
    return [msgspec.structs.replace(reason, do=WHAT_TO_DO.get(reason.code, "")) for reason in reasons]


def _why_down(seen: Observation, limits: Limits) -> list[Reason]:
    if seen.snapshot is None:
        if seen.snapshot_problem:
            return [Reason("no_status", seen.snapshot_problem)]
        if seen.locked:
            return [Reason("no_status", "a collector has just started and has not reported yet")]
        return [Reason("not_running", f"no collector has run in {seen.data}")]
    if seen.locked is False:
        return [
            Reason(
                "not_running", f"no collector runs; the last one reported {_ago(seen.snapshot_age_seconds)}"
            )
        ]
    if seen.snapshot_age_seconds > limits.snapshot_age_seconds:
        return [
            Reason(
                "stale",
                f"the collector (process {seen.snapshot.pid}) last reported {_ago(seen.snapshot_age_seconds)}",
            )
        ]
    return []


def running_reasons(snapshot: CollectorSnapshot, limits: Limits = Limits()) -> list[Reason]:  # noqa: B008
    """Why a collector that runs is not well: subscriptions, writing, queue, clock. Also what /readyz goes by."""
    reasons: list[Reason] = []
    live = streams_live(snapshot)
    if not snapshot.idle and (live < len(snapshot.streams) or not snapshot.streams):
        reasons.append(Reason("not_subscribed", f"{live} of {len(snapshot.streams)} streams are live"))
    dead = [stream for stream in snapshot.streams if stream.liveness in DEAD]
    if dead:
        first = dead[0]
        more = f", and {len(dead) - 1} more" if len(dead) > 1 else ""
        reasons.append(
            Reason("feed_dead", f"{first.name} is dead ({first.liveness}: {first.evidence}){more}")
        )
    reasons += _writing_reasons(snapshot, limits)
    configuration = snapshot.configuration
    if configuration is not None and configuration.problem:
        reasons.append(
            Reason("configuration", f"the changed configuration is not applied: {configuration.problem}")
        )
    offset = snapshot.clock_offset_us
    if offset is not None and abs(offset) > limits.clock_offset_seconds * 1e6:
        reasons.append(
            Reason("clock_offset", f"this machine's clock is off by {offset / 1e6:+.2f} s; set it by NTP")
        )
    return reasons


def judge_running(snapshot: CollectorSnapshot, limits: Limits = Limits()) -> tuple[Health, list[Reason]]:  # noqa: B008
    """The collector by itself, as /status tells it: it runs, or nobody would ask."""
    reasons = _with_what_to_do([*running_reasons(snapshot, limits), *_gap_reasons(snapshot)])
    return ("degraded" if reasons else "ok"), reasons


def _writing_reasons(snapshot: CollectorSnapshot, limits: Limits) -> list[Reason]:
    writer, reasons = snapshot.writer, list[Reason]()
    if writer.trouble:
        seconds = (
            max(0.0, (snapshot.taken_ns - writer.trouble_since_ns) / 1e9) if writer.trouble_since_ns else 0.0
        )
        what = "the disk is full" if writer.trouble == "disk_full" else "writing fails"
        lost = f"; {writer.lost_messages:,} messages were let go" if writer.lost_messages else ""
        reasons.append(Reason("write_errors", f"{what} for {seconds:.0f} s now: {writer.last_error}{lost}"))
        if writer.trouble == "disk_full":
            reasons.append(Reason("disk_full", "there is no room on the disk: what comes is let go"))
    # By the lake's clock, which may run faster than real time. What has no speed has no such limit.
    newest_ns = max((stream.last_received_ns for stream in snapshot.streams), default=0)
    behind_seconds = (newest_ns - max(writer.last_fsync_ns, snapshot.started_ns)) / 1e9
    if snapshot.clock_speed > 0 and behind_seconds > limits.unwritten_seconds * max(
        1.0, snapshot.clock_speed
    ):
        reasons.append(
            Reason("not_writing", f"what came in the last {behind_seconds:.0f} s is not on the disk yet")
        )
    if writer.queue_limit_bytes and writer.queue_bytes > limits.queue_fraction * writer.queue_limit_bytes:
        percent = 100 * writer.queue_bytes / writer.queue_limit_bytes
        reasons.append(Reason("queue", f"the queue to the disk is {percent:.0f}% full; the disk is too slow"))
    return reasons


def _gap_reasons(snapshot: CollectorSnapshot) -> list[Reason]:
    with_holes = [symbol for symbol in snapshot.symbols if symbol.holes_open]
    if not with_holes:
        return []
    missing = sum(symbol.ids_missing for symbol in with_holes)
    holes = sum(symbol.holes_open for symbol in with_holes)
    names = ", ".join(symbol.symbol for symbol in with_holes[:3]) + (" …" if len(with_holes) > 3 else "")
    gaps = "1 gap" if holes == 1 else f"{holes:,} gaps"
    trades = "1 trade is" if missing == 1 else f"{missing:,} trades are"
    return [Reason("gaps", f"{trades} missing in {gaps} ({names})")]


def transform_figures(report: Mapping[str, Any] | None) -> dict[str, Any]:
    """The plain figures of a transformer's report, whatever else it holds: what can be printed on a line each."""
    return {
        key: value
        for key, value in (report or {}).items()
        if isinstance(value, int | float | str) and value not in ("", None)
    }


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"
