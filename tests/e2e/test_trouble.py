"""What is missing around a lake becomes a condition that says what to do, and heals when it is there."""

from __future__ import annotations

import pytest

from support import pods
from support.cluster import Cluster, Manifest
from support.market import Market

from .lakes import make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_a_secret_that_is_missing(cluster: Cluster) -> None:
    name = "without-secret"
    cluster.apply(pods.lake(name, alerts={"webhookSecretRef": {"name": "not-yet", "key": "url"}}))
    told = cluster.wait_for_condition(name, "Reconciled", "False", 90, "SecretMissing")
    assert "not-yet" in told["message"]
    # It collects all the same.
    cluster.wait_for_condition(name, "Ready", "True", 90)
    secret = cluster.need("Secret", "webhook")
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-yet"}, "data": secret["data"]}
    )
    # The operator looks at this one Secret at each resync, not more often than it has reason to.
    cluster.patch("CryptoLake", name, {"metadata": {"annotations": {"looked-at": "again"}}})
    cluster.wait_for_condition(name, "Reconciled", "True", 150)
    remove(cluster, name)


def test_a_storage_class_that_is_missing(cluster: Cluster) -> None:
    name, lacking = "without-class", "not-there-yet"
    cluster.apply(pods.lake(name, storage={"size": "400Mi", "storageClassName": lacking}))
    told = cluster.wait_for_condition(name, "Ready", "False", 90, "StorageClassMissing")
    assert lacking in told["message"]
    (standard,) = [one for one in storage_classes(cluster) if is_default(one)]
    copy = {key: value for key, value in standard.items() if key not in ("metadata", "status")}
    cluster.apply(
        copy | {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": lacking}}
    )
    cluster.wait_for_condition(name, "Ready", "True", 180)
    remove(cluster, name)
    cluster.delete("StorageClass", lacking, "")


def storage_classes(cluster: Cluster) -> list[Manifest]:
    return cluster.list("StorageClass", namespace="")


def is_default(one: Manifest) -> bool:
    annotations = one["metadata"].get("annotations", {})
    return annotations.get("storageclass.kubernetes.io/is-default-class") == "true"


def test_a_bucket_that_is_missing(cluster: Cluster, image: str) -> None:
    """On a market whose hour ends at once, so that there is something to upload."""
    exchange = "hour-end"
    start = ("--start", "2026-04-01T12:58:00", "--speed", "30", "--hold")
    cluster.apply(
        *pods.simulator(image, exchange, "--symbols", "BTCUSDT,ETHUSDT", "--activity", "0.02", *start)
    )
    cluster.kubectl("rollout", "status", "deployment", exchange, "-n", cluster.namespace, "--timeout", "90s")
    name = make(cluster, "without-bucket", exchange, bucket="gs://not-made-yet/x")
    pod, market = f"{name}-a-0", Market(cluster, exchange)
    market.start()
    market.wait_until("2026-04-01T13:01:30", 60)
    cluster.run_task(f"{pod}-transform", f"{name}-transform")
    # The job tries three times by itself.
    with pytest.raises(AssertionError, match="not-made-yet"):
        cluster.run_task(f"{pod}-upload", f"{name}-upload-1", 300)
    told = cluster.wait_for_condition(name, "Uploaded", "False", 90, "UploadFailing")
    assert "not-made-yet" in told["message"]
    # Trouble with the bucket is none of the collector's.
    cluster.wait_for_condition(name, "Ready", "True", 60)
    cluster.ask(pods.GCS, pods.GCS_PORT, "/_fake/bucket", {"name": "not-made-yet"})
    cluster.run_task(f"{pod}-upload", f"{name}-upload-2")
    cluster.wait_for_condition(name, "Uploaded", "True", 90)
    remove(cluster, name)
    cluster.delete("Deployment", exchange)
