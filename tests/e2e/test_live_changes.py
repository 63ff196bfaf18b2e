"""What is changed in a CryptoLake reaches what runs, and only what must restart does."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from support.cluster import Cluster

from .lakes import (
    accounts_of,
    alerts,
    collector_status,
    durable,
    holes_of,
    identity,
    make,
    remove,
    wait_for_symbols,
)

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_symbols_come_and_go_without_a_restart(cluster: Cluster, steady: str) -> None:
    pod = f"{steady}-a-0"
    before, holes = identity(cluster, pod), holes_of(cluster, pod)
    cluster.patch("CryptoLake", steady, {"spec": {"symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"]}})
    wait_for_symbols(cluster, steady, 3)
    assert identity(cluster, pod) == before
    cluster.patch("CryptoLake", steady, {"spec": {"symbols": ["BTCUSDT", "ETHUSDT"]}})
    wait_for_symbols(cluster, steady, 2)
    assert identity(cluster, pod) == before
    status = collector_status(cluster, pod)
    assert {stream["symbol"] for stream in status["streams"]} == {"BTCUSDT", "ETHUSDT"}
    # No trade of the others was missed for it.
    assert holes_of(cluster, pod).items() >= (holes | {"SOLUSDT": 0}).items()


def test_a_claim_grows_while_it_is_written_to(cluster: Cluster, steady: str) -> None:
    need_expansion(cluster)
    pod, claim = f"{steady}-a-0", f"data-{steady}-a-0"
    before, holes = identity(cluster, pod), holes_of(cluster, pod)
    cluster.patch("CryptoLake", steady, {"spec": {"storage": {"size": "600Mi"}}})
    cluster.wait(
        "the greater volume",
        lambda: (
            cluster.need("PersistentVolumeClaim", claim)["status"]["capacity"]["storage"] == "600Mi"
            and claim_template(cluster, f"{steady}-a") == "600Mi"
        ),
        150,
        1,
    )
    cluster.wait_for_condition(steady, "Reconciled", "True", 90)
    assert identity(cluster, pod) == before
    cluster.wait(
        "the collector's own view of it",
        lambda: collector_status(cluster, pod)["disk"]["total_bytes"] > 400 * 2**20,
        60,
        1,
    )
    assert holes_of(cluster, pod).items() >= holes.items()


def claim_template(cluster: Cluster, stateful_set: str) -> str:
    found = cluster.get("StatefulSet", stateful_set)
    if found is None:  # between the old one's end and the new one
        return ""
    return found["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]


def need_expansion(cluster: Cluster) -> None:
    classes = json.loads(cluster.request("GET", "/apis/storage.k8s.io/v1/storageclasses"))["items"]
    if not any(one.get("allowVolumeExpansion") for one in classes):
        pytest.skip("the cluster's storage class gives no volume of a size that can grow")


def test_suspend_stops_all_and_keeps_all(cluster: Cluster, steady: str) -> None:
    pod = f"{steady}-a-0"
    cluster.patch("CryptoLake", steady, {"spec": {"suspend": True}})
    cluster.wait("no collector", lambda: cluster.get("Pod", pod) is None, 90)
    cluster.wait_for_condition(steady, "Ready", "False", 60, "Suspended")
    jobs = [cluster.need("CronJob", f"{pod}-{task}") for task in ("transform", "upload", "cleanup")]
    assert all(job["spec"]["suspend"] for job in jobs)
    assert cluster.get("PersistentVolumeClaim", f"data-{pod}") is not None
    cluster.patch("CryptoLake", steady, {"spec": {"suspend": False}})
    cluster.wait_for_condition(steady, "Ready", "True", 120)


def test_a_lake_that_is_deleted_leaves_its_claims_and_another_of_its_name_goes_on_from_them(
    cluster: Cluster,
) -> None:
    name, pod = make(cluster, "again"), "again-a-0"
    cluster.wait("something durable", lambda: durable(collector_status(cluster, pod)), 60)
    before = collector_status(cluster, pod)
    claim = cluster.need("PersistentVolumeClaim", f"data-{pod}")
    cluster.kubectl("delete", "cl", name, "-n", cluster.namespace, "--timeout", "60s")
    cluster.wait("no pod", lambda: cluster.get("Pod", pod) is None, 90)
    for kind in ("StatefulSet", "Service", "ConfigMap", "CronJob"):
        cluster.wait(
            f"no {kind}", lambda kind=kind: not cluster.list(kind, {"app.kubernetes.io/instance": name}), 60
        )
    kept = cluster.need("PersistentVolumeClaim", f"data-{pod}")
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]

    make(cluster, name)
    after = collector_status(cluster, pod)
    assert after["collector"] == before["collector"]
    # What was durable is accounted for; what was traded meanwhile is a hole, by its ids.
    last_ids = durable(before)

    def gaps_told() -> dict[str, Any] | None:
        found = accounts_of(cluster, pod)
        after_it = {
            symbol: [h for h in found[symbol]["missed"] if h[0] > last_ids[symbol]] for symbol in last_ids
        }
        return found if all(after_it.values()) else None

    # A gap is known when the next trade comes.
    for symbol, told in cluster.wait("a gap of each symbol", gaps_told, 60).items():
        assert told["seen"][0][0] <= last_ids[symbol]
        covered = sorted(told["seen"] + told["missed"])
        assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(covered)), covered

    def gaps_in_status() -> bool:
        # They are fetched meanwhile: at whatever moment one looks, a gap is open or healed.
        status = cluster.need("CryptoLake", name)["status"]
        return status["gapsOpen"] + status["gapsHealed"] >= 2

    cluster.wait("the gaps in the status", gaps_in_status, 90, 1)
    remove(cluster, name)


def test_a_claim_that_is_full_is_survived_told_and_over_when_it_grows(cluster: Cluster) -> None:
    need_expansion(cluster)
    name = make(
        cluster,
        "small",
        bucket=None,
        storage={"size": "320Mi"},
        alerts={"webhookSecretRef": {"name": "webhook", "key": "url"}, "repeat": "1h"},
    )
    pod = f"{name}-a-0"
    before = identity(cluster, pod)

    def trouble() -> str:
        """Of the writer, after everything that was free has been taken again."""
        fill = "; ".join(f"dd if=/dev/zero bs={size} >>/data/filler 2>/dev/null" for size in ("1M", "4k"))
        cluster.exec(pod, "sh", "-c", f"{fill}; true", timeout_seconds=120)
        return collector_status(cluster, pod)["writer"]["trouble"]

    cluster.wait("a write that fails", lambda: trouble() == "disk_full", 90)
    cluster.wait_for_condition(name, "DiskHealthy", "False", 90, "DiskFull")
    told = cluster.wait("the alert at the webhook", lambda: alerts(cluster, "disk_usage", f"{name} a-0"), 90)
    assert told[0]["state"] == "firing"
    cluster.patch("CryptoLake", name, {"spec": {"storage": {"size": "500Mi"}}})
    cluster.wait_for_condition(name, "DiskHealthy", "True", 150)
    cluster.wait_for_condition(name, "Ready", "True", 60)
    assert collector_status(cluster, pod)["writer"]["trouble"] == ""
    assert identity(cluster, pod) == before
    remove(cluster, name)
