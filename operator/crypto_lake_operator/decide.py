"""From what should be and what there is to what is to be done. Pure.

One pass does what can be done at once and says by Wait what has to come first; the next pass goes on from what it then
finds. No state is kept between passes. Claims and Secrets are never deleted, and no Apply names them.

A child is applied where its rendered hash is new, where something that was rendered is no longer so in the live object,
or where it is not there. What others added to it is removed by a patch of its own, since an apply removes only
what was ours (see drift).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from crypto_lake_operator import drift, naming, quantity
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
from crypto_lake_operator.observed import Child, Key, Manifest, Observed
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.render import Plan
from crypto_lake_operator.render.context import ANNOTATION_RENDERED, hash_of

# Kinds that a plan may hold, and so the only ones that are ever pruned.
KINDS: Final = (
    "ServiceAccount",
    "ConfigMap",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "Service",
    "StatefulSet",
    "CronJob",
    "ServiceMonitor",
    "PrometheusRule",
)
STUCK_SECONDS: Final = 120.0
_IMMUTABLE: Final = ("serviceName", "selector", "podManagementPolicy")


def decide(plan: Plan, observed: Observed) -> list[Action]:
    """What to do now, in this order. Empty where all is as it should be, and for a lake that is being deleted."""
    if plan.lake.metadata.deletion_timestamp is not None:
        return []
    actions: list[Action] = [*_missing(plan, observed)]
    wanted: set[Key] = set()
    settled = True  # the replicas before this one run what they should
    for manifest in plan.manifests:
        key = Key(manifest["kind"], manifest["metadata"]["name"])
        wanted.add(key)
        child = observed.children.get(key)
        if child is not None and child.deleting:
            actions.append(Wait(Reason.DELETING, f"{key} is being deleted; it is made again then", str(key)))
        elif child is not None and child.controller != plan.lake.metadata.uid:
            actions.append(not_ours(key))
        elif key.kind == "StatefulSet":
            steps = _stateful_set(plan, observed, manifest, child)
            if child is not None and not settled and _may_wait(manifest, child) and _changes(steps):
                message = f"{key.name} changes when the replica before it collects again"
                actions.append(Wait(Reason.ROLLING_OUT, message, str(key)))
                steps = []
            actions += steps
            settled = settled and child is not None and not _changes(steps) and is_settled(child)
        else:
            actions += _child(manifest, child)
    actions += _prune(plan, observed, wanted)
    actions += _repairs(plan, observed)
    return actions


def not_ours(key: Key) -> Wait:
    return Wait(
        Reason.NOT_OURS,
        f"there is already a {key} that this lake does not control; rename or delete it, or give the lake another name",
        str(key),
    )


def _missing(plan: Plan, observed: Observed) -> Iterator[Wait]:
    """What a person has to bring. The rest is applied all the same, so that it heals as soon as that is there."""
    spec = plan.lake.spec
    for name in (spec.storage.storage_class_name, spec.publish.scratch_storage_class_name):
        if name and name in observed.storage_classes and observed.storage_classes[name] is None:
            yield Wait(
                Reason.STORAGE_CLASS_MISSING,
                f"there is no StorageClass {name}; create it (kubectl get storageclass shows those there are)",
                name,
            )
    webhook = spec.alerts.webhook_secret_ref
    if webhook is not None and observed.secrets.get(webhook.name) is False:
        yield Wait(
            Reason.SECRET_MISSING,
            f"there is no Secret {webhook.name} with a key {webhook.key}, so no alert is sent; kubectl create secret "
            f"generic {webhook.name} --from-literal={webhook.key}=https://…",
            webhook.name,
        )


def _child(manifest: Manifest, child: Child | None) -> list[Action]:
    """Apply, remove what others added, or nothing."""
    if child is None:
        return [Apply(manifest, known=False, why="it is not there")]
    live = child.manifest()
    actions: list[Action] = []
    pointers = drift.intruders(live, manifest, child.foreign)
    if pointers:
        actions.append(RemoveForeign(child.key, child.resource_version, tuple(pointers)))
        for pointer in pointers:
            drift.remove(live, pointer)
    if why := _why_apply(manifest, live):
        actions.append(Apply(manifest, known=True, why=why))
    return actions


def _why_apply(manifest: Manifest, live: Mapping[str, Any]) -> str:
    rendered = manifest["metadata"]["annotations"][ANNOTATION_RENDERED]
    annotations: dict[str, str] = live["metadata"].get("annotations", {})
    if annotations.get(ANNOTATION_RENDERED) != rendered:
        return "it is to be otherwise"
    changed = drift.covers(live, manifest)
    return f"{changed} was changed" if changed else ""


# StatefulSets


def _stateful_set(plan: Plan, observed: Observed, manifest: Manifest, child: Child | None) -> list[Action]:
    actions: list[Action] = [*_claims(plan, observed, manifest)]
    if child is None:
        return [*actions, *_child(manifest, None)]
    live = child.manifest()
    wanted_spec, live_spec = manifest["spec"], live["spec"]
    size = wanted_spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    template = live_spec["volumeClaimTemplates"][0]["spec"]
    live_size = template["resources"]["requests"]["storage"]
    if template.get("storageClassName") != wanted_spec["volumeClaimTemplates"][0]["spec"].get(
        "storageClassName", template.get("storageClassName")
    ):
        actions.append(
            Wait(
                Reason.STORAGE_CLASS_FIXED,
                f"the volumes of {child.key.name} keep the class {template.get('storageClassName')}; set "
                "spec.storage.storageClassName back",
                str(child.key),
            )
        )
        return [*actions, *_child(_with_live_claims(manifest, live), child)]
    if quantity.parse(size) < quantity.parse(live_size):
        message = f"volumes don't shrink: spec.storage.size is {size}, they have {live_size}; set it back"
        actions.append(Wait(Reason.VOLUME_CANT_SHRINK, message, str(child.key)))
        return [*actions, *_child(_with_live_claims(manifest, live), child)]
    grows = not quantity.same(size, live_size)
    differs = next((name for name in _IMMUTABLE if drift.covers(live_spec.get(name), wanted_spec[name])), "")
    if not grows and not differs:
        return [*actions, *_child(manifest, child)]
    if grows and actions:  # claims first; where they can't grow, all else goes on
        return [*actions, *_child(_with_live_claims(manifest, live), child)]
    why = f"its volumes are to have {size}" if grows else f"{differs} can't be changed in place"
    return [*actions, *_recreate(observed, manifest, child, live_spec, why)]


def _let_go(observed: Observed, child: Child, live_spec: Mapping[str, Any]) -> Action | None:
    """What has to happen before a set can be deleted without its claims; None: nothing."""
    policy: dict[str, str] = live_spec.get("persistentVolumeClaimRetentionPolicy", {})
    if policy.get("whenDeleted", "Retain") != "Retain":
        return RetainClaims(child.key)
    prefix = f"{naming.CLAIM}-{child.key.name}-"
    bound = [
        name for name, claim in observed.claims.items() if name.startswith(prefix) and claim.owned_by_set
    ]
    if bound:
        message = f"{', '.join(sorted(bound))} must be free of {child.key.name} before that is deleted"
        return Wait(Reason.RELEASING_CLAIMS, message, str(child.key))
    return None


def _with_live_claims(manifest: Manifest, live: Mapping[str, Any]) -> Manifest:
    """The manifest as far as it can be applied in place: with the claim template that stands."""
    kept = [
        {key: value for key, value in claim.items() if key != "status"}
        for claim in live["spec"]["volumeClaimTemplates"]
    ]
    changed = manifest | {"spec": manifest["spec"] | {"volumeClaimTemplates": kept}}
    metadata = manifest["metadata"]
    annotations = {k: v for k, v in metadata["annotations"].items() if k != ANNOTATION_RENDERED}
    unhashed = changed | {"metadata": metadata | {"annotations": annotations}}
    annotations = annotations | {ANNOTATION_RENDERED: hash_of(unhashed)}
    return changed | {"metadata": metadata | {"annotations": annotations}}


def _claims(plan: Plan, observed: Observed, manifest: Manifest) -> Iterator[Action]:
    """Claims of this set that are smaller than spec says."""
    replica = manifest["metadata"]["labels"][naming.LABEL_REPLICA]
    size = plan.lake.spec.storage.size
    for slot in sorted(plan.assignment.collects):
        claim = observed.claims.get(naming.claim(plan.lake.metadata.name, slot))
        if slot.replica != replica or claim is None:
            continue
        if quantity.parse(claim.requested) >= quantity.parse(size):
            continue
        if observed.storage_classes.get(claim.storage_class) is False:
            yield Wait(
                Reason.VOLUME_CANT_GROW,
                f"the class {claim.storage_class} of {claim.name} does not allow expansion; set allowVolumeExpansion: "
                "true in it where its driver can, or set spec.storage.size back",
                claim.name,
            )
        else:
            yield GrowClaim(claim.name, size)


def _recreate(
    observed: Observed, manifest: Manifest, child: Child, live_spec: Mapping[str, Any], why: str
) -> list[Action]:
    """Only when no claim goes with the set that is deleted."""
    if first := _let_go(observed, child, live_spec):
        return [first]
    return [OrphanRecreate(child.key, child.uid, child.resource_version, manifest, why)]


def is_settled(child: Child) -> bool:
    """Every pod of the set runs its newest revision and is ready."""
    live, status = child.manifest(), child.status
    replicas = live["spec"].get("replicas", 1)
    return (
        status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) == replicas
        and status.get("readyReplicas", 0) == replicas
    )


def _may_wait(manifest: Manifest, child: Child) -> bool:
    """A set that works can wait for the one before it; one that does not, and a suspension, must not."""
    return (
        bool(manifest["spec"]["replicas"])
        and bool(child.manifest()["spec"].get("replicas", 1))
        and is_settled(child)
    )


def _changes(actions: Sequence[Action]) -> bool:
    return any(isinstance(action, Apply | OrphanRecreate) for action in actions)


# What is over, and what is stuck


def _prune(plan: Plan, observed: Observed, wanted: set[Key]) -> Iterator[Action]:
    for key, child in sorted(observed.children.items()):
        ours = child.controller == plan.lake.metadata.uid and key.kind in KINDS
        if key in wanted or child.deleting or not ours:
            continue
        if key.kind == "StatefulSet":
            first = _let_go(observed, child, child.manifest()["spec"])  # the lake stays: so do its claims
            if first is not None:
                yield first
                continue
        yield Delete(key, child.uid)


def _repairs(plan: Plan, observed: Observed) -> Iterator[Action]:
    yield from _claim_holders(observed)
    for name, pod in sorted(observed.pods.items()):
        if pod.slot is None or pod.ready or pod.deleting or pod.ready_since is None:
            continue
        child = observed.child("StatefulSet", naming.stateful_set(plan.lake.metadata.name, pod.slot.replica))
        newest = child.status.get("updateRevision", "") if child else ""
        stuck_seconds = (observed.taken_at - pod.ready_since).total_seconds()
        if newest and pod.revision and pod.revision != newest and stuck_seconds >= STUCK_SECONDS:
            yield EvictPod(
                name, pod.uid, f"it is not ready for {stuck_seconds:.0f} s, on the revision before the newest"
            )
            return  # one a pass: the next is looked at when this one has come back


def _claim_holders(observed: Observed) -> Iterator[DeleteJob]:
    """Tasks that hold a collector's claim on another node than the one it was sent to (Multi-Attach)."""
    for name, pod in sorted(observed.pods.items()):
        if not pod.node or pod.phase != "Pending" or pod.deleting:
            continue
        for job in observed.jobs:
            if job.claim == f"{naming.CLAIM}-{name}" and job.node and job.node != pod.node:
                why = f"it holds {job.claim} on {job.node}, and {name} waits for it on {pod.node}"
                yield DeleteJob(job.job, job.job_uid, why)
