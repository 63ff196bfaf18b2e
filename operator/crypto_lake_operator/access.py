"""All that the operator asks of the API server. Pure: the client refuses any other call, and the chart's Role is this.

A Role can't name objects that are not there yet, so rules are about whole kinds. Where a namespace is looked after, the
rules of `IN_NAMESPACE` hold there; those of `IN_OWN` in the operator's own namespace; `CLUSTER` needs a ClusterRole and
is optional: without it a missing StorageClass is not told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from crypto_lake_operator import kinds
from crypto_lake_operator.kinds import Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """resource: as RBAC writes it, `pods` or `pods/eviction`. why: for the one who reads the Role."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str

    def as_rbac(self) -> dict[str, list[str]]:
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}


def _child(kind: Kind) -> Rule:
    verbs = ("get", "list", "watch", "create", "patch", "delete")
    return Rule(kind.group, kind.plural, verbs, "a lake's children")


IN_NAMESPACE: Final = (
    Rule(kinds.LAKE.group, kinds.LAKE.plural, ("get", "list", "watch"), "lakes; spec is never written"),
    Rule(kinds.LAKE.group, f"{kinds.LAKE.plural}/status", ("patch",), "what became of a lake"),
    *(_child(kind) for kind in kinds.CHILDREN),
    *(_child(kind) for kind in kinds.OPTIONAL.values()),
    Rule("", "pods", ("list", "watch"), "whether collectors run"),
    Rule("", "pods/eviction", ("create",), "a collector that is stuck on an old revision"),
    Rule("", "persistentvolumeclaims", ("list", "watch", "patch"), "volumes grow; none is ever deleted"),
    Rule("batch", "jobs", ("delete",), "a task that holds a volume on the wrong node"),
    Rule("", "secrets", ("get",), "the one that spec.alerts.webhookSecretRef names"),
    Rule(
        kinds.EVENT.group,
        kinds.EVENT.plural,
        ("create", "list"),
        "what a person should know; why a pod is not made",
    ),
)
IN_OWN: Final = (
    Rule(kinds.LEASE.group, kinds.LEASE.plural, ("get", "create", "patch"), "which replica works"),
)
CLUSTER: Final = (
    Rule(kinds.STORAGE_CLASS.group, kinds.STORAGE_CLASS.plural, ("get",), "whether volumes can grow"),
)
ALL: Final = (*IN_NAMESPACE, *IN_OWN, *CLUSTER)


def allowed(rules: Iterable[Rule]) -> frozenset[tuple[str, str, str]]:
    """(group, resource, verb) of rules."""
    return frozenset((rule.group, rule.resource, verb) for rule in rules for verb in rule.verbs)


_ALLOWED: Final = allowed(ALL)


def allows(group: str, resource: str, verb: str) -> bool:
    return (group, resource, verb) in _ALLOWED
