"""What became of the tasks that have no volume: publish, macro; and of check, on all volumes together. Pure.

Pods of those without a volume are gone an hour after their end; what they left stays in the status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import CopiesStatus, Status, TaskStatus
from crypto_lake_operator.collectors import Seen
from crypto_lake_operator.observed import Ended, Observed

LONGEST_PROBLEM: Final = 1000


def wanted(lake: CryptoLake) -> Iterator[str]:
    if lake.spec.bucket:
        yield naming.PUBLISH
        if lake.spec.macro is not None:
            yield naming.MACRO


def of_lake(lake: CryptoLake, observed: Observed, previous: Status) -> tuple[TaskStatus, ...]:
    """Of those that spec asks for and that have run. An end that is older than what is known changes nothing."""
    found: list[TaskStatus] = []
    for name in wanted(lake):
        before, end = previous.task(name), observed.ends.get(name)
        if end is not None and (before is None or _iso(end.at) > before.ended):
            found.append(_made(end, before))
        elif before is not None:
            found.append(before)
    return tuple(found)


def of_check(lake: CryptoLake, slots: Sequence[Seen], previous: Status) -> tuple[TaskStatus, ...]:
    """As the collectors tell it of their volumes: well where it went well on all; `lastOk` is the earliest. While one can't
    be asked it stays as it was; and while one runs, what its run before came to counts.
    """
    before = previous.task(naming.CHECK)
    if not lake.spec.check.enabled:
        return ()
    tasks = [(seen.name, seen.report.tasks.get(naming.CHECK)) for seen in slots if seen.report]
    told = [(name, task) for name, task in tasks if task is not None and task.has_ended]
    ended = [_iso_of_ns(task.known_end_ns) for _, task in told if task.known_end_ns]
    # The end of a run that failed is not told any more once the next one runs; the status has it.
    ended += [before.ended] if before is not None else []
    if not told or not ended or len(tasks) < len(slots):
        return (before,) if before is not None else ()
    problem = "; ".join(f"{name}: {task.problem}" for name, task in told if not task.ok)
    last_ok_ns = min(task.last_ok_ns for _, task in told)
    note = "; ".join(f"{name}: {task.note}" for name, task in told if task.note)
    return (
        TaskStatus(
            name=naming.CHECK,
            ok=not problem,
            ended=max(ended),
            last_ok=_iso_of_ns(last_ok_ns) if last_ok_ns else None,
            problem=problem[:LONGEST_PROBLEM],
            note=note[:LONGEST_PROBLEM],
        ),
    )


def _made(end: Ended, before: TaskStatus | None) -> TaskStatus:
    last_ok = _iso(end.at) if end.ok else before.last_ok if before else None
    return TaskStatus(
        name=end.task, ok=end.ok, ended=_iso(end.at), last_ok=last_ok, problem=end.problem[:LONGEST_PROBLEM]
    )


def last_published_day(lake: CryptoLake, observed: Observed, previous: Status) -> str | None:
    """As the last run says that saw all; empty text there: no day is."""
    if not lake.spec.bucket:
        return None
    end = observed.ends.get(naming.PUBLISH)
    if end is None or end.last_published_day is None:
        return previous.last_published_day
    return end.last_published_day or None


def copies(lake: CryptoLake, observed: Observed, previous: Status) -> CopiesStatus | None:
    """As the last run says that saw all; what it does not say is not known."""
    if not lake.spec.bucket:
        return None
    end = observed.ends.get(naming.PUBLISH)
    if end is None or end.last_published_day is None:
        return previous.copies
    return CopiesStatus(**msgspec.structs.asdict(end.copies)) if end.copies is not None else None


def _iso_of_ns(at_ns: int) -> str:
    return _iso(datetime.fromtimestamp(at_ns // 10**9, UTC))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
