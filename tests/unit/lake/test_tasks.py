"""What tasks say of themselves."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout


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
