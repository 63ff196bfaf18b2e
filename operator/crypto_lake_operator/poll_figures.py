"""What of a collector's report is worth a look of the whole lake. Pure.

Figures that move all the time are rounded to the status's own steps, so that a collector at rest wakes nobody.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from crypto_lake_operator import steps
from crypto_lake_operator.conditions import DISK_FULL_PERCENT
from crypto_lake_operator.report import Configuration, Report

_MINUTE_NS: Final = 60 * 10**9


class Picture(NamedTuple):
    """Equal ones lead to equal statuses, but for what time alone does."""

    version: str
    health: str
    ready: bool | None
    reasons: tuple[tuple[str, str], ...]
    live: frozenset[str]
    configuration: Configuration | None
    lag_seconds: int | None
    gaps: tuple[int, int, int]
    pending_bytes: int | None
    nothing_pending: bool
    uploaded_minute: int
    disk_percent: int | None
    disk_full: bool
    disk_full_in_seconds: int | None
    tasks: tuple[tuple[str, bool, str, str, bool], ...]
    checked_ns: int
    bars_differ: bool
    heals: bool


def picture(report: Report, before: Picture | None) -> Picture:
    """before: of the same collector, so that a figure that wavers about a step stays on it."""
    lag, pending, soon = report.lag_seconds, report.pending, report.disk_full_in_seconds
    disk = report.disk.used_percent if report.disk else None
    missing = [symbol for symbol in report.symbols if symbol.holes_open]
    healed = report.gaps_healed
    if healed is None:
        healed = sum(symbol.holes_total - symbol.holes_open for symbol in report.symbols)
    return Picture(
        report.version,
        report.health,
        report.ready,
        # A reason's message may hold a figure that moves; the condition shows it with the next look.
        tuple((reason.code, reason.do) for reason in report.reasons),
        report.live_symbols,
        report.configuration,
        None if lag is None else steps.up(lag, steps.LAG_SECONDS, before and before.lag_seconds),
        (sum(s.holes_open for s in missing), sum(s.ids_missing for s in missing), healed),
        None if pending is None else steps.up(pending, steps.BYTES, before and before.pending_bytes),
        report.pending_bytes == 0,
        report.uploaded_ns // _MINUTE_NS,
        None if disk is None else steps.up(disk, steps.DISK_PERCENT, before and before.disk_percent),
        disk is not None and disk >= DISK_FULL_PERCENT,
        None
        if soon is None
        else steps.down(soon, steps.DISK_FULL_SECONDS, before and before.disk_full_in_seconds),
        tuple(
            (name, task.ok, task.problem, task.note, task.failures > 0)
            for name, task in sorted(report.tasks.items())
        ),
        # While one runs, the end of the run before is what the status tells.
        (report.tasks["check"].ended_ns if "check" in report.tasks else 0)
        or (before.checked_ns if before else 0),
        report.bars_differ,
        report.healing is not None and report.healing.gaps_waiting > 0,
    )
