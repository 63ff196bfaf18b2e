"""What a run of `publish` did: returned, printed, and in figures in `state/tasks/publish.json`."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

import msgspec

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

    `version`: that stands now; 0: none. `missing_ids`: trades that no collector has.
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
    carried_hours: int = 0
    bytes_read: int = 0

    @property
    def at(self) -> str:
        return f"{self.exchange} {self.symbol} {self.day}"


class PublishReport(msgspec.Struct, frozen=True, kw_only=True):
    """`up_to_date`: days that stand as they should. error: what ended the run before its end.

    `last_published_day`: up to it every symbol's days stand; empty: there is no such day; None: it is not known, as of a
    run that looked at some symbols only or ended early.
    """

    schema: int = REPORT_SCHEMA
    url: str
    dry_run: bool
    seconds: float
    up_to_date: int
    bytes_read: int
    days: list[DayOutcome]
    last_published_day: str | None = None
    error: str = ""
    error_is_transient: bool = False
    stopped: bool = False

    def of(self, *outcomes: Outcome) -> list[DayOutcome]:
        return [day for day in self.days if day.outcome in outcomes]

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(day.outcome for day in self.days).items()))

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
            "oldest_waiting": min((day.day for day in waiting), default=None),
        }
