"""What `kubectl describe` is told of a lake: what a person should know of a change, and nothing that passes by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake_operator import changes
from crypto_lake_operator.api_status import (
    CONDITIONS,
    Condition,
    ConditionType,
    CopiesStatus,
    Status,
    TaskStatus,
    Truth,
)
from crypto_lake_operator.reasons import PASSING, Reason

ENDED = "2024-08-09T06:17:30Z"


def status(**conditions: tuple[Truth, str]) -> Status:
    made = tuple(
        Condition(
            type=type_, status=conditions[type_][0], reason=conditions[type_][1], message=f"{type_} says"
        )
        for type_ in CONDITIONS
        if type_ in conditions
    )
    return Status(conditions=made)


WELL = status(
    Ready=("True", "AllLive"),
    Collecting=("True", "AllLive"),
    Complete=("True", "NoGaps"),
    Uploaded=("True", "UpToDate"),
    DiskHealthy=("True", "EnoughRoom"),
    Reconciled=("True", "AsWanted"),
)


def told(old: Status, new: Status) -> list[tuple[str, str]]:
    return [(news.type, news.reason) for news in changes.news(old, new)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # A new lake: that it is ready, and nothing on the way there; but what somebody has to bring.
        ({}, {"Ready": ("False", "NoCollector"), "Reconciled": ("False", "RollingOut")}, []),
        ({"Ready": ("False", "NoCollector")}, {"Ready": ("False", "Starting")}, []),
        ({"Ready": ("False", "Starting")}, {"Ready": ("True", "AllLive")}, [("Normal", "Ready")]),
        ({}, {"Reconciled": ("False", "SecretMissing")}, [("Warning", "SecretMissing")]),
        # What is wrong, also where it was not well before.
        ({"Ready": ("False", "Starting")}, {"Ready": ("False", "Crashing")}, [("Warning", "Crashing")]),
        ({"Ready": ("True", "AllLive")}, {"Ready": ("Unknown", "Unreachable")}, [("Warning", "Unreachable")]),
        ({"Ready": ("True", "AllLive")}, {"Ready": ("False", "Starting")}, [("Warning", "Starting")]),
        ({"Complete": ("True", "NoGaps")}, {"Complete": ("False", "GapsOpen")}, [("Warning", "GapsOpen")]),
        ({"Complete": ("False", "GapsOpen")}, {"Complete": ("True", "NoGaps")}, [("Normal", "NoGaps")]),
        ({"DiskHealthy": ("False", "DiskFilling")}, {"DiskHealthy": ("False", "DiskFull")}, [("Warning", "DiskFull")]),
        ({"Uploaded": ("True", "UpToDate")}, {"Uploaded": ("False", "UploadFailing")}, [("Warning", "UploadFailing")]),
        # What can't be seen, Ready tells alone.
        ({"Complete": ("True", "NoGaps")}, {"Complete": ("Unknown", "Unreachable")}, []),
        ({"Complete": ("Unknown", "Unreachable")}, {"Complete": ("True", "NoGaps")}, []),
        ({"Reconciled": ("True", "AsWanted")}, {"Reconciled": ("False", "RollingOut")}, []),
        ({"Reconciled": ("True", "AsWanted")}, {"Reconciled": ("False", "Draining")}, [("Normal", "Draining")]),
    ],
)  # fmt: skip
def test_what_a_person_should_know_is_told(
    old: dict[str, tuple[Truth, str]],
    new: dict[str, tuple[Truth, str]],
    expected: list[tuple[str, str]],
) -> None:
    assert told(status(**old), status(**new)) == expected


truths = st.sampled_from(["True", "False", "Unknown"])
_reasons = st.sampled_from([reason.value for reason in Reason])
statuses = st.builds(status, **{type_: st.tuples(truths, _reasons) for type_ in CONDITIONS})


@given(statuses, statuses)
def test_what_did_not_change_is_not_told_and_what_turned_bad_is(old: Status, new: Status) -> None:
    assert told(old, old) == []
    found = changes.news(old, new)
    turned: list[ConditionType] = [
        condition.type
        for condition in new.conditions
        if condition.status == "False"
        and condition.reason not in {reason.value for reason in PASSING}
        and (before := old.condition(condition.type)) is not None
        and (before.status, before.reason) != (condition.status, condition.reason)
    ]
    notes = {news.note for news in found if news.type == "Warning"}
    assert {f"{type_} says" for type_ in turned} <= notes


def test_tasks_and_days_are_told() -> None:
    def with_tasks(day: str | None, **ok: bool) -> Status:
        tasks = tuple(TaskStatus(name=name, ok=well, ended=ENDED, problem="p") for name, well in ok.items())
        return Status(tasks=tasks, last_published_day=day)

    assert told(Status(), with_tasks(None, macro=True, publish=False)) == []
    assert told(Status(), with_tasks(None, macro=False)) == [("Warning", "TaskFailed")]
    failed, well = with_tasks("2024-08-08", macro=False), with_tasks("2024-08-09", macro=True)
    assert told(failed, failed) == []
    (again, day) = changes.news(failed, well)
    assert (again.reason, day.note) == ("TaskWorksAgain", "bars up to 2024-08-09 are final in the bucket")


def test_copies_that_differ_are_told_once_and_those_that_agree_are_not() -> None:
    def with_copies(day: str, differing: int) -> Status:
        figures = dict.fromkeys(("symbols", "trades", "shared"), 9) | dict.fromkeys(
            ("only_a", "only_b", "only_other", "missing"), 0
        )
        return Status(copies=CopiesStatus(day=day, differing=differing, **figures))

    agree, differ = with_copies("2024-08-08", 0), with_copies("2024-08-09", 3)
    assert told(Status(), agree) == []
    assert told(differ, differ) == []
    (news,) = changes.news(agree, differ)
    assert (news.type, news.reason) == ("Warning", "CopiesDiffer")
    assert "3 trades of 2024-08-09" in news.note
    assert told(differ, with_copies("2024-08-10", 3)) == [("Warning", "CopiesDiffer")]
