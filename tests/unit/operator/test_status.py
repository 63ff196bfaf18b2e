"""What the status says of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, SETTINGS, lake, observed_at_rest

from crypto_lake_operator import steps
from crypto_lake_operator.actions import Wait
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import CONDITIONS, Status, read_status
from crypto_lake_operator.observed import Observed, Unreachable
from crypto_lake_operator.reasons import BLOCKING, Reason
from crypto_lake_operator.render import plan
from crypto_lake_operator.report import (
    Disk,
    Latency,
    Report,
    Stream,
    Symbol,
    Task,
)
from crypto_lake_operator.report import Reason as Said
from crypto_lake_operator.status import compute_status, should_write

BUCKET = "gs://lake"
SPEC: Mapping[str, Any] = {"symbols": ["BTCUSDT", "SOLUSDT"], "bucket": BUCKET}
NEVER = Status()


def status(
    wanted: CryptoLake, observed: Observed, waits: tuple[Wait, ...] = (), previous: Status = NEVER
) -> Status:
    return compute_status(wanted, plan(wanted, SETTINGS, observed), observed, waits, previous)


def saying(observed: Observed, pod: str = "lake-a-0", **fields: Any) -> Observed:
    """With other words of one collector."""
    report = observed.reports[pod]
    assert isinstance(report, Report)
    return replace(observed, reports={**observed.reports, pod: msgspec.structs.replace(report, **fields)})


def without(observed: Observed, pod: str = "lake-a-0", **fields: Any) -> Observed:
    """Its collector does not answer, and its pod is otherwise."""
    pods = {**observed.pods, pod: replace(observed.pods[pod], **fields)}
    silent = Unreachable("connection refused", NOW - timedelta(seconds=40))
    return replace(observed, pods=pods, reports={**observed.reports, pod: silent})


def told(found: Status, type_: Any) -> tuple[str, str]:
    condition = found.condition(type_)
    assert condition is not None
    return condition.status, condition.reason


def test_a_lake_at_rest_is_ready_and_its_figures_are_there() -> None:
    wanted = lake(**SPEC)
    found = status(wanted, observed_at_rest(wanted))
    assert [condition.type for condition in found.conditions] == list(CONDITIONS)
    assert {condition.status for condition in found.conditions} == {"True"}
    assert (found.symbols, found.lag, found.gaps_open, found.not_uploaded, found.collectors) == (
        2,
        "<1s",
        0,
        "0",
        "1/1",
    )
    assert found.last_verified_upload == "2024-08-09T11:50:00Z"
    (shard,) = found.shards
    assert (shard.name, shard.pod, shard.state) == ("a-0", "lake-a-0", "Live")
    assert read_status(msgspec.to_builtins(found)) == found


UPLOADED_NOW = {"upload": Task(ok=True, last_ok_ns=int(NOW.timestamp() * 1e9))}
OTHER_REPORTS: list[tuple[dict[str, Any], str, tuple[str, str]]] = [
    ({"reasons": (Said("not_subscribed"),)}, "Collecting", ("False", "NotSubscribed")),
    ({"reasons": (Said("not_subscribed"),)}, "Ready", ("False", "NotSubscribed")),
    ({"reasons": (Said("not_subscribed"),), "ready": True}, "Collecting", ("True", "AllLive")),
    ({"reasons": (Said("not_subscribed"),), "ready": False}, "Collecting", ("False", "NotSubscribed")),
    (
        {"reasons": (Said("write_errors"), Said("disk_full")), "ready": False},
        "Ready",
        ("False", "NotWriting"),
    ),
    ({"reasons": (Said("write_errors", "3 writes failed"),)}, "Collecting", ("False", "NotWriting")),
    ({"symbols": (Symbol("BTCUSDT", holes_open=1, ids_missing=4),)}, "Complete", ("False", "GapsOpen")),
    (
        {
            "symbols": (Symbol("BTCUSDT", holes_open=1, ids_missing=4),),
            "tasks": {"check": Task(ok=True, figures={"bars_unexplained": 3})},
        },
        "Complete",
        ("False", "BarsDiffer"),
    ),
    ({"symbols": (Symbol("BTCUSDT", holes_open=1, ids_missing=4),)}, "Ready", ("True", "AllLive")),
    ({"disk": Disk(81.0)}, "DiskHealthy", ("False", "DiskFilling")),
    ({"disk": Disk(97.5)}, "DiskHealthy", ("False", "DiskFull")),
    ({"disk_full_in_seconds": 3600.0}, "DiskHealthy", ("False", "DiskFilling")),
    ({"disk": None}, "DiskHealthy", ("Unknown", "NotTold")),
    ({"tasks": {"upload": Task(failures=1, problem="no bucket")}}, "Uploaded", ("False", "UploadFailing")),
    ({"last_verified_upload_ns": 10**18}, "Uploaded", ("False", "UploadLate")),
    ({"last_verified_upload_ns": 0}, "Uploaded", ("Unknown", "NotUploadedYet")),
    # An upload that finds nothing to do verifies nothing anew, and is not late for that.
    ({"last_verified_upload_ns": 10**18, "tasks": UPLOADED_NOW}, "Uploaded", ("True", "UpToDate")),
    ({"last_verified_upload_ns": 0, "tasks": UPLOADED_NOW}, "Uploaded", ("True", "UpToDate")),
]


@pytest.mark.parametrize(("fields", "type_", "expected"), OTHER_REPORTS)
def test_what_a_collector_says_becomes_a_condition(
    fields: dict[str, Any], type_: str, expected: tuple[str, str]
) -> None:
    wanted = lake(**SPEC)
    found = status(wanted, saying(observed_at_rest(wanted), **fields))
    assert told(found, type_) == expected
    healed = status(wanted, observed_at_rest(wanted), previous=found)
    assert {condition.status for condition in healed.conditions} == {"True"}


def test_of_a_lake_that_checks_no_more_the_last_check_is_not_told_for_good() -> None:
    tasks = {"check": Task(ok=True, figures={"bars_unexplained": 3})}
    for enabled, expected in ((True, ("False", "BarsDiffer")), (False, ("True", "NoGaps"))):
        wanted = lake(**SPEC, check={"enabled": enabled})
        found = status(wanted, saying(observed_at_rest(wanted), tasks=tasks))
        assert told(found, "Complete") == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("Unknown", "Unreachable")),
        ({"phase": "Pending", "unschedulable": "0/3 nodes"}, ("False", "Unschedulable")),
        ({"phase": "Pending", "waiting": "ImagePullBackOff: x"}, ("False", "ImageCantBePulled")),
        ({"waiting": "CrashLoopBackOff"}, ("False", "Crashing")),
        ({"phase": "Pending"}, ("False", "Starting")),
    ],
)
def test_a_collector_that_does_not_answer_is_unknown_where_its_pod_runs(
    fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    wanted = lake(**SPEC)
    found = status(wanted, without(observed_at_rest(wanted), **fields))
    assert told(found, "Collecting") == expected
    assert told(found, "Ready") == expected
    assert told(found, "Complete") == ("Unknown", "Unreachable")
    assert found.collectors == "0/1"


def test_what_a_condition_says_of_a_full_disk_stands_still() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    said = [
        status(wanted, saying(rest, reasons=(Said("write_errors", f"for {n} s now"),))).condition(
            "Collecting"
        )
        for n in (1, 2)
    ]
    assert said[0] == said[1]
    assert said[0] is not None
    assert said[0].message == "lake-a-0: writes to the volume fail, what comes is let go"


def test_one_copy_of_a_shard_is_enough_to_collect_and_not_to_be_ready() -> None:
    wanted = lake(**SPEC, replicas=2)
    rest = observed_at_rest(wanted)
    found = status(wanted, without(rest, "lake-b-0"))
    assert told(found, "Collecting") == ("True", "OneCopyDown")
    assert told(found, "Ready") == ("False", "OneCopyDown")
    assert found.symbols == 2
    both = without(without(rest, "lake-b-0"), "lake-a-0", phase="Pending")
    assert told(status(wanted, both), "Collecting") == ("False", "Starting")


def test_a_gap_of_one_copy_that_the_other_has_is_no_gap_of_the_lake() -> None:
    wanted = lake(**SPEC, replicas=2)
    holes = (Symbol("BTCUSDT", holes_open=2, holes_total=5, ids_missing=9),)
    one = saying(observed_at_rest(wanted), "lake-b-0", symbols=holes)
    found = status(wanted, one)
    assert (found.gaps_open, found.trades_missing, found.gaps_healed) == (0, 0, 3)
    assert told(found, "Complete") == ("True", "NoGaps")
    assert [shard.gaps_open for shard in found.shards] == [0, 2]
    found = status(wanted, saying(one, "lake-a-0", symbols=holes))
    assert (found.gaps_open, found.trades_missing) == (2, 9)


def test_a_collector_that_was_not_asked_yet_leaves_what_was_said() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    before = status(wanted, rest)
    unasked = replace(rest, reports={}, taken_at=NOW + timedelta(seconds=9))
    assert status(wanted, unasked, previous=before) == before
    assert told(status(wanted, unasked), "Collecting")[0] == "False"  # nothing was ever said


@pytest.mark.parametrize("reason", sorted(BLOCKING))
def test_what_blocks_makes_a_lake_that_collects_not_ready(reason: Reason) -> None:
    wanted = lake(**SPEC)
    waits = (Wait(Reason.SECRET_MISSING, "make a Secret"), Wait(reason, "do this"))
    found = status(wanted, observed_at_rest(wanted), waits)
    assert told(found, "Ready") == ("False", reason)
    reconciled = found.condition("Reconciled")
    assert reconciled is not None
    assert reconciled.message == "do this; make a Secret"
    assert told(found, "Collecting")[0] == "True"
    only_a_secret = status(wanted, observed_at_rest(wanted), waits[:1])
    assert told(only_a_secret, "Ready")[0] == "True"
    assert told(only_a_secret, "Reconciled") == ("False", "SecretMissing")


def test_a_spec_that_can_not_be_used_leaves_figures_and_says_why() -> None:
    wanted = lake(**SPEC, metadata={"generation": 4})
    before = status(wanted, observed_at_rest(wanted))
    broken = compute_status(
        wanted, None, observed_at_rest(wanted), (Wait(Reason.INVALID_SPEC, "spec.x: y"),), before
    )
    assert told(broken, "Ready") == told(broken, "Reconciled") == ("False", "InvalidSpec")
    assert (broken.symbols, broken.shards) == (before.symbols, before.shards)
    assert told(broken, "Collecting") == ("True", "AllLive")


def test_a_file_that_is_not_applied_is_waited_for_and_one_that_is_refused_is_told() -> None:
    from crypto_lake_operator.report import Configuration

    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    pending = status(wanted, saying(rest, configuration=Configuration("old")))
    assert told(pending, "Reconciled") == ("False", "ConfigurationPending")
    assert told(pending, "Ready")[0] == "True"
    refused = status(wanted, saying(rest, configuration=Configuration("old", "unknown key")))
    assert told(refused, "Ready") == ("False", "ConfigurationRefused")
    # A collector that does not tell is judged by what it collects.
    silent = saying(rest, configuration=None, streams=(Stream("BTCUSDT", live=True),))
    assert told(status(wanted, silent), "Reconciled") == ("False", "ConfigurationPending")
    assert told(status(wanted, saying(rest, configuration=None)), "Reconciled") == ("True", "AsWanted")


def test_a_suspended_lake_says_so_and_nothing_of_it_is_unknown_but_what_it_can_not_see() -> None:
    wanted = lake(**SPEC, suspend=True)
    rest = replace(observed_at_rest(wanted), pods={}, reports={})
    found = status(wanted, rest)
    assert told(found, "Collecting") == told(found, "Ready") == ("False", "Suspended")
    assert told(found, "Reconciled") == ("True", "AsWanted")
    assert [shard.state for shard in found.shards] == ["Suspended"]


def test_without_a_bucket_there_is_nothing_to_upload() -> None:
    wanted = lake(symbols=["BTCUSDT"])
    found = status(
        wanted, saying(observed_at_rest(wanted), pending_bytes=7 * 10**9, last_verified_upload_ns=0)
    )
    assert told(found, "Uploaded") == ("True", "NoBucket")
    assert found.not_uploaded == ""


def test_the_time_of_a_transition_changes_with_the_status_alone() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    first = status(wanted, rest)
    later = status(
        wanted, replace(saying(rest, disk=Disk(99.0)), taken_at=NOW + timedelta(minutes=5)), previous=first
    )
    times = {c.type: c.last_transition_time for c in later.conditions}
    assert times.pop("DiskHealthy") == "2024-08-09T12:05:30Z"
    assert set(times.values()) == {"2024-08-09T12:00:30Z"}
    full = status(
        wanted, replace(saying(rest, disk=Disk(85.0)), taken_at=NOW + timedelta(minutes=6)), previous=later
    )
    condition = full.condition("DiskHealthy")
    assert condition is not None
    assert (condition.reason, condition.last_transition_time) == ("DiskFilling", "2024-08-09T12:05:30Z")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(40, 900), st.integers(0, 900_000), st.floats(30.2, 34.8), st.integers(0, 50)),
        min_size=2,
        max_size=20,
    )
)
def test_a_lake_at_rest_causes_no_write(polls: list[tuple[float, int, float, int]]) -> None:
    """Lag, pending bytes and disk waver below a step; times go on; nothing is written."""
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)

    def poll(number: int, lag_ms: float, pending: int, disk: float, second: int, previous: Status) -> Status:
        said = saying(
            rest,
            streams=tuple(Stream(s, live=True, latency=Latency(lag_ms)) for s in wanted.spec.symbols),
            pending_bytes=pending + 100_000,
            disk=Disk(disk),
            last_verified_upload_ns=int(NOW.timestamp() - 630 + second) * 10**9,
            disk_full_in_seconds=86400 * 40 + lag_ms,
        )
        return status(wanted, replace(said, taken_at=NOW + timedelta(seconds=15 * number)), previous=previous)

    first = written = poll(0, *polls[0], previous=NEVER)
    for number, figures in enumerate(polls[1:], 1):
        new = poll(number, *figures, previous=written)
        assert not should_write(written, new, NOW, NOW + timedelta(seconds=15 * number), 30.0)
    assert written == first


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([steps.LAG_SECONDS, steps.BYTES]))
def test_a_figure_about_a_step_does_not_swing(wavers: list[float], scale: tuple[int, ...]) -> None:
    step = scale[5]
    at = steps.up(step, scale)
    changes = 0
    for waver in wavers:
        new = steps.up(step * (0.95 + waver / 7), scale, at)
        assert new >= step * 0.9
        changes += new != at
        at = new
    assert changes <= 1


@given(st.floats(0, 1e15), st.sampled_from([None, *steps.BYTES]))
def test_a_step_is_near_above_its_figure(value: float, previous: int | None) -> None:
    step = steps.up(value, steps.BYTES, previous)
    assert step in steps.BYTES
    assert step * 1.1 >= value
    below = steps.BYTES[max(steps.BYTES.index(step) - 1, 0)]
    assert below * 0.9 <= value


@pytest.mark.parametrize(
    ("value", "text"), [(0, "<1s"), (1, "<1s"), (5, "5s"), (120, "2m"), (3600, "1h"), (86400, "1d")]
)
def test_steps_are_read_as_people_write_them(value: int, text: str) -> None:
    assert steps.read_seconds(value) == text


def test_how_soon_a_disk_is_full_goes_down_in_steps() -> None:
    assert steps.down(40 * 86400, steps.DISK_FULL_SECONDS) is None
    assert steps.down(1.5 * 86400, steps.DISK_FULL_SECONDS) == 86400
    assert steps.down(10, steps.DISK_FULL_SECONDS) == 0
    assert steps.down(0.95 * 86400, steps.DISK_FULL_SECONDS, 86400) == 86400


@pytest.mark.parametrize("every_seconds", [30.0, 7.0])
def test_figures_are_written_so_often_and_transitions_at_once(every_seconds: float) -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    old = status(wanted, rest)
    more = status(wanted, saying(rest, pending_bytes=9 * 10**9), previous=old)
    broken = status(wanted, saying(rest, disk=Disk(99.0)), previous=old)

    def writes(new: Status, seconds: float) -> bool:
        return should_write(old, new, NOW, NOW + timedelta(seconds=seconds), every_seconds)

    assert not writes(old, 99)
    assert not writes(more, every_seconds - 1)
    assert writes(more, every_seconds)
    assert writes(broken, 1)
    assert should_write(NEVER, old, None, NOW, every_seconds)
