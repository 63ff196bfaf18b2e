"""Children whose names are taken, and children that a lake no longer asks for. On a suspended lake: no pods are needed."""

from __future__ import annotations

import pytest

from support import pods
from support.cluster import Cluster, Manifest

from .lakes import children_of, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LAKE = "names"


def strangers(children: list[Manifest]) -> list[Manifest]:
    """The same names with nothing of the operator's about them."""
    return [
        child | {"metadata": {"name": child["metadata"]["name"], "labels": {"whose": "a-person"}}}
        for child in children
    ]


def test_names_that_are_taken_are_left_alone_and_taken_over_when_they_are_free(cluster: Cluster) -> None:
    # What it will make is known before: it is made by somebody else first.
    lake = pods.lake(LAKE, suspend=True)
    cluster.apply(lake)
    cluster.wait_for_condition(LAKE, "Ready", "False", 60, "Suspended")
    children = children_of(cluster, LAKE)
    cluster.delete("CryptoLake", LAKE)
    for child in children:
        kind, name = child["kind"], child["metadata"]["name"]
        cluster.wait(f"{kind} {name} gone", lambda kind=kind, name=name: cluster.get(kind, name) is None, 60)
    cluster.apply(*strangers(children))

    cluster.apply(lake)
    told = cluster.wait_for_condition(LAKE, "Reconciled", "False", 60, "NameTaken")
    assert "does not control" in told["message"]
    for child in children:
        live = cluster.need(child["kind"], child["metadata"]["name"])
        assert live["metadata"]["labels"] == {"whose": "a-person"}
        cluster.delete(child["kind"], child["metadata"]["name"])
    cluster.wait_for_condition(LAKE, "Ready", "False", 120, "Suspended")
    for child in children:
        live = cluster.need(child["kind"], child["metadata"]["name"])
        assert live["metadata"]["ownerReferences"][0]["kind"] == "CryptoLake"


def test_what_is_no_longer_asked_for_goes(cluster: Cluster) -> None:
    """Without a bucket nothing is uploaded; without a policy there is none; with an account of the user's none is made."""
    cluster.apply(pods.lake(LAKE, suspend=True))
    cluster.wait_for_condition(LAKE, "Ready", "False", 90, "Suspended")
    gone = (
        ("CronJob", f"{LAKE}-a-0-upload"),
        ("CronJob", f"{LAKE}-publish"),
        ("ConfigMap", f"{LAKE}-publish"),
        ("NetworkPolicy", LAKE),
        ("ServiceAccount", LAKE),
    )
    for kind, name in gone:
        cluster.need(kind, name)
    change = {
        "bucket": None,
        "networkPolicy": {"enabled": False},
        "pod": {"serviceAccountName": "default"},
    }
    cluster.patch("CryptoLake", LAKE, {"spec": change})
    for kind, name in gone:
        cluster.wait(f"{kind} {name} gone", lambda kind=kind, name=name: cluster.get(kind, name) is None, 60)
    cluster.need("CronJob", f"{LAKE}-a-0-transform")
    remove(cluster, LAKE)
