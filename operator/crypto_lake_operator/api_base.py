"""What the levels of the spec are made of: rules, and types of fields that stand in more than one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from crypto_lake.model.series import MAX_SERIES_LENGTH
from crypto_lake_operator import patterns


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the level it stands at. `on` names one field of it; empty: the whole object."""

    cel: str
    message: str
    on: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A level of the spec. RULES: what its fields can't say one by one."""

    RULES: ClassVar[tuple[Rule, ...]] = ()


def set_of() -> dict[str, Any]:
    return {"x-kubernetes-list-type": "set"}


def map_by(*keys: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


Symbol = Annotated[str, Meta(pattern=patterns.SYMBOL, min_length=1, max_length=32)]
Series = Annotated[str, Meta(pattern=patterns.SERIES, min_length=1, max_length=MAX_SERIES_LENGTH)]
Duration = Annotated[str, Meta(pattern=patterns.DURATION, max_length=32)]
Days = Annotated[str, Meta(pattern=patterns.DAYS, max_length=6)]
# Null is taken for absent, so that a manifest or a value can say that a task has a time of its own.
Cron = Annotated[str, Meta(pattern=patterns.CRON, max_length=100, extra_json_schema={"nullable": True})]
Size = Annotated[str, Meta(pattern=patterns.SIZE, max_length=16)]
Name = Annotated[str, Meta(pattern=patterns.DNS_SUBDOMAIN, min_length=1, max_length=253)]
WebSocketAddress = Annotated[str, Meta(pattern=patterns.WEBSOCKET, max_length=256)]
RestAddress = Annotated[str, Meta(pattern=patterns.REST, max_length=256)]
BucketUrl = Annotated[str, Meta(pattern=patterns.BUCKET, max_length=512)]
Image = Annotated[str, Meta(pattern=patterns.IMAGE, min_length=1, max_length=512)]
NameOrNothing = Annotated[str, Meta(pattern=patterns.DNS_SUBDOMAIN_OR_EMPTY, max_length=253)]
ConfigKey = Annotated[str, Meta(pattern=patterns.CONFIG_KEY, min_length=1, max_length=253)]
LongValue = Annotated[str, Meta(max_length=4096)]
LabelKey = Annotated[str, Meta(max_length=317)]
LabelValue = Annotated[str, Meta(max_length=63)]
Value = Annotated[str, Meta(max_length=1024)]
# A quantity as Kubernetes takes it: 2, 500m, 1Gi.
Quantity = int | Annotated[str, Meta(pattern=patterns.QUANTITY, max_length=24)]
