"""What the operator made is put back when somebody edits or deletes it."""

from __future__ import annotations

from typing import Any

import pytest

from crypto_lake_operator import drift
from support.cluster import Cluster, Manifest

from .lakes import children_of

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# An edit of each kind that takes something of what was rendered away, and is allowed.
EDITS: dict[str, dict[str, Any]] = {
    "ServiceAccount": {"automountServiceAccountToken": True},
    # The same symbols: the collector may read it before it is put back, and follows.
    "ConfigMap": {
        "data": {
            "shard-0.yml": "collector: {symbols: [BTCUSDT, ETHUSDT]}\n",
            "publish.yml": "gcs: {}\n",
        }
    },
    "PodDisruptionBudget": {"spec": {"maxUnavailable": 7}},
    "NetworkPolicy": {"spec": {"egress": [{}]}},
    "Service": {"spec": {"ports": [{"name": "other", "port": 1, "targetPort": 1}]}},
    "StatefulSet": {"spec": {"minReadySeconds": 99}},
    "CronJob": {"spec": {"schedule": "7 7 29 2 *"}},
}


def name_of(child: Manifest) -> str:
    return f"{child['kind']} {child['metadata']['name']}"


def differing(cluster: Cluster, children: list[Manifest]) -> list[str]:
    """What is not as rendered, with the place."""
    found: list[str] = []
    for child in children:
        live = cluster.get(child["kind"], child["metadata"]["name"])
        if live is None:
            found.append(f"{name_of(child)}: not there")
        elif place := drift.covers(live, child):
            found.append(f"{name_of(child)}: {place}")
    return found


def wait_until_as_rendered(cluster: Cluster, children: list[Manifest], seconds: float) -> None:
    last: list[str] = []

    def look() -> bool:
        last[:] = differing(cluster, children)
        return not last

    try:
        cluster.wait("every child as rendered", look, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None


def test_each_is_as_rendered_and_comes_back_after_an_edit_and_after_a_deletion(
    cluster: Cluster, steady: str
) -> None:
    children = children_of(cluster, steady)
    assert {child["kind"] for child in children} == EDITS.keys()
    wait_until_as_rendered(cluster, children, 60)
    pod = cluster.need("Pod", f"{steady}-a-0")

    for child in children:
        cluster.patch(child["kind"], child["metadata"]["name"], EDITS[child["kind"]])
    wait_until_as_rendered(cluster, children, 60)
    # The pod is the one that ran before: nothing of this is worth a restart.
    now = cluster.need("Pod", f"{steady}-a-0")
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]

    before = {name_of(c): cluster.need(c["kind"], c["metadata"]["name"])["metadata"]["uid"] for c in children}
    for child in children:
        cluster.delete(child["kind"], child["metadata"]["name"])
    cluster.wait(
        "each child made anew",
        lambda: all(
            (live := cluster.get(c["kind"], c["metadata"]["name"])) is not None
            and live["metadata"]["uid"] != before[name_of(c)]
            for c in children
        ),
        90,
    )
    wait_until_as_rendered(cluster, children, 60)
    cluster.wait_for_condition(steady, "Ready", "True", 120)
    # The claim was nobody's to delete.
    assert cluster.need("PersistentVolumeClaim", f"data-{steady}-a-0")["status"]["phase"] == "Bound"


def test_all_pods_meet_the_restricted_standard(cluster: Cluster, steady: str) -> None:
    """The namespaces enforce it: a pod that did not would not be there. So this is about the label being there."""
    for name in (cluster.namespace, "crypto-lake-system"):
        labels = cluster.need("Namespace", name, "")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert cluster.list("Pod", namespace=name)
