"""CryptoLake's status: what a person, kubectl and alerts read. The operator writes it and never reads it back but to
see whether it has changed. Figures are rounded to the steps of `steps.py`, so that a lake at rest causes no write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Truth = Literal["True", "False", "Unknown"]
ConditionType = Literal["Ready", "Collecting", "Complete", "Uploaded", "DiskHealthy", "Reconciled"]
CONDITIONS: Final[tuple[ConditionType, ...]] = (
    "Ready",
    "Collecting",
    "Complete",
    "Uploaded",
    "DiskHealthy",
    "Reconciled",
)
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Day = Annotated[str, Meta(max_length=10)]
Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[int, Meta(ge=0, le=100)]


# A count of 0 is written, too: a column of kubectl's that is empty says nothing. (A default would be left out.)
class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a collector says of its data, or all of them together. What is not known is absent."""

    symbols: Annotated[int, Meta(ge=0, description="Symbols whose streams are live.")] = msgspec.field(
        default_factory=int
    )
    lag_seconds: Annotated[
        Count | None, Meta(description="Receipt minus exchange time at the 95th percentile, in steps.")
    ] = None
    gaps_open: Annotated[int, Meta(ge=0, description="Gaps that are known and not filled.")] = msgspec.field(
        default_factory=int
    )
    gaps_healed: Annotated[int, Meta(ge=0, description="Gaps that were filled.")] = msgspec.field(
        default_factory=int
    )
    trades_missing: Annotated[int, Meta(ge=0, description="Trades in open gaps.")] = msgspec.field(
        default_factory=int
    )
    not_uploaded_bytes: Annotated[
        Count | None, Meta(description="Closed files that are not in the bucket yet, in steps.")
    ] = None
    last_verified_upload: Annotated[
        Time | None, Meta(description="When an upload was last read back and agreed, to the minute.")
    ] = None
    disk_used_percent: Annotated[Percent | None, Meta(description="In steps of 5.")] = None
    disk_full_in_seconds: Annotated[
        Count | None,
        Meta(description="At the rate of the last hours, in steps. Absent: not within 30 days."),
    ] = None


class ShardStatus(Figures, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One collector."""

    name: Annotated[str, Meta(max_length=63, description="Replica and shard: `a-0`.")]
    pod: Annotated[str, Meta(max_length=63, description="Its pod.")]
    state: Annotated[
        Literal["Live", "Degraded", "Starting", "Draining", "Unreachable", "Suspended", "Missing"],
        Meta(description="`Draining`: it goes when all it has is uploaded."),
    ]
    silent_since: Annotated[
        Time | None,
        Meta(
            description="Since when it is wanted and does not answer, or is not there. The alert counts from here, also "
            "when the operator starts anew."
        ),
    ] = None


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A condition as Kubernetes has them. `message` says what to do where something is to be done."""

    type: Annotated[str, Meta(max_length=316, description="Which.")]
    status: Annotated[Truth, Meta(description="`Unknown`: it can't be seen now.")]
    reason: Annotated[
        str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z]+$", description="For programs.")
    ]
    message: Annotated[str, Meta(max_length=4096, description="For people: what is so, and what to do.")] = ""
    observed_generation: Annotated[
        int, Meta(ge=0, description="The generation of spec that it is about.")
    ] = 0
    last_transition_time: Annotated[Time, Meta(description="When `status` last changed.")] = (
        "1970-01-01T00:00:00Z"
    )


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A task of the whole lake, which has no volume to leave its outcome on; or one on all volumes together."""

    name: Annotated[str, Meta(max_length=63, description="`publish`, `macro` or `check`.")]
    ok: Annotated[bool, Meta(description="Its last run went well.")]
    ended: Annotated[Time, Meta(description="When its last run ended.")]
    last_ok: Annotated[
        Time | None, Meta(description="When a run that went well ended. Absent: none did.")
    ] = None
    problem: Annotated[str, Meta(max_length=1024, description="What was wrong with the last run.")] = ""
    note: Annotated[
        str,
        Meta(
            max_length=1024,
            description="What is worth knowing of the last run though it was not wrong: of `check`, symbols that the "
            "exchange no longer has.",
        ),
    ] = ""


class CopiesStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of all symbols of a published day, trades by which collectors have them."""

    day: Annotated[Day, Meta(description="Which: the last published one.")]
    symbols: Annotated[int, Meta(ge=0, description="Symbols that are counted.")]
    trades: Annotated[int, Meta(ge=0, description="Trades that anyone has, each once.")]
    shared: Annotated[int, Meta(ge=0, description="Trades that both replicas have.")]
    only_a: Annotated[int, Meta(ge=0, description="Trades that replica a alone has.")]
    only_b: Annotated[int, Meta(ge=0, description="Trades that replica b alone has.")]
    only_other: Annotated[
        int, Meta(ge=0, description="Trades that one collector alone has that is of no replica.")
    ]
    missing: Annotated[int, Meta(ge=0, description="Trades that nobody has.")]
    differing: Annotated[
        int, Meta(ge=0, description="Trades of which two copies do not say the same; 0 is right.")
    ]


class ToldAlert(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the webhook was told of a collector that is gone. It keeps the limits over a restart of the operator."""

    subject: Annotated[str, Meta(max_length=63, description="The collector: `a-0`.")]
    message: Annotated[str, Meta(max_length=1024, description="What was told.")] = ""
    since: Annotated[Time, Meta(description="When it began.")]
    told: Annotated[Time, Meta(description="When it was last told that it is so.")]
    number: Annotated[int, Meta(ge=1, description="How often it was told.")] = 1
    resolved: Annotated[bool, Meta(description="That it is over was told, too.")] = False


class Status(Figures, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Of all collectors together: symbols count once, lag and disk are the worst, the rest are sums."""

    observed_generation: Annotated[
        int, Meta(ge=0, description="The generation of spec that was last looked at.")
    ] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            max_length=16,
            description="Ready, Collecting, Complete, Uploaded, DiskHealthy, Reconciled.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    lag: Annotated[str, Meta(max_length=16, description="lagSeconds, to read.")] = ""
    not_uploaded: Annotated[str, Meta(max_length=16, description="notUploadedBytes, to read.")] = ""
    collectors: Annotated[
        str, Meta(max_length=16, description="Collectors that are live, and wanted: `2/2`.")
    ] = ""
    last_published_day: Annotated[
        Day | None,
        Meta(
            description="Up to this day the bars of every symbol are final in the bucket, by the last `publish` that saw all."
        ),
    ] = None
    copies: Annotated[
        CopiesStatus | None,
        Meta(description="How far the collectors' copies of the last published day agree."),
    ] = None
    shards: Annotated[
        tuple[ShardStatus, ...],
        Meta(
            max_length=64,
            description="Each collector.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    tasks: Annotated[
        tuple[TaskStatus, ...],
        Meta(
            max_length=16,
            description="What became of the tasks that have no volume, and of `check` on all of them. The others' outcomes are in "
            "the collectors' reports.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    alerts: Annotated[
        tuple[ToldAlert, ...],
        Meta(
            max_length=64,
            description="What the operator told the webhook.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["subject"]},
        ),
    ] = ()

    def task(self, name: str) -> TaskStatus | None:
        return next((task for task in self.tasks if task.name == name), None)

    def condition(self, type_: ConditionType) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == type_), None)


def read_status(stored: Mapping[str, object] | None) -> Status:
    """The status as it was written, by whichever version; one that can't be read counts as none."""
    try:
        return msgspec.convert(stored or {}, Status)
    except msgspec.ValidationError:
        return Status()
