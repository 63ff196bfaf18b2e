"""What the status says while a collector says nothing: since when, what was last known, and why, as far as it can be told."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, SETTINGS, lake, observed_at_rest

from crypto_lake_operator.alerts import due, troubles, unasked
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import Status
from crypto_lake_operator.collectors import slots
from crypto_lake_operator.observed import Observed, Pod, Unreachable, pod_of
from crypto_lake_operator.render import plan
from crypto_lake_operator.report import Report, Symbol
from crypto_lake_operator.status import compute_status, is_transition

SPEC: dict[str, Any] = {"symbols": ["BTCUSDT", "SOLUSDT"], "bucket": "gs://lake"}
POD = "lake-a-0"


def status(wanted: CryptoLake, observed: Observed, previous: Status) -> Status:
    return compute_status(wanted, plan(wanted, SETTINGS, observed), observed, (), previous)


def answering(
    observed: Observed, answer: Report | Unreachable | None, at: datetime, pod: str = POD
) -> Observed:
    """answer: None: it was not asked yet."""
    reports = {name: report for name, report in observed.reports.items() if name != pod}
    return replace(observed, taken_at=at, reports=reports if answer is None else {**reports, pod: answer})


def since(status_: Status, number: int = 0) -> str | None:
    return status_.shards[number].silent_since


def test_a_silence_goes_on_where_it_was_when_the_operator_starts_anew() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    before = status(wanted, rest, Status())
    assert since(before) is None
    began, later = NOW + timedelta(seconds=20), NOW + timedelta(minutes=4)
    silent = status(wanted, answering(rest, Unreachable("refused", began), began), before)
    assert since(silent) == "2024-08-09T12:00:50Z"
    assert is_transition(before, silent)
    # A new operator: it knows of no collector first, and then of a silence that it takes for new.
    unasked_ = status(wanted, answering(rest, None, later), silent)
    assert unasked_ == silent
    anew = status(wanted, answering(rest, Unreachable("refused", later), later), unasked_)
    assert since(anew) == "2024-08-09T12:00:50Z"
    collecting = anew.condition("Collecting")
    assert collecting is not None
    assert "lake-a-0 does not answer since 2024-08-09 12:00:50Z" in collecting.message
    assert anew == silent, "and so nothing is written"
    report = rest.reports[POD]
    assert isinstance(report, Report)
    assert since(status(wanted, answering(rest, report, later), anew)) is None


def test_the_alert_counts_from_there() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    began = NOW + timedelta(seconds=20)
    stored = status(wanted, answering(rest, Unreachable("refused", began), began), Status())
    for minutes, states in ((4, []), (6, ["firing"])):
        now = NOW + timedelta(minutes=minutes)
        observed = answering(rest, Unreachable("refused", now), now)  # the operator has just begun
        seen = slots(wanted, plan(wanted, SETTINGS, observed), observed, stored)
        notices, later = due(troubles(seen, False, {}, now), unasked(seen), (), 3600.0, now)
        assert [notice.state for notice in notices] == states
        assert (later is None) is bool(states)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["answers", "silent", "unasked", "no pod"]), min_size=1, max_size=6))
def test_a_silence_ends_with_an_answer_and_with_nothing_else(looks: list[str]) -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    found, expected = Status(), None
    for number, look in enumerate(looks):
        now = NOW + timedelta(minutes=number)
        report = rest.reports[POD]
        answers = {"answers": report, "silent": Unreachable("no answer", now)}
        observed = answering(rest, answers.get(look), now)  # pyright: ignore[reportArgumentType]
        if look == "no pod":
            observed = replace(observed, pods={})
        if look == "answers":
            expected = None
        elif look != "unasked":
            expected = expected or now.strftime("%Y-%m-%dT%H:%M:%SZ")
        found = status(wanted, observed, found)
        assert since(found) == expected


def test_nobody_waits_for_a_collector_that_is_not_wanted_or_is_suspended() -> None:
    wanted = lake(**SPEC, suspend=True)
    rest = replace(observed_at_rest(wanted), pods={}, reports={})
    silent = msgspec.structs.replace(
        status(lake(**SPEC), answering(observed_at_rest(lake(**SPEC)), Unreachable("x", NOW), NOW), Status())
    )
    assert since(silent) is not None
    found = status(wanted, rest, silent)
    assert since(found) is None
    for type_ in ("Complete", "Uploaded", "DiskHealthy"):
        condition = found.condition(type_)
        assert condition is not None
        assert (condition.status, condition.reason) == ("Unknown", "Suspended")


def test_what_a_hand_wrote_into_the_status_is_no_obstacle() -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    before = status(wanted, answering(rest, Unreachable("x", NOW), NOW), Status())
    spoiled = msgspec.structs.replace(
        before, shards=(msgspec.structs.replace(before.shards[0], silent_since="yesterday"),)
    )
    later = NOW + timedelta(minutes=1)
    assert (
        since(status(wanted, answering(rest, Unreachable("x", later), later), spoiled))
        == "2024-08-09T12:01:30Z"
    )


def test_gaps_are_not_gone_with_the_collector_that_knew_them() -> None:
    wanted = lake(**SPEC, replicas=2)
    rest = observed_at_rest(wanted)
    holes = (Symbol("BTCUSDT", holes_open=2, holes_total=2, ids_missing=9),)
    said = {
        name: msgspec.structs.replace(report, symbols=holes)
        for name, report in rest.reports.items()
        if isinstance(report, Report)
    }
    before = status(wanted, replace(rest, reports=said), Status())
    assert (before.gaps_open, before.trades_missing) == (2, 9)
    gone = {name: Unreachable("x", NOW) for name in said}
    both = status(wanted, replace(rest, reports=gone), before)
    assert (both.gaps_open, both.trades_missing) == (2, 9)
    complete = both.condition("Complete")
    assert complete is not None
    assert complete.status == "Unknown", "whether they are still there nobody can say"
    # The copy that answers tells for both.
    one = status(wanted, replace(rest, reports={**gone, "lake-b-0": rest.reports["lake-b-0"]}), both)
    assert (one.gaps_open, one.trades_missing) == (0, 0)


@pytest.mark.parametrize(
    ("terminated", "words"),
    [
        (
            {"reason": "OOMKilled", "exitCode": 137},
            "(OOMKilled, exit code 137); raise the memory in spec.pod.resources.limits",
        ),
        (
            {
                "reason": "Error",
                "exitCode": 4,
                "message": "12:00 INFO x\ncrypto-lake: another collector has the lock\n",
            },
            "(exit code 4: another collector has the lock); see kubectl logs --previous lake-a-0",
        ),
    ],
)
def test_why_a_collector_ends_again_and_again_is_told(terminated: dict[str, Any], words: str) -> None:
    wanted = lake(**SPEC)
    rest = observed_at_rest(wanted)
    live = {
        "metadata": {"name": POD, "labels": {"cryptolake.io/replica": "a"}},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": terminated},
                }
            ],
        },
    }
    pod: Pod = pod_of(live)
    found = status(wanted, replace(answering(rest, None, NOW), pods={POD: pod}), Status())
    collecting = found.condition("Collecting")
    assert collecting is not None
    assert collecting.reason == "Crashing"
    assert words in collecting.message
