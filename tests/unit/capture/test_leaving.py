"""Why a connection that stands is replaced."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.capture.leaving import Seen, why_leave
from crypto_lake.capture.outcome import Reason

WELL = Seen(
    is_ending=False,
    is_condemned=False,
    age=10.0,
    handover_age=1000.0,
    is_at_rest=False,
    silent=None,
    others_spoke=False,
)
seconds = st.floats(0, 2000)
anything = st.builds(
    Seen,
    is_ending=st.booleans(),
    is_condemned=st.booleans(),
    age=st.none() | seconds,
    handover_age=seconds,
    is_at_rest=st.booleans(),
    silent=st.none() | seconds,
    others_spoke=st.booleans(),
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"is_ending": True}, Reason.SERVER_SHUTDOWN),
        ({"is_condemned": True}, Reason.STREAM_DEAD),
        ({"age": 1000.0}, Reason.LIFETIME),
        ({"age": 999.9}, None),
        ({"age": None}, None),
        ({"silent": 31.0, "others_spoke": True}, Reason.NO_DATA),
        ({"silent": 30.0, "others_spoke": True}, None),
        ({"silent": 60.0}, None),  # alone, or all are silent: it is given twice as long
        ({"silent": 61.0}, Reason.NO_DATA),
        ({"silent": 61.0, "others_spoke": True, "is_at_rest": True}, None),
    ],
)
def test_a_reason_and_its_limit(change: dict[str, object], reason: Reason | None) -> None:
    assert why_leave(dataclasses.replace(WELL, **change), 30.0) is reason


@given(anything, seconds)
def test_silence_alone_never_replaces_what_is_known_to_be_at_rest(seen: Seen, no_data_seconds: float) -> None:
    at_rest = dataclasses.replace(seen, is_at_rest=True)
    assert why_leave(at_rest, no_data_seconds) is not Reason.NO_DATA
    assert why_leave(at_rest, no_data_seconds) is why_leave(
        dataclasses.replace(at_rest, silent=None), no_data_seconds
    )


@given(anything, seconds, seconds)
def test_what_is_replaced_stays_so_while_time_passes(seen: Seen, no_data_seconds: float, more: float) -> None:
    later = dataclasses.replace(
        seen,
        age=None if seen.age is None else seen.age + more,
        silent=None if seen.silent is None else seen.silent + more,
    )
    if why_leave(seen, no_data_seconds) is not None:
        assert why_leave(later, no_data_seconds) is not None
