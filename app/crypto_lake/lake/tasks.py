"""What each task (transform, compact, verify, upload, publish, cleanup) said of its last run: `state/tasks/<task>.json`.

Whoever runs a task brackets it with `begin` and `end`; status and alerts read. A crash leaves `ended_ns` 0, and the
next `begin` keeps what was known of the last success.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout

TASKS = ("transform", "compact", "verify", "upload", "publish", "cleanup")


class TaskReport(msgspec.Struct, frozen=True):
    """Times are the system's real time, in Unix ns: they tell how late a task is, not what it worked on.

    `failures`: how often in a row it has failed. `figures`: the task's own numbers, of its last finished run.
    """

    task: str
    started_ns: int
    ended_ns: int = 0  # 0: it runs, or died
    ok: bool = False  # of the last finished run
    problem: str = ""  # why it failed, for a person
    last_ok_ns: int = 0
    failures: int = 0
    figures: dict[str, Any] = {}


def begin(layout: Layout, task: str, now_ns: int) -> TaskReport:
    """Note that the task starts."""
    before = read(layout).get(task) or TaskReport(task, now_ns)
    report = msgspec.structs.replace(before, started_ns=now_ns, ended_ns=0)
    _write(layout, report)
    return report


def end(layout: Layout, report: TaskReport, now_ns: int, problem: str, figures: dict[str, Any]) -> TaskReport:
    """Note how it ended: well where `problem` is empty."""
    report = msgspec.structs.replace(
        report,
        ended_ns=now_ns,
        ok=not problem,
        problem=problem,
        last_ok_ns=report.last_ok_ns if problem else now_ns,
        failures=report.failures + 1 if problem else 0,
        figures=figures,
    )
    _write(layout, report)
    return report


def read(layout: Layout) -> dict[str, TaskReport]:
    """By task. One that can't be read is left out: its next run writes it again."""
    found: dict[str, TaskReport] = {}
    for task in TASKS:
        try:
            found[task] = msgspec.json.decode(_path(layout, task).read_bytes(), type=TaskReport)
        except (OSError, msgspec.MsgspecError):
            continue
    return found


def _path(layout: Layout, task: str) -> Path:
    return layout.state / "tasks" / f"{task}.json"


def _write(layout: Layout, report: TaskReport) -> None:
    durable.write_fleeting(_path(layout, report.task), msgspec.json.encode(report))
