"""spec.schedules, spec.check, spec.publish and spec.macro: the tasks, and when they run."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from crypto_lake.model.series import DEFAULT_SERIES
from crypto_lake_operator.api_base import Cron, Name, Part, Series, Size, set_of


class Schedules(Part, frozen=True):
    """When the tasks run, as cron in UTC: minute, hour, day of month, month, day of week, in numbers."""

    transform: Annotated[Cron, Meta(description="Sealing of hours, then raw to bars, on each volume.")] = (
        "*/5 * * * *"
    )
    upload: Annotated[Cron, Meta(description="From each volume to the bucket, verified.")] = "12 * * * *"
    publish: Annotated[
        Cron, Meta(description="Final days of bars into the bucket, one task for all volumes.")
    ] = "32 * * * *"
    cleanup: Annotated[Cron, Meta(description="Deletes from each volume what retention allows.")] = (
        "42 * * * *"
    )


class Check(Part, frozen=True):
    """The task on each volume that asks the exchange: it holds bars against the exchange's own klines."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether bars are checked. The exchange is asked within the collector's part of the weight."
        ),
    ] = True
    schedule: Annotated[
        Cron,
        Meta(
            description="When, as cron in UTC: once a day, after the day before is final. What was checked and has not changed "
            "is not asked for again."
        ),
    ] = "22 3 * * *"


class Publish(Part, frozen=True):
    """The one task that needs no volume of a collector."""

    scratch: Annotated[Size, Meta(description="Room for the raw of the day that is being put together.")] = (
        "10Gi"
    )
    scratch_storage_class_name: Annotated[
        Name | None,
        Meta(
            description="Take it from a volume of this class that lives as long as the task. Absent: from the node's "
            "own disk.",
        ),
    ] = None


class Macro(Part, frozen=True):
    """The one task that asks others than the exchange."""

    series: Annotated[
        tuple[Series, ...],
        Meta(
            min_length=1,
            max_length=64,
            description="Which, by their provider's names: `^GSPC`, `GC=F`. One that is taken out keeps what it has.",
            extra_json_schema=set_of(),
        ),
    ] = DEFAULT_SERIES
    schedule: Annotated[
        Cron,
        Meta(
            description="When they are fetched, as cron in UTC: once a day, after New York's market has closed."
        ),
    ] = "17 6 * * *"
