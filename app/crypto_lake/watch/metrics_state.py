"""What is seen around a collector as metrics: alerts, the tasks' last runs, the disk, uploads. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.lake.tasks import TASKS
from crypto_lake.model.alerting import RULES
from crypto_lake.watch.lookout import Around
from crypto_lake.watch.metrics import counter_of, gauge_of, single


def state_families(around: Around, snapshot: CollectorSnapshot) -> Iterator[Metric]:
    """Every series is there from the start, at zero: the types of conditions and the tasks are known."""
    alerts = around.files.alerts
    firing = Counter(alert.type for alert in alerts.firing)
    yield gauge_of(
        "alerts_firing",
        "Alerts that fire, by type of condition.",
        ["type"],
        [([type_], firing[type_]) for type_ in RULES],
    )
    yield counter_of("alerts_sent", "Messages that the webhook took.", [], [([], alerts.channel.sent_total)])
    yield counter_of(
        "webhook_failures",
        "Attempts to deliver a message that failed.",
        [],
        [([], alerts.channel.failures_total)],
    )
    yield single(
        "alerts_last_look_timestamp_seconds",
        "When the conditions were last judged, to the minute; 0: never.",
        alerts.updated_ns / 1e9,
    )
    yield single(
        "disk_full_in_seconds",
        "When the disk is full at the rate of the last hours; +Inf: never, or not known yet.",
        float("inf") if alerts.disk_full_in_seconds is None else alerts.disk_full_in_seconds,
    )
    yield from _disk(around)
    yield from _uploads(around, snapshot)
    yield from _tasks(around)
    yield _checked(around)


def _checked(around: Around) -> Metric:
    """By the figures that the check itself left."""
    check = around.files.tasks.get("check")

    def seconds(name: str) -> float:
        figure = check.figures.get(name) if check else 0
        return float(figure) if isinstance(figure, int | float) else 0.0

    unexplained = seconds("bars_unexplained")
    return gauge_of(
        "checked_seconds",
        "Seconds that the last check of bars looked at, by verdict.",
        ["verdict"],
        [
            (["verified"], seconds("bars_verified")),
            (["explained"], max(0.0, seconds("bars_mismatched") - unexplained)),
            (["unexplained"], unexplained),
            (["unverifiable"], seconds("bars_unverifiable")),
        ],
    )


def _disk(around: Around) -> Iterator[Metric]:
    disk = around.disk
    yield single(
        "disk_size_bytes",
        "Of the file system with the data, without what is kept back for root.",
        disk.total_bytes,
    )
    yield single("disk_free_bytes", "Free on it, for a user who is not root.", disk.free_bytes)
    yield single(
        "disk_used_ratio",
        "0 to 1: used of the file system, or by the lake of its limit, whichever is more.",
        disk.used_percent / 100,
    )
    yield single(
        "disk_inodes_used_ratio",
        "0 to 1; 0 also where the file system has no such limit.",
        disk.used_inodes_percent / 100,
    )
    yield single("disk_limit_bytes", "What the lake may take (disk.limit_gb); 0: all.", disk.limit_bytes)


def _uploads(around: Around, snapshot: CollectorSnapshot) -> Iterator[Metric]:
    has_bucket = bool(around.watched.bucket)
    yield single("bucket_configured", "1 where there is a bucket.", float(has_bucket))
    pending = around.pending_bytes(snapshot)
    # A figure that is not known is no 0: nothing but 0 says that all is in the bucket.
    yield single(
        "upload_pending_bytes",
        "What is not verified in the bucket yet, open files included; NaN: not known. 0 without a bucket.",
        (float("nan") if pending is None else pending) if has_bucket else 0.0,
    )
    yield single(
        "upload_last_verified_timestamp_seconds",
        "When an object was last read back from the bucket; 0: never.",
        (around.last_verified_upload_ns or 0) / 1e9,
    )


def _tasks(around: Around) -> Iterator[Metric]:
    reports = around.files.tasks
    for name, text, value in (
        (
            "task_last_ok_timestamp_seconds",
            "When the task last succeeded; 0: never.",
            lambda r: r.last_ok_ns / 1e9,
        ),
        (
            "task_started_timestamp_seconds",
            "When the task last started; 0: never.",
            lambda r: r.started_ns / 1e9,
        ),
        (
            "task_last_duration_seconds",
            "How long its last run took; 0: it runs, or died.",
            lambda r: max(0.0, (r.ended_ns - r.started_ns) / 1e9) if r.ended_ns else 0.0,
        ),
        ("task_consecutive_failures", "How often in a row the task has failed.", lambda r: r.failures),
    ):
        rows = [([task], value(reports[task]) if task in reports else 0.0) for task in TASKS]
        yield gauge_of(name, text, ["task"], rows)
