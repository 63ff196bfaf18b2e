"""What became of the tasks that have no volume: of their pods to the status, and what stays when the pods are gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.support.operator_lakes import NOW, SETTINGS, lake, observed_at_rest
from tests.support.operator_world import publish_pod

from crypto_lake.lake.tasks import TaskReport
from crypto_lake.model.copies import PublishedCopies
from crypto_lake.model.task_outcome import TaskOutcome, encode
from crypto_lake_operator import kinds, naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import Status, TaskStatus
from crypto_lake_operator.cache import Cache, Owner
from crypto_lake_operator.metrics import Figures, Metrics
from crypto_lake_operator.observed import Ended, Key, Observed, Unreachable, ended_of, job_of
from crypto_lake_operator.render import plan
from crypto_lake_operator.report import Task, read_report
from crypto_lake_operator.status import compute_status, should_write

SPEC: dict[str, Any] = {"symbols": ["BTCUSDT"], "bucket": "gs://lake", "macro": {}}
WELL = TaskOutcome(task="publish", ok=True, last_published_day="2024-08-08")
BAD = TaskOutcome(task="publish", ok=False, problem="1 days alert: another wrote it", last_published_day=None)


def status(wanted: CryptoLake, observed: Observed, previous: Status) -> Status:
    return compute_status(wanted, plan(wanted, SETTINGS, observed), observed, (), previous)


def ended(
    message: str | bytes, *, task: str = "publish", exit_code: int = 0, at: datetime = NOW
) -> Ended | None:
    text = message.decode() if isinstance(message, bytes) else message
    return ended_of(publish_pod("lake", text, task=task, exit_code=exit_code, at=at))


def checked(observed: Observed, **of: Task) -> Observed:
    """With what the checks on these collectors' volumes left."""
    reports = dict(observed.reports)
    for pod, task in of.items():
        name = pod.replace("_", "-")
        reports[name] = msgspec.structs.replace(reports[name], tasks={"check": task})
    return replace(observed, reports=reports)


def test_checks_of_all_volumes_are_one_task_of_the_lake() -> None:
    wanted = lake(**SPEC | {"replicas": 2})
    rest = observed_at_rest(wanted)
    assert status(wanted, rest, Status()).task("check") is None
    at = int(NOW.timestamp())
    well = Task(ended_ns=(at - 60) * 10**9, ok=True, last_ok_ns=(at - 60) * 10**9)
    late = Task(
        ended_ns=at * 10**9, ok=False, problem="no answer", last_ok_ns=(at - 86400) * 10**9, failures=1
    )
    found = status(wanted, checked(rest, lake_a_0=well, lake_b_0=late), Status()).task("check")
    assert found == TaskStatus(
        name="check",
        ok=False,
        ended=NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
        last_ok=(NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        problem="lake-b-0: no answer",
    )
    both = checked(rest, lake_a_0=well, lake_b_0=well)
    good = status(wanted, both, Status())
    assert good.task("check") is not None
    assert good.task("check").ok  # pyright: ignore[reportOptionalMemberAccess]
    # What can't be asked now has said what it said.
    silent = replace(both, reports={**both.reports, "lake-b-0": Unreachable("no answer", NOW)})
    assert status(wanted, silent, good).task("check") == good.task("check")
    off = lake(**SPEC | {"replicas": 2, "check": {"enabled": False}})
    assert (
        status(off, checked(observed_at_rest(off), lake_a_0=well, lake_b_0=well), good).task("check") is None
    )


def test_while_checks_run_the_status_keeps_what_the_runs_before_came_to() -> None:
    """As a collector tells it: when a run begins its end is 0, and all else is still the run's before."""
    wanted = lake(**SPEC | {"replicas": 2})
    rest = observed_at_rest(wanted)
    at = int(NOW.timestamp())
    well = Task(ended_ns=(at - 120) * 10**9, ok=True, last_ok_ns=(at - 120) * 10**9)
    bad = Task(
        ended_ns=(at - 60) * 10**9,
        ok=False,
        problem="no answer",
        last_ok_ns=(at - 86400) * 10**9,
        failures=1,
    )

    def running(task: Task) -> Task:
        return msgspec.structs.replace(task, started_ns=at * 10**9, ended_ns=0)

    told = status(wanted, checked(rest, lake_a_0=well, lake_b_0=bad), Status()).task("check")
    assert told is not None
    assert (told.ok, told.problem) == (False, "lake-b-0: no answer")
    before = Status(tasks=(told,))
    for a in (well, running(well)):
        for b in (bad, running(bad)):
            assert status(wanted, checked(rest, lake_a_0=a, lake_b_0=b), before).task("check") == told
    # The one that ends is told at once, with what the other, which still runs, came to before.
    fresh = Task(ended_ns=at * 10**9, ok=True, last_ok_ns=at * 10**9)
    half = status(wanted, checked(rest, lake_a_0=running(well), lake_b_0=fresh), before).task("check")
    assert half == TaskStatus(
        name="check",
        ok=True,
        ended=NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
        last_ok=(NOW - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    # The first run of all has come to nothing yet; of a run whose end nobody knows none is made up.
    for first in (Task(started_ns=at * 10**9), running(bad)):
        assert status(wanted, checked(rest, lake_a_0=first, lake_b_0=first), Status()).task("check") is None


def test_symbols_that_the_exchange_no_longer_has_are_noted_and_the_task_is_well() -> None:
    wanted = lake(**SPEC | {"replicas": 2})
    at = int(NOW.timestamp()) * 10**9
    well = Task(ended_ns=at, ok=True, last_ok_ns=at)
    noted = msgspec.structs.replace(well, note="AAAUSDT: the exchange has no such symbol")
    found = status(wanted, checked(observed_at_rest(wanted), lake_a_0=well, lake_b_0=noted), Status()).task(
        "check"
    )
    assert found is not None
    assert (found.ok, found.note) == (True, "lake-b-0: AAAUSDT: the exchange has no such symbol")
    left = read_report(msgspec.json.encode({"tasks": {"check": TaskReport("check", 1, note="a note")}}))
    assert left.tasks["check"].note == "a note", "the collector's own word for it"


def test_an_outcome_is_read_of_the_pods_last_words() -> None:
    assert ended(encode(WELL)) == Ended(
        "publish", "lake-publish-1-x", NOW.replace(microsecond=0), True, "", "2024-08-08"
    )
    failed = ended(encode(BAD), exit_code=3)
    assert failed is not None
    assert (failed.ok, failed.problem, failed.last_published_day) == (False, BAD.problem, None)


@pytest.mark.parametrize(
    ("message", "exit_code", "problem"),
    [
        (
            "12:00 INFO begins\ncrypto-lake: no bucket is configured\n",
            2,
            "exit code 2: no bucket is configured",
        ),
        ("Traceback\nValueError: x", 1, "exit code 1"),
        ("", 137, "OOMKilled, exit code 137"),
        ("anything", 0, ""),
        (encode(WELL).decode(), 4, "exit code 4"),
    ],
)
def test_without_one_the_exit_code_and_the_programs_own_words_tell(
    message: str, exit_code: int, problem: str
) -> None:
    """Also where the words are another task's."""
    found = ended(message, task="macro", exit_code=exit_code)
    assert found is not None
    assert (found.ok, found.problem) == (not problem, problem)


def test_what_was_stopped_or_taken_away_did_not_come_to_its_end() -> None:
    pod = publish_pod("lake", "", exit_code=137)
    assert ended_of(pod) is not None
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert ended_of(pod) is None
    for code in (130, 143):
        assert ended_of(publish_pod("lake", "", exit_code=code)) is None
    for other in ({"status": {"phase": "Running"}}, {"status": {"phase": "Failed", "reason": "Evicted"}}):
        assert ended_of(publish_pod("lake", "") | other) is None
    assert ended_of(publish_pod("lake", "", task="upload")) is None
    assert job_of(publish_pod("lake", "")) is None


def test_a_pod_that_ends_wakes_its_lake_and_the_one_that_ended_last_counts() -> None:
    cache, owner = Cache(), Owner("lakes", "lake")
    first = publish_pod("lake", encode(BAD).decode(), exit_code=3, at=NOW)
    second = publish_pod("lake", encode(WELL).decode(), at=NOW + timedelta(hours=1), number=2)
    running = first | {"status": {"phase": "Running"}}
    assert cache.put(kinds.POD, running) == set()
    for pod, ok in ((first, False), (second, True)):
        assert cache.put(kinds.POD, pod) == {owner}
        assert cache.put(kinds.POD, pod) == set()
        assert cache.of(owner).last_ends()["publish"].ok is ok
    assert cache.drop(kinds.POD, "lakes", "lake-publish-2-x") == {owner}
    assert cache.of(owner).last_ends()["publish"].ok is False
    assert cache.drop(kinds.POD, "lakes", "lake-publish-1-x") == {owner}
    assert cache.of(owner).empty


def test_the_status_keeps_what_a_pod_left_when_the_pod_is_gone() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    none = status(wanted, rest, Status())
    assert (none.tasks, none.last_published_day) == ((), None)
    well = status(wanted, replace(rest, ends={"publish": ended(encode(WELL))}), none)
    assert well.last_published_day == "2024-08-08"
    (task,) = well.tasks
    assert (task.name, task.ok, task.ended, task.last_ok) == (
        "publish",
        True,
        task.last_ok,
        "2024-08-09T12:00:30Z",
    )
    assert should_write(none, well, NOW, NOW, 30.0)
    assert status(wanted, rest, well) == well
    later = ended(encode(BAD), exit_code=3, at=NOW + timedelta(hours=1))
    failed = status(wanted, replace(rest, ends={"publish": later}), well)
    uploaded = failed.condition("Uploaded")
    assert uploaded is not None
    assert (uploaded.status, uploaded.reason) == ("False", "UploadFailing")
    assert uploaded.message == f"publish: {BAD.problem}"
    assert failed.last_published_day == "2024-08-08", "a run that did not see all takes nothing back"
    assert failed.tasks[0].last_ok == "2024-08-09T12:00:30Z"
    assert status(wanted, rest, failed) == failed
    # What is older than what is known, as after a restart of the operator with old pods still there, changes nothing.
    assert status(wanted, replace(rest, ends={"publish": ended(encode(WELL))}), failed).tasks == failed.tasks
    healed = ended(encode(WELL), at=NOW + timedelta(hours=2))
    well = status(wanted, replace(rest, ends={"publish": healed}), failed)
    condition = well.condition("Uploaded")
    assert condition is not None
    assert condition.status == "True"


def test_a_day_that_is_no_longer_the_last_one_is_taken_back_by_a_run_that_saw_all() -> None:
    wanted = lake(**SPEC)
    before = Status(last_published_day="2024-08-08")
    for said, day in (("2024-08-07", "2024-08-07"), ("", None), (None, "2024-08-08")):
        left = encode(TaskOutcome(task="publish", ok=True, last_published_day=said))
        observed = replace(observed_at_rest(wanted), ends={"publish": ended(left)})
        assert status(wanted, observed, before).last_published_day == day
    assert status(lake(symbols=["BTCUSDT"]), observed_at_rest(lake(symbols=["BTCUSDT"])), before).tasks == ()


def test_how_far_copies_agree_travels_from_publish_to_the_status_and_the_metrics() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    copies = PublishedCopies(
        day="2024-08-08",
        symbols=2,
        trades=100,
        shared=80,
        only_a=12,
        only_b=7,
        only_other=1,
        missing=3,
        differing=2,
    )

    def after(previous: Status, hours: int, outcome: TaskOutcome) -> Status:
        end = ended(encode(outcome), at=NOW + timedelta(hours=hours))
        return status(wanted, replace(rest, ends={"publish": end}), previous)

    told = after(Status(), 0, msgspec.structs.replace(WELL, copies=copies))
    assert told.copies is not None
    assert msgspec.structs.asdict(told.copies) == msgspec.structs.asdict(copies)
    assert status(wanted, rest, told).copies == told.copies, "its pod is gone"
    assert after(told, 1, BAD).copies == told.copies, "a run that did not see all takes nothing back"
    assert after(told, 2, WELL).copies is None, "a run that saw all does not know any more"
    assert msgspec.convert(msgspec.to_builtins(told), Status) == told
    without = lake(symbols=["BTCUSDT"])
    assert status(without, observed_at_rest(without), told).copies is None

    metrics = Metrics()
    metrics.bind(lambda: Figures(statuses=[told, Status(), told]))
    lines = metrics.exposition().decode().splitlines()
    found = [line.removeprefix("crypto_lake_operator_published_trades") for line in lines]
    assert [text for text, line in zip(found, lines, strict=True) if text != line] == [
        '{held_by="both"} 160.0',
        '{held_by="a"} 24.0',
        '{held_by="b"} 14.0',
        '{held_by="other"} 2.0',
        '{held_by="none"} 6.0',
        "_differing 4.0",
    ]


def test_macro_that_fails_is_told_and_says_nothing_of_uploads() -> None:
    wanted = lake(**SPEC)
    failed = ended("crypto-lake: no answer", task="macro", exit_code=4)
    found = status(wanted, replace(observed_at_rest(wanted), ends={"macro": failed}), Status())
    assert [(task.name, task.ok, task.problem) for task in found.tasks] == [
        ("macro", False, "exit code 4: no answer")
    ]
    uploaded = found.condition("Uploaded")
    assert uploaded is not None
    assert uploaded.status == "True"
    without = lake(symbols=["BTCUSDT"], bucket="gs://lake")
    assert status(without, observed_at_rest(without), found).tasks == ()


def test_lakes_are_counted_by_how_their_tasks_went() -> None:
    def task(name: str, *, ok: bool) -> TaskStatus:
        return TaskStatus(name=name, ok=ok, ended="2024-08-09T06:17:30Z")

    metrics = Metrics()
    statuses = [
        Status(tasks=(task("publish", ok=True), task("macro", ok=False))),
        Status(tasks=(task("publish", ok=True),)),
        Status(),
    ]
    metrics.bind(lambda: Figures(statuses=statuses))
    lines = metrics.exposition().decode().splitlines()
    assert [
        line.removeprefix("crypto_lake_operator_lakes_by_task") for line in lines if "by_task{" in line
    ] == [
        '{ok="True",task="publish"} 2.0',
        '{ok="False",task="publish"} 0.0',
        '{ok="True",task="macro"} 0.0',
        '{ok="False",task="macro"} 1.0',
    ]


@pytest.mark.parametrize(
    ("succeeded", "scheduled_hours", "late"),
    [
        (None, 2, False),
        (None, 5, True),
        ("2024-08-09T11:00:00Z", 12, False),
        ("2024-08-09T07:00:00Z", 12, True),
    ],
)
def test_publish_is_late_also_where_it_never_succeeded(
    succeeded: str | None, scheduled_hours: int, late: bool
) -> None:
    wanted = lake(symbols=["BTCUSDT"], bucket="gs://lake")
    rest = observed_at_rest(wanted)
    key = Key("CronJob", naming.publish("lake"))
    times = {"lastScheduleTime": f"2024-08-09T{scheduled_hours:02d}:00:00Z", "lastSuccessfulTime": succeeded}
    job = replace(
        rest.children[key], status={k: v for k, v in times.items() if v}, created="2024-08-09T00:30:00Z"
    )
    found = status(wanted, replace(rest, children={**rest.children, key: job}), Status()).condition(
        "Uploaded"
    )
    assert found is not None
    assert (found.reason == "UploadLate") is late
    if late:
        assert (
            "publish has not succeeded for 3h; see kubectl get jobs,pods -l app.kubernetes.io/name="
            in found.message
        )
