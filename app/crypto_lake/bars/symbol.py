"""The bars of one symbol: which hours are to be made again, and making them.

State is the index of raw files (`state/bars`), the manifests of the days and the days themselves; a run that is cut
off anywhere is taken up by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import polars as pl

from crypto_lake.bars import hours as pure
from crypto_lake.bars import settled, standing, table
from crypto_lake.bars.coverage import reach
from crypto_lake.bars.day_manifest import day_manifest, digests_of, inputs_of
from crypto_lake.bars.raw import HOUR_NS, Core, SymbolRaw, unix_hour
from crypto_lake.bars.record import begun
from crypto_lake.bars.report import DayReport, report_of
from crypto_lake.bars.rows import BAR_SCHEMA, HOUR_SECONDS, all_gaps, hour_rows, open_gaps
from crypto_lake.lake.deletions import is_deleted
from crypto_lake.lake.manifests import (
    BarsHour,
    BarsManifest,
    SettledBars,
    read_bars_manifest,
    write_bars_manifest,
)
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet

# A day is final so long after its end even where a hole is open: what fills it later makes a new version.
_FINAL_ANYWAY_NS = 48 * HOUR_NS
# An hour is made again when what stands around it turned out otherwise; by then at most a few times.
_MOST_ROUNDS = 100


@dataclass
class SymbolBars:
    """One symbol's bars on the disk, and the raw that they are made of."""

    raw: SymbolRaw
    rebuild: bool = False
    _records: dict[int, BarsHour] = field(default_factory=dict[int, BarsHour])
    _manifests: dict[str, BarsManifest] = field(default_factory=dict[str, BarsManifest])
    # Of days whose file is not what they say. What it was made of they still tell.
    _set_aside: dict[str, BarsManifest] = field(default_factory=dict[str, BarsManifest])
    _remade: set[int] = field(default_factory=set[int])
    _away: set[str] = field(default_factory=set[str])  # days that were deleted here once they were published
    # How far the stream was watched after a trade while that was the last: by its id, the exchange's time in us.
    _reached: dict[int, int] = field(default_factory=dict[int, int])
    _settled: SettledBars | None = (
        None  # days that were passed over; the last one's last hour stands for them
    )
    # Of the days made last: a day's end is finished anew once the next day's first trade is known.
    _cores: dict[int, Core] = field(default_factory=dict[int, Core])

    def __post_init__(self) -> None:
        self.layout, self.exchange, self.symbol = self.raw.layout, self.raw.exchange, self.raw.symbol

    # What is there

    def look(self) -> None:
        """List the raw, and load what is known of it and of the bars made so far, but for days that are settled."""
        self.raw.look()
        self._there = settled.Days(self.layout, self.exchange, self.symbol)
        self._settled = None if self.rebuild else self._there.settled()
        if self._settled is None:
            self._load(self._there.all)
        else:
            self._records[settled.hour_behind(self._settled) - 1] = self._settled.edge
            self._load([day for day in self._there.all if day > self._settled.last_day])

    def _unsettle(self) -> None:
        """Load the days that were passed over, too."""
        if self._settled is not None:
            passed_over, self._settled = self._settled, None
            del self._records[settled.hour_behind(passed_over) - 1]
            self._load([day for day in self._there.all if day <= passed_over.last_day])

    def keep_settled(self) -> None:
        """For the runs to come, where no day is stale."""
        first = min(self.raw.hours() | self.raw.open_hours, default=None)
        self._there.settle(self._manifests, self._records, self._away, first)

    def _load(self, days: Sequence[str]) -> None:
        for day in days:
            path = self.layout.bars(self.exchange, self.symbol, day)
            manifest = read_bars_manifest(self.layout, path)
            if manifest is not None:
                self._manifests[day] = manifest
                self._records.update(manifest.hours)
                if manifest.rows and is_deleted(self.layout, self.exchange, self.symbol, day, path):
                    self._away.add(day)
            elif (found := table.read(path, trusted=False)) is not None:
                self._records.update(table.records_of(*found))
        for record in self._records.values():
            if record.reached is not None:
                last_id, at_us = record.reached
                self._reached[last_id] = max(at_us, self._reached.get(last_id, 0))

    def days(self) -> list[str]:
        """Days that have a manifest, sorted."""
        return sorted(self._manifests)

    def stale_days(self) -> list[str]:
        """Days of which an hour is to be made. One that was deleted here on purpose is left to whoever published it."""
        if self._settled and not settled.stands(self._settled, self._records, sorted(self.raw.hours())):
            self._unsettle()
        return sorted({pure.day_of(hour) for hour in self._stale(self._span())} - self._away)

    def _span(self) -> list[int]:
        """Every hour from the first with anything in it to the last that may have a row."""
        held = self.raw.hours() | self._records.keys()
        if not held:
            return []
        first = min(held) if self._settled is None else settled.hour_behind(self._settled)
        return list(range(first, max(*held, (self._reach() - 1) // HOUR_SECONDS) + 1))

    def _last_watched(self) -> tuple[int, int] | None:
        """The last trade's id, and the exchange's time up to which its stream was watched since.

        Rows that stand tell it too: their raw, and the control records, may be gone from here.
        """
        ids = [record.last[0] for record in self._records.values() if record.last is not None]
        greatest = self.raw.greatest_id()
        if greatest is not None:
            ids.append(greatest)
        if not ids:
            return None
        last_id = max(ids)
        return last_id, self.raw.watched_us(last_id, self._reached.get(last_id, 0))

    def _reach(self) -> int:
        watched = self._last_watched()
        return reach(watched[1]) if watched is not None else 0

    def _max_u_before(self, hour: int) -> int:
        return pure.surroundings([hour], self._records, 0)[hour].max_u

    def _key(self, hour: int, around: pure.Around) -> str:
        elsewhere = pure.ids_elsewhere(self.raw.near(hour), hour, self._records.get(hour), around)
        return pure.key(hour, self.raw.inputs(hour), around, elsewhere)

    def _stale(self, hours: Iterable[int]) -> list[int]:
        """Hours that are to be made: new raw in them, or what they stand on is another."""
        wanted = list(hours)
        around = pure.surroundings(wanted, self._records, self._reach())
        unread = self.raw.unread_hours()
        missing = {
            day for day, m in self._manifests.items() if m.rows and not standing.is_there(self.layout, m)
        }
        found: list[int] = []
        for hour in wanted:
            record = self._records.get(hour)
            if (
                hour in unread
                or record is None
                or (self.rebuild and hour not in self._remade)
                or pure.day_of(hour) in missing
                or self._key(hour, around[hour]) not in (record.key, record.refused)
            ):
                found.append(hour)
        return found

    # Making

    def make(self, day: str, now_ns: int) -> DayReport | None:
        """Make the day's stale hours, and write the day whole. None where nothing is of that day after all."""
        hours = [hour for hour in self._span() if pure.day_of(hour) == day]
        if not hours:
            return None
        path = self.layout.bars(self.exchange, self.symbol, day)
        kept = self._kept(day, hours)
        cores = self._cores
        for hour in [hour for hour in cores if not hours[0] - 24 <= hour <= hours[-1]]:
            del cores[hour]
        made: dict[int, pl.DataFrame] = {}
        refused: set[int] = set()
        rounds = 0
        while stale := [h for h in self._stale(hours) if h not in refused or h in self.raw.unread_hours()]:
            rounds += 1
            if rounds > _MOST_ROUNDS:
                raise RuntimeError(
                    f"{self.symbol} {day}: hours {stale} do not settle; a fault of the program"
                )
            unread = [hour for hour in stale if not self._stands(cores.get(hour), hour)]
            if unread:
                in_doubt = {hour for hour in unread if hour in cores}
                cores.update(self.raw.read(set(unread), in_doubt, self._max_u_before))
                for hour in unread:
                    if self._refuses(hour, cores[hour], kept):
                        refused.add(hour)
                        del cores[hour]
                    else:
                        refused.discard(hour)
                        self._records[hour] = begun(cores[hour])
            around = pure.surroundings(hours, self._records, self._reach())
            for hour in stale:
                if self._stands(cores.get(hour), hour):
                    made[hour] = self._finish(hour, cores[hour], around[hour])
            around = pure.surroundings(hours, self._records, self._reach())
            for hour in refused:
                made.pop(hour, None)
                self._records[hour] = msgspec.structs.replace(
                    self._records[hour], refused=self._key(hour, around[hour])
                )
            self._remade.update(stale)
        pieces = {hour: made.get(hour, kept.get(hour)) for hour in hours}
        frames = [rows for hour in hours if (rows := pieces[hour]) is not None and rows.height]
        rows = pl.concat(frames) if frames else pl.DataFrame(schema=BAR_SCHEMA)
        digests = {hour: self._records[hour].digest for hour in hours if self._records[hour].rows}
        before = self._manifests.get(day)
        # The file may hold more than the hours that its manifest tells of: a day that was taken over in part.
        same = (
            before is not None
            and standing.is_there(self.layout, before)
            and (rows.height, digests) == (before.rows, digests_of(before))
        )
        if rows.height and not (same and not self.rebuild):
            table.write(path, rows, digests)
        self._enter_day(day, hours, rows, now_ns)
        manifest = self._manifests[day]
        return report_of(manifest, len(made), len(refused), int((rows["state"] == "incomplete").sum()))

    def settle(self, day: str, now_ns: int) -> None:
        """Mark the day final where it has become so."""
        manifest = self._manifests.get(day)
        if manifest is not None and not manifest.final and self._final(day, now_ns):
            self._manifests[day] = msgspec.structs.replace(manifest, final=True)
            write_bars_manifest(self.layout, self.layout.root / manifest.path, self._manifests[day])

    def _stands(self, core: Core | None, hour: int) -> bool:
        if core is None or hour in self.raw.unread_hours():
            return False
        return core.files == self.raw.inputs(hour) and core.max_u_before == self._max_u_before(hour)

    def _kept(self, day: str, hours: Sequence[int]) -> dict[int, pl.DataFrame]:
        """Rows of the day as they stand, by hour; an hour whose rows are not what they were is dropped."""
        path, manifest = self.layout.bars(self.exchange, self.symbol, day), self._manifests.get(day)
        records = {hour: self._records[hour] for hour in hours if hour in self._records}
        found = standing.rows_of(self.layout, path, manifest, records, self.raw.quarantine)
        for hour in found.changed:
            del self._records[hour]
            self._cores.pop(hour, None)  # so that it is entered again
        if manifest is not None and manifest.rows and not found.whole:
            self._set_aside[day] = self._manifests.pop(day)  # so that the file is written anew
        return found.rows

    def _refuses(self, hour: int, core: Core, kept: Mapping[int, pl.DataFrame]) -> bool:
        record = self._records.get(hour)
        return record is not None and hour in kept and standing.know_more(record, core)

    def _finish(self, hour: int, core: Core, around: pure.Around) -> pl.DataFrame:
        trades, near = core.trades, around.surroundings
        gaps = all_gaps(trades.first, trades.last, trades.gaps, near)
        known = IntervalSet()
        if gaps:
            for entry in self.raw.near(hour):
                for first, last in entry.id_runs:
                    known.add_interval(first, last)
        holes = open_gaps(gaps, known)
        made = hour_rows(
            self.exchange,
            self.symbol,
            hour,
            trades.seconds,
            core.quotes.seconds,
            holes,
            trades.first,
            trades.last,
            near,
        )
        own = [hole for hole in holes if hole.after.second // HOUR_SECONDS == hour]
        record = self._records[hour]
        self._records[hour] = msgspec.structs.replace(
            record,
            key=self._key(hour, around),
            digest=table.digest(made.rows) if made.rows.height else "",
            reached=self._last_watched() if near.after is None and made.rows.height else None,
            rows=made.rows.height,
            holes=len(own),
            missing_ids=sum(hole.after.id - hole.before.id - 1 for hole in own),
        )
        return made.rows

    def _enter_day(self, day: str, hours: Sequence[int], rows: pl.DataFrame, now_ns: int) -> None:
        path = self.layout.bars(self.exchange, self.symbol, day)
        records = {hour: self._records[hour] for hour in hours}
        # What is gone from here is known by the manifest that named it before.
        before = self._manifests.get(day) or self._set_aside.get(day)
        inputs = inputs_of(records.values(), f"raw/{self.exchange}/{self.symbol}", self.raw.entry, before)
        manifest = day_manifest(self.layout, self.exchange, self.symbol, day, rows, records, inputs)
        self._manifests[day] = manifest
        self._manifests[day] = msgspec.structs.replace(manifest, final=self._final(day, now_ns))
        write_bars_manifest(self.layout, path, self._manifests[day])

    def _final(self, day: str, now_ns: int) -> bool:
        end = unix_hour(Hour(day, 23)) + 1
        if now_ns < end * HOUR_NS:
            return False
        if now_ns >= end * HOUR_NS + _FINAL_ANYWAY_NS:
            return True
        settled = not any(hour < end for hour in self.raw.open_hours) and not any(
            hour <= end for hour in self.raw.unread_hours()
        )
        if not settled or not pure.is_closed(self._manifests[day].hours, self._records, end):
            return False
        # What the hour behind it says counts once that hour is made of what is known now.
        following = pure.following(self._records, end)
        return following is not None and not self._stale([following])

    def last_second(self) -> int | None:
        """The newest second that has a row, of days whose file is here."""
        found = standing.last_second(self.layout, self._manifests)
        if found is None and self._settled is not None:
            self._unsettle()
            return standing.last_second(self.layout, self._manifests)
        return found
