"""What belongs to the volumes, with the cluster's own controllers: nothing that holds data goes with what it belonged to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.support import controllers
from tests.support.apiserver import ApiServer, RefusedError
from tests.support.operator_fixtures import collectors, here, operator, proxy, server
from tests.support.operator_world import (
    Collector,
    Collectors,
    Running,
    World,
    eventually,
    files_of,
    report_of,
    set_pod,
    settle,
)

__all__ = ["collectors", "here", "operator", "proxy", "server"]  # fixtures


@pytest.fixture(scope="module")
def controlled(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    try:
        controllers.binary()
    except controllers.ControllersMissingError as error:
        pytest.skip(str(error))
    with controllers.controlling(server, tmp_path_factory.mktemp("controllers")):
        yield


def claim_class(server: ApiServer, name: str, *, grows: bool) -> None:
    body = {"metadata": {"name": name}, "provisioner": "test.invalid/none", "allowVolumeExpansion": grows}
    try:
        server.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body)
    except RefusedError as error:
        if error.code != 409:
            raise


def bind(world: World, claim: str) -> None:
    """As a provisioner and a resizer would: the volume has what was asked for."""
    live = world.get("PersistentVolumeClaim", claim)
    size = live["spec"]["resources"]["requests"]["storage"]
    status = {"phase": "Bound", "capacity": {"storage": size}}
    world.patch("PersistentVolumeClaim", claim, {"status": status}, subresource="status")


def start(world: World, lake: str, collectors: Collectors, *, count: int = 1) -> list[Collector]:
    """Plays the kubelet for the pods that the controller makes."""
    made: list[Collector] = []
    for shard in range(count):
        collector = collectors.new()
        text = eventually(lambda: files_of(world, lake)[f"shard-{shard}.yml"])  # noqa: B023
        collector.report = report_of(text)
        eventually(lambda: world.get("Pod", f"{lake}-a-{shard}"), what=f"pod {shard} is made")  # noqa: B023
        bind(world, f"data-{lake}-a-{shard}")
        set_pod(world, f"{lake}-a-{shard}", collector.address)
        made.append(collector)
    return made


def gone(look: Any) -> bool:
    try:
        look()
    except RefusedError as error:
        return error.code == 404
    return False


@pytest.mark.usefixtures("controlled", "operator")
def test_a_deleted_lake_takes_its_children_along_and_leaves_its_claims(
    here: World, collectors: Collectors
) -> None:
    lake = here.lake("left", bucket="gs://lake")
    start(here, "left", collectors)
    here.until("left", "Ready", "True")
    claim = here.get("PersistentVolumeClaim", "data-left-a-0")
    here.delete("CryptoLake", "left")
    eventually(lambda: here.children(lake["metadata"]["uid"]) == {}, what="the children are gone")
    assert here.get("PersistentVolumeClaim", "data-left-a-0")["metadata"]["uid"] == claim["metadata"]["uid"]
    # Applied again it goes on from there.
    again = here.lake("left", bucket="gs://lake")
    eventually(lambda: here.children(again["metadata"]["uid"]))
    assert here.get("PersistentVolumeClaim", "data-left-a-0")["metadata"]["uid"] == claim["metadata"]["uid"]


@pytest.mark.usefixtures("controlled", "operator")
@pytest.mark.parametrize("when_deleted", ["Retain", "Delete"])
def test_a_volume_grows_under_a_pod_that_goes_on(
    here: World, collectors: Collectors, when_deleted: str
) -> None:
    claim_class(here.server, "grows", grows=True)
    storage = {"size": "1Gi", "storageClassName": "grows", "whenDeleted": when_deleted}
    here.lake("big", storage=storage)
    start(here, "big", collectors)
    here.until("big", "Ready", "True")
    pod, old = here.get("Pod", "big-a-0"), here.get("StatefulSet", "big-a")
    claim = here.get("PersistentVolumeClaim", "data-big-a-0")
    here.lake("big", storage=storage | {"size": "2Gi"})

    def grown() -> bool:
        live = here.get("PersistentVolumeClaim", "data-big-a-0")
        assert live["metadata"]["uid"] == claim["metadata"]["uid"]
        return live["spec"]["resources"]["requests"]["storage"] == "2Gi"

    eventually(grown)

    def replaced() -> bool:
        live = here.get("StatefulSet", "big-a")
        size = live["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        return live["metadata"]["uid"] != old["metadata"]["uid"] and size == "2Gi"

    eventually(replaced, seconds=60, what="the StatefulSet is replaced")
    here.until("big", "Reconciled", "False", "GrowingVolume")
    bind(here, "data-big-a-0")
    here.until("big", "Reconciled", "True", seconds=60)
    kept = here.get("Pod", "big-a-0")
    assert kept["metadata"]["uid"] == pod["metadata"]["uid"]
    owners = kept["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == [here.get("StatefulSet", "big-a")["metadata"]["uid"]]
    policy = here.get("StatefulSet", "big-a")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenDeleted"] == when_deleted
    assert here.get("PersistentVolumeClaim", "data-big-a-0")["metadata"]["uid"] == claim["metadata"]["uid"]
    reasons = {event["reason"] for event in here.list("Event") if event["regarding"]["kind"] == "CryptoLake"}
    assert {"VolumeGrows", "Recreated"} <= reasons


@pytest.mark.usefixtures("controlled", "operator")
def test_a_class_that_can_not_grow_is_told(here: World, collectors: Collectors) -> None:
    claim_class(here.server, "fixed", grows=False)
    storage = {"size": "1Gi", "storageClassName": "fixed"}
    here.lake("fixed", storage=storage)
    start(here, "fixed", collectors)
    here.until("fixed", "Ready", "True")
    here.lake("fixed", storage=storage | {"size": "2Gi"})
    found = here.until("fixed", "Reconciled", "False", "VolumeCantGrow")
    assert "the class fixed of data-fixed-a-0 does not allow expansion" in found["message"]
    assert here.condition("fixed", "Ready")["status"] == "True"


@pytest.mark.usefixtures("controlled", "operator")
def test_shards_go_up_and_down_and_the_last_one_is_drained_first(here: World, collectors: Collectors) -> None:
    symbols = [f"S{n}USDT" for n in range(8)]
    here.lake("wide", bucket="gs://lake", symbols=symbols)
    (first,) = start(here, "wide", collectors)
    here.until("wide", "Reconciled", "True")
    before = here.get("Pod", "wide-a-0")["metadata"]["uid"]
    here.lake("wide", bucket="gs://lake", symbols=symbols, shards=2)
    eventually(lambda: "shard-1.yml" in files_of(here, "wide"))
    # The first one keeps what moves until the second one has it.
    assert set(symbols) <= set(report_symbols(files_of(here, "wide")["shard-0.yml"]))
    second = start(here, "wide", collectors, count=2)[1]
    eventually(lambda: len(report_symbols(files_of(here, "wide")["shard-0.yml"])) < len(symbols))
    first_text = files_of(here, "wide")["shard-0.yml"]
    both = here.get("Pod", "wide-a-0")
    by_address = both["status"]["podIP"]
    collectors.at(by_address).report = report_of(first_text)
    here.until("wide", "Reconciled", "True", seconds=60)
    assert both["metadata"]["uid"] == before, "a symbol moves without a restart"
    assert here.status("wide")["symbols"] == len(symbols)
    del first
    # Down: what the second one has is uploaded first.
    here.lake("wide", bucket="gs://lake", symbols=symbols, shards=1)
    eventually(lambda: set(symbols) <= set(report_symbols(files_of(here, "wide")["shard-0.yml"])))
    collectors.at(by_address).report = report_of(files_of(here, "wide")["shard-0.yml"])
    second_text = eventually(
        lambda: (text := files_of(here, "wide")["shard-1.yml"]) and "idle" in text and text
    )
    second.report = report_of(second_text, pending_bytes=5_000_000)
    here.until("wide", "Reconciled", "False", "Draining")
    assert here.get("StatefulSet", "wide-a")["spec"]["replicas"] == 2
    second.report = msgspec.structs.replace(second.report, pending_bytes=0)
    eventually(lambda: here.get("StatefulSet", "wide-a")["spec"]["replicas"] == 1)
    eventually(lambda: gone(lambda: here.get("CronJob", "wide-a-1-upload")))
    assert here.get("PersistentVolumeClaim", "data-wide-a-1")["metadata"].get("ownerReferences", []) == []


def report_symbols(text: str) -> list[str]:
    import yaml

    return yaml.safe_load(text)["collector"].get("symbols") or []


@pytest.mark.usefixtures("controlled", "operator")
def test_a_pod_that_is_stuck_on_an_old_revision_is_let_go(here: World, collectors: Collectors) -> None:
    """The controller waits for a pod that never gets ready before it brings the revision that would mend it."""
    here.lake("stuck", image="does-not:exist")
    eventually(lambda: here.get("Pod", "stuck-a-0"))
    old = here.get("Pod", "stuck-a-0")
    # Not ready, since long.
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": "2024-08-08T00:00:00Z"}
    status = {"phase": "Pending", "conditions": [condition]}
    here.patch("Pod", "stuck-a-0", {"status": status}, subresource="status")
    here.lake("stuck", image="crypto-lake:good")

    def another() -> bool:
        live = here.get("Pod", "stuck-a-0")
        image = live["spec"]["containers"][0]["image"]
        return live["metadata"]["uid"] != old["metadata"]["uid"] and image == "crypto-lake:good"

    eventually(another, seconds=60)


@pytest.mark.usefixtures("controlled")
def test_settled_is_what_the_controller_says(here: World, operator: Running, collectors: Collectors) -> None:
    here.lake("plain")
    start(here, "plain", collectors)
    here.until("plain", "Reconciled", "True", seconds=60)
    assert here.get("StatefulSet", "plain-a")["status"]["updatedReplicas"] == 1
    settle(here, "plain-a")
    assert operator.page("/readyz") == (200, "ok\n")


@pytest.mark.usefixtures("controlled", "operator")
def test_a_pod_that_a_quota_does_not_allow_is_told_in_the_words_of_the_one_who_was_refused(
    here: World, collectors: Collectors
) -> None:
    hard = {"pods": "0"}
    here.create("ResourceQuota", {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    here.patch("ResourceQuota", "none", {"status": {"hard": hard, "used": hard}}, subresource="status")
    here.lake("poor")
    found = here.until("poor", "Collecting", "False", "QuotaExceeded")
    assert "there is no pod poor-a-0" in found["message"]
    assert "exceeded quota: none" in found["message"]
    assert here.condition("poor", "Ready")["reason"] == "QuotaExceeded"
    here.delete("ResourceQuota", "none")
    start(here, "poor", collectors)
    here.until("poor", "Ready", "True", seconds=60)
