"""Keeping what was told of a series: merged into what is there, in every home, and never instead of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from crypto_lake.macro.days import Change, Seen, Values, changes, lost, merged, stamped
from crypto_lake.macro.homes import Home, RacedError, Read
from crypto_lake.macro.plan import Span

_TRIES: Final = 8  # so many other writers of the same file at the same time are given way to


@dataclass
class SeriesFiles:
    """One series in all its homes. What was read is kept until another writer is seen."""

    series: str
    homes: Sequence[Home]
    written: list[str] = field(default_factory=list[str])
    _listed: list[Mapping[int, str]] = field(default_factory=list[Mapping[int, str]])
    _read: dict[tuple[int, int], Read] = field(default_factory=dict[tuple[int, int], Read])

    def years(self) -> list[int]:
        """Years of which any home has a file."""
        if not self._listed:
            self._listed = [home.years(self.series) for home in self.homes]
        return sorted({year for years in self._listed for year in years})

    def apart(self) -> list[int]:
        """Years that the homes do not have alike: a bucket that was set later, a run that was cut off."""
        if len(self.homes) == 1:
            return []
        told = {year: {years.get(year, "") for years in self._listed} for year in self.years()}
        return [year for year, sums in told.items() if len(sums) > 1 or "" in sums]

    def known(self, year: int) -> dict[date, tuple[Seen, ...]]:
        """What all homes know of a year. Raises NotOursError."""
        found: dict[date, tuple[Seen, ...]] = {}
        for number, home in enumerate(self.homes):
            if (number, year) not in self._read:
                self._read[number, year] = home.read(self.series, year)
            found = merged(found, self._read[number, year].days)
        return found

    def known_in(self, span: Span) -> dict[date, tuple[Seen, ...]]:
        years = [year for year in self.years() if span.first.year <= year <= span.last.year]
        return {day: history for year in years for day, history in self.known(year).items() if day in span}

    def latest(self) -> date | None:
        for year in reversed(self.years()):
            if known := self.known(year):
                return max(known)
        return None

    def keep(self, told: Mapping[date, Values], now_us: int, *, dry_run: bool = False) -> list[Change]:
        """Merge, and write where a home has it otherwise. Returns the days whose values are new.

        Raises NotOursError for a file that is not ours, before anything of its year is written; RacedError.
        """
        pieces: dict[int, dict[date, Values]] = {year: {} for year in self.apart()}
        for day in sorted(told):
            pieces.setdefault(day.year, {})[day] = told[day]
        found: list[Change] = []
        for year in sorted(pieces):
            found += self._keep_year(year, pieces[year], now_us, dry_run)
        return found

    def _keep_year(self, year: int, told: Mapping[date, Values], now_us: int, dry_run: bool) -> list[Change]:
        first = self.known(year)
        mine = stamped(first, told, now_us)
        for _ in range(_TRIES):
            before = self.known(year)
            after = merged(before, mine)
            if gone := lost(before, after):
                raise AssertionError(f"{self.series}: a merge would lose {gone[0]}")
            if dry_run or all(self._write(n, year, after) for n in range(len(self.homes))):
                return changes(first, after)
            for number in range(len(self.homes)):
                self._read.pop((number, year), None)
        raise RacedError(
            f"{self.series} {year}: other writers were faster {_TRIES} times; run it again when they are done"
        )

    def _write(self, number: int, year: int, after: dict[date, tuple[Seen, ...]]) -> bool:
        read, home = self._read[number, year], self.homes[number]
        if read.days == after or not after:
            return True
        if not home.write(self.series, year, after, read.token):
            return False
        self.written.append(home.where(self.series, year))
        self._read.pop((number, year))
        self._listed = []
        return True
