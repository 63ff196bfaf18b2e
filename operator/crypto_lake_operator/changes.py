"""What a person should be told of how a status changed: for `kubectl describe`, beside what the operator did. Pure.

A condition that can't be seen any more, or can be again, is told by Ready alone: the others would say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crypto_lake_operator import naming
from crypto_lake_operator.api_status import CONDITIONS, Condition, ConditionType, Status
from crypto_lake_operator.events import News
from crypto_lake_operator.reasons import PASSING, Reason

# On the way, but for long: a person may wonder.
_WORTH_A_WORD: Final = frozenset({Reason.DRAINING.value, Reason.MOVING_SYMBOLS.value})
_PASSING: Final = frozenset(reason.value for reason in PASSING)


def news(old: Status, new: Status) -> list[News]:
    """In the order of conditions, then of tasks. The same twice is left to who tells it."""
    found: list[News] = []
    for type_ in CONDITIONS:
        before, after = old.condition(type_), new.condition(type_)
        if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
            continue
        found += _ready(before, after) if type_ == "Ready" else _other(type_, before, after)
    return found + list(_tasks(old, new))


def _ready(before: Condition | None, after: Condition) -> Iterator[News]:
    changed = before is None or before.status != after.status
    if after.status == "True":
        if changed:
            yield News("Normal", "Ready", "Observe", after.message)
    elif before is not None and (changed or after.reason not in _PASSING):
        yield News("Warning", after.reason, "Observe", after.message)


def _other(type_: ConditionType, before: Condition | None, after: Condition) -> Iterator[News]:
    if after.status == "True":
        if before is not None and before.status == "False" and type_ != "Collecting":
            yield News("Normal", after.reason, "Observe", after.message)
    elif after.status == "False" and (before is not None or type_ == "Reconciled"):
        if after.reason not in _PASSING:
            yield News("Warning", after.reason, "Observe", after.message)
        elif after.reason in _WORTH_A_WORD:
            yield News("Normal", after.reason, "Observe", after.message)


def _tasks(old: Status, new: Status) -> Iterator[News]:
    """Of publish, Uploaded tells what is wrong; that a day is there nothing else does."""
    for task in new.tasks:
        before = old.task(task.name)
        if task.name == naming.PUBLISH or (before is not None and before.ok == task.ok):
            continue
        if not task.ok:
            yield News("Warning", "TaskFailed", "Observe", f"{task.name} failed: {task.problem}")
        elif before is not None:
            yield News("Normal", "TaskWorksAgain", "Observe", f"{task.name} went well again")
    day = new.last_published_day
    if day is not None and day != old.last_published_day:
        yield News("Normal", "Published", "Observe", f"bars up to {day} are final in the bucket")
    copies = new.copies
    if copies is not None and copies.differing and copies != old.copies:
        yield News(
            "Warning",
            "CopiesDiffer",
            "Observe",
            f"two copies of {copies.differing} trades of {copies.day} do not say the same; the manifests of that day name "
            "them",
        )
