"""What the watches have brought, by lake: as small values, nothing of the API's objects. Pure; it may be lost any time.

An object belongs to the lake that controls it, else to the one that its instance label names. `put` tells whose picture
has changed, so that only those are looked at; what changes nothing that deciding needs, such as the time of a task's last
run, tells nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from crypto_lake_operator import api, kinds, naming, observed
from crypto_lake_operator.kinds import Kind
from crypto_lake_operator.observed import Child, Claim, Ended, Job, Pod


class Owner(NamedTuple):
    """A lake by its namespace and naming.base, which is all that a label tells of it."""

    namespace: str
    base: str


class Place(NamedTuple):
    namespace: str
    name: str


@dataclass(slots=True)
class Belongings:
    """All of one lake."""

    children: dict[observed.Key, Child] = field(default_factory=dict[observed.Key, Child])
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    pods: dict[str, Pod] = field(default_factory=dict[str, Pod])
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    ends: dict[str, Ended] = field(default_factory=dict[str, Ended])  # by pod

    @property
    def empty(self) -> bool:
        return not (self.children or self.claims or self.pods or self.jobs or self.ends)

    def last_ends(self) -> dict[str, Ended]:
        """By task, the one that ended last."""
        return {end.task: end for end in sorted(self.ends.values(), key=lambda end: end.at)}


Kept = Child | Claim | Pod | Job | Ended


@dataclass(slots=True)
class _Known:
    """owner: None where it is nobody's."""

    uid: str
    version: int
    owner: Owner | None


def owner_of(metadata: Mapping[str, Any]) -> Owner | None:
    namespace = metadata.get("namespace", "")
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == api.KIND:
            return Owner(namespace, naming.base(reference["name"]))
    labels = cast("Mapping[str, str]", metadata.get("labels") or {})
    instance = labels.get("app.kubernetes.io/instance", "")
    return Owner(namespace, instance) if instance else None


def _kept(kind: Kind, live: Mapping[str, Any]) -> Kept | None:
    if kind is kinds.CLAIM:
        return observed.claim_of(live)
    if kind is kinds.POD:
        pod = observed.pod_of(live)
        return pod if pod.slot is not None else observed.job_of(live) or observed.ended_of(live)
    return observed.child_of(live)


class Cache:
    """Of all namespaces that are watched."""

    def __init__(self) -> None:
        self._lakes: dict[Owner, Belongings] = {}
        self._known: dict[str, dict[Place, _Known]] = {}

    def of(self, owner: Owner) -> Belongings:
        """Not to be changed by the caller, and good until the next `put`."""
        return self._lakes.get(owner) or Belongings()

    def pods(self) -> Iterable[tuple[Owner, Pod]]:
        for owner, belongings in self._lakes.items():
            for pod in belongings.pods.values():
                yield owner, pod

    def __len__(self) -> int:
        return sum(len(places) for places in self._known.values())

    def has(self, kind: Kind, namespace: str, name: str, version: str) -> bool:
        """Whether exactly this version of it is known: as after our own write, whose event comes later."""
        known = self._known.get(kind.kind, {}).get(Place(namespace, name))
        return known is not None and known.version == _number(version)

    def put(self, kind: Kind, live: Mapping[str, Any]) -> set[Owner]:
        """An object as the API gives it. One that is older than what is known is passed over."""
        metadata = cast("Mapping[str, Any]", live["metadata"])
        place = Place(metadata.get("namespace", ""), metadata["name"])
        uid, version = metadata.get("uid", ""), _number(metadata.get("resourceVersion", ""))
        places = self._known.setdefault(kind.kind, {})
        known = places.get(place)
        if known is not None and known.uid == uid and version < known.version:
            return set()
        owner, kept = owner_of(metadata), _kept(kind, live)
        changed: set[Owner] = set()
        if known is not None and known.owner is not None and known.owner != owner:
            self._remove(kind, place, known.owner)
            changed.add(known.owner)
        places[place] = _Known(uid, version, owner)
        if owner is None:
            return changed
        if kept is None:
            return changed | ({owner} if self._remove(kind, place, owner) else set())
        return changed | ({owner} if self._set(kind, place.name, owner, kept) else set())

    def drop(self, kind: Kind, namespace: str, name: str, uid: str = "") -> set[Owner]:
        """It is gone, or has lost the labels by which it is watched. uid: only that one."""
        place = Place(namespace, name)
        known = self._known.get(kind.kind, {}).get(place)
        if known is None or (uid and known.uid != uid):
            return set()
        del self._known[kind.kind][place]
        if known.owner is None or not self._remove(kind, place, known.owner):
            return set()
        return {known.owner}

    def keep_only(
        self, kind: Kind, namespace: str, names: set[Place], before: int | None = None
    ) -> set[Owner]:
        """After a list: what is not in it is gone. namespace: whose list it was, empty for all. before: the list's
        resource version; what was written since is not in it and stays. None: nothing stays.
        """
        gone = [
            place
            for place, known in self._known.get(kind.kind, {}).items()
            if (not namespace or place.namespace == namespace)
            and place not in names
            and (before is None or known.version <= before)
        ]
        changed: set[Owner] = set()
        for place in gone:
            changed |= self.drop(kind, *place)
        return changed

    def _set(self, kind: Kind, name: str, owner: Owner, kept: Kept) -> bool:
        belongings = self._lakes.setdefault(owner, Belongings())
        before: Kept | None
        match kept:
            case Child():
                before = belongings.children.get(kept.key)
                belongings.children[kept.key] = kept
                return before is None or _differs(before, kept)
            case Claim():
                before = belongings.claims.get(name)
                belongings.claims[name] = kept
            case Pod():
                before = belongings.pods.get(name)
                belongings.pods[name] = kept
            case Job():
                before = belongings.jobs.get(name)
                belongings.jobs[name] = kept
            case Ended():
                before = belongings.ends.get(name)
                belongings.ends[name] = kept
        return before != kept

    def _remove(self, kind: Kind, place: Place, owner: Owner) -> bool:
        belongings = self._lakes.get(owner)
        if belongings is None:
            return False
        if kind is kinds.CLAIM:
            found: object = belongings.claims.pop(place.name, None)
        elif kind is kinds.POD:
            kept = (belongings.pods, belongings.jobs, belongings.ends)
            found = next((gone for each in kept if (gone := each.pop(place.name, None))), None)
        else:
            found = belongings.children.pop(observed.Key(kind.kind, place.name), None)
        if belongings.empty:
            del self._lakes[owner]
        return found is not None


def _differs(before: Child, after: Child) -> bool:
    """In what is worth a look. The times of a task's runs are read when something else calls for it."""
    same = dataclasses.replace(before, resource_version=after.resource_version)
    if after.key.kind == "CronJob":
        same = dataclasses.replace(same, status=after.status)
    return same != after


def _number(version: str) -> int:
    """Resource versions of one kind may be compared as numbers; one that is none is older than any."""
    return int(version) if version.isdigit() else 0
