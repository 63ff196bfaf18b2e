"""What collectors say at /status, and what is read of their pods."""

from __future__ import annotations

import msgspec
import pytest

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake_operator.observed import Pod
from crypto_lake_operator.report import Connection, Report, ReportError, Stream, Task, read_report
from crypto_lake_operator.report import Reason as Said


def test_todays_snapshot_is_read(snapshot: CollectorSnapshot) -> None:
    document = {
        "schema": 1,
        "health": "ok",
        "reasons": [{"code": "gaps", "message": "m", "do": "d"}],
        "tasks": {},
    }
    report = read_report(msgspec.json.encode(document | msgspec.structs.asdict(snapshot)))
    assert report.live_symbols == {"BTCUSDT"}
    assert report.lag_seconds == 0.25
    assert report.has("disk_full", "gaps") == Said("gaps", "m", "d")
    assert report.pending is None


@pytest.fixture
def snapshot() -> CollectorSnapshot:
    """One stream live, as the collector itself would make it."""
    from crypto_lake.capture import snapshot as s

    zeros = {field.name: 0 for field in msgspec.structs.fields(s.WriterSnapshot) if field.required}
    return s.CollectorSnapshot(
        version="1",
        collector="c",
        exchange="binance",
        pid=1,
        started_ns=1,
        taken_ns=2,
        clock="system",
        clock_speed=1.0,
        clock_offset_us=None,
        clock_round_trip_us=None,
        streams=[
            s.StreamSnapshot("btcusdt@trade", "BTCUSDT", "trade", 1, 1, 1, 1, s.Latency(1, 250, 300, 9))
        ],
        symbols=[],
        connections=[s.ConnectionSnapshot("c-1", "live", 1, 1, 1, 1, 1)],
        outcomes={},
        reconnects=0,
        quarantined={},
        writer=s.WriterSnapshot(**zeros),
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"streams": 3}', b"\xff"])
def test_an_answer_that_is_no_report_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ReportError):
        read_report(body)


def test_without_a_word_on_streams_those_count_that_something_came_of() -> None:
    streams = (Stream("A", 1), Stream("B", 0), Stream("A", 1))
    all_carried = Report(streams=streams, connections=(Connection("live", 3),))
    assert all_carried.live_symbols == {"A", "B"}
    assert Report(streams=streams, connections=(Connection("connecting", 3),)).live_symbols == {"A"}


def test_the_last_upload_tells_where_the_collector_does_not() -> None:
    upload = Task(figures={"bytes_pending": 5, "bytes_waiting": 2, "last_verified_ns": 9})
    report = Report(tasks={"upload": upload})
    assert (report.pending, report.uploaded_ns) == (7, 9)
    assert Report().pending is None


def test_a_pod_and_its_slot_are_read_of_the_api() -> None:
    from crypto_lake_operator.observed import pod_of

    pod = pod_of(
        {
            "metadata": {
                "name": "lake-a-11",
                "labels": {"cryptolake.io/replica": "a", "statefulset.kubernetes.io/pod-name": "lake-a-11"},
            },
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "False", "lastTransitionTime": "2024-08-09T12:00:00Z"}
                ],
                "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}}}],
            },
        }
    )
    assert isinstance(pod, Pod)
    assert (str(pod.slot), pod.waiting, pod.ready) == ("a-11", "CrashLoopBackOff: m", False)
    assert pod.ready_since is not None
