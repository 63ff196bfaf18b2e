"""Names and labels of a lake's children. Names stay within what each kind allows, whatever the lake is called."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from crypto_lake_operator.api import GROUP

MANAGED_BY: Final = "crypto-lake-operator"
APP: Final = "crypto-lake"
LABEL_REPLICA: Final = f"{GROUP}/replica"
LABEL_POD: Final = f"{GROUP}/pod"  # of a task: the collector's pod whose claim it works on
POD_NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"
REPLICAS: Final = ("a", "b")
CLAIM: Final = "data"
# Tasks of the lake, not of one claim; what became of them is read of their pods.
PUBLISH, MACRO = "publish", "macro"
LAKE_TASKS: Final = (PUBLISH, MACRO)
CHECK: Final = "check"  # of one claim; of all of them together the status tells
# A CronJob's name has 52 characters at most, and `-a-15-transform` comes after the lake's part of it.
MAX_BASE: Final = 37
_HASH_LENGTH: Final = 6
_DNS_1035 = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A place for a collector: a replica and a shard's number in it. It has one pod and one claim."""

    replica: str
    shard: int

    def __str__(self) -> str:
        return f"{self.replica}-{self.shard}"


def base(lake: str) -> str:
    """What all children's names begin with: the lake's name, or as much of it as there is room for, and a hash.

    A lake may be called what a Service may not: with dots, with a digit in front, with 253 characters.
    """
    if len(lake) <= MAX_BASE and _DNS_1035.fullmatch(lake):
        return lake
    digest = hashlib.sha256(lake.encode()).hexdigest()[:_HASH_LENGTH]
    plain = re.sub(r"[^a-z0-9-]", "-", lake.lower())
    if not plain[:1].isalpha():
        plain = f"lake-{plain}"
    return f"{plain[: MAX_BASE - _HASH_LENGTH - 1].rstrip('-')}-{digest}"


def stateful_set(lake: str, replica: str) -> str:
    return f"{base(lake)}-{replica}"


def pod(lake: str, slot: Slot) -> str:
    return f"{stateful_set(lake, slot.replica)}-{slot.shard}"


def is_pod_of(stateful_set: str, name: str) -> bool:
    """Whether that is a pod's name of this set."""
    start, _, ordinal = name.rpartition("-")
    return start == stateful_set and ordinal.isdigit()


def claim(lake: str, slot: Slot) -> str:
    """The claim that the StatefulSet makes for a pod."""
    return f"{CLAIM}-{pod(lake, slot)}"


def config_map(lake: str, replica: str) -> str:
    return f"{stateful_set(lake, replica)}-config"


def config_file(shard: int | str) -> str:
    return f"shard-{shard}.yml"


def task(lake: str, slot: Slot, name: str) -> str:
    return f"{pod(lake, slot)}-{name}"


def publish(lake: str) -> str:
    return f"{base(lake)}-publish"


def macro(lake: str) -> str:
    return f"{base(lake)}-macro"


def labels(lake: str, component: str) -> dict[str, str]:
    """The standard labels of a child."""
    return {
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/instance": base(lake),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": APP,
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }


def selector(lake: str, component: str | None = None) -> dict[str, str]:
    """What tells this lake's pods, or those of a component, from all others. Immutable in a StatefulSet."""
    chosen = {"app.kubernetes.io/name": APP, "app.kubernetes.io/instance": base(lake)}
    return chosen | ({"app.kubernetes.io/component": component} if component else {})
