"""What tasks say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.locks import LockHeldError


def test_a_failure_keeps_the_last_success_and_counts(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert tasks.read(layout) == {}
    tasks.end(layout, tasks.begin(layout, "upload", 10), 20, "", {"files": 3})
    for at in (30, 50):
        tasks.end(layout, tasks.begin(layout, "upload", at), at + 10, "no such bucket", {})
    told = tasks.read(layout)["upload"]
    assert (told.started_ns, told.ended_ns, told.last_ok_ns, told.failures, told.ok) == (50, 60, 20, 2, False)
    assert told.problem == "no such bucket"


def test_one_that_died_is_seen_and_the_next_run_goes_on(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    tasks.end(layout, tasks.begin(layout, "compact", 10), 20, "", {})
    tasks.begin(layout, "compact", 30)
    died = tasks.read(layout)["compact"]
    assert (died.ended_ns, died.last_ok_ns, died.ok) == (0, 20, True)
    assert tasks.end(layout, tasks.begin(layout, "compact", 40), 50, "", {}).last_ok_ns == 50


def test_a_broken_report_is_as_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    tasks.begin(layout, "verify", 1)
    (tmp_path / "state/tasks/verify.json").write_bytes(b"{")
    assert tasks.read(layout) == {}


def test_a_run_that_finds_another_at_it_changes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    running = tasks.begin(layout, "transform", 10)
    with pytest.raises(LockHeldError), tasks.reported(layout, "transform", lambda: 20):
        raise LockHeldError("held")
    assert tasks.read(layout)["transform"] == running


def test_a_run_that_is_cut_off_leaves_the_figures_of_the_one_before(tmp_path: Path) -> None:
    """Else what they raised would be over though nobody looked again."""
    layout = Layout(tmp_path)
    with tasks.reported(layout, "check", lambda: 10) as task:
        task.figures = {"bars_unexplained": 3}
        task.note = "worth knowing"
    with pytest.raises(OSError, match="no disk"), tasks.reported(layout, "check", lambda: 20):
        raise OSError("no disk")
    left = tasks.read(layout)["check"]
    assert (left.ok, left.problem, left.figures) == (False, "OSError: no disk", {"bars_unexplained": 3})
    assert left.note == "worth knowing"
    with tasks.reported(layout, "check", lambda: 30):
        pass
    assert tasks.read(layout)["check"].note == ""


def test_a_report_that_can_not_be_written_stops_no_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_bytes(b"no folder")
    with tasks.reported(Layout(tmp_path), "cleanup", lambda: 20) as task:
        task.figures = {"deleted": 1}
    assert "could not be written" in caplog.text
