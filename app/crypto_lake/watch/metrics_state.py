"""What the processes of a lake left in `state/` as metrics: alerts, and the tasks' last runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.model.alerting import RULES
from crypto_lake.watch.alerts_file import read_alerts
from crypto_lake.watch.metrics import counter_of, gauge_of, single


def state_families(layout: Layout) -> Iterator[Metric]:
    """Every series is there from the start, at zero: the types of conditions and the tasks are known."""
    alerts, _ = read_alerts(layout)
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
    reports = tasks.read(layout)
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
        ("task_consecutive_failures", "How often in a row the task has failed.", lambda r: r.failures),
    ):
        rows = [([task], value(reports[task]) if task in reports else 0.0) for task in tasks.TASKS]
        yield gauge_of(name, text, ["task"], rows)
