"""For the Prometheus operator, where a cluster has it: what to scrape of a lake, and when to alert."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from crypto_lake_operator import cron, naming
from crypto_lake_operator.observed import API_PROMETHEUS_RULE, API_SERVICE_MONITOR, Manifest
from crypto_lake_operator.render.context import Context
from crypto_lake_operator.render.stateful import COMPONENT

_VERSION: Final = "monitoring.coreos.com/v1"


class Alert(NamedTuple):
    """`expression`: `{lake}` stands for the labels that choose this lake's series. `lasts`: before it is told."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str


def alerts(context: Context) -> list[Alert]:
    """What loses data, or will. A suspended lake has none: it is meant to be silent."""
    spec = context.spec
    if spec.suspend:
        return []
    wanted = len(context.assignment.wanted)
    found = [
        Alert(
            "CryptoLakeCollectorDown",
            f"(count(up{{lake}} == 1) or vector(0)) < {wanted}",
            "2m",
            "critical",
            "A collector is down: what is traded meanwhile is missing until it is fetched.",
        ),
        Alert(
            "CryptoLakeNotWriting",
            "max by (pod) (crypto_lake_writer_in_trouble{lake}) > 0",
            "1m",
            "critical",
            "{{ $labels.pod }} can't write to its volume: nothing it receives is safe.",
        ),
        Alert(
            "CryptoLakeSilent",
            'sum by (pod) (crypto_lake_alerts_firing{lake,type="data_gap"}) > 0',
            "0m",
            "critical",
            "{{ $value }} symbols of {{ $labels.pod }} are silent while others trade.",
        ),
        Alert(
            "CryptoLakeGapsOpen",
            "sum by (pod) (crypto_lake_gaps_open{lake}) > 0",
            "30m",
            "warning",
            "{{ $labels.pod }} misses trades in {{ $value }} gaps that were not filled.",
        ),
        Alert(
            "CryptoLakeDiskFillsUp",
            "min by (pod) (crypto_lake_disk_full_in_seconds{lake}) < 86400",
            "10m",
            "critical",
            "The volume of {{ $labels.pod }} is full in {{ $value | humanizeDuration }}: raise spec.storage.size.",
        ),
        Alert(
            "CryptoLakeTaskFailing",
            "max by (pod, task) (crypto_lake_task_consecutive_failures{lake}) >= 3",
            "0m",
            "warning",
            "{{ $labels.task }} on the volume of {{ $labels.pod }} failed {{ $value }} times in a row.",
        ),
    ]
    late = _late("transform", spec.schedules.transform, 900)
    return [*found, late, _late("upload", spec.schedules.upload, 10800)] if spec.bucket else [*found, late]


def _late(task: str, schedule: str, least_seconds: int) -> Alert:
    limit = max(least_seconds, 3 * 60 * cron.longest_period_minutes(schedule))
    return Alert(
        f"CryptoLake{task.capitalize()}Late",
        f'time() - max by (pod) (crypto_lake_task_last_ok_timestamp_seconds{{lake,task="{task}"}} > 0) > {limit}',
        "5m",
        "warning",
        f"{task} on the volume of {{{{ $labels.pod }}}} last succeeded {{{{ $value | humanizeDuration }}}} ago.",
    )


def objects(context: Context) -> list[Manifest]:
    made: list[Manifest] = []
    if API_SERVICE_MONITOR in context.apis:
        body: dict[str, Any] = {
            "spec": {
                "selector": {"matchLabels": naming.selector(context.name, COMPONENT)},
                "endpoints": [
                    {"port": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}
                ],
            }
        }
        made.append(context.manifest(_VERSION, "ServiceMonitor", context.base, "monitoring", body))
    rules = [_rule(context, alert) for alert in alerts(context)]
    if API_PROMETHEUS_RULE in context.apis and rules:
        body = {"spec": {"groups": [{"name": f"crypto-lake-{context.base}", "rules": rules}]}}
        made.append(context.manifest(_VERSION, "PrometheusRule", context.base, "monitoring", body))
    return made


def _rule(context: Context, alert: Alert) -> dict[str, Any]:
    chosen = f'namespace="{context.lake.metadata.namespace}",service="{context.base}"'
    expression = alert.expression.replace("{lake}", f"{{{chosen}}}").replace("{lake,", f"{{{chosen},")
    annotations = {"summary": alert.summary, "lake": f"{context.lake.metadata.namespace}/{context.name}"}
    if context.settings.runbook_url:
        annotations["runbook_url"] = f"{context.settings.runbook_url}#{alert.name.lower()}"
    return {
        "alert": alert.name,
        "expr": expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity, "lake": context.name},
        "annotations": annotations,
    }
