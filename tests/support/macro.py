"""A provider of series that says what a test wants, and days to tell."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from crypto_lake.macro.days import Values
from crypto_lake.macro.provider import Answer, NoSuchSeries, NothingThere, ProviderError
from crypto_lake.macro.report import MacroReport
from crypto_lake.macro.run import Settings, run

ZONE = "America/New_York"
START = date(2023, 12, 20)
SETTINGS = Settings(START, revisit_days=5, patience_seconds=0.0)


def us(day: date, hour: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()) * 10**6


def values(close: float, volume: int = 0) -> Values:
    return Values(close, close + 1, close - 1, close, volume, "USD", ZONE)


def trading_days(first: date, last: date, *without: date) -> dict[date, Values]:
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return {day: values(100.0 + n) for n, day in enumerate(days) if day.weekday() < 5 and day not in without}


@dataclass
class Scripted:
    """A provider. `errors`: raised first, in order, whichever series is asked for."""

    days: dict[str, dict[date, Values]]
    errors: deque[ProviderError] = field(default_factory=deque)
    empty: frozenset[date] = frozenset()
    asked: list[tuple[str, date, date]] = field(default_factory=list)
    name: str = "scripted"

    def daily(self, series: str, first: date, last: date) -> Answer:
        self.asked.append((series, first, last))
        if self.errors:
            raise self.errors.popleft()
        if series not in self.days:
            raise NoSuchSeries("it is not there", series=series, hint="Look it up.")
        told = {day: one for day, one in self.days[series].items() if first <= day <= last}
        if not told:
            raise NothingThere("no day", series=series, hint="Look it up.")
        return Answer(series, ZONE, told, self.empty)

    def close(self) -> None:
        pass


def ask(provider: Scripted, now: date, *series: str, task: Any = "update", **options: Any) -> MacroReport:
    return run(
        task,
        series or ("^GSPC",),
        provider,
        settings=options.pop("settings", SETTINGS),
        now_us=lambda: us(now, 12),
        chance=lambda: 0.0,
        **options,
    )
