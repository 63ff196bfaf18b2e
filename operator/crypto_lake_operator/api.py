"""CryptoLake, the resource: one typed model of its spec. crd.py makes the CRD and the reference page of it.

A field's description, default and bounds stand here (pods: api_pod.py, tasks: api_tasks.py) and nowhere else. What a
single field can't say is a Rule: a CEL expression for the API server, whose twin in Python (validate.py) looks at what
came past an older schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from crypto_lake.model.market import Stream
from crypto_lake_operator import patterns
from crypto_lake_operator.api_base import (
    BucketUrl,
    ConfigKey,
    Days,
    Duration,
    Image,
    Name,
    NameOrNothing,
    Part,
    RestAddress,
    Rule,
    Size,
    Symbol,
    WebSocketAddress,
    set_of,
)
from crypto_lake_operator.api_pod import Pod
from crypto_lake_operator.api_tasks import Check, Macro, Publish, Schedules

GROUP: Final = "cryptolake.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "CryptoLake"
PLURAL: Final = "cryptolakes"

MAX_SYMBOLS: Final = 2000
MAX_SHARDS: Final = 16
# On a lake: a shard or replica that goes is not waited for; what it has not uploaded stays on its claim.
ANNOTATION_ABANDON: Final = f"{GROUP}/abandon-what-is-not-uploaded"


class Endpoint(Part, frozen=True):
    """Where the exchange is, where that is not its own public address."""

    websocket: Annotated[
        WebSocketAddress | None,
        Meta(
            description="WebSocket address, `wss://host[:port]` without a path. Absent: the exchange's own.",
        ),
    ] = None
    rest: Annotated[
        RestAddress | None,
        Meta(
            description="REST address, `https://host[:port]` without a path. Absent: the exchange's own.",
        ),
    ] = None
    clock: Annotated[
        Literal["system", "exchange"],
        Meta(
            description="`exchange`: follow the time and speed of a simulator; both addresses are then needed."
        ),
    ] = "system"

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.clock) || self.clock != 'exchange' || (has(self.websocket) && has(self.rest))",
            "clock: exchange follows a simulator's time; set endpoint.websocket and endpoint.rest to its addresses",
        ),
    )


class Retention(Part, frozen=True):
    """How long files stay on the volume. With a bucket the time counts only after a verified upload."""

    raw: Annotated[
        str,
        Meta(
            pattern=patterns.RETENTION,
            max_length=32,
            description="Raw parts and sealed hours: `12h`, `7d`, `2w`, or `never`: they stay for good.",
        ),
    ] = "7d"
    bars: Annotated[
        Days | None,
        Meta(
            description="Bars on the volume, in days or weeks, once they are published. Absent: they stay for good."
        ),
    ] = None


class Storage(Part, frozen=True):
    """The volume of each collector."""

    size: Annotated[
        Size,
        Meta(description="Size of each collector's volume, 100Mi at least. It may grow and never shrinks."),
    ] = "50Gi"
    storage_class_name: Annotated[
        NameOrNothing | None,
        Meta(
            description="The volumes' class; immutable. Absent: the cluster's default. It should allow expansion.",
        ),
    ] = None
    when_deleted: Annotated[
        Literal["Retain", "Delete"],
        Meta(
            description="What becomes of the claims when the lake is deleted. `Delete` deletes the data on them."
        ),
    ] = "Retain"

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.storageClassName) == has(oldSelf.storageClassName) && "
            "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "storageClassName can't be changed, added or removed: volumes keep the class they were made with; "
            "make a new CryptoLake for another class",
        ),
        Rule(
            "quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "size can't shrink: a volume only grows; make a new CryptoLake for a smaller one",
            on="size",
        ),
        Rule(
            "quantity(self).compareTo(quantity('100Mi')) >= 0",
            "size is less than 100Mi: a collector would not start on it",
            on="size",
        ),
    )


class SecretKey(Part, frozen=True):
    """A key of a Secret in the lake's namespace."""

    name: Annotated[Name, Meta(description="The Secret's name.")]
    key: Annotated[ConfigKey, Meta(description="The key in it.")] = "url"


class Alerts(Part, frozen=True):
    """Alerts go to a webhook: what concerns data by the collectors, the rest by the operator."""

    webhook_secret_ref: Annotated[
        SecretKey | None, Meta(description="Where the webhook's URL is kept. Absent: no alert is sent.")
    ] = None
    gap: Annotated[
        Duration, Meta(description="A symbol is silent for so long while others trade: alert.")
    ] = "5m"
    disk: Annotated[
        str, Meta(pattern=patterns.PERCENT, max_length=4, description="A volume is used so far: alert.")
    ] = "80%"
    repeat: Annotated[
        Duration, Meta(description="At most one message so often for each condition and subject.")
    ] = "1h"


class Collector(Part, frozen=True):
    """How the collectors write. A change restarts them."""

    fsync: Annotated[
        str, Meta(pattern=patterns.SHORT_DURATION, max_length=16, description="What a power loss may cost.")
    ] = "1s"
    flush: Annotated[
        str,
        Meta(
            pattern=patterns.SHORT_DURATION,
            max_length=16,
            description="How long messages are gathered into a frame.",
        ),
    ] = "250ms"
    rotate: Annotated[Duration, Meta(description="Length of a part.")] = "60s"
    silence: Annotated[
        Duration, Meta(description="A connection without any byte for so long is given up.")
    ] = "60s"
    streams_per_connection: Annotated[
        int, Meta(ge=1, le=1024, description="More connections lose less when one breaks.")
    ] = 256
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="What the pods' logs show. The log on the volume holds everything."),
    ] = "INFO"


class NetworkPolicy(Part, frozen=True):
    """Who may talk to the lake's pods, and to whom they may talk."""

    enabled: Annotated[
        bool,
        Meta(
            description="Deny all but DNS, port 443, the ports of `endpoint` and of an emulator, the metadata server, "
            "and on the way in the operator, its dashboard and Prometheus."
        ),
    ] = True
    egress_ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...],
        Meta(
            max_length=16, description="Further TCP ports, such as a webhook's.", extra_json_schema=set_of()
        ),
    ] = ()


class CryptoLakeSpec(Part, frozen=True, kw_only=True):
    """What is wanted. The operator never writes it."""

    exchange: Annotated[
        Literal["binance"],
        Meta(description="The exchange; immutable. `endpoint` leads to another of its addresses."),
    ] = "binance"
    endpoint: Annotated[
        Endpoint, Meta(description="Another address of the exchange: a simulator, binance.us.")
    ] = Endpoint()
    symbols: Annotated[
        tuple[Symbol, ...],
        Meta(
            min_length=1,
            max_length=MAX_SYMBOLS,
            description="What to collect, in capitals. Added and removed without a restart.",
            extra_json_schema=set_of(),
        ),
    ]
    streams: Annotated[
        tuple[Stream, ...],
        Meta(
            min_length=1,
            max_length=3,
            description="Which streams of each symbol. kline_1s: the exchange's own bars, to hold ours against. Changed without a "
            "restart.",
            extra_json_schema=set_of(),
        ),
    ] = (Stream.TRADE, Stream.BOOK_TICKER)
    shards: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_SHARDS,
            description="Over how many collectors the symbols are spread. More than 1 needs a bucket.",
        ),
    ] = 1
    replicas: Annotated[
        int,
        Meta(
            ge=1, le=2, description="2: each symbol is collected twice, on different nodes. Needs a bucket."
        ),
    ] = 1
    bucket: Annotated[
        BucketUrl | None,
        Meta(
            description="`gs://bucket/prefix`. May change: what is new goes to the new one. Absent: nothing is uploaded.",
        ),
    ] = None
    retention: Annotated[Retention, Meta(description="How long files stay on the volumes.")] = Retention()
    storage: Annotated[Storage, Meta(description="The collectors' volumes.")] = Storage()
    schedules: Annotated[Schedules, Meta(description="When the tasks run.")] = Schedules()
    alerts: Annotated[Alerts, Meta(description="Whom to tell, and when.")] = Alerts()
    suspend: Annotated[
        bool, Meta(description="Stop collectors and tasks and keep everything else. What is missed is a gap.")
    ] = False
    collector: Annotated[Collector, Meta(description="How the collectors write.")] = Collector()
    check: Annotated[
        Check, Meta(description="The task that holds bars against the exchange's own klines.")
    ] = Check()
    publish: Annotated[Publish, Meta(description="The task that puts days together.")] = Publish()
    macro: Annotated[
        Macro | None,
        Meta(description="Daily macro-economic series beside the market's. Absent: none. Needs a bucket."),
    ] = None
    pod: Annotated[Pod, Meta(description="How the pods run.")] = Pod()
    network_policy: Annotated[NetworkPolicy, Meta(description="Who may talk to whom.")] = NetworkPolicy()
    image: Annotated[
        Image | None,
        Meta(
            description="Absent: the operator's own image.",
        ),
    ] = None
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Meta(description="When the image is pulled.")
    ] = "IfNotPresent"

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            "exchange can't be changed: a lake's files are of one exchange; make a new CryptoLake for another",
            on="exchange",
        ),
        Rule(
            "self.replicas == 1 || has(self.bucket)",
            "replicas: 2 needs spec.bucket: only there are the two copies put together",
        ),
        Rule(
            "self.shards == 1 || has(self.bucket)",
            "shards above 1 need spec.bucket: only there is a day put together from several volumes",
        ),
        Rule(
            "(self.shards == oldSelf.shards && self.replicas == oldSelf.replicas) || has(self.bucket)",
            "shards and replicas can't be changed without spec.bucket: what a collector leaves is uploaded first",
        ),
        Rule(
            "!has(self.macro) || has(self.bucket)",
            "macro needs spec.bucket: its series are kept there, under parquet/macro/, and nowhere else",
        ),
        Rule(
            "self.shards <= size(self.symbols)",
            "there are more shards than symbols: some would collect nothing; lower spec.shards",
        ),
    )


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As much of a lake's metadata as anything depends on. `generation` counts changes of spec."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    annotations: Mapping[str, str] = {}
    deletion_timestamp: str | None = None


class CryptoLake(msgspec.Struct, frozen=True, kw_only=True):
    """A lake as it was read. Equal ones render equal children."""

    metadata: Metadata
    spec: CryptoLakeSpec
