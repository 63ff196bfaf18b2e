"""Days without a value: holidays and gaps told apart. Pure.

A weekday (Monday to Friday) that a series lacks between two days is

- a `holiday` where the calendar of its market names one,
- a `gap` where the provider lists the day without a price, or another series of the same market has it,
- `unconfirmed` otherwise: an unscheduled closing, a market whose calendar is not known here, or a day that the
  provider lost for all series at once. Which of them can't be told from the series alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from crypto_lake.macro.plan import Span

Kind = Literal["holiday", "gap", "unconfirmed"]
_FRIDAY: Final = 4


@dataclass(frozen=True, slots=True)
class Absence:
    day: date
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another series of the same market."""

    series: str
    days: Collection[date]


def absences(
    span: Span,
    days: Collection[date],
    *,
    empty: Collection[date] = (),
    holidays: Mapping[date, str] | None,
    peers: Sequence[Peer] = (),
) -> list[Absence]:
    """Each weekday of the span that is not among `days`, in order. `holidays`: None where the calendar is not known."""
    found: list[Absence] = []
    day = span.first
    while day <= span.last:
        if day.weekday() <= _FRIDAY and day not in days:
            found.append(_absence(day, empty, holidays, peers))
        day += timedelta(days=1)
    return found


def _absence(
    day: date, empty: Collection[date], holidays: Mapping[date, str] | None, peers: Sequence[Peer]
) -> Absence:
    if holidays is not None and day in holidays:
        return Absence(day, "holiday", holidays[day])
    if day in empty:
        return Absence(day, "gap", "the provider lists the day without a price")
    witnesses = [peer.series for peer in peers if day in peer.days]
    if witnesses:
        return Absence(day, "gap", f"{', '.join(witnesses)} had a trading day")
    calendar = "no holiday is known" if holidays is not None else "the exchange's holidays are not known here"
    return Absence(day, "unconfirmed", f"{calendar}, and no other series of this market has the day")
