"""spec.pod: how the pods run."""

# ruff: noqa: RUF012  # msgspec gives every value its own empty dict

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from crypto_lake_operator import patterns
from crypto_lake_operator.api_base import (
    ConfigKey,
    LabelKey,
    LabelValue,
    LongValue,
    Name,
    Part,
    Quantity,
    Rule,
    Value,
    map_by,
    set_of,
)


class Resources(Part, frozen=True):
    """Requests and limits of one container."""

    requests: Annotated[
        dict[LabelKey, Quantity], Meta(max_length=16, description="What the node must have: `cpu: 100m`.")
    ] = {}
    limits: Annotated[
        dict[LabelKey, Quantity], Meta(max_length=16, description="What it may take at most.")
    ] = {}


class Toleration(Part, frozen=True):
    """A taint that the pods bear, in Kubernetes' own words."""

    key: Annotated[LabelKey | None, Meta(description="The taint's key.")] = None
    operator: Annotated[Literal["Exists", "Equal"] | None, Meta(description="Absent: `Equal`.")] = None
    value: Annotated[LabelValue | None, Meta(description="The taint's value.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Meta(description="Absent: all effects."),
    ] = None
    toleration_seconds: Annotated[int | None, Meta(description="How long NoExecute is borne.")] = None


class KeyRef(Part, frozen=True):
    """A key of a Secret or ConfigMap in the lake's namespace."""

    name: Annotated[Name, Meta(description="Its name.")]
    key: Annotated[ConfigKey, Meta(description="The key in it.")]


class ValueSource(Part, frozen=True):
    """Where a variable's value is kept; one of the two."""

    secret_key_ref: Annotated[KeyRef | None, Meta(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[KeyRef | None, Meta(description="A key of a ConfigMap.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "valueFrom takes one of secretKeyRef and configMapKeyRef",
        ),
    )


class Variable(Part, frozen=True):
    """A variable of every container."""

    name: Annotated[
        str, Meta(pattern=patterns.VARIABLE, min_length=1, max_length=128, description="The variable's name.")
    ]
    value: Annotated[LongValue | None, Meta(description="Its value.")] = None
    value_from: Annotated[ValueSource | None, Meta(description="Where its value is kept.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.name.startsWith('CRYPTO_LAKE_') || self.name == 'SHARD')",
            "variables named CRYPTO_LAKE_… and SHARD are the operator's: what they would set belongs into spec",
        ),
        Rule("!(has(self.value) && has(self.valueFrom))", "a variable has value or valueFrom, not both"),
    )


class TopologySpread(Part, frozen=True):
    """How the collectors spread over the cluster."""

    zones: Annotated[Literal["Required", "Preferred", "Ignored"], Meta(description="Over zones.")] = (
        "Preferred"
    )
    nodes: Annotated[
        Literal["Required", "Preferred", "Ignored"],
        Meta(description="Over nodes. The two copies of a shard are on different nodes in any case."),
    ] = "Preferred"


_FREE_LABELS = (
    "self.all(key, !key.contains('kubernetes.io/') && !key.startsWith('cryptolake.io/') && "
    "!key.startsWith('batch.kubernetes.io/'))"
)


class Pod(Part, frozen=True):
    """How the pods run."""

    resources: Annotated[
        Resources | None,
        Meta(description="Of the collector. Absent: requests of 100m and 256Mi, limited to 1Gi of memory."),
    ] = None
    task_resources: Annotated[
        Resources | None,
        Meta(
            description="Of each task. Absent: requests of 50m and 384Mi, limited to 768Mi of memory. Six tenths of "
            "the memory's limit is what a transformation may take."
        ),
    ] = None
    labels: Annotated[
        dict[LabelKey, LabelValue],
        Meta(max_length=32, description="Further labels of the pods."),
    ] = {}
    annotations: Annotated[
        dict[LabelKey, Value], Meta(max_length=32, description="Further annotations of the pods.")
    ] = {}
    node_selector: Annotated[
        dict[LabelKey, LabelValue],
        Meta(max_length=32, description="Labels that the node must bear."),
    ] = {}
    tolerations: Annotated[
        tuple[Toleration, ...],
        Meta(
            max_length=32,
            description="Taints that the pods bear.",
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    topology_spread: Annotated[
        TopologySpread, Meta(description="How the collectors spread over zones and nodes.")
    ] = TopologySpread()
    priority_class_name: Annotated[
        Name | None, Meta(description="The pods' priority class; a collector that is evicted leaves a gap.")
    ] = None
    service_account_name: Annotated[
        Name | None,
        Meta(description="A ServiceAccount of yours. Absent: the operator makes one for the lake."),
    ] = None
    service_account_annotations: Annotated[
        dict[LabelKey, Value],
        Meta(
            max_length=16,
            description="Annotations of the ServiceAccount that the operator makes, such as "
            "`iam.gke.io/gcp-service-account`.",
        ),
    ] = {}
    image_pull_secrets: Annotated[
        tuple[Name, ...],
        Meta(max_length=8, description="Names of Secrets for the registry.", extra_json_schema=set_of()),
    ] = ()
    env: Annotated[
        tuple[Variable, ...],
        Meta(
            max_length=32,
            description="Further variables of the containers, such as STORAGE_EMULATOR_HOST.",
            extra_json_schema=map_by("name"),
        ),
    ] = ()
    termination_grace_period_seconds: Annotated[
        int, Meta(ge=5, le=600, description="How long a collector has to flush. It takes about a second.")
    ] = 30

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            _FREE_LABELS,
            "labels with kubernetes.io/ or cryptolake.io/ in their key are the operator's; take another prefix",
            on="labels",
        ),
        Rule(
            "!(has(self.serviceAccountName) && has(self.serviceAccountAnnotations) && "
            "size(self.serviceAccountAnnotations) > 0)",
            "serviceAccountAnnotations are for the ServiceAccount that the operator makes; annotate your own, or "
            "remove serviceAccountName",
        ),
    )
