"""When tasks run of which spec says nothing: spread, each at a time that stays, and none before its day is over."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, SETTINGS, documents, lake

from crypto_lake_operator import cron, naming, timetable
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render import render
from crypto_lake_operator.validate import read_lake

MANY = 500
TASKS = sorted(timetable.WINDOWS)
DAILY = [task for task in TASKS if timetable.WINDOWS[task].period_minutes == timetable.DAY_MINUTES]
WHOLE = lake(bucket="gs://lake", macro={}).spec
NOTHING = Observed(taken_at=NOW)
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


def first_minute(schedule: str) -> int:
    """Of the day, or for a task of each hour of the hour, or of each five minutes of these."""
    minute, hour, *_ = schedule.split(" ")
    return int(minute.partition("-")[0]) + (60 * int(hour) if hour != "*" else 0)


def cron_jobs(of: CryptoLake) -> dict[str, str]:
    """Schedules by name."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["schedule"]
        for manifest in render(of, SETTINGS, NOTHING)
        if manifest["kind"] == "CronJob"
    }


@pytest.mark.parametrize("task", TASKS)
@few
@given(names, names, st.booleans())
def test_many_lakes_are_spread_over_the_whole_window(
    task: str, namespace: str, name: str, by_namespace: bool
) -> None:
    """Lakes that are numbered, or one of the same name in each namespace. The bounds are seven standard deviations from
    what chance would do: no names come near them by bad luck.
    """
    window = timetable.WINDOWS[task]
    width = window.last - window.first + 1
    minutes = Counter(
        first_minute(
            timetable.own(
                task,
                f"{namespace}-{number}" if by_namespace else namespace,
                naming.task(name if by_namespace else f"{name}{number}", Slot("a", 0), task),
            )
        )
        for number in range(MANY)
    )
    assert set(minutes) <= set(range(window.first, window.last + 1))
    expected = MANY / width
    assert max(minutes.values()) <= expected + 7 * expected**0.5 + 7
    assert len(minutes) >= 0.7 * width
    # Neither half of the window has much more than the other.
    early = sum(count for minute, count in minutes.items() if minute - window.first < width / 2)
    share = -(-width // 2) / width
    assert abs(early - MANY * share) <= 7 * (MANY * share * (1 - share)) ** 0.5


@given(st.sampled_from(TASKS), names, names)
def test_a_time_of_its_own_is_a_schedule_of_its_period(task: str, namespace: str, name: str) -> None:
    own = timetable.own(task, namespace, name)
    period_minutes = timetable.WINDOWS[task].period_minutes
    assert cron.shortest_period_minutes(own) == cron.longest_period_minutes(own) == period_minutes
    # What calls a task late goes by the period alone, so that a moved minute moves no limit.
    assert timetable.longest_period_minutes(WHOLE, task) == period_minutes


def test_windows_keep_tasks_in_order_and_days_closed() -> None:
    windows = timetable.WINDOWS
    hour = [windows[task] for task in ("transform", "upload", "publish", "cleanup")]
    for before, after in itertools.pairwise(hour):
        assert before.last < after.first
    assert hour[-1].last < timetable.HOUR_MINUTES
    for task in DAILY:
        # Holes of the day before have had their time, and the window ends on the day on which it began.
        assert 180 <= windows[task].first < windows[task].last < timetable.DAY_MINUTES
    assert DAILY == ["check", "macro"]


def test_a_time_is_the_same_in_every_process() -> None:
    code = (
        "from crypto_lake_operator import timetable; print(timetable.own('check', 'lakes', 'prod-a-0-check'))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    # Written down: another one would move the tasks of every lake that there is.
    assert told == {timetable.own("check", "lakes", "prod-a-0-check")} == {"55 4 * * *"}


def test_each_volume_has_its_own_time_and_keeps_it_when_others_come() -> None:
    spec: dict[str, Any] = {"symbols": ["A", "B", "C", "D"], "bucket": "gs://lake", "macro": {}}
    two, four = cron_jobs(lake(**spec, shards=2)), cron_jobs(lake(**spec, shards=4, replicas=2))
    assert two.items() <= four.items()
    checks = {name: schedule for name, schedule in four.items() if name.endswith("-check")}
    assert len(checks) == 8
    assert len(set(checks.values())) > 4


@few
@given(documents.map(read_lake))
def test_what_spec_says_is_taken_to_the_letter(any_lake: CryptoLake) -> None:
    spec = any_lake.spec
    namespace = any_lake.metadata.namespace
    for name, schedule in cron_jobs(any_lake).items():
        task = name.rpartition("-")[2]
        said = timetable.given(spec, task)
        assert schedule == (said or timetable.own(task, namespace, name))
        unsaid = msgspec.structs.replace(
            spec,
            schedules=type(spec.schedules)(),
            check=msgspec.structs.replace(spec.check, schedule=None),
            macro=spec.macro and msgspec.structs.replace(spec.macro, schedule=None),
        )
        assert timetable.given(unsaid, task) is None


def test_a_lake_that_holds_an_earlier_versions_default_keeps_to_it() -> None:
    """The API server wrote it into the object, where nobody can tell it from what a user wrote."""
    jobs = cron_jobs(lake(check={"schedule": "22 3 * * *"}, schedules={"cleanup": "42 * * * *"}))
    assert jobs["lake-a-0-check"] == "22 3 * * *"
    assert jobs["lake-a-0-cleanup"] == "42 * * * *"
    assert jobs["lake-a-0-transform"] == timetable.own("transform", "lakes", "lake-a-0-transform")
