"""Healing and the account of REST weight as Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from crypto_lake.capture.snapshot import HealingSnapshot

STATES: Final = ("off", "idle", "healing", "waiting", "blocked", "unreachable")
_BLOCKING: Final = (418, 429)
_ANSWERS: tuple[str, ...] = ("ok", "limited", "refused", "failed")
_COUNTERS: tuple[tuple[str, str, Callable[[HealingSnapshot], float]], ...] = (
    ("healed_trades", "Missed trades that were fetched.", lambda h: h.trades_healed),
    (
        "healed_aggregated_trades",
        "Of these, trades that are known by the sum of their aggregate alone.",
        lambda h: h.trades_aggregated,
    ),
    ("healed_files", "Files of fetched trades.", lambda h: h.files),
    (
        "never_existed_trades",
        "Missing ids of which the exchange says that there are no such trades.",
        lambda h: h.trades_never_existed,
    ),
    (
        "unavailable_trades",
        "Missed trades that the exchange does not give; the ledger says why.",
        lambda h: h.trades_unavailable,
    ),
    ("rest_refusals", "Answers 429 and 418, to all processes of the lake.", lambda h: h.refusals),
)
_GAUGES: tuple[tuple[str, str, Callable[[HealingSnapshot], float]], ...] = (
    ("healing_gaps_waiting", "Gaps that it works on.", lambda h: h.gaps_waiting),
    (
        "healing_oldest_gap_seconds",
        "How long ago the oldest of these gaps was, by the lake's clock; 0: there is none.",
        lambda h: h.oldest_gap_seconds,
    ),
    (
        "rest_weight_used",
        "REST weight that counts now, of all processes of the lake.",
        lambda h: h.weight_used,
    ),
    ("rest_weight_share", "REST weight that may be used in a minute.", lambda h: h.weight_share),
    (
        "rest_blocked_seconds",
        "So long nothing is asked, because the exchange said so; 0: it may be.",
        lambda h: h.blocked_seconds,
    ),
)


def healing_families(healing: HealingSnapshot | None) -> Iterator[Metric]:
    told = healing or HealingSnapshot()
    state = GaugeMetricFamily(
        "crypto_lake_healing_state", "1 for what healing does now, 0 for the others.", labels=["state"]
    )
    for name in STATES:
        state.add_metric([name], float(told.state == name))
    yield state
    for name, text, value in _COUNTERS:
        yield CounterMetricFamily(f"crypto_lake_{name}", text, value=value(told))
    answers = CounterMetricFamily(
        "crypto_lake_healing_requests",
        "Requests for past trades, by how they were answered.",
        labels=["outcome"],
    )
    by_answer = _by_answer(told.requests)
    for name in _ANSWERS:
        answers.add_metric([name], by_answer[name])
    yield answers
    for name, text, value in _GAUGES:
        yield GaugeMetricFamily(f"crypto_lake_{name}", text, value=value(told))
    blocked = GaugeMetricFamily(
        "crypto_lake_rest_blocked",
        "1 while nothing is asked because the exchange answered so: 429 is a warning, 418 a ban of the address.",
        labels=["status"],
    )
    for status in _BLOCKING:
        blocked.add_metric([str(status)], float(told.blocked_by == status and told.blocked_seconds > 0))
    yield blocked


def _by_answer(requests: Mapping[str, int]) -> dict[str, int]:
    """Statuses are the exchange's to choose: these four are all."""
    counts = dict.fromkeys(_ANSWERS, 0)
    for status, count in requests.items():
        if status == "200":
            counts["ok"] += count
        elif status in ("418", "429"):
            counts["limited"] += count
        elif status.startswith("4"):
            counts["refused"] += count
        else:
            counts["failed"] += count
    return counts
