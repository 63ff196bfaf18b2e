"""spec.schedules, spec.check, spec.publish and spec.macro: the tasks, and when they run."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from crypto_lake.model.series import DEFAULT_SERIES
from crypto_lake_operator.api_base import Cron, Name, Part, Series, Size, set_of


class Schedules(Part, frozen=True):
    """When the tasks run, as cron in UTC: minute, hour, day of month, month, day of week, in numbers. Absent: at a time of
    their own (timetable.py).
    """

    transform: Annotated[
        Cron | None,
        Meta(
            description="Sealing of hours, then raw to bars, on each volume. Absent: every five minutes, at the volume's own."
        ),
    ] = None
    upload: Annotated[
        Cron | None,
        Meta(
            description="From each volume to the bucket, verified. Absent: once an hour, in the volume's own of the minutes "
            "10 to 29."
        ),
    ] = None
    publish: Annotated[
        Cron | None,
        Meta(
            description="Final days of bars into the bucket, one task for all volumes. Absent: once an hour, in the lake's "
            "own of the minutes 30 to 44."
        ),
    ] = None
    cleanup: Annotated[
        Cron | None,
        Meta(
            description="Deletes from each volume what retention allows. Absent: once an hour, in the volume's own of the "
            "minutes 45 to 59."
        ),
    ] = None


class Check(Part, frozen=True):
    """The task on each volume that asks the exchange: it holds bars against the exchange's own klines."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether bars are checked. The exchange is asked within the collector's part of the weight."
        ),
    ] = True
    schedule: Annotated[
        Cron | None,
        Meta(
            description="When, as cron in UTC, best after the day before is final. Absent: once a day, in the volume's own "
            "minute from 03:00 to 06:59. What was checked and has not changed is not asked for again."
        ),
    ] = None


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
        Cron | None,
        Meta(
            description="When they are fetched, as cron in UTC, best after New York's market has closed. Absent: once a day, "
            "in the lake's own minute from 06:00 to 07:59."
        ),
    ] = None
