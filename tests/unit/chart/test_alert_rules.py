"""Each rule is shown firing, alone, and staying quiet; each has its place in the runbook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import prometheus
from tests.support.operator_lakes import NOW, SETTINGS, lake
from tests.support.prometheus import Expectation

from crypto_lake_operator import alert_rules
from crypto_lake_operator.observed import API_PROMETHEUS_RULE, Observed
from crypto_lake_operator.render import render

ROOT = Path(__file__).resolve().parents[3]
RUNBOOK = (ROOT / alert_rules.RUNBOOK).read_text()
LAKE = alert_rules.of_lake(
    alert_rules.LakeFacts(
        collectors=2,
        disk_percent=80.0,
        periods_minutes={"transform": 5, "upload": 15, "cleanup": 15, "check": 15},
    )
)
ALL = [*LAKE, *alert_rules.OPERATOR]
LABELS = 'namespace="lakes",service="lake"'
MINUTES = 70  # beyond each `for` and look back; what is late takes longer
LATE_MINUTES = 200
# Of one collector; the other is up, and that is all that is seen of it.
HEALTHY: dict[str, str] = {
    f'up{{{LABELS},pod="lake-a-0"}}': "1x200",
    f'up{{{LABELS},pod="lake-b-0"}}': "1x200",
    f'process_start_time_seconds{{{LABELS},pod="lake-a-0"}}': "1x200",
    f'crypto_lake_ready{{{LABELS},pod="lake-a-0"}}': "1x200",
    f'crypto_lake_alerts_firing{{{LABELS},pod="lake-a-0",type="data_gap"}}': "0x200",
    f'crypto_lake_writer_in_trouble{{{LABELS},pod="lake-a-0"}}': "0x200",
    f'crypto_lake_writer_fsync_interval_max_seconds{{{LABELS},pod="lake-a-0"}}': "1x200",
    f'crypto_lake_gaps_open{{{LABELS},pod="lake-a-0",symbol="BTCUSDT"}}': "0x200",
    f'crypto_lake_gaps_open{{{LABELS},pod="lake-a-0",symbol="ETHUSDT"}}': "0x200",
    f'crypto_lake_disk_used_ratio{{{LABELS},pod="lake-a-0"}}': "0.79x200",
    f'crypto_lake_disk_full_in_seconds{{{LABELS},pod="lake-a-0"}}': "9e6x200",
    f'crypto_lake_configuration_applied{{{LABELS},pod="lake-a-0"}}': "1x200",
    f'crypto_lake_quarantined_messages_total{{{LABELS},pod="lake-a-0"}}': "3x200",
    f'crypto_lake_clock_offset_seconds{{{LABELS},pod="lake-a-0"}}': "0.02x200",
    f'crypto_lake_webhook_failures_total{{{LABELS},pod="lake-a-0"}}': "1x200",
    **{
        f'crypto_lake_task_last_ok_timestamp_seconds{{{LABELS},pod="lake-a-0",task="{task}"}}': "0+60x200"
        for task in ("transform", "upload", "cleanup", "check")
    },
    **{
        f'crypto_lake_task_consecutive_failures{{{LABELS},pod="lake-a-0",task="{task}"}}': "2x200"
        for task in ("transform", "compact", "upload", "cleanup", "check")
    },
    f'crypto_lake_task_consecutive_failures{{{LABELS},pod="lake-a-0",task="verify"}}': "0x200",
    # What the ledger explains, and what could not be looked at, is no alarm; nor is one dead stream, or a warning.
    **{
        f'crypto_lake_checked_seconds{{{LABELS},pod="lake-a-0",verdict="{verdict}"}}': f"{seconds}x200"
        for verdict, seconds in (
            ("verified", 86000),
            ("explained", 12),
            ("unexplained", 0),
            ("unverifiable", 9),
        )
    },
    f'crypto_lake_rest_blocked{{{LABELS},pod="lake-a-0",status="418"}}': "0x200",
    f'crypto_lake_rest_blocked{{{LABELS},pod="lake-a-0",status="429"}}': "1x200",
    f'crypto_lake_stream_replacements_total{{{LABELS},pod="lake-a-0",liveness="behind"}}': "0x200",
    f'crypto_lake_stream_replacements_total{{{LABELS},pod="lake-a-0",liveness="symbol_silent"}}': "0x30 3x170",
}


def series(metric: str, **labels: str) -> str:
    """The one of HEALTHY that has this name and these labels."""
    found = [
        key
        for key in (*HEALTHY, *HEALTHY_OPERATOR)
        if key.startswith(f"{metric}{{") and all(f'{name}="{value}"' in key for name, value in labels.items())
    ]
    assert len(found) == 1, (metric, labels, found)
    return found[0]


OPERATOR_POD = f'{LABELS},pod="operator-0"'
HEALTHY_OPERATOR: dict[str, str] = {
    f"up{{{OPERATOR_POD}}}": "1x200",
    f"crypto_lake_operator_leader{{{OPERATOR_POD}}}": "1x200",
    f'crypto_lake_operator_leader{{{LABELS},pod="operator-1"}}': "0x200",
    f"crypto_lake_operator_queue_oldest_seconds{{{OPERATOR_POD}}}": "2x200",
    f"crypto_lake_operator_last_resync_timestamp_seconds{{{OPERATOR_POD}}}": "0+60x200",
    f'crypto_lake_operator_last_resync_timestamp_seconds{{{LABELS},pod="operator-1"}}': "0x200",
    f'crypto_lake_operator_reconciles_total{{{OPERATOR_POD},outcome="fault"}}': "0x200",
    f'crypto_lake_operator_reconciles_total{{{OPERATOR_POD},outcome="failed"}}': "0+3x200",
    f'crypto_lake_operator_api_requests_total{{{OPERATOR_POD},code="200"}}': "0+100x200",
    f'crypto_lake_operator_api_requests_total{{{OPERATOR_POD},code="409"}}': "0+50x200",
    f'crypto_lake_operator_api_requests_total{{{OPERATOR_POD},code="503"}}': "0+2x200",
    f"crypto_lake_operator_missed_changes_total{{{OPERATOR_POD}}}": "1x200",
    f'crypto_lake_operator_alerts_total{{{OPERATOR_POD},outcome="failed"}}': "2x200",
    f'crypto_lake_operator_alerts_total{{{OPERATOR_POD},outcome="sent"}}': "0+1x200",
    f"crypto_lake_operator_collectors_unreachable{{{OPERATOR_POD}}}": "0x200",
    **{
        f'crypto_lake_operator_lakes_by_condition{{{OPERATOR_POD},condition="{condition}",status="{status}"}}': count
        for condition in ("Ready", "Collecting", "Complete", "Uploaded", "DiskHealthy", "Reconciled")
        # A suspended lake is not Ready and does not collect, and is as it is meant to be.
        for status, count in (
            ("True", "5x200"),
            ("False", "1x200" if condition in ("Ready", "Collecting") else "0x200"),
            ("Unknown", "0x200"),
        )
    },
    # Of publish the condition Uploaded tells.
    f'crypto_lake_operator_lakes_by_task{{{OPERATOR_POD},task="publish",ok="False"}}': "1x200",
    f'crypto_lake_operator_lakes_by_task{{{OPERATOR_POD},task="macro",ok="False"}}': "0x200",
    f'crypto_lake_operator_lakes_by_task{{{OPERATOR_POD},task="macro",ok="True"}}': "5x200",
    # That each copy has trades of its own is what there are two for.
    **{
        f'crypto_lake_operator_published_trades{{{OPERATOR_POD},held_by="{held_by}"}}': "100x200"
        for held_by in ("both", "a", "b", "other", "none")
    },
    f"crypto_lake_operator_published_trades_differing{{{OPERATOR_POD}}}": "0x200",
}
# What, changed in a lake that is well, makes an alert fire; None: the series is gone.
BROKEN: dict[str, list[dict[str, str | None]]] = {
    "CryptoLakeCollectorDown": [
        {series("up", pod="lake-b-0"): "0x200"},
        {series("up", pod="lake-b-0"): None},
        {series("up", pod="lake-b-0"): None, series("up", pod="lake-a-0"): None},
    ],
    "CryptoLakeCollectorNotReady": [{series("crypto_lake_ready"): "0x200"}],
    "CryptoLakeSilent": [{series("crypto_lake_alerts_firing", type="data_gap"): "2x200"}],
    "CryptoLakeNotWriting": [{series("crypto_lake_writer_in_trouble"): "1x200"}],
    "CryptoLakeSlowDisk": [{series("crypto_lake_writer_fsync_interval_max_seconds"): "7x200"}],
    "CryptoLakeGapsOpen": [{series("crypto_lake_gaps_open", symbol="ETHUSDT"): "1x200"}],
    "CryptoLakeBarsDiffer": [{series("crypto_lake_checked_seconds", verdict="unexplained"): "1x200"}],
    "CryptoLakeHealingBanned": [{series("crypto_lake_rest_blocked", status="418"): "1x200"}],
    "CryptoLakeFeedDies": [
        {series("crypto_lake_stream_replacements_total", liveness="behind"): "0+1x200"},
        # Of one kind and the other, together.
        {series("crypto_lake_stream_replacements_total", liveness="behind"): "0x30 3x170"},
    ],
    "CryptoLakeDiskUsed": [{series("crypto_lake_disk_used_ratio"): "0.8x200"}],
    "CryptoLakeDiskFillsUp": [{series("crypto_lake_disk_full_in_seconds"): "80000x200"}],
    "CryptoLakeTaskFailing": [
        {series("crypto_lake_task_consecutive_failures", task=task): "3x200"}
        for task in ("transform", "compact", "upload", "cleanup", "check")
    ],
    "CryptoLakeVerificationFailed": [
        {series("crypto_lake_task_consecutive_failures", task="verify"): "1x200"}
    ],
    **{
        f"CryptoLake{task.capitalize()}Late": [
            {series("crypto_lake_task_last_ok_timestamp_seconds", task=task): values}
            for values in ("60x200", "0x200")  # long ago; never
        ]
        for task in ("transform", "upload", "cleanup", "check")
    },
    "CryptoLakeConfigurationNotApplied": [{series("crypto_lake_configuration_applied"): "0x200"}],
    "CryptoLakeQuarantineGrows": [{series("crypto_lake_quarantined_messages_total"): "0+1x200"}],
    "CryptoLakeClockOff": [
        {series("crypto_lake_clock_offset_seconds"): values} for values in ("-1.5x200", "2x200")
    ],
    "CryptoLakeAlertsNotDelivered": [{series("crypto_lake_webhook_failures_total"): "0+1x200"}],
}
BROKEN_OPERATOR: dict[str, list[dict[str, str | None]]] = {
    "CryptoLakeOperatorDown": [
        {series("up", pod="operator-0"): "0x200"},
        dict.fromkeys(HEALTHY_OPERATOR),
    ],
    "CryptoLakeOperatorWithoutLeader": [{series("crypto_lake_operator_leader", pod="operator-0"): "0x200"}],
    "CryptoLakeOperatorNotReconciling": [
        {series("crypto_lake_operator_queue_oldest_seconds"): "400x200"},
        {series("crypto_lake_operator_last_resync_timestamp_seconds", pod="operator-0"): "60x200"},
    ],
    "CryptoLakeOperatorFault": [
        {series("crypto_lake_operator_reconciles_total", outcome="fault"): "0+1x200"},
    ],
    "CryptoLakeOperatorApiErrors": [
        {series("crypto_lake_operator_api_requests_total", code="503"): "0+30x200"},
    ],
    "CryptoLakeOperatorMissesChanges": [{series("crypto_lake_operator_missed_changes_total"): "0+1x200"}],
    "CryptoLakeOperatorAlertsNotDelivered": [
        {series("crypto_lake_operator_alerts_total", outcome="failed"): "0+1x200"}
    ],
    "CryptoLakeUnreachable": [{series("crypto_lake_operator_collectors_unreachable"): "1x200"}],
    "CryptoLakeNotReconciled": [
        {series("crypto_lake_operator_lakes_by_condition", condition="Reconciled", status="False"): "1x200"}
    ],
    "CryptoLakeNotUploaded": [
        {series("crypto_lake_operator_lakes_by_condition", condition="Uploaded", status="False"): "2x200"}
    ],
    "CryptoLakeCopiesDiffer": [{series("crypto_lake_operator_published_trades_differing"): "1x200"}],
    "CryptoLakeMacroFailing": [
        {series("crypto_lake_operator_lakes_by_task", task="macro", ok="False"): "1x200"}
    ],
}
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
# Broken from the first minute on, these fire when `for` is over, not before; the others look back, or wait for a limit.
AT_ONCE = frozenset(
    alert.name
    for alert in ALL
    if "increase(" not in alert.expression
    and "time()" not in alert.expression
    and "rate(" not in alert.expression
)


def minutes(lasts: str) -> int:
    found = re.fullmatch(r"(\d+)([mh])", lasts)
    assert found, f"{lasts}: the rules wait for whole minutes"
    return int(found[1]) * (60 if found[2] == "h" else 1)


def written(folder: Path, alerts: list[alert_rules.Alert]) -> Path:
    rules = [alert_rules.rule(alert, LABELS, {"lake": "lake"}) for alert in alerts]
    for rule in rules:
        rule["expr"] = rule["expr"].replace(alert_rules.RESYNC, "600")
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "tested", "rules": rules}]}))
    return path


def changed(healthy: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in (healthy | dict(changes)).items() if value is not None}


def cases(
    healthy: Mapping[str, str],
    broken: Mapping[str, list[dict[str, str | None]]],
    alerts: list[alert_rules.Alert],
) -> list[Any]:
    lasts = {alert.name: minutes(alert.lasts) for alert in alerts}
    made: list[Any] = [
        ("all is well", dict(healthy), [Expectation(at, FIRING, {}) for at in (1, MINUTES, LATE_MINUTES)])
    ]
    for name, variants in broken.items():
        for number, changes in enumerate(variants):
            end = LATE_MINUTES if name.endswith("Late") or lasts[name] >= MINUTES else MINUTES
            expected = [Expectation(end, FIRING, {f'{{alertname="{name}"}}': 1})]
            if name in AT_ONCE and lasts[name] > 0:
                expected.append(Expectation(lasts[name] - 1, FIRING, {}))
                expected.append(Expectation(lasts[name], FIRING, {f'{{alertname="{name}"}}': 1}))
            made.append((f"{name} {number}", changed(healthy, changes), expected))
    return made


@pytest.mark.skipif(
    bool(prometheus.why_not("promtool")), reason=prometheus.why_not("promtool") or "there is one"
)
@pytest.mark.parametrize(
    ("healthy", "broken", "alerts"),
    [(HEALTHY, BROKEN, LAKE), (HEALTHY_OPERATOR, BROKEN_OPERATOR, [*alert_rules.OPERATOR])],
    ids=["lake", "operator"],
)
def test_each_rule_fires_alone_and_stays_quiet_while_all_is_well(
    tmp_path: Path,
    healthy: dict[str, str],
    broken: dict[str, list[dict[str, str | None]]],
    alerts: list[alert_rules.Alert],
) -> None:
    rules = written(tmp_path, alerts)
    assert prometheus.promtool_check(rules) == ""
    assert {alert.name for alert in alerts} == set(broken)
    assert prometheus.promtool_test(tmp_path, rules, cases(healthy, broken, alerts)) == ""


@pytest.mark.skipif(
    bool(prometheus.why_not("promtool")), reason=prometheus.why_not("promtool") or "there is one"
)
def test_a_test_of_rules_that_is_wrong_fails(tmp_path: Path) -> None:
    rules = written(tmp_path, LAKE)
    wrong = [("quiet", dict(HEALTHY), [Expectation(10, FIRING, {'{alertname="CryptoLakeSilent"}': 1})])]
    assert "CryptoLakeSilent" in prometheus.promtool_test(tmp_path, rules, wrong)


@pytest.mark.parametrize("alert", ALL, ids=lambda alert: alert.name)
def test_a_rule_says_what_to_do_and_names_only_labels_that_it_has(alert: alert_rules.Alert) -> None:
    assert alert.severity in ("warning", "critical")
    assert len(alert.description) > 30
    for label in re.findall(r"\$labels\.(\w+)", alert.summary + alert.description):
        assert re.search(rf"by \([^)]*\b{label}\b", alert.expression), label
    assert "{lake" in alert.expression or "{operator" in alert.expression


def test_each_alert_has_its_heading_in_the_runbook_and_each_heading_its_alert() -> None:
    headings = re.findall(r"^## (CryptoLake\w+)$", RUNBOOK, re.MULTILINE)
    assert headings == [alert.name for alert in ALL]


def test_a_rule_links_to_its_heading() -> None:
    made = alert_rules.rule(LAKE[0], "", {}, runbook_url="https://example.org/runbook")
    assert made["annotations"]["runbook_url"] == "https://example.org/runbook#cryptolakecollectordown"
    plain = alert_rules.rule(LAKE[0], "", {})["annotations"]
    assert plain["runbook"] == "docs/runbook.md#cryptolakecollectordown"


def test_a_lakes_rules_are_those_that_its_spec_asks_for() -> None:
    def names(**spec: Any) -> set[str]:
        manifests = render(
            lake(**spec), SETTINGS, Observed(taken_at=NOW, apis=frozenset({API_PROMETHEUS_RULE}))
        )
        (made,) = [m for m in manifests if m["kind"] == "PrometheusRule"]
        return {rule["alert"] for rule in made["spec"]["groups"][0]["rules"]}

    everything = {alert.name for alert in LAKE}
    assert names(bucket="gs://lake") == everything
    assert names() == everything - {"CryptoLakeUploadLate"}
    unchecked = names(bucket="gs://lake", check={"enabled": False})
    assert unchecked == everything - {"CryptoLakeCheckLate", "CryptoLakeBarsDiffer"}


TASK_TIMES = "crypto_lake_task_last_ok_timestamp_seconds"
# The collector runs for days, by the clock of the test, which begins at 0.
LONG_UP: dict[str, str | None] = {series("process_start_time_seconds"): "-999999x200"}


@pytest.mark.skipif(
    bool(prometheus.why_not("promtool")), reason=prometheus.why_not("promtool") or "there is one"
)
def test_a_task_gets_its_turn_before_it_is_late(tmp_path: Path) -> None:
    """One that is new, and that of a lake which was suspended for days, are not late at once."""
    check = series(TASK_TIMES, task="check")
    quiet = [Expectation(minute, FIRING, {}) for minute in range(1, 60)]
    late = [Expectation(23, FIRING, {'{alertname="CryptoLakeCheckLate"}': 1})]
    cases_ = [
        (name, changed(HEALTHY, LONG_UP | {check: values}), expected)
        for name, values, expected in (
            ("new", "0x14 900+60x185", quiet),
            ("suspended", "-500000x14 900+60x185", quiet),
            ("never done", "0x200", late),
        )
    ]
    assert prometheus.promtool_test(tmp_path, written(tmp_path, LAKE), cases_) == ""


@pytest.mark.skipif(
    bool(prometheus.why_not("promtool")), reason=prometheus.why_not("promtool") or "there is one"
)
def test_a_restart_of_the_collector_does_not_hide_a_task_that_is_late(tmp_path: Path) -> None:
    """For four minutes it gives no figures."""
    restarts = {
        series(TASK_TIMES, task="transform"): "1x40 stale _x3 1x155",
        series("process_start_time_seconds"): "-999999x40 stale _x3 2700x155",
    }
    late = {'{alertname="CryptoLakeTransformLate"}': 1}
    told = [Expectation(minute, FIRING, late) for minute in range(18, 80)]
    case = [("restarts", changed(HEALTHY, restarts), told)]
    assert prometheus.promtool_test(tmp_path, written(tmp_path, LAKE), case) == ""


@pytest.mark.skipif(
    bool(prometheus.why_not("promtool")), reason=prometheus.why_not("promtool") or "there is one"
)
def test_of_a_lake_that_checks_no_more_the_last_check_is_not_told_for_good(tmp_path: Path) -> None:
    facts = alert_rules.LakeFacts(collectors=2, disk_percent=80.0, periods_minutes={"transform": 5})
    left = {
        series("crypto_lake_checked_seconds", verdict="unexplained"): "3x200",
        series("crypto_lake_task_consecutive_failures", task="check"): "5x200",
    }
    case = [("off", changed(HEALTHY, left), [Expectation(MINUTES, FIRING, {})])]
    assert prometheus.promtool_test(tmp_path, written(tmp_path, alert_rules.of_lake(facts)), case) == ""
    both = {f'{{alertname="CryptoLake{name}"}}': 1 for name in ("BarsDiffer", "TaskFailing")}
    case = [("on", changed(HEALTHY, left), [Expectation(MINUTES, FIRING, both)])]
    assert prometheus.promtool_test(tmp_path, written(tmp_path, LAKE), case) == ""
