"""From what was done to the report: what is new, what was revised, what is absent and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from crypto_lake.macro.absences import Absence, Peer, absences
from crypto_lake.macro.days import Change, Days, Seen, Values
from crypto_lake.macro.holidays import holidays_of, market_of
from crypto_lake.macro.plan import Span
from crypto_lake.macro.report import MOST_NAMED, AbsentDay, Outcome, Revision, SeriesReport

_FIELDS: Final = ("open", "high", "low", "close", "volume", "currency", "timezone")


@dataclass(frozen=True, slots=True)
class Told:
    """A series after a run. `expected`: the part of `span` whose days must be there by now. `known`: of the span."""

    series: str
    span: Span
    outcome: Outcome
    text: str = ""
    timezone: str = ""
    expected: Span | None = None
    empty: frozenset[date] = frozenset()
    unfinished: tuple[date, ...] = ()
    known: Days = field(default_factory=dict[date, tuple[Seen, ...]])
    changes: tuple[Change, ...] = ()
    latest: date | None = None
    files: tuple[str, ...] = ()


def described(told: Sequence[Told]) -> list[SeriesReport]:
    """Each series, with the others of its market as witnesses of trading days."""
    return [_described(one, [other for other in told if other is not one]) for one in told]


def absences_of(told: Told, others: Sequence[Told]) -> list[Absence]:
    """None where nothing is known of the span: then it is not days that are missing."""
    if told.expected is None or not told.known:
        return []
    first = max(told.expected.first, min(told.known))  # before it, the series may not have begun
    if first > told.expected.last:
        return []
    span = Span(first, told.expected.last)
    market = market_of(told.timezone)
    peers = [Peer(other.series, other.known) for other in others if market_of(other.timezone) == market]
    holidays = holidays_of(told.series, told.timezone, span)
    return absences(span, told.known, empty=told.empty, holidays=holidays, peers=peers)


def _described(told: Told, others: Sequence[Told]) -> SeriesReport:
    absent = absences_of(told, others)
    notable = [one for one in absent if one.kind != "holiday"]
    new = [change for change in told.changes if change.before is None]
    revised = [_revision(change.day, change.before, change.now) for change in told.changes if change.before]
    return SeriesReport(
        series=told.series,
        outcome=told.outcome,
        text=told.text or _text(told, len(new), len(revised)),
        first=told.span.first,
        last=told.span.last,
        latest=told.latest,
        known_days=len(told.known),
        versions=sum(len(history) for history in told.known.values()),
        new_days=len(new),
        revised_days=len(revised),
        revised=revised[:MOST_NAMED],
        unfinished=list(told.unfinished),
        holidays=len(absent) - len(notable),
        gaps=sum(one.kind == "gap" for one in absent),
        unconfirmed=sum(one.kind == "unconfirmed" for one in absent),
        absent=[AbsentDay(one.day, one.kind, one.why) for one in notable[:MOST_NAMED]],
        files=list(told.files),
    )


def _text(told: Told, new: int, revised: int) -> str:
    if told.changes:
        would = "would be " if told.outcome == "planned" else ""
        return f"{new} new, {revised} revised {would}kept" if would else f"{new} new, {revised} revised"
    return "nothing new"


def _revision(day: date, before: Values, now: Values) -> Revision:
    differ = [name for name, old, new in zip(_FIELDS, before.meaning, now.meaning, strict=True) if old != new]
    return Revision(day, before.close, now.close, tuple(differ))
