"""What a run of `publish` did: returned, printed, and in figures in `state/tasks/publish.json`."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

import msgspec

from crypto_lake.model.copies import PublishedCopies
from crypto_lake.upkeep import publish_copies
from crypto_lake.upkeep.names import BarsObject
from crypto_lake.upkeep.publish_manifest import PublishedManifest

Outcome = Literal[
    "published",  # a first or a new version
    "noted",  # the manifest alone: inputs grew or went, and the content is the same
    "completed",  # a publish that was cut off: the file was there, its manifest is now
    "planned",  # of a dry run
    "raced",  # another publisher was at it; its version stands
    "waits",
    "alert",
    "failed",
]
REPORT_SCHEMA: Final = 1


class DayOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's day that was looked at. `text`: why it was made, what it waits for, or what is wrong.

    `version`: that stands now; 0: none. `missing_ids`: trades that no collector has. `differing`: trades of which two
    copies do not say the same; `differ` names the first.
    """

    exchange: str
    symbol: str
    day: str
    outcome: Outcome
    text: str = ""
    version: int = 0
    rows: int = 0
    trades: int = 0
    collectors: int = 0
    objects: int = 0
    missing_ids: int = 0
    differing: int = 0
    differ: str = ""
    carried_hours: int = 0
    bytes_read: int = 0

    @property
    def at(self) -> str:
        return f"{self.exchange} {self.symbol} {self.day}"


def outcome_of(
    bars: BarsObject, outcome: Outcome, text: str, manifest: PublishedManifest | None, bytes_read: int
) -> DayOutcome:
    """`manifest`: of the day as it stands now; None where there is none."""
    told = DayOutcome(
        exchange=bars.exchange,
        symbol=bars.symbol,
        day=bars.day,
        outcome=outcome,
        text=text,
        bytes_read=bytes_read,
    )
    if manifest is None:
        return told
    copies = manifest.copies
    return msgspec.structs.replace(
        told,
        version=manifest.version,
        rows=manifest.rows,
        trades=manifest.trades,
        collectors=len(manifest.collectors) if manifest.version else 0,
        objects=len(manifest.inputs),
        missing_ids=manifest.missing_ids,
        differing=copies.differing if copies is not None else 0,
        differ=publish_copies.told(manifest.differing, copies),
        carried_hours=len(manifest.carried_hours),
    )


class PublishReport(msgspec.Struct, frozen=True, kw_only=True):
    """`up_to_date`: days that stand as they should. error: what ended the run before its end.

    `last_published_day`: up to it every symbol's days stand; empty: there is no such day; None: it is not known, as of a
    run that looked at some symbols only or ended early. `copies`: how far the copies of that day's trades agree; None where
    there is no such day, or nothing is told of it.
    """

    schema: int = REPORT_SCHEMA
    url: str
    dry_run: bool
    seconds: float
    up_to_date: int
    bytes_read: int
    days: list[DayOutcome]
    last_published_day: str | None = None
    copies: PublishedCopies | None = None
    error: str = ""
    error_is_transient: bool = False
    stopped: bool = False

    def of(self, *outcomes: Outcome) -> list[DayOutcome]:
        return [day for day in self.days if day.outcome in outcomes]

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(day.outcome for day in self.days).items()))

    @property
    def differing(self) -> list[DayOutcome]:
        """Days that this run made of copies that differ."""
        return [day for day in self.of("published", "completed", "noted") if day.differing]

    @property
    def problem(self) -> str:
        """For a person, empty where all went well. Days that wait are no problem."""
        told = [self.error] if self.error else []
        for what in ("alert", "failed"):
            found = self.of(what)
            if found:
                told.append(f"{len(found)} days {what}, the first is {found[0].at}: {found[0].text}")
        return "; ".join(told)

    def figures(self) -> dict[str, object]:
        waiting = self.of("waits")
        return {
            "url": self.url,
            "seconds": self.seconds,
            "up_to_date": self.up_to_date,
            "bytes_read": self.bytes_read,
            **{f"days_{name}": number for name, number in self.counts.items()},
            "last_published_day": self.last_published_day,
            "trades_differing": sum(day.differing for day in self.differing),
            "oldest_waiting": min((day.day for day in waiting), default=None),
        }
