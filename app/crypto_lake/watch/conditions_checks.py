"""What each condition goes by. A check is pure: what it finds, none at all, or None where it can't tell.

It gets the look, its rule, what is remembered (this look included), and the subjects for which it fires already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from crypto_lake.lake.tasks import TaskReport
from crypto_lake.model.alert_message import duration
from crypto_lake.model.alerting import Rule
from crypto_lake.model.market import NS_PER_SECOND
from crypto_lake.watch.conditions_look import MINUTE_NS, Finding, Look
from crypto_lake.watch.conditions_memory import (
    HOLES,
    HOUR_NS,
    QUARANTINE,
    WRITE_ERRORS,
    Memory,
    disk_full_in_seconds,
)
from crypto_lake.watch.conditions_silence import data_gap
from crypto_lake.watch.disk import DiskFigures
from crypto_lake.watch.status import judge

Check = Callable[[Look, Rule, Memory, frozenset[str]], list[Finding] | None]

DISK_CRITICAL_PERCENT = 95.0
_DISK_BACK_PERCENT = 2.0  # so far below its limit it must fall to be well again
_WRITE_ERRORS_WITHIN_NS = 10 * MINUTE_NS
_HOLES_HOLD_SECONDS = 120.0  # what is missing may come a little later, or be fetched
_DOWN_CODES = frozenset({"not_running", "stale", "no_status"})


def collector_down(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    down = [reason for reason in judge(look.seen).reasons if reason.code in _DOWN_CODES]
    if not down:
        return []
    age_seconds = look.seen.snapshot_age_seconds if look.seen.snapshot else 0.0
    return [
        Finding(
            "",
            f"{down[0].message}. What trades now is missed; the ledger will name it. Start it (`crypto-lake run`), "
            "and see why it ended in logs/qa/crypto-lake.log.",
            rule.severity,
            started_ns=look.now_ns - int(age_seconds * NS_PER_SECOND) if age_seconds else 0,
            # What it has been silent for counts, so that a watcher that starts late needs not wait again.
            hold_seconds=max(0.0, rule.limit * 60 - age_seconds),
            details={"reason": down[0].code, "last_report_seconds": round(age_seconds, 1)},
        )
    ]


def not_writing(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    snapshot = look.running
    if snapshot is None:
        return None
    reasons = {reason.code: reason.message for reason in judge(look.seen).reasons}
    errors = memory.grown(WRITE_ERRORS, _WRITE_ERRORS_WITHIN_NS, look.now_ns)
    writer = snapshot.writer
    if writer.trouble:
        said, hold_seconds = reasons.get("write_errors", writer.trouble), 0.0
    elif errors:
        said, hold_seconds = f"{errors} writes failed in the last 10 minutes; it writes again", 0.0
    elif "not_writing" in reasons:
        said, hold_seconds = reasons["not_writing"], rule.limit * 60
    else:
        return []
    return [
        Finding(
            "",
            f"{said}. Look at free space and inodes (`df`, `df -i`) and at `dmesg`; what was fsynced before is safe.",
            rule.severity,
            hold_seconds=hold_seconds,
            details={
                "write_errors": snapshot.writer.write_errors,
                "queue_bytes": snapshot.writer.queue_bytes,
            },
        )
    ]


def holes(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    snapshot = look.running
    if snapshot is None:
        return None
    # What was filled since is missing no longer.
    new = {
        symbol.symbol: min(
            memory.grown(HOLES + symbol.symbol, HOUR_NS, look.now_ns), max(0, symbol.ids_missing)
        )
        for symbol in snapshot.symbols
    }
    new = dict(sorted(((s, n) for s, n in new.items() if n), key=lambda pair: (-pair[1], pair[0])))
    total = sum(new.values())
    if total < rule.limit:
        return []
    worst = ", ".join(f"{symbol} {count:,}" for symbol, count in list(new.items())[:3])
    more = f" and {len(new) - 3} more symbols" if len(new) > 3 else ""
    return [
        Finding(
            snapshot.exchange,
            f"{total:,} trades are newly missing in the last hour ({worst}{more}). The ledger names each by its id; "
            "if the connection did not break, look at the machine's load and at the network.",
            rule.severity,
            hold_seconds=_HOLES_HOLD_SECONDS,
            details={"ids_missing": dict(list(new.items())[:50])},
        )
    ]


def disk_usage(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    disk = look.seen.disk
    if not disk.total_bytes:
        return None
    found: list[Finding] = []
    free = f"{disk.room_bytes / 1e9:.1f} GB are free"
    for subject, used, said in (
        ("", disk.used_percent, f"{_filling(disk)} is {disk.used_percent:.0f}% full, {free}"),
        (
            "inodes",
            disk.used_inodes_percent,
            f"{disk.used_inodes_percent:.0f}% of the disk's inodes are used, {disk.free_inodes:,} are free",
        ),
    ):
        limit = rule.limit - (_DISK_BACK_PERCENT if subject in firing else 0.0)
        if used >= limit:
            found.append(
                Finding(
                    subject,
                    f"{said} ({look.seen.data}). Enlarge the volume, or shorten `retention.raw`; "
                    "`crypto-lake cleanup --explain` tells what may go.",
                    "critical" if used >= DISK_CRITICAL_PERCENT else rule.severity,
                    details={"used_percent": round(used, 1), "free_bytes": disk.free_bytes},
                )
            )
    return found


def _filling(disk: DiskFigures) -> str:
    return (
        "the lake's part of the disk (`disk.limit_gb`)" if disk.room_bytes < disk.free_bytes else "the disk"
    )


def disk_full_in(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    disk = look.seen.disk
    seconds = disk_full_in_seconds(memory.disk, disk.room_bytes)
    if seconds is None or seconds > rule.limit * 3600 * (1.2 if firing else 1.0):
        return []
    return [
        Finding(
            "",
            f"at the rate of the last hours {_filling(disk)} is full in {duration(seconds)} "
            f"({disk.room_bytes / 1e9:.1f} GB are free, {look.seen.data}). Enlarge the volume, or shorten "
            "`retention.raw`.",
            rule.severity,
            details={"full_in_seconds": round(seconds), "free_bytes": disk.free_bytes},
        )
    ]


def clock_offset(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    snapshot = look.running
    if snapshot is None or snapshot.clock_offset_us is None:
        return None
    offset_seconds = snapshot.clock_offset_us / 1e6
    if abs(offset_seconds) <= rule.limit * (0.8 if firing else 1.0):
        return []
    return [
        Finding(
            "",
            f"this machine's clock is off by {offset_seconds:+.2f} s against {snapshot.exchange}'s. Quotes are dated "
            "by it: set it by NTP (`timedatectl`, `chronyc tracking`).",
            rule.severity,
            details={"clock_offset_seconds": offset_seconds},
        )
    ]


def quarantine(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    entries = memory.grown(QUARANTINE, HOUR_NS, look.now_ns)
    if entries < rule.limit:
        return []
    last = f" (the last one: {look.quarantine_last})" if look.quarantine_last else ""
    return [
        Finding(
            "",
            f"{entries:,} messages or files were put into quarantine in the last hour{last}. They are not in the "
            "bars: quarantine/index.jsonl says why each one is there.",
            rule.severity,
            details={"entries": entries},
        )
    ]


# What a task is called in a sentence, and what to do when it fails.
_TASKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "transform": ("the transformation", "Bars fall behind, raw is safe"),
        "compact": ("sealing finished hours", "Nothing is uploaded or deleted before its hour is sealed"),
        "verify": (
            "the verification",
            "Files are not what they were: keep them, and compare with the bucket",
        ),
        "upload": ("the upload", "Nothing is deleted before it is uploaded: watch the disk"),
        "publish": ("publishing days of bars", "Readers of the bucket see older days"),
        "cleanup": ("the clean-up", "The disk fills up"),
        "check": ("the check of bars", "Whether they are the exchange's is not known"),
    }
)


def task_failed(
    look: Look, rule: Rule, memory: Memory, firing: frozenset[str], *, task: str
) -> list[Finding] | None:
    report = look.seen.tasks.get(task)
    problem, failures = ("", 0) if report is None else (report.problem, report.failures)
    if task == "transform" and not failures:
        problem, failures = _failed_symbols(look), 1
    conflicts = _conflicts(report)
    if not problem or failures < (1 if conflicts else rule.limit):
        return []
    name, meaning = _TASKS[task]
    times = f" {failures} times in a row" if failures > 1 else ""
    return [
        Finding(
            "",
            f"{name} failed{times}: {problem.rstrip('.')}. {meaning}. `crypto-lake {task}` by hand shows it again.",
            "critical" if conflicts else rule.severity,
            details={"task": task, "failures": failures, "conflicts": conflicts},
        )
    ]


def bars_differ(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    """By the last check, whether or not it failed on something else: what it compared, it compared."""
    report = look.seen.tasks.get("check")
    unexplained = report.figures.get("bars_unexplained") if report else None
    if not isinstance(unexplained, int):
        return None if report is not None and not report.ended_ns else []
    if unexplained < rule.limit:
        return []
    bars = "1 bar differs" if unexplained == 1 else f"{unexplained:,} bars differ"
    return [
        Finding(
            "",
            f"{bars} from the exchange's own, and the ledger does not explain it. `crypto-lake check` names the seconds, "
            "`crypto-lake explain` shows what one was made of.",
            rule.severity,
            details={"bars_unexplained": unexplained},
        )
    ]


def _conflicts(report: TaskReport | None) -> int:
    """Objects in the bucket that are not what we know of them: no next run mends that, so the first one is told."""
    figures = report.figures if report else {}
    return sum(int(n) for key, n in figures.items() if "conflict" in key and isinstance(n, int | float))


def _failed_symbols(look: Look) -> str:
    """What a transformation could not make although it ended, by its own report."""
    failed = (look.seen.transform or {}).get("failed")
    if not isinstance(failed, dict) or not failed:
        return ""
    names = ", ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
    return f"bars of {len(failed)} symbols could not be made ({names})"


def task_late(
    look: Look, rule: Rule, memory: Memory, firing: frozenset[str], *, task: str
) -> list[Finding] | None:
    report = look.seen.tasks.get(task)
    last_ok_ns = report.last_ok_ns if report else 0
    if task == "transform" and look.seen.transform_age_seconds is not None:
        last_ok_ns = max(last_ok_ns, look.now_ns - int(look.seen.transform_age_seconds * NS_PER_SECOND))
    if not last_ok_ns and not report and task not in look.expected_tasks:
        return []
    # Of one that never succeeded: since somebody looks.
    since_ns = last_ok_ns or memory.watching_since_ns
    late_seconds = (look.now_ns - since_ns) / NS_PER_SECOND
    if look.now_ns - max(since_ns, memory.resumed_ns) <= rule.limit * MINUTE_NS:
        return []
    name, meaning = _TASKS[task]
    said = "has never succeeded" if not last_ok_ns else f"last succeeded {duration(late_seconds)} ago"
    return [
        Finding(
            "",
            f"{name} {said}{_why_late(report)}. {meaning}. Look whether it is started at all, and at "
            "logs/qa/crypto-lake.log.",
            rule.severity,
            started_ns=since_ns + int(rule.limit * MINUTE_NS),
            details={"task": task, "late_seconds": round(late_seconds)} | _left(report),
        )
    ]


def _why_late(report: TaskReport | None) -> str:
    if report is None:
        return ""
    if report.problem and not report.ok:
        return f"; its last error: {report.problem.rstrip('.')}"
    left = _left(report).get("bytes_pending")
    return f"; {left / 1e9:.2f} GB wait" if left else ""


def _left(report: TaskReport | None) -> dict[str, int]:
    """How much a task has not done yet, where it says so."""
    left = report.figures.get("bytes_pending") if report else None
    return {"bytes_pending": int(left)} if isinstance(left, int | float) and left > 0 else {}


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "collector_down": collector_down,
        "not_writing": not_writing,
        "data_gap": data_gap,
        "holes": holes,
        "disk_usage": disk_usage,
        "disk_full_in": disk_full_in,
        "clock_offset": clock_offset,
        "quarantine": quarantine,
        "bars_differ": bars_differ,
        **{f"{task}_failed": partial(task_failed, task=task) for task in _TASKS},
        **{f"{task}_late": partial(task_late, task=task) for task in ("transform", "upload", "cleanup")},
    }
)
