"""What is to be done, of what should be and what there is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.support.operator_lakes import NOW, SETTINGS, documents, lake, live_objects, observed_at_rest

from crypto_lake_operator.actions import (
    Action,
    Apply,
    Delete,
    DeleteJob,
    EvictPod,
    GrowClaim,
    OrphanRecreate,
    RemoveForeign,
    RetainClaims,
    Wait,
)
from crypto_lake_operator.api import ANNOTATION_ABANDON, CryptoLake
from crypto_lake_operator.decide import KINDS, STUCK_SECONDS, decide
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Child, Claim, Job, Key, Observed, Pod, child_of
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.render import plan
from crypto_lake_operator.report import Healing
from crypto_lake_operator.validate import read_lake

SET = Key("StatefulSet", "lake-a")
BUCKET = "gs://lake"


def decided(wanted: CryptoLake, observed: Observed) -> list[Action]:
    return decide(plan(wanted, SETTINGS, observed), observed)


def with_children(observed: Observed, **changed: Child | None) -> Observed:
    """changed: `StatefulSet_lake_a=…`; None: it is gone."""
    children = dict(observed.children)
    for name, child in changed.items():
        kind, _, rest = name.partition("_")
        key = Key(kind, rest.replace("_", "-"))
        if child is None:
            del children[key]
        else:
            children[key] = child
    return replace(observed, children=children)


def edited(wanted: CryptoLake, key: Key, change: Callable[[dict[str, Any]], None]) -> Child:
    """The live child after somebody's edit."""
    live = copy.deepcopy(live_objects(wanted)[key])
    change(live)
    return child_of(live)


def of(kind: type, actions: list[Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(documents.map(read_lake))
def test_all_is_made_once_and_then_nothing_is_done(any_lake: CryptoLake) -> None:
    actions = decided(any_lake, Observed(taken_at=NOW))
    assert all(isinstance(action, Apply) and not action.known for action in actions)
    assert not {"PersistentVolumeClaim", "Secret"} & {action.key.kind for action in of(Apply, actions)}
    assert decided(any_lake, observed_at_rest(any_lake)) == []


def test_a_lake_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    going = lake(metadata={"deletionTimestamp": "2024-08-09T12:00:00Z"})
    assert decided(going, Observed(taken_at=NOW)) == []


@pytest.mark.parametrize("key", sorted(live_objects(lake(bucket=BUCKET))), ids=str)
def test_a_child_that_is_gone_comes_back_and_one_of_somebody_else_is_left(key: Key) -> None:
    wanted = lake(bucket=BUCKET)
    rest = observed_at_rest(wanted)
    name = f"{key.kind}_{key.name.replace('-', '_')}"
    (again,) = decided(wanted, with_children(rest, **{name: None}))
    assert isinstance(again, Apply)
    assert again.key == key
    stranger = replace(rest.children[key], controller="somebody")
    (wait,) = decided(wanted, with_children(rest, **{name: stranger}))
    assert (wait.reason, wait.subject) == (Reason.NOT_OURS, str(key))
    going = replace(rest.children[key], deleting=True)
    (wait,) = decided(wanted, with_children(rest, **{name: going}))
    assert wait.reason is Reason.DELETING


def test_what_is_over_is_deleted_but_never_what_is_not_ours() -> None:
    wanted, old = lake(), lake(bucket=BUCKET, alerts={"gap": "5m"})
    observed = observed_at_rest(old)
    foreign = child_of(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "uid": "x"}, "data": {}}
    )
    claim = child_of(
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "uid": "y", "ownerReferences": [{"uid": "uid-1", "controller": True}]},
        }
    )
    observed = with_children(observed, ConfigMap_mine=foreign, PersistentVolumeClaim_c=claim)
    gone = {action.key for action in of(Delete, decided(wanted, observed))}
    assert gone == {
        Key("ConfigMap", "lake-publish"),
        Key("CronJob", "lake-a-0-upload"),
        Key("CronJob", "lake-publish"),
    }
    assert "PersistentVolumeClaim" not in KINDS


def test_a_setting_that_is_taken_back_is_applied_though_all_that_is_rendered_is_there() -> None:
    with_label = lake(pod={"nodeSelector": {"disk": "fast"}})
    actions = decided(lake(), observed_at_rest(with_label))
    assert [action.why for action in of(Apply, actions) if action.key == SET] == ["it is to be otherwise"]


def test_an_edit_is_put_back_and_what_the_server_adds_is_not_taken_for_one() -> None:
    wanted = lake()

    def default(live: dict[str, Any]) -> None:
        template = live["spec"]["template"]["spec"]
        template |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        template["containers"][0] |= {"terminationMessagePath": "/dev/termination-log"}
        template["containers"][0]["resources"]["limits"]["memory"] = "1024Mi"
        live["metadata"]["annotations"]["mine"] = "x"

    def scale(live: dict[str, Any]) -> None:
        live["spec"]["replicas"] = 7

    rest = observed_at_rest(wanted)
    assert decided(wanted, with_children(rest, StatefulSet_lake_a=edited(wanted, SET, default))) == []
    (action,) = decided(wanted, with_children(rest, StatefulSet_lake_a=edited(wanted, SET, scale)))
    assert isinstance(action, Apply)
    assert action.why == "spec.replicas was changed"


def test_what_was_added_is_removed_the_last_element_first_and_then_nothing_is_left_to_apply() -> None:
    wanted = lake()

    def add(live: dict[str, Any]) -> None:
        pod = live["spec"]["template"]["spec"]
        pod["containers"].append({"name": "spy", "image": "spy"})
        pod["containers"][0]["env"].append({"name": "MINE", "value": "x"})
        pod["hostNetwork"] = True
        live["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
        live["metadata"]["managedFields"] = [
            {
                "manager": "kubectl-edit",
                "fieldsV1": {
                    "f:spec": {
                        "f:template": {
                            "f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}},
                            "f:spec": {
                                "f:hostNetwork": {},
                                "f:containers": {
                                    'k:{"name":"collector"}': {
                                        "f:env": {'k:{"name":"MINE"}': {".": {}, "f:name": {}, "f:value": {}}}
                                    },
                                    'k:{"name":"spy"}': {".": {}, "f:name": {}, "f:image": {}},
                                },
                            },
                        }
                    }
                },
            },
            {
                "manager": "kube-controller-manager",
                "subresource": "status",
                "fieldsV1": {"f:spec": {"f:x": {}}},
            },
        ]

    (action,) = decided(
        wanted, with_children(observed_at_rest(wanted), StatefulSet_lake_a=edited(wanted, SET, add))
    )
    assert isinstance(action, RemoveForeign)
    at = "/spec/template/spec"
    assert set(action.pointers) == {f"{at}/hostNetwork", f"{at}/containers/1", f"{at}/containers/0/env/1"}
    containers = [pointer for pointer in action.pointers if "containers" in pointer]
    assert containers == [f"{at}/containers/1", f"{at}/containers/0/env/1"]


# Volumes


def grown(observed: Observed, **fields: Any) -> Observed:
    return replace(
        observed, claims={name: replace(claim, **fields) for name, claim in observed.claims.items()}
    )


def test_a_volume_grows_claim_first_then_the_set_without_its_pods() -> None:
    small, big = (
        lake(storage={"size": "10Gi", "whenDeleted": "Delete"}),
        {"size": "20Gi", "whenDeleted": "Delete"},
    )
    wanted = lake(storage=big)
    rest = grown(observed_at_rest(small), storage_class="fast")
    first = decided(wanted, replace(rest, storage_classes={"fast": True}))
    assert of(GrowClaim, first) == [GrowClaim("data-lake-a-0", "20Gi")]
    for action in of(Apply, first):  # nothing that the server would refuse
        template = action.manifest["spec"]["volumeClaimTemplates"][0] if action.key == SET else None
        assert template is None or template["spec"]["resources"]["requests"]["storage"] == "10Gi"
    asked = grown(rest, requested="20Gi", owned_by_set=True)
    assert of(RetainClaims, decided(wanted, asked)) == [RetainClaims(SET)]

    def retain(live: dict[str, Any]) -> None:
        live["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] = "Retain"

    retained = with_children(asked, StatefulSet_lake_a=edited(small, SET, retain))
    assert [wait.reason for wait in of(Wait, decided(wanted, retained))] == [Reason.RELEASING_CLAIMS]
    free = grown(retained, owned_by_set=False)
    (recreate,) = of(OrphanRecreate, decided(wanted, free))
    assert (recreate.key, recreate.uid, recreate.resource_version) == (SET, free.children[SET].uid, "1")
    assert (
        recreate.manifest["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        == "20Gi"
    )
    assert recreate.manifest["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    after = grown(observed_at_rest(wanted), requested="20Gi")
    assert decided(wanted, after) == []


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ({"size": "20Gi"}, Reason.VOLUME_CANT_GROW),
        ({"size": "5Gi"}, Reason.VOLUME_CANT_SHRINK),
        ({"size": "10Gi", "storageClassName": "other"}, Reason.STORAGE_CLASS_FIXED),
    ],
)
def test_a_volume_that_can_not_be_as_spec_says_is_told_and_all_else_goes_on(
    storage: dict[str, str], reason: Reason
) -> None:
    small = {"size": "10Gi", "storageClassName": "slow"}
    rest = grown(observed_at_rest(lake(storage=small)), storage_class="slow")
    rest = replace(rest, storage_classes={"slow": False})
    wanted = lake(storage=small | storage, image="newer")
    actions = decided(wanted, rest)
    assert [wait.reason for wait in of(Wait, actions)] == [reason]
    assert not of(GrowClaim, actions)
    assert not of(OrphanRecreate, actions)
    (change,) = [action for action in of(Apply, actions) if action.key == SET]
    assert change.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "newer"
    claims = rest.children[SET].manifest()["spec"]["volumeClaimTemplates"]
    assert change.manifest["spec"]["volumeClaimTemplates"] == claims
    # Applied, it is left alone, and still told.
    metadata = change.manifest["metadata"] | {"uid": rest.children[SET].uid, "resourceVersion": "2"}
    again = decided(
        wanted, with_children(rest, StatefulSet_lake_a=child_of(change.manifest | {"metadata": metadata}))
    )
    assert not [action for action in of(Apply, again) if action.key == SET]
    assert [wait.reason for wait in of(Wait, again)] == [reason]


def test_what_a_person_must_bring_is_told_and_no_obstacle() -> None:
    wanted = lake(storage={"storageClassName": "none"}, alerts={"webhookSecretRef": {"name": "hook"}})
    observed = Observed(taken_at=NOW, storage_classes={"none": None}, secrets={"hook": False})
    actions = decided(wanted, observed)
    assert [wait.reason for wait in of(Wait, actions)] == [
        Reason.STORAGE_CLASS_MISSING,
        Reason.SECRET_MISSING,
    ]
    assert SET in {action.key for action in of(Apply, actions)}
    secret = next(wait for wait in of(Wait, actions) if wait.reason is Reason.SECRET_MISSING)
    assert "kubectl create secret generic hook --from-literal=url=" in secret.message


# Replicas, shards, pods


def test_the_second_replica_changes_when_the_first_collects_again() -> None:
    old, new = (lake(bucket=BUCKET, replicas=2, image=image) for image in ("old", "new"))
    rest = observed_at_rest(old)
    sets = [action.key.name for action in of(Apply, decided(new, rest)) if action.key.kind == "StatefulSet"]
    assert sets == ["lake-a"]
    assert [wait.reason for wait in of(Wait, decided(new, rest))] == [Reason.ROLLING_OUT]

    def child(name: str, ready: int) -> Child:
        live = live_objects(new)[Key("StatefulSet", name)]
        return child_of(live | {"status": live["status"] | {"readyReplicas": ready}})

    def sets_applied(observed: Observed) -> list[str]:
        return [
            action.key.name
            for action in of(Apply, decided(new, observed))
            if action.key.kind == "StatefulSet"
        ]

    assert sets_applied(with_children(rest, StatefulSet_lake_a=child("lake-a", 0))) == []
    assert sets_applied(with_children(rest, StatefulSet_lake_a=child("lake-a", 1))) == ["lake-b"]
    # One that does not work has nothing to lose by a change.
    live = live_objects(old)[Key("StatefulSet", "lake-b")]
    broken = child_of(live | {"status": live["status"] | {"readyReplicas": 0}})
    assert sets_applied(with_children(rest, StatefulSet_lake_b=broken)) == ["lake-a", "lake-b"]


def test_a_suspension_waits_for_nothing() -> None:
    running = lake(bucket=BUCKET, replicas=2)
    actions = decided(lake(bucket=BUCKET, replicas=2, suspend=True), observed_at_rest(running))
    sets = [action.manifest for action in of(Apply, actions) if action.key.kind == "StatefulSet"]
    assert [manifest["spec"]["replicas"] for manifest in sets] == [0, 0]
    assert not of(Delete, actions)


def test_a_replica_that_goes_is_drained_and_its_claims_stay() -> None:
    two = lake(bucket=BUCKET, replicas=2, storage={"whenDeleted": "Delete"})
    one = lake(bucket=BUCKET, replicas=1, storage={"whenDeleted": "Delete"})
    rest = observed_at_rest(two)
    actions = decided(one, rest)
    assert not of(Delete, actions)
    config = next(a.manifest for a in of(Apply, actions) if a.key == Key("ConfigMap", "lake-b-config"))
    assert "idle: true" in config["data"]["shard-0.yml"]  # its heir has all symbols already
    drained = observed_at_rest(one, rest)
    assert drained.reports["lake-b-0"].pending_bytes == 0  # pyright: ignore[reportAttributeAccessIssue]
    actions = decided(one, drained)
    assert of(RetainClaims, actions) == [RetainClaims(Key("StatefulSet", "lake-b"))]
    gone = {action.key for action in of(Delete, actions)}
    assert gone == {Key("ConfigMap", "lake-b-config")} | {
        Key("CronJob", f"lake-b-0-{task}") for task in ("transform", "upload", "cleanup", "check")
    }

    # Not drained: nothing goes, unless somebody says so.
    waiting = replace(
        drained, reports={**drained.reports, "lake-b-0": collecting_with(drained, pending_bytes=1)}
    )
    assert not of(Delete, decided(one, waiting))
    # Nor while it fetches what it missed, for a while; an older collector does not say.
    since = collecting_with(drained).configuration
    for seconds, holes, goes in ((0, 2, False), (899, 1, False), (900, 2, True), (0, 0, True)):
        applied = msgspec.structs.replace(since, applied_ns=int((NOW.timestamp() - seconds) * 1e9))
        report = collecting_with(drained, healing=Healing(holes), configuration=applied)
        healing = replace(drained, reports={**drained.reports, "lake-b-0": report})
        assert bool(of(Delete, decided(one, healing))) == goes, (seconds, holes)
    abandoned = lake(
        bucket=BUCKET,
        storage={"whenDeleted": "Delete"},
        metadata={"annotations": {ANNOTATION_ABANDON: "true"}},
    )
    assert of(Delete, decided(abandoned, waiting))


def collecting_with(observed: Observed, **fields: Any) -> Any:
    return msgspec.structs.replace(observed.reports["lake-b-0"], **fields)


def test_a_task_that_holds_the_claim_on_another_node_is_deleted() -> None:
    wanted = lake()
    rest = observed_at_rest(wanted)
    stuck = replace(rest.pods["lake-a-0"], node="node-2", phase="Pending", ready=False)
    jobs = (
        Job("upload-1", "u1", "upload-1-x", "data-lake-a-0", "node-1"),
        Job("upload-2", "u2", "upload-2-x", "data-lake-a-0", "node-2"),
        Job("upload-3", "u3", "upload-3-x", "data-lake-a-1", "node-1"),
        Job("upload-4", "u4", "upload-4-x", "data-lake-a-0", ""),
    )
    actions = decided(wanted, replace(rest, pods={"lake-a-0": stuck}, jobs=jobs))
    assert [(a.job, a.uid) for a in of(DeleteJob, actions)] == [("upload-1", "u1")]
    assert decided(wanted, replace(rest, jobs=jobs)) == []  # it runs: nobody is in its way


def test_a_pod_that_is_stuck_on_an_old_revision_is_evicted_one_a_pass_and_not_at_once() -> None:
    wanted = lake(symbols=["BTCUSDT", "SOLUSDT"], shards=2, bucket=BUCKET)
    rest = observed_at_rest(wanted)

    def pods(seconds: float, **fields: Any) -> Mapping[str, Pod]:
        since = NOW - timedelta(seconds=seconds)
        return {
            n: replace(p, ready=False, ready_since=since, revision="r0", **fields)
            for n, p in rest.pods.items()
        }

    assert of(EvictPod, decided(wanted, replace(rest, pods=pods(STUCK_SECONDS - 1)))) == []
    (evicted,) = of(EvictPod, decided(wanted, replace(rest, pods=pods(STUCK_SECONDS))))
    assert evicted.pod == "lake-a-0"
    assert of(EvictPod, decided(wanted, replace(rest, pods=pods(900, deleting=True)))) == []
    newest = {name: replace(pod, revision="r1") for name, pod in pods(900).items()}
    assert of(EvictPod, decided(wanted, replace(rest, pods=newest))) == []


def test_more_shards_first_get_their_symbols_then_the_old_one_drops_them() -> None:
    names = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"]
    one, three = (lake(symbols=names, shards=shards, bucket=BUCKET) for shards in (1, 3))
    before = observed_at_rest(one)
    assert plan(three, SETTINGS, before).assignment.collects[Slot("a", 0)] == frozenset(names)
    begun = observed_at_rest(three, before)
    later = plan(three, SETTINGS, begun).assignment
    assert later.collects[Slot("a", 0)] == frozenset()
    assert sorted(s for each in later.collects.values() for s in each) == sorted(names)


def test_claims_of_another_lake_are_never_touched() -> None:
    wanted = lake(storage={"size": "20Gi"})
    rest = observed_at_rest(wanted)
    claims = {
        **rest.claims,
        "data-lake-b-0": Claim("data-lake-b-0", "1Gi"),
        "data-other-a-0": Claim("data-other-a-0", "1Gi"),
    }
    assert decided(wanted, replace(rest, claims=claims)) == []
