"""The dashboard of the operator."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.chart.panels import Board, Panel, Query, Row, one

_P: Final = "crypto_lake_operator"


def _quantiles(histogram: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    labels = f"le, {by}" if by else "le"
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({labels}) (rate({_P}_{histogram}_bucket{{operator}}[$__rate_interval])))",
            f"{legend} {name}".strip(),
        )
        for q, name in (("0.5", "median"), ("0.99", "p99"))
    )


_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Replicas up",
            one("sum(up{operator})"),
            "short",
            "None: nothing is reconciled; what runs goes on.",
            "stat",
            3,
            red_below=1,
        ),
        Panel(
            "Leaders",
            one(f"sum({_P}_leader{{operator}})"),
            "short",
            "One works. None for longer than a minute: see the lease, and the operator's log.",
            "stat",
            3,
            red_below=1,
        ),
        Panel("Lakes", one(f"max({_P}_lakes{{operator}})"), "short", "That it looks after.", "stat", 3),
        Panel(
            "Lakes ready",
            one(f'max({_P}_lakes_by_condition{{operator,condition="Ready",status="True"}})'),
            "short",
            "Fewer than there are: `kubectl get cryptolake --all-namespaces`. Suspended ones are not ready.",
            "stat",
            3,
        ),
        Panel(
            "Collectors",
            one(f"max({_P}_collectors{{operator}})"),
            "short",
            "That are asked how they are.",
            "stat",
            3,
        ),
        Panel(
            "Unreachable",
            one(f"max({_P}_collectors_unreachable{{operator}})"),
            "short",
            "Collectors that do not answer: a NetworkPolicy, or one that hangs. What they do is Unknown.",
            "stat",
            3,
            red_from=1,
        ),
        Panel(
            "Waiting",
            one(f"max({_P}_queue_oldest_seconds{{operator}})"),
            "s",
            "Of the lake that is overdue the most. Seconds at most; minutes: the API server is slow, or workers are few.",
            "stat",
            3,
            red_from=60,
        ),
        Panel(
            "Since the last resync",
            one(f"time() - max({_P}_last_resync_timestamp_seconds{{operator}})"),
            "s",
            "Each ten minutes, unless `operator.resyncSeconds` says otherwise.",
            "stat",
            3,
            red_from=1800,
        ),
    ),
)
_LAKES: Final = Row(
    "Lakes",
    (
        Panel(
            "Conditions that do not hold",
            one(
                f'max by (condition) ({_P}_lakes_by_condition{{operator,status="False"}})',
                "{{condition}}",
            ),
            "short",
            "Lakes by condition. `kubectl describe cryptolake` gives reason and remedy.",
            width=12,
        ),
        Panel(
            "Conditions that are not known",
            one(
                f'max by (condition) ({_P}_lakes_by_condition{{operator,status="Unknown"}})',
                "{{condition}}",
            ),
            "short",
            "Collectors that could not be asked.",
            width=12,
        ),
        Panel(
            "Tasks that failed",
            one(f'max by (task) ({_P}_lakes_by_task{{operator,ok="False"}})', "{{task}}"),
            "short",
            "Lakes whose last `publish` or `macro` failed: `status.tasks` says why. Other tasks are on the lakes' board.",
            width=12,
        ),
    ),
)
_WORK: Final = Row(
    "Work",
    (
        Panel(
            "Passes",
            one(
                f"sum by (outcome) (rate({_P}_reconciles_total{{operator}}[$__rate_interval]))", "{{outcome}}"
            ),
            "cps",
            "Over a lake, by outcome. `failed`: the API server refuses something, see the lake's condition Reconciled. "
            "`fault`: the operator stumbled, see its log.",
        ),
        Panel(
            "Length of a pass",
            _quantiles("reconcile_seconds"),
            "s",
            "Grows with the API server's answers.",
        ),
        Panel(
            "Queue",
            (
                Query(f"max({_P}_queue_depth{{operator}})", "due"),
                Query(f"max({_P}_working{{operator}})", "being worked on"),
            ),
            "short",
            "Lakes. It empties within seconds after a resync; one that only grows: more `operator.workers`.",
        ),
    ),
)
_API: Final = Row(
    "API server",
    (
        Panel(
            "Calls",
            one(f"sum by (verb) (rate({_P}_api_requests_total{{operator}}[$__rate_interval]))", "{{verb}}"),
            "cps",
            "While nothing changes there are no `patch` and no `create`.",
        ),
        Panel(
            "Answers",
            one(f"sum by (code) (rate({_P}_api_requests_total{{operator}}[$__rate_interval]))", "{{code}}"),
            "cps",
            "403: a right, a quota or a policy. 409: it looks again. 429 and 5xx: the API server is busy. "
            "`error`: no answer.",
        ),
        Panel(
            "Length of calls",
            (
                Query(
                    "histogram_quantile(0.99, sum by (le) "
                    f"(rate({_P}_api_request_seconds_bucket{{operator}}[$__rate_interval])))",
                    "p99",
                ),
            ),
            "s",
            "Without watches.",
        ),
        Panel(
            "Watches begun anew",
            one(
                f"sum by (resource) (increase({_P}_watch_restarts_total{{operator}}[$__rate_interval]))",
                "{{resource}}",
            ),
            "short",
            "Each does so every few minutes. All at once: the API server restarted.",
        ),
        Panel(
            "Changes that no watch had told",
            one(f"sum(increase({_P}_missed_changes_total{{operator}}[$__rate_interval]))"),
            "short",
            "Found by a resync. More than none: something between operator and API server drops events.",
            red_from=1,
        ),
        Panel(
            "Known objects",
            one(f"max({_P}_cached_objects{{operator}})"),
            "short",
            "Children, claims and pods: what memory goes by.",
        ),
    ),
)
_COLLECTORS: Final = Row(
    "Collectors and alerts",
    (
        Panel(
            "Questions to collectors",
            one(f"sum by (outcome) (rate({_P}_polls_total{{operator}}[$__rate_interval]))", "{{outcome}}"),
            "cps",
            "Each collector is asked every 15 s. `timeout`: a NetworkPolicy, or one that hangs; `refused`: one that starts.",
        ),
        Panel("Length of their answers", _quantiles("poll_seconds"), "s", "Five seconds are given."),
        Panel(
            "Messages to webhooks",
            one(
                f"sum by (outcome) (increase({_P}_alerts_total{{operator}}[$__rate_interval]))", "{{outcome}}"
            ),
            "short",
            "What the operator alone sees: no collector, or one that can't be reached.",
        ),
    ),
)
_PROCESS: Final = Row(
    "Process",
    (
        Panel(
            "CPU",
            one("sum by (pod) (rate(process_cpu_seconds_total{operator}[$__rate_interval]))", "{{pod}}"),
            "short",
            "Cores.",
            width=12,
        ),
        Panel(
            "Memory",
            one("max by (pod) (process_resident_memory_bytes{operator})", "{{pod}}"),
            "bytes",
            "Resident; the limit is in the chart's `resources`.",
            width=12,
        ),
    ),
)
OPERATOR: Final = Board(
    "operator",
    "crypto-lake: operator",
    "operator",
    "crypto_lake_operator_build_info",
    (_NOW, _LAKES, _WORK, _API, _COLLECTORS, _PROCESS),
)
