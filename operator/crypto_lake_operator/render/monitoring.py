"""For the Prometheus operator, where a cluster has it: what to scrape of a lake, and when to alert."""

from __future__ import annotations

from typing import Any, Final

from crypto_lake_operator import alert_rules, naming, timetable
from crypto_lake_operator.observed import API_PROMETHEUS_RULE, API_SERVICE_MONITOR, Manifest
from crypto_lake_operator.render import cronjobs
from crypto_lake_operator.render.context import Context
from crypto_lake_operator.render.stateful import COMPONENT

_VERSION: Final = "monitoring.coreos.com/v1"


def alerts(context: Context) -> list[alert_rules.Alert]:
    """A suspended lake has none: it is meant to be silent."""
    spec = context.spec
    if spec.suspend:
        return []
    facts = alert_rules.LakeFacts(
        collectors=len(context.assignment.wanted),
        disk_percent=float(spec.alerts.disk.removesuffix("%")),
        periods_minutes={
            task: timetable.longest_period_minutes(spec, task) for task in cronjobs.tasks_of_claims(spec)
        },
    )
    return alert_rules.of_lake(facts)


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


def _rule(context: Context, alert: alert_rules.Alert) -> dict[str, Any]:
    namespace = context.lake.metadata.namespace
    made = alert_rules.rule(
        alert,
        f'namespace="{namespace}",service="{context.base}"',
        {"lake": context.name},
        runbook_url=context.settings.runbook_url,
    )
    return made | {"annotations": made["annotations"] | {"lake": f"{namespace}/{context.name}"}}
