"""What a run on macro series did, as `-o json` prints it. Fields are added, never renamed."""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

import msgspec

REPORT_SCHEMA: Final = 1
MOST_NAMED: Final = 100  # revisions and absences of a series that are written out; more are counted

Outcome = Literal["updated", "unchanged", "planned", "failed", "waits", "not_asked", "alert"]


class Revision(msgspec.Struct, frozen=True):
    """A day whose values became others: its close before and now, and which fields differ."""

    day: date
    close_before: float
    close: float
    fields: tuple[str, ...]


class AbsentDay(msgspec.Struct, frozen=True):
    day: date
    kind: Literal["holiday", "gap", "unconfirmed"]
    why: str


class SeriesReport(msgspec.Struct, frozen=True, kw_only=True):
    """`first`, `last`: days that were asked for (of `check`: that are there). `known_days`: of those, with a value.

    `versions`: rows of those days. `unfinished`: days that the provider told and that are not over. `revised_days` and
    the counts of absences are whole; the lists hold at most 100. `files`: that were written.
    """

    series: str
    outcome: Outcome
    text: str
    first: date | None = None
    last: date | None = None
    latest: date | None = None
    known_days: int = 0
    versions: int = 0
    new_days: int = 0
    revised_days: int = 0
    revised: list[Revision] = []
    unfinished: list[date] = []
    holidays: int = 0
    gaps: int = 0
    unconfirmed: int = 0
    absent: list[AbsentDay] = []
    files: list[str] = []


class MacroReport(msgspec.Struct, frozen=True, kw_only=True):
    """`data`, `url`: where the files are, "" where not. `error`: what ended the run early."""

    schema: int = REPORT_SCHEMA
    task: Literal["backfill", "update", "check"]
    provider: str
    data: str
    url: str
    dry_run: bool = False
    seconds: float
    waited_seconds: float = 0.0
    series: list[SeriesReport]
    error: str = ""
    error_is_transient: bool = False
    stopped: bool = False

    def of(self, *outcomes: Outcome) -> list[SeriesReport]:
        return [one for one in self.series if one.outcome in outcomes]

    @property
    def problem(self) -> str:
        """What a person should know of the run; empty where every series that was asked for was had."""
        if self.error:
            return self.error
        # What can't be had for good before what the next run may have.
        troubled = [*self.of("alert"), *self.of("failed"), *self.of("waits"), *self.of("not_asked")]
        if not troubled:
            return ""
        several = f"{len(troubled)} of {len(self.series)} series; " if len(troubled) > 1 else ""
        return f"{several}{troubled[0].text}"
