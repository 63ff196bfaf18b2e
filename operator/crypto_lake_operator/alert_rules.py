"""When Prometheus alerts: of a lake's collectors and tasks, and of the operator. Pure.

Each has a heading of its own in docs/runbook.md. In an expression `{lake}` and `{operator}` stand for the labels that
choose the series; further ones come after a comma: `{lake,task="upload"}`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

RUNBOOK: Final = "docs/runbook.md"
# Tasks of every volume, as a collector reports them; `check` is one where it is wanted. `publish` has no volume: the
# operator tells of it.
VOLUME_TASKS: Final = "transform|compact|upload|cleanup"
LEAST_LATE_SECONDS: Final = {"transform": 900, "upload": 3 * 3600, "cleanup": 3 * 3600, "check": 3 * 3600}
LONGEST_RUN_MINUTES: Final = 60  # that a task is given to end once its time has come


class Alert(NamedTuple):
    """lasts: for how long the expression must hold. description: what to do, in a sentence or two; the runbook has more."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    description: str


class LakeFacts(NamedTuple):
    """What the rules of one lake depend on. periods_minutes: the longest time between two runs, of the tasks that
    its volumes have.
    """

    collectors: int
    disk_percent: float
    periods_minutes: dict[str, int]


def of_lake(facts: LakeFacts) -> list[Alert]:
    """What loses data, or will. An alert is told by pod, so that one says which volume it is about."""
    late = [
        _late(task, period) for task, period in facts.periods_minutes.items() if task in LEAST_LATE_SECONDS
    ]
    checks = "check" in facts.periods_minutes
    # What the last check left stays on the volume: of a lake that checks no more it would be told for good.
    tasks = f"{VOLUME_TASKS}|check" if checks else VOLUME_TASKS
    return [
        Alert(
            "CryptoLakeCollectorDown",
            f"(count(up{{lake}} == 1) or vector(0)) < {facts.collectors}",
            "2m",
            "critical",
            "Of the lake's collectors one or more can't be scraped.",
            "What is traded meanwhile is missing until it is fetched. Look at the lake's condition Collecting: it says "
            "whether the pod is not scheduled, does not start, or does not answer.",
        ),
        Alert(
            "CryptoLakeCollectorNotReady",
            "min by (pod) (crypto_lake_ready{lake}) < 1",
            "5m",
            "critical",
            "{{ $labels.pod }} runs and is not subscribed to all streams, or does not write.",
            "What is traded meanwhile is missing until it is fetched. The lake's condition Collecting and the pod's /status "
            "give the reason; its log shows the connections' ends.",
        ),
        Alert(
            "CryptoLakeSilent",
            'sum by (pod) (crypto_lake_alerts_firing{lake,type="data_gap"}) > 0',
            "1m",
            "critical",
            "{{ $value }} symbols of {{ $labels.pod }} are silent while others trade.",
            "Look at the pod's log and at the exchange's announcements: a symbol that was delisted must leave spec.symbols.",
        ),
        Alert(
            "CryptoLakeNotWriting",
            "max by (pod) (crypto_lake_writer_in_trouble{lake}) > 0",
            "1m",
            "critical",
            "{{ $labels.pod }} can't write to its volume: nothing it receives is safe.",
            "A full volume: raise spec.storage.size. Else look at the node and the volume; the pod's log names the error.",
        ),
        Alert(
            "CryptoLakeSlowDisk",
            "max by (pod) (crypto_lake_writer_fsync_interval_max_seconds{lake}) > 5",
            "10m",
            "warning",
            "{{ $labels.pod }} fsyncs only every {{ $value | humanizeDuration }}: so much a power loss may cost.",
            "The volume is too slow, or shared with something that writes much: use a faster storage class.",
        ),
        Alert(
            "CryptoLakeGapsOpen",
            "sum by (pod) (crypto_lake_gaps_open{lake}) > 0",
            "30m",
            "warning",
            "{{ $labels.pod }} misses trades in {{ $value }} gaps that were not filled.",
            "The ledger names each gap by its trade ids and cause. Gaps that come again and again: look at reconnects and "
            "at restarts of the pod; two replicas see what one misses.",
        ),
        *([_bars_differ()] if checks else []),
        Alert(
            "CryptoLakeHealingBanned",
            'max by (pod) (crypto_lake_rest_blocked{lake,status="418"}) > 0',
            "5m",
            "warning",
            "The exchange has banned the address of {{ $labels.pod }} from its REST interface: nothing is fetched.",
            "The pod's /status says for how long (healing.blocked_seconds); what is missed meanwhile is fetched then. Somebody "
            "on this address asks too much.",
        ),
        Alert(
            "CryptoLakeFeedDies",
            "sum by (pod) (increase(crypto_lake_stream_replacements_total{lake}[1h])) > 5",
            "0m",
            "warning",
            "Streams of {{ $labels.pod }} died and were replaced {{ $value | humanize }} times within an hour.",
            "The pod's /status says of each stream what it is thought to be, and on what evidence. If it is one symbol, look at "
            "the exchange's announcements; if all, at network, proxy and CPU.",
        ),
        Alert(
            "CryptoLakeDiskUsed",
            f"max by (pod) (crypto_lake_disk_used_ratio{{lake}}) >= {facts.disk_percent / 100:g}",
            "5m",
            "warning",
            "The volume of {{ $labels.pod }} is used to {{ $value | humanizePercentage }}.",
            "Raise spec.storage.size, which restarts nothing, or shorten spec.retention.raw. With a bucket, look first "
            "whether uploads work: what is not uploaded is not deleted.",
        ),
        Alert(
            "CryptoLakeDiskFillsUp",
            "min by (pod) (crypto_lake_disk_full_in_seconds{lake}) < 86400",
            "10m",
            "critical",
            "The volume of {{ $labels.pod }} is full in {{ $value | humanizeDuration }}.",
            "Raise spec.storage.size now, which restarts nothing. Then look why it fills up: uploads, retention, or more "
            "symbols than it was made for.",
        ),
        Alert(
            "CryptoLakeTaskFailing",
            f'max by (pod, task) (crypto_lake_task_consecutive_failures{{lake,task=~"{tasks}"}}) >= 3',
            "0m",
            "warning",
            "{{ $labels.task }} on the volume of {{ $labels.pod }} failed {{ $value }} times in a row.",
            "The lake's condition Uploaded, or the log of the task's last job, says why. Nothing is deleted meanwhile.",
        ),
        Alert(
            "CryptoLakeVerificationFailed",
            'max by (pod) (crypto_lake_task_consecutive_failures{lake,task="verify"}) > 0',
            "0m",
            "critical",
            "On the volume of {{ $labels.pod }} a file is not what its manifest says.",
            "The task's log names file and byte. Delete nothing: suspend cleanup, keep the volume, and compare with the "
            "bucket's copy.",
        ),
        *late,
        Alert(
            "CryptoLakeConfigurationNotApplied",
            "min by (pod) (crypto_lake_configuration_applied{lake}) < 1",
            "15m",
            "warning",
            "{{ $labels.pod }} goes on by an older configuration than it was given.",
            "The lake's condition Reconciled says what is wrong with the new one, or that a restart is awaited.",
        ),
        Alert(
            "CryptoLakeQuarantineGrows",
            "sum by (pod) (increase(crypto_lake_quarantined_messages_total{lake}[1h])) > 10",
            "0m",
            "warning",
            "{{ $labels.pod }} put {{ $value | humanize }} messages aside within an hour.",
            "They are in quarantine/ on the volume, with the reason. The exchange has changed its format, or a proxy its bytes.",
        ),
        Alert(
            "CryptoLakeClockOff",
            "max by (pod) (abs(crypto_lake_clock_offset_seconds{lake})) > 1",
            "10m",
            "warning",
            "The clock of {{ $labels.pod }}'s node is {{ $value | humanizeDuration }} off.",
            "Set the node's clock by NTP: quotes are dated by it.",
        ),
        Alert(
            "CryptoLakeAlertsNotDelivered",
            "sum by (pod) (increase(crypto_lake_webhook_failures_total{lake}[1h])) > 3",
            "0m",
            "warning",
            "The webhook took {{ $value | humanize }} messages of {{ $labels.pod }} not, within an hour.",
            "Look at the Secret that spec.alerts.webhookSecretRef names, and at spec.networkPolicy.egressPorts.",
        ),
    ]


def _bars_differ() -> Alert:
    return Alert(
        "CryptoLakeBarsDiffer",
        'max by (pod) (crypto_lake_checked_seconds{lake,verdict="unexplained"}) > 0',
        "0m",
        "critical",
        "{{ $value }} bars of {{ $labels.pod }} are not what the exchange's own klines say, and nothing explains it.",
        "The lake's condition Complete says so, too. In the pod, `crypto-lake check` with its --config names the seconds "
        "and `crypto-lake explain` the lines that a bar was made of. Keep raw of these days.",
    )


def _late(task: str, period_minutes: int) -> Alert:
    """Three periods without success. One that never succeeded is counted from the collector's start.

    The last of these must pass while there is the rule: a task that is new, or of a lake that was suspended, gets its turn
    before it is called late. Ten minutes without a figure, as of a collector that restarts, do not begin that anew.
    """
    limit = max(LEAST_LATE_SECONDS[task], 3 * 60 * period_minutes) - 60 * period_minutes
    succeeded = f'last_over_time(crypto_lake_task_last_ok_timestamp_seconds{{lake,task="{task}"}}[10m])'
    return Alert(
        f"CryptoLake{task.capitalize()}Late",
        f"time() - (max by (pod) ({succeeded} > 0)"
        f" or max by (pod) (last_over_time(process_start_time_seconds{{lake}}[10m]))) > {limit}",
        f"{period_minutes + min(period_minutes // 2, LONGEST_RUN_MINUTES)}m",
        "warning",
        f"{task} on the volume of {{{{ $labels.pod }}}} has not succeeded for {{{{ $value | humanizeDuration }}}}.",
        f"See the CronJob of {task} and its last jobs: a pod that is Pending waits for the collector's node; one that "
        "failed says why in its log.",
    )


def rule(alert: Alert, chosen: str, labels: dict[str, str], *, runbook_url: str = "") -> dict[str, Any]:
    """As a rule of Prometheus. `chosen`: matchers without their braces: `namespace="a",service="b"`."""
    expression = alert.expression
    for word in ("lake", "operator"):
        expression = expression.replace(f"{{{word}}}", f"{{{chosen}}}").replace(f"{{{word},", f"{{{chosen},")
    heading = alert.name.lower()
    link = {"runbook_url": f"{runbook_url}#{heading}"} if runbook_url else {"runbook": f"{RUNBOOK}#{heading}"}
    return {
        "alert": alert.name,
        "expr": expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity, **labels},
        "annotations": {"summary": alert.summary, "description": alert.description, **link},
    }


RESYNC: Final = "{resync}"  # in an expression: `operator.resyncSeconds` of the chart's values
_P: Final = "crypto_lake_operator"
OPERATOR: Final = (
    Alert(
        "CryptoLakeOperatorDown",
        "(sum(up{operator}) or vector(0)) < 1",
        "5m",
        "critical",
        "No operator of crypto-lake is up: lakes go on, and no change of them has an effect.",
        "See the operator's pods: whether they are scheduled, start, and are let in by the API server.",
    ),
    Alert(
        "CryptoLakeOperatorWithoutLeader",
        f"sum({_P}_leader{{operator}}) < 1",
        "5m",
        "critical",
        "Operators of crypto-lake are up, and none of them works.",
        "The lease can't be had: see the operator's log, and its Role for leases in its own namespace.",
    ),
    Alert(
        "CryptoLakeOperatorNotReconciling",
        f"max({_P}_queue_oldest_seconds{{operator}}) > 300"
        f" or time() - max({_P}_last_resync_timestamp_seconds{{operator}} > 0) > 3 * {RESYNC}",
        "5m",
        "critical",
        "The operator of crypto-lake does not get to its lakes.",
        "The API server is slow or refuses it, or the operator hangs: see its log and «Answers» on its dashboard. "
        "Deleting its pod is safe.",
    ),
    Alert(
        "CryptoLakeOperatorFault",
        f'sum(increase({_P}_reconciles_total{{operator,outcome="fault"}}[15m])) > 0',
        "0m",
        "warning",
        "The operator of crypto-lake stumbled over a lake.",
        "The lake has the reason OperatorFault, the operator's log the rest: please report it. The lake goes on as it was.",
    ),
    Alert(
        "CryptoLakeOperatorApiErrors",
        f'sum(rate({_P}_api_requests_total{{operator,code=~"5..|429|error"}}[10m]))'
        f" / sum(rate({_P}_api_requests_total{{operator}}[10m])) > 0.1",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the operator's calls of the API server fail.",
        "Is the API server well, and reachable from the operator (networkPolicy.egressPorts)? Lakes go on meanwhile.",
    ),
    Alert(
        "CryptoLakeOperatorMissesChanges",
        f"sum(increase({_P}_missed_changes_total{{operator}}[1h])) > 0",
        "0m",
        "warning",
        "A resync found changes of lakes that no watch had told.",
        "Something between operator and API server drops connections in silence, such as a proxy. Changes come late, by "
        "operator.resyncSeconds at most.",
    ),
    Alert(
        "CryptoLakeOperatorAlertsNotDelivered",
        f'sum(increase({_P}_alerts_total{{operator,outcome="failed"}}[1h])) > 3',
        "0m",
        "warning",
        "Webhooks of lakes took {{ $value | humanize }} messages of the operator not, within an hour.",
        "The operator's log names the lake. Look at the Secret that its spec.alerts.webhookSecretRef names.",
    ),
    Alert(
        "CryptoLakeUnreachable",
        f"max({_P}_collectors_unreachable{{operator}}) > 0",
        "10m",
        "warning",
        "{{ $value }} collectors run and do not answer the operator.",
        "Whether they collect is Unknown: ask Prometheus. A NetworkPolicy between them, or a collector that hangs.",
    ),
    Alert(
        "CryptoLakeNotReconciled",
        f'max({_P}_lakes_by_condition{{operator,condition="Reconciled",status="False"}}) > 0',
        "2h",
        "warning",
        "{{ $value }} lakes are not as their spec asks for, for two hours.",
        "kubectl get cryptolake --all-namespaces, then describe: the condition Reconciled says what is in the way.",
    ),
    Alert(
        "CryptoLakeNotUploaded",
        f'max({_P}_lakes_by_condition{{operator,condition="Uploaded",status="False"}}) > 0',
        "30m",
        "warning",
        "{{ $value }} lakes do not get their files, or their published days, into the bucket.",
        "kubectl get cryptolake --all-namespaces, then describe: the condition Uploaded says why. It also tells of publish, "
        "which no collector sees.",
    ),
    Alert(
        "CryptoLakeCopiesDiffer",
        f"max({_P}_published_trades_differing{{operator}}) > 0",
        "0m",
        "critical",
        "Of {{ $value }} trades of the last published day two copies do not say the same.",
        "kubectl get cryptolake --all-namespaces -o yaml: status.copies says which lake. The day's manifests in the bucket "
        "name the trades and the collectors (differing). Keep the raw: it holds both copies.",
    ),
    Alert(
        "CryptoLakeMacroFailing",
        f'max({_P}_lakes_by_task{{operator,task="macro",ok="False"}}) > 0',
        "2h",
        "warning",
        "{{ $value }} lakes did not get their macro-economic series when they were last fetched.",
        "kubectl get cryptolake --all-namespaces -o yaml: status.tasks says what macro met. It runs once a day, and fetches "
        "what is missing of the days before.",
    ),
)
