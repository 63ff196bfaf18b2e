"""The operator's own metrics. Labels are kinds, verbs, codes and outcomes: bounded sets. Series are there at zero."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from crypto_lake_operator import kinds, naming
from crypto_lake_operator.api_status import CONDITIONS, Status
from crypto_lake_operator.kinds import Kind

PREFIX: Final = "crypto_lake_operator"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES: Final = ("done", "failed", "unavailable", "fault")
POLLED: Final = ("ok", "timeout", "refused", "no_report")
ALERTS: Final = ("sent", "failed")
# Label -> field of CopiesStatus.
HELD_BY: Final = {
    "both": "shared",
    "a": "only_a",
    "b": "only_b",
    "other": "only_other",
    "none": "missing",
}
_STATUSES: Final = ("True", "False", "Unknown")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def version() -> str:
    """Of the installed program; `unknown` from a tree that was not installed."""
    try:
        return metadata.version("crypto-lake")
    except metadata.PackageNotFoundError:
        return "unknown"


class Metrics:
    """`bind` gives it what is only read when it is scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # CPU, memory, open files
        built = Gauge(f"{PREFIX}_build_info", "Always 1; which version.", ["version"], registry=self.registry)
        built.labels(version()).set(1)
        started = Gauge(
            f"{PREFIX}_start_time_seconds", "When the process began, Unix time.", registry=self.registry
        )
        started.set(time.time())
        self._reconcile_seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "How long a pass over one lake took.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._reconciles = Counter(
            f"{PREFIX}_reconciles",
            "Passes over a lake. failed: something was refused. unavailable: no API server. fault: of the operator.",
            ["outcome"],
            registry=self.registry,
        )
        self._calls = Counter(
            f"{PREFIX}_api_requests",
            "Calls of the API server; code `error`: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            f"{PREFIX}_api_request_seconds",
            "How long calls took, without watches.",
            ["verb"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._watch_restarts = Counter(
            f"{PREFIX}_watch_restarts", "Watches that began anew.", ["resource"], registry=self.registry
        )
        self._polls = Counter(
            f"{PREFIX}_polls", "Collectors asked for their status.", ["outcome"], registry=self.registry
        )
        self._poll_seconds = Histogram(
            f"{PREFIX}_poll_seconds",
            "How long a collector took to answer.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._alerts = Counter(
            f"{PREFIX}_alerts", "Messages to lakes' webhooks.", ["outcome"], registry=self.registry
        )
        self.missed_changes = Counter(
            f"{PREFIX}_missed_changes",
            "Lakes whose change no watch had told and a resync found.",
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self._reconciles.labels(outcome)
        for what in POLLED:
            self._polls.labels(what)
        for what in ALERTS:
            self._alerts.labels(what)
        for verb in ("get", "list", "create", "patch", "delete"):
            self._call_seconds.labels(verb)
        for kind in kinds.ALL:
            if kind in (kinds.LAKE, kinds.POD, kinds.CLAIM) or kind in kinds.CHILDREN:
                self._watch_restarts.labels(kind.plural)
        self._calls.labels("patch", kinds.LAKE.plural, "200")

    def bind(self, read: Callable[[], Figures]) -> None:
        self.registry.register(_Scraped(read))

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    # What happens

    def worked(self, what: str, seconds: float) -> None:
        self._reconciles.labels(what).inc()
        self._reconcile_seconds.observe(seconds)

    def called(self, verb: str, resource: str, code: str, seconds: float) -> None:
        self._calls.labels(verb, resource, code).inc()
        if verb != "watch":
            self._call_seconds.labels(verb).observe(seconds)

    def restarted(self, kind: Kind) -> None:
        self._watch_restarts.labels(kind.plural).inc()

    def polled(self, what: str, seconds: float) -> None:
        self._polls.labels(what).inc()
        self._poll_seconds.observe(seconds)

    def alerted(self, what: str) -> None:
        self._alerts.labels(what).inc()


class Figures:
    """What a scrape finds. Times are Unix seconds; 0: not yet."""

    __slots__ = (
        "collectors",
        "leader",
        "objects",
        "oldest_seconds",
        "queued",
        "resynced",
        "silent",
        "statuses",
        "synced",
        "working",
    )

    def __init__(
        self,
        *,
        leader: bool = False,
        queued: int = 0,
        oldest_seconds: float = 0.0,
        working: int = 0,
        objects: int = 0,
        resynced: float = 0.0,
        synced: bool = False,
        collectors: int = 0,
        silent: int = 0,
        statuses: Iterable[Status] = (),
    ) -> None:
        self.leader, self.queued, self.oldest_seconds, self.working = leader, queued, oldest_seconds, working
        self.objects, self.resynced, self.synced = objects, resynced, synced
        self.collectors, self.silent, self.statuses = collectors, silent, tuple(statuses)


class _Scraped:
    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        for name, text, value in (
            ("leader", "1 while this replica works.", now.leader),
            ("queue_depth", "Lakes that are due and not begun.", now.queued),
            ("queue_oldest_seconds", "How long the one that is overdue the most waits.", now.oldest_seconds),
            ("working", "Lakes that are being looked at.", now.working),
            ("cached_objects", "Children, claims and pods that are known.", now.objects),
            ("watches_synced", "1 when everything was listed.", now.synced),
            ("last_resync_timestamp_seconds", "When all lakes were last listed; 0: not yet.", now.resynced),
            ("collectors", "Collectors that are asked for their status.", now.collectors),
            ("collectors_unreachable", "Of these, those that do not answer.", now.silent),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=float(value))
        yield GaugeMetricFamily(f"{PREFIX}_lakes", "CryptoLakes that are there.", value=len(now.statuses))
        by_condition = GaugeMetricFamily(
            f"{PREFIX}_lakes_by_condition", "Lakes by a condition's status.", labels=["condition", "status"]
        )
        counts = dict.fromkeys(((type_, status) for type_ in CONDITIONS for status in _STATUSES), 0)
        for lake in now.statuses:
            for condition in lake.conditions:
                if (condition.type, condition.status) in counts:
                    counts[condition.type, condition.status] += 1
        for labels, count in counts.items():
            by_condition.add_metric(labels, count)
        yield by_condition
        by_task = GaugeMetricFamily(
            f"{PREFIX}_lakes_by_task",
            "Lakes by how the last run of a task went that has no volume.",
            labels=["task", "ok"],
        )
        runs = Counts((task.name, str(task.ok)) for lake in now.statuses for task in lake.tasks)
        for name in naming.LAKE_TASKS:
            for ok in ("True", "False"):
                by_task.add_metric((name, ok), runs[name, ok])
        yield by_task
        yield from _published(now.statuses)


def _published(statuses: Iterable[Status]) -> Iterator[Metric]:
    """Sums of lakes: which one it is, its own status tells."""
    found = [status.copies for status in statuses if status.copies is not None]
    held_by = GaugeMetricFamily(
        f"{PREFIX}_published_trades",
        "Trades of the lakes' last published days, by which replicas have them.",
        labels=["held_by"],
    )
    for label, field in HELD_BY.items():
        held_by.add_metric([label], sum(getattr(copies, field) for copies in found))
    yield held_by
    yield GaugeMetricFamily(
        f"{PREFIX}_published_trades_differing",
        "Of these, trades of which two copies do not say the same.",
        value=sum(copies.differing for copies in found),
    )
