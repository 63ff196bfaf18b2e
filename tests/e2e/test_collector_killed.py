"""A collector's pod is killed every 20 seconds for three minutes: what was acknowledged is there, the rest is named."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest

from support.cluster import ApiError, Cluster, CommandFailedError

from .lakes import accounts_of, collector_status, durable, make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]
TIMES, EVERY_SECONDS = 9, 20.0


def test_what_was_acknowledged_is_there(cluster: Cluster) -> None:
    name, pod = make(cluster, "killed"), "killed-a-0"
    acknowledged: list[dict[str, int]] = []
    killed = 0
    for _ in range(TIMES):
        until = time.monotonic() + EVERY_SECONDS
        last: dict[str, int] = {}
        while time.monotonic() < until:
            # It may be starting.
            with contextlib.suppress(CommandFailedError, ApiError, OSError):
                last = durable(collector_status(cluster, pod)) or last
            time.sleep(0.5)
        uid = cluster.need("Pod", pod)["metadata"]["uid"]
        if last:
            acknowledged.append(last)
        cluster.delete("Pod", pod, grace_seconds=0)
        cluster.wait(
            "a new pod",
            lambda uid=uid: (cluster.get("Pod", pod) or {}).get("metadata", {}).get("uid") not in (None, uid),
            60,
        )
        killed += 1
    assert killed == TIMES
    assert len(acknowledged) >= TIMES - 2
    cluster.wait_for_condition(name, "Ready", "True", 120)
    cluster.wait("trades after the last gap", lambda: durable(collector_status(cluster, pod)), 60)
    cluster.run_task(f"{pod}-transform", "killed-transform")

    accounts = accounts_of(cluster, pod)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        seen, holes = accounts[symbol]["seen"], accounts[symbol]["missed"]
        ids = [moment[symbol] for moment in acknowledged if symbol in moment]
        lost = [id_ for id_ in ids if not any(first <= id_ <= last for first, last in seen)]
        assert not lost, f"{symbol}: acknowledged and not there: {lost}; seen {seen}, holes {holes}"
        runs = sorted(seen + holes)
        assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(runs)), runs
        assert holes, "every kill left a gap, and none is told"

    def gaps_in_status() -> bool:
        status = cluster.need("CryptoLake", name)["status"]
        return status["gapsOpen"] + status["gapsHealed"] > 0

    cluster.wait("the gaps in the status", gaps_in_status, 90, 1)
    remove(cluster, name)
