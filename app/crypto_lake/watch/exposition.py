"""/metrics as text: a collector's snapshot, what is seen around it, and the process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.watch.lookout import Around
from crypto_lake.watch.metrics import families, single
from crypto_lake.watch.metrics_state import state_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text_of(
    snapshot: CollectorSnapshot, around: Around | None = None, *, is_ready: bool | None = None
) -> bytes:
    """In the format that every Prometheus reads. `is_ready` None: not told."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(snapshot, around, is_ready))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, snapshot: CollectorSnapshot, around: Around | None, is_ready: bool | None) -> None:
        self._snapshot, self._around, self._is_ready = snapshot, around, is_ready

    def collect(self) -> Iterator[Metric]:
        yield from families(self._snapshot)
        if self._is_ready is not None:
            yield single(
                "ready", "1 while it is subscribed and writing: what /readyz says.", float(self._is_ready)
            )
        if self._around is not None:
            yield from state_families(self._around, self._snapshot)

    def describe(self) -> list[Metric]:
        return []  # else registering would make them all
