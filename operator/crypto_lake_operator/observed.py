"""What there is: the lake's children and what stands around them, as far as deciding needs it.

An observer keeps these small values, not the API's objects: `child_of`, `pod_of`, `job_of` and `claim_of` make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import msgspec

from crypto_lake.model import task_outcome
from crypto_lake.model.copies import PublishedCopies
from crypto_lake_operator import drift
from crypto_lake_operator.naming import CLAIM, LABEL_POD, LABEL_REPLICA, LAKE_TASKS, POD_NAME_LABEL, Slot
from crypto_lake_operator.report import Report

Manifest = dict[str, Any]
STOPPED: Final = (130, 143)  # exit codes of who was told to end, as when its time is over
PROGRAM: Final = "crypto-lake"  # what it puts before each line of complaint
API_SERVICE_MONITOR: Final = "monitoring.coreos.com/v1/ServiceMonitor"
API_PROMETHEUS_RULE: Final = "monitoring.coreos.com/v1/PrometheusRule"


class Key(NamedTuple):
    """Which child, in the lake's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Child:
    """A live object that bears our labels.

    controller: uid of the owner that controls it, empty where none does.
    body: what may differ from what was rendered: the object without status, managedFields and the like, as JSON.
    foreign: fields of it that others than we have set, as paths (see drift.foreign_fields).
    """

    key: Key
    uid: str
    resource_version: str
    controller: str
    body: bytes
    status: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    foreign: tuple[drift.Path, ...] = ()
    deleting: bool = False
    created: str = ""  # as the API gives it

    def manifest(self) -> Manifest:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a collector. Sizes are quantities as the API gives them."""

    name: str
    requested: str
    capacity: str = ""
    storage_class: str = ""
    phase: str = "Bound"
    owned_by_set: bool = False  # its StatefulSet's deletion, even with orphans, would delete it


@dataclass(frozen=True, slots=True)
class Pod:
    """A collector's pod. waiting: why its container does not start, such as ImagePullBackOff. ended: how it ended last."""

    name: str
    slot: Slot | None = None
    uid: str = ""
    node: str = ""
    ip: str = ""
    phase: str = "Pending"
    ready: bool = False
    ready_since: datetime | None = None  # when `ready` last changed
    revision: str = ""
    waiting: str = ""
    ended: str = ""
    unschedulable: str = ""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A task's pod that has not ended, with the claim that it holds."""

    job: str
    job_uid: str
    pod: str
    claim: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod that has ended, of a task of the whole lake. last_published_day, copies: None where it does not say."""

    task: str
    pod: str
    at: datetime
    ok: bool
    problem: str = ""
    last_published_day: str | None = None
    copies: PublishedCopies | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A collector that does not answer. since: of the first failure in a row."""

    why: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Observed:
    """All of one lake, at a moment. Nothing here is asked for while deciding.

    storage_classes: whether a class allows expansion; None: there is no such class; one that can't be read is absent.
    secrets: whether a named Secret has its key: False also where there is no such Secret; absent: not looked at.
    ends: by task of the whole lake, its pod that ended last, of those that are still there.
    apis: which optional kinds the cluster has.
    reports: by pod.
    not_made: by StatefulSet, why its controller can't make a pod or a claim, in its own words.
    """

    taken_at: datetime
    children: Mapping[Key, Child] = field(default_factory=lambda: MappingProxyType({}))
    claims: Mapping[str, Claim] = field(default_factory=lambda: MappingProxyType({}))
    pods: Mapping[str, Pod] = field(default_factory=lambda: MappingProxyType({}))
    jobs: tuple[Job, ...] = ()
    ends: Mapping[str, Ended] = field(default_factory=lambda: MappingProxyType({}))
    storage_classes: Mapping[str, bool | None] = field(default_factory=lambda: MappingProxyType({}))
    secrets: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    apis: frozenset[str] = frozenset()
    reports: Mapping[str, Report | Unreachable] = field(default_factory=lambda: MappingProxyType({}))
    not_made: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def child(self, kind: str, name: str) -> Child | None:
        return self.children.get(Key(kind, name))

    def report(self, pod: str) -> Report | None:
        found = self.reports.get(pod)
        return found if isinstance(found, Report) else None


_STATUS_KEPT: Final = {
    "StatefulSet": (
        "observedGeneration",
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "currentRevision",
        "updateRevision",
    ),
    "CronJob": ("lastScheduleTime", "lastSuccessfulTime"),
}
_METADATA_KEPT: Final = ("name", "namespace", "labels", "annotations", "ownerReferences", "generation")


def child_of(live: Mapping[str, Any]) -> Child:
    """Of an object as the API gives it."""
    metadata = live["metadata"]
    body = {key: value for key, value in live.items() if key not in ("metadata", "status")}
    body["metadata"] = {key: metadata[key] for key in _METADATA_KEPT if key in metadata}
    status = _below(live, "status")
    controller = next((o["uid"] for o in _items(metadata, "ownerReferences") if o.get("controller")), "")
    return Child(
        key=Key(live["kind"], metadata["name"]),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        controller=controller,
        body=msgspec.json.encode(body),
        status={key: status[key] for key in _STATUS_KEPT.get(live["kind"], ()) if key in status},
        foreign=drift.foreign_fields(metadata.get("managedFields") or ()),
        deleting="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp", ""),
    )


def claim_of(live: Mapping[str, Any]) -> Claim:
    metadata, spec, status = live["metadata"], live["spec"], _below(live, "status")
    return Claim(
        name=metadata["name"],
        requested=spec.get("resources", {}).get("requests", {}).get("storage", "0"),
        capacity=status.get("capacity", {}).get("storage", ""),
        storage_class=spec.get("storageClassName") or "",
        phase=status.get("phase", "Pending"),
        owned_by_set=any(o.get("kind") == "StatefulSet" for o in _items(metadata, "ownerReferences")),
    )


def pod_of(live: Mapping[str, Any]) -> Pod:
    metadata, spec, status = live["metadata"], _below(live, "spec"), _below(live, "status")
    labels = _below(metadata, "labels")
    conditions = {str(condition["type"]): condition for condition in _items(status, "conditions")}
    ready, scheduled = _below(conditions, "Ready"), _below(conditions, "PodScheduled")
    states = [_below(container, "state") for container in _items(status, "containerStatuses")]
    waiting = next((_below(state, "waiting") for state in states if "waiting" in state), _below({}, ""))
    last = [
        _below(_below(container, state), "terminated")
        for container in _items(status, "containerStatuses")
        for state in ("state", "lastState")
    ]
    name = labels.get(POD_NAME_LABEL, metadata["name"])
    ordinal = name.rpartition("-")[2]
    replica = labels.get(LABEL_REPLICA, "")
    return Pod(
        name=metadata["name"],
        slot=Slot(replica, int(ordinal)) if replica and ordinal.isdigit() else None,
        uid=metadata.get("uid", ""),
        node=spec.get("nodeName", ""),
        ip=status.get("podIP", ""),
        phase=status.get("phase", "Pending"),
        ready=ready.get("status") == "True",
        ready_since=_time(ready.get("lastTransitionTime")),
        revision=labels.get("controller-revision-hash", ""),
        waiting=": ".join(text for text in (waiting.get("reason"), waiting.get("message")) if text),
        ended=next((_how_it_ended(terminated) for terminated in last if terminated), ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        deleting="deletionTimestamp" in metadata,
    )


def job_of(live: Mapping[str, Any]) -> Job | None:
    """Of a task's pod; None where it has ended or holds no claim of a collector."""
    metadata, spec = live["metadata"], _below(live, "spec")
    if _below(live, "status").get("phase") in ("Succeeded", "Failed"):
        return None
    owner = next((o for o in _items(metadata, "ownerReferences") if o.get("kind") == "Job"), None)
    claims = [
        cast("str", volume["persistentVolumeClaim"]["claimName"])
        for volume in _items(spec, "volumes")
        if "persistentVolumeClaim" in volume
    ]
    if owner is None or not claims or LABEL_POD not in _below(metadata, "labels"):
        return None
    claim = next((name for name in claims if name.startswith(f"{CLAIM}-")), claims[0])
    return Job(owner["name"], owner["uid"], metadata["name"], claim, spec.get("nodeName", ""))


def _how_it_ended(terminated: Mapping[str, Any]) -> str:
    """`OOMKilled, exit code 137`, and the program's own last line where it ended by itself."""
    reason, code = str(terminated.get("reason", "")), terminated.get("exitCode", 0)
    how = f"exit code {code}" if reason in ("", "Error", "Completed") else f"{reason}, exit code {code}"
    said = last_words(str(terminated.get("message", "")))
    return f"{how}: {said}" if said else how


def last_words(message: str) -> str:
    """The program's complaint at the end of a log, without its name; empty where there is none."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    program, _, said = lines[-1].partition(": ") if lines else ("", "", "")
    return said[:300] if program == PROGRAM else ""


def ended_of(live: Mapping[str, Any]) -> Ended | None:
    """Of the pod of a task of the whole lake; None where it has not come to an end, or was stopped before: it goes on with
    the next run.
    """
    metadata, status = live["metadata"], _below(live, "status")
    task = _below(metadata, "labels").get("app.kubernetes.io/component", "")
    taken = any(c.get("type") == "DisruptionTarget" for c in _items(status, "conditions"))
    states = [_below(_below(c, "state"), "terminated") for c in _items(status, "containerStatuses")]
    terminated = next((state for state in states if state), None)
    at = _time(terminated.get("finishedAt")) if terminated else None
    if task not in LAKE_TASKS or taken or terminated is None or at is None:
        return None
    if terminated.get("exitCode") in STOPPED:
        return None
    message = str(terminated.get("message", ""))
    outcome = task_outcome.decode(message)
    if outcome is None or outcome.task != task:
        ok = terminated.get("exitCode") == 0
        problem = "" if ok else _how_it_ended(terminated)
        return Ended(task, metadata["name"], at, ok, problem)
    return Ended(
        *(task, metadata["name"], at, outcome.ok, outcome.problem),
        last_published_day=outcome.last_published_day,
        copies=outcome.copies,
    )


def _below(live: Mapping[str, Any], name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", live.get(name) or {})


def _items(live: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", live.get(name) or [])


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
