"""What is thought of the streams as Prometheus metrics. Pure.

What each one is, /status tells; here they are counted by it, and of each only whether it is dead: a series for every
stream and state would be twelve times as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.completeness.liveness import DEAD, Liveness


def liveness_families(snapshot: CollectorSnapshot) -> Iterator[Metric]:
    exchange = snapshot.exchange
    counts = Counter(stream.liveness for stream in snapshot.streams)
    by_liveness = GaugeMetricFamily(
        "crypto_lake_streams", "Streams by what is thought of them.", labels=["exchange", "liveness"]
    )
    for kind in Liveness:
        by_liveness.add_metric([exchange, kind.value], counts[kind.value])
    yield by_liveness
    dead = GaugeMetricFamily(
        "crypto_lake_stream_dead",
        "1 while it is known that the stream does not bring what it should.",
        labels=["exchange", "symbol", "stream"],
    )
    for stream in snapshot.streams:
        dead.add_metric([exchange, stream.symbol, stream.kind], float(stream.liveness in DEAD))
    yield dead
    replaced = CounterMetricFamily(
        "crypto_lake_stream_replacements",
        "Connections replaced because a stream was dead, by what was found.",
        labels=["exchange", "liveness"],
    )
    for kind in Liveness:
        if kind.dead:
            replaced.add_metric([exchange, kind.value], snapshot.replacements.get(kind.value, 0))
    yield replaced
    yield CounterMetricFamily(
        "crypto_lake_liveness_requests",
        "Requests that asked the exchange about streams that say nothing.",
        value=snapshot.liveness_requests,
    )
