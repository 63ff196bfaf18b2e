"""What each task (transform, compact, verify, upload, publish, cleanup, check) said of its last run: `state/tasks/<task>.json`.

Whoever runs a task brackets it with `begin` and `end`; status and alerts read. A crash leaves `ended_ns` 0, and the
next `begin` keeps what was known of the last success.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.locks import LockHeldError

_log = logging.getLogger(__name__)

TASKS = ("transform", "compact", "verify", "upload", "publish", "cleanup", "check")


class TaskReport(msgspec.Struct, frozen=True):
    """Times are the system's real time, in Unix ns: they tell how late a task is, not what it worked on.

    `failures`: how often in a row it has failed. `figures`: the task's own numbers, of its last finished run. `note`: what
    is worth knowing of that run though it is no problem.
    """

    task: str
    started_ns: int
    ended_ns: int = 0  # 0: it runs, or died
    ok: bool = False  # of the last finished run
    problem: str = ""  # why it failed, for a person
    last_ok_ns: int = 0
    failures: int = 0
    figures: dict[str, Any] = {}
    note: str = ""


_decode = msgspec.json.Decoder(TaskReport).decode


def begin(layout: Layout, task: str, now_ns: int) -> TaskReport:
    """Note that the task starts."""
    before = read(layout).get(task) or TaskReport(task, now_ns)
    report = msgspec.structs.replace(before, started_ns=now_ns, ended_ns=0)
    _write(layout, report)
    return report


def end(
    layout: Layout,
    report: TaskReport,
    now_ns: int,
    problem: str,
    figures: dict[str, Any],
    note: str = "",
) -> TaskReport:
    """Note how it ended: well where `problem` is empty."""
    report = msgspec.structs.replace(
        report,
        ended_ns=now_ns,
        ok=not problem,
        problem=problem,
        last_ok_ns=report.last_ok_ns if problem else now_ns,
        failures=report.failures + 1 if problem else 0,
        figures=figures,
        note=note,
    )
    _write(layout, report)
    return report


@dataclass
class Outcome:
    """What a task says at its end; set by the block of `reported`."""

    problem: str = ""
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""


@contextmanager
def reported(layout: Layout, task: str, now_ns: Callable[[], int]) -> Generator[Outcome]:
    """Bracket a run of a task: `begin` before the block, `end` after it, an exception as its problem."""
    before = read(layout).get(task)
    report = begin(layout, task, now_ns())
    outcome = Outcome()
    try:
        yield outcome
    except LockHeldError:  # another run is at it, and its report is the one that counts
        if before is not None:
            _write(layout, before)
        raise
    except BaseException as error:
        # What it has not come to tell is as it was: a run that was cut off mends nothing.
        figures, note = outcome.figures or report.figures, outcome.note or report.note
        end(layout, report, now_ns(), f"{type(error).__name__}: {error}", figures, note)
        raise
    end(layout, report, now_ns(), outcome.problem, outcome.figures, outcome.note)


def read(layout: Layout) -> dict[str, TaskReport]:
    """By task. One that can't be read is left out: its next run writes it again."""
    found: dict[str, TaskReport] = {}
    for task in TASKS:
        try:
            found[task] = _decode(_path(layout, task).read_bytes())
        except (OSError, msgspec.MsgspecError):
            continue
    return found


def _path(layout: Layout, task: str) -> Path:
    return layout.state / "tasks" / f"{task}.json"


def _write(layout: Layout, report: TaskReport) -> None:
    try:
        durable.write_fleeting(_path(layout, report.task), msgspec.json.encode(report))
    except OSError as error:  # a full disk is what some tasks are there to mend
        _log.warning("the report of %s could not be written: %s", report.task, error)
