"""The bars of one symbol: which hours are to be made again, and making them.

State is the index of raw files (`state/bars`), the manifests of the days and the days themselves; a run that is cut
off anywhere is taken up by the next.
"""

# pyright: reportUnknownMemberType=false
# Signatures of polars name types of numpy, which is not installed.

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import polars as pl

from crypto_lake import __version__
from crypto_lake.bars import hours as pure
from crypto_lake.bars import table
from crypto_lake.bars.columns import empty_trades
from crypto_lake.bars.coverage import Receipt, Watch, reach
from crypto_lake.bars.reading import FileRead, Unreadable, read_files
from crypto_lake.bars.report import DayReport
from crypto_lake.bars.rows import BAR_SCHEMA, HOUR_SECONDS, all_gaps, hour_rows, open_gaps
from crypto_lake.bars.seconds import Edge, QuoteHour, QuoteReducer, TradeHour, trade_hour
from crypto_lake.bars.template import Template
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.manifests import (
    BarsHour,
    BarsManifest,
    Input,
    RawIndexEntry,
    read_bars_manifest,
    read_raw_index,
    write_bars_manifest,
    write_raw_index,
)
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.model.market import NS_PER_SECOND

_HOUR_NS = HOUR_SECONDS * NS_PER_SECOND
# A day is final so long after its end even where a hole is open: what fills it later makes a new version.
_FINAL_ANYWAY_NS = 48 * _HOUR_NS
# An hour is made again when what stands around it turned out otherwise; by then at most a few times.
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class _Core:
    """What an hour's raw came to, and what it was read from."""

    files: tuple[tuple[str, int], ...]
    max_u_before: int
    trades: TradeHour
    quotes: QuoteHour


@dataclass
class SymbolBars:
    """One symbol's raw and bars on the disk. `watches`: when its trade stream was carried by which connection."""

    layout: Layout
    exchange: str
    symbol: str
    watches: Sequence[Watch]
    quarantine: Quarantine
    template: Template
    rebuild: bool = False
    on_file: Callable[[int], None] = lambda _: None  # bytes of a raw file that was read
    unreadable: int = 0
    files_read: int = 0
    bytes_read: int = 0
    _files: dict[str, RawFile] = field(default_factory=dict[str, RawFile])  # by <day>/<name>
    _sizes: dict[str, int] = field(default_factory=dict[str, int])
    _open_hours: set[int] = field(default_factory=set[int])
    _index: dict[str, RawIndexEntry] = field(default_factory=dict[str, RawIndexEntry])
    _by_hour: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _records: dict[int, BarsHour] = field(default_factory=dict[int, BarsHour])
    _manifests: dict[str, BarsManifest] = field(default_factory=dict[str, BarsManifest])
    _remade: set[int] = field(default_factory=set[int])
    # Of the days made last: a day's end is finished anew once the next day's first trade is known.
    _cores: dict[int, _Core] = field(default_factory=dict[int, _Core])

    # What is there

    def look(self) -> None:
        """List the raw, and load what is known of it and of the bars made so far."""
        for day in self.layout.raw_days(self.exchange, self.symbol):
            known = read_raw_index(self.layout, self.exchange, self.symbol, day)
            for file in self.layout.raw_files(self.exchange, self.symbol, day):
                if file.is_open:
                    self._open_hours.add(_unix_hour(file.hour))
                    continue
                name = f"{day}/{file.path.name}"
                self._files[name] = file
                self._sizes[name] = file.path.stat().st_size
                entry = known.get(file.path.name)
                if entry is not None and entry.bytes == self._sizes[name]:
                    self._learn(name, entry)
        for day in self.layout.bar_days(self.exchange, self.symbol):
            path = self.layout.bars(self.exchange, self.symbol, day)
            manifest = read_bars_manifest(self.layout, path)
            if manifest is not None:
                self._manifests[day] = manifest
                self._records.update(manifest.hours)
            elif (found := table.read(path)) is not None:
                self._records.update(_records_of(*found))

    def days(self) -> list[str]:
        """Days that have a manifest, sorted."""
        return sorted(self._manifests)

    def stale_days(self) -> list[str]:
        """Days of which an hour is to be made."""
        return sorted({pure.day_of(hour) for hour in self._stale(self._span())})

    def _learn(self, name: str, entry: RawIndexEntry) -> None:
        self._index[name] = entry
        for hour in {*entry.trade_hours, *entry.quote_hours}:
            self._by_hour.setdefault(hour, []).append(name)

    def _unread(self, hour: int) -> list[str]:
        """Files received in the hour that were never read."""
        return [n for n, f in self._files.items() if n not in self._index and _unix_hour(f.hour) == hour]

    def _span(self) -> list[int]:
        """Every hour from the first with anything in it to the last that may have a row."""
        unread = {_unix_hour(f.hour) for n, f in self._files.items() if n not in self._index}
        held = self._by_hour.keys() | self._records.keys() | unread
        if not held:
            return []
        return list(range(min(held), max(*held, (self._reach() - 1) // HOUR_SECONDS) + 1))

    def _reach(self) -> int:
        greatest = max(
            (entry.id_runs[-1][1] for entry in self._index.values() if entry.id_runs), default=None
        )
        if greatest is None:
            return 0
        receipts = [
            Receipt(*receipt)
            for entry in self._index.values()
            if entry.id_runs and entry.id_runs[-1][1] == greatest
            for receipt in entry.last_receipts
        ]
        return reach(self.watches, receipts)

    def _inputs(self, hour: int) -> tuple[tuple[str, int], ...]:
        return tuple(sorted((name, self._sizes[name]) for name in self._by_hour.get(hour, ())))

    def _near(self, hour: int) -> list[RawIndexEntry]:
        names = {name for at in (hour - 1, hour, hour + 1) for name in self._by_hour.get(at, ())}
        return [self._index[name] for name in sorted(names)]

    def _key(self, hour: int, around: pure.Around) -> str:
        elsewhere = pure.ids_elsewhere(self._near(hour), hour, self._records.get(hour), around)
        return pure.key(hour, self._inputs(hour), around, elsewhere)

    def _stale(self, hours: Iterable[int]) -> list[int]:
        """Hours that are to be made: new raw in them, or what they stand on is another."""
        wanted = list(hours)
        around = pure.surroundings(wanted, self._records, self._reach())
        unread = {_unix_hour(f.hour) for n, f in self._files.items() if n not in self._index}
        missing = {day for day, m in self._manifests.items() if m.rows and not self._bars_stand(m)}
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

    def _bars_stand(self, manifest: BarsManifest) -> bool:
        try:
            return (self.layout.root / manifest.path).stat().st_size == manifest.bytes
        except FileNotFoundError:
            return False

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
        while stale := [h for h in self._stale(hours) if h not in refused or self._unread(h)]:
            rounds += 1
            if rounds > _MOST_ROUNDS:
                raise RuntimeError(
                    f"{self.symbol} {day}: hours {stale} do not settle; a fault of the program"
                )
            unread = [hour for hour in stale if not self._stands(cores.get(hour), hour)]
            if unread:
                in_doubt = {hour for hour in unread if hour in cores}
                cores.update(self._read(set(unread), in_doubt))
                for hour in unread:
                    if self._refuses(hour, cores[hour], kept):
                        refused.add(hour)
                        del cores[hour]
                    else:
                        refused.discard(hour)
                        self._enter_core(hour, cores[hour])
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
        same = before is not None and self._bars_stand(before) and digests == _digests(before)
        if rows.height and not (same and not self.rebuild):
            table.write(path, rows, digests)
        self._enter_day(day, hours, rows, now_ns)
        return self._report(day, hours, len(made), len(refused), rows)

    def settle(self, day: str, now_ns: int) -> None:
        """Mark the day final where it has become so."""
        manifest = self._manifests.get(day)
        if manifest is not None and not manifest.final and self._final(day, now_ns):
            self._manifests[day] = msgspec.structs.replace(manifest, final=True)
            write_bars_manifest(self.layout, self.layout.root / manifest.path, self._manifests[day])

    def _stands(self, core: _Core | None, hour: int) -> bool:
        if core is None or self._unread(hour):
            return False
        around = pure.surroundings([hour], self._records, 0)[hour]
        return core.files == self._inputs(hour) and core.max_u_before == around.max_u

    def _kept(self, day: str, hours: Sequence[int]) -> dict[int, pl.DataFrame]:
        """Rows of the day as they stand, by hour; an hour whose rows are not what they were is dropped."""
        found = table.read(self.layout.bars(self.exchange, self.symbol, day))
        kept: dict[int, pl.DataFrame] = {}
        for hour in hours:
            record = self._records.get(hour)
            if record is None:
                continue
            rows = table.hour_of(found[0], hour) if found else pl.DataFrame(schema=BAR_SCHEMA)
            if rows.height == record.rows and (not record.rows or table.digest(rows) == record.digest):
                kept[hour] = rows
            else:
                del self._records[hour]
        manifest = self._manifests.get(day)
        if manifest is not None and manifest.rows and (found is None or not self._bars_stand(manifest)):
            self._manifests.pop(day)  # so that the file is written anew
        return kept

    def _refuses(self, hour: int, core: _Core, kept: dict[int, pl.DataFrame]) -> bool:
        """Whether the rows that stand know more than raw does now, because some of it has gone."""
        record = self._records.get(hour)
        if record is None or hour not in kept:
            return False
        if core.trades.trades >= record.trades and core.quotes.updates >= record.quotes:
            return False
        names = {name for name, _ in core.files}
        return not record.inputs or any(name not in names for name in record.inputs)

    def _enter_core(self, hour: int, core: _Core) -> None:
        """What other hours need to know of this one; its rows come after."""
        seconds, quotes = core.trades.seconds, core.quotes.seconds
        self._records[hour] = BarsHour(
            key="",
            digest="",
            rows=0,
            trades=core.trades.trades,
            quotes=core.quotes.updates,
            first=_edge(core.trades.first),
            last=_edge(core.trades.last),
            close=None if seconds.is_empty() else seconds["close"][-1],
            quote=None if quotes.is_empty() else quotes.select("bid", "bid_size", "ask", "ask_size").row(-1),
            max_u=core.quotes.max_u,
            inputs=tuple(name for name, _ in core.files),
            duplicates=core.trades.duplicates,
            conflicts=core.trades.conflicts,
        )

    def _finish(self, hour: int, core: _Core, around: pure.Around) -> pl.DataFrame:
        trades, near = core.trades, around.surroundings
        gaps = all_gaps(trades.first, trades.last, trades.gaps, near)
        known = IntervalSet()
        if gaps:
            for entry in self._near(hour):
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
            rows=made.rows.height,
            holes=len(own),
            missing_ids=sum(hole.after.id - hole.before.id - 1 for hole in own),
        )
        return made.rows

    def _enter_day(self, day: str, hours: Sequence[int], rows: pl.DataFrame, now_ns: int) -> None:
        path = self.layout.bars(self.exchange, self.symbol, day)
        records = {hour: self._records[hour] for hour in hours}
        names = sorted({name for record in records.values() for name in record.inputs})
        before = {i.path: i for m in self._manifests.values() for i in m.inputs} if names else {}
        inputs: list[Input] = []
        for name in names:
            full = f"raw/{self.exchange}/{self.symbol}/{name}"
            entry = self._index.get(name)
            if entry is not None:
                inputs.append(Input(full, entry.bytes, entry.sha256))
            elif full in before:
                inputs.append(before[full])
        ids = rows.select(pl.col("first_trade_id").min(), pl.col("last_trade_id").max()).row(0)
        data = path.read_bytes() if rows.height else b""
        manifest = BarsManifest(
            exchange=self.exchange,
            symbol=self.symbol,
            day=day,
            path=str(path.relative_to(self.layout.root)),
            schema=table.BARS_SCHEMA_VERSION,
            program=__version__,
            bytes=len(data),
            sha256=table.sha256(data) if data else "",
            rows=rows.height,
            trades=sum(record.trades for record in records.values()),
            first_trade_id=ids[0],
            last_trade_id=ids[1],
            final=False,
            inputs=tuple(inputs),
            hours=records,
        )
        self._manifests[day] = manifest
        self._manifests[day] = msgspec.structs.replace(manifest, final=self._final(day, now_ns))
        write_bars_manifest(self.layout, path, self._manifests[day])

    def _final(self, day: str, now_ns: int) -> bool:
        end = _unix_hour(Hour(day, 23)) + 1
        if now_ns < end * _HOUR_NS:
            return False
        if now_ns >= end * _HOUR_NS + _FINAL_ANYWAY_NS:
            return True
        records = self._manifests[day].hours
        settled = not any(hour < end for hour in self._open_hours) and not any(
            _unix_hour(f.hour) <= end for n, f in self._files.items() if n not in self._index
        )
        last = max(records, default=end)
        following = any(hour >= end and record.first for hour, record in self._records.items())
        return (
            settled and last == end - 1 and not any(record.holes for record in records.values()) and following
        )

    # Reading

    def _read(self, need: set[int], in_doubt: set[int]) -> dict[int, _Core]:
        """Read every file that may hold something of the hours `need`, each once, in the order of receipt.

        `in_doubt`: hours that were read before with something else before them; they are held whole.
        """
        names = sorted(
            (name for name in self._files if self._may_touch(name, need)), key=lambda n: self._files[n]
        )
        last_of = dict.fromkeys(need, -1)
        for position, name in enumerate(names):
            for hour in need & self._may_hold(name):
                last_of[hour] = position
        held: dict[int, list[pl.DataFrame]] = {}
        reducers: dict[int, QuoteReducer] = {}
        trades: dict[int, TradeHour] = {}
        too_early: set[int] = set()  # counted, and then a file that was not expected to had more of it
        read: set[str] = set()
        changed_days: set[str] = set()

        def reducer(hour: int) -> QuoteReducer:
            if hour not in reducers:
                max_u = pure.surroundings([hour], self._records, 0)[hour].max_u
                max_u = max([max_u, *(r.greatest_u() for h, r in reducers.items() if h < hour)])
                reducers[hour] = QuoteReducer(max_u, None if hour in in_doubt else 5)
            return reducers[hour]

        def take(new_trades: pl.DataFrame, new_quotes: pl.DataFrame) -> None:
            for hour, rows in _by_hour(new_trades, "time_us", HOUR_SECONDS * 10**6):
                if hour in trades:
                    too_early.add(hour)
                elif hour in need:
                    held.setdefault(hour, []).append(rows.drop("received_ns", "connection"))
            for hour, rows in _by_hour(new_quotes, "received_ns", _HOUR_NS):
                if hour in need:
                    reducer(hour).add(rows)

        def done(files: list[FileRead]) -> None:
            for file in files:
                name = names[len(read)]
                read.add(name)
                entry = self._index.get(name) or file.entry()
                self.files_read += 1
                self.bytes_read += entry.bytes
                self.on_file(entry.bytes)
                if name not in self._index:
                    self._put_aside(name, list(file.unreadable.values()))
                    self._learn(name, entry)
                    changed_days.add(name.partition("/")[0])
            for hour in [h for h in held if last_of[h] < len(read)]:
                trades[hour] = trade_hour(pl.concat(held.pop(hour)))

        read_files([self._files[name].path for name in names], self.template, take, done)
        for day in sorted(changed_days):
            self._save_index(day)
        cores: dict[int, _Core] = {}
        for hour in sorted(need):
            quotes = reducer(hour)
            core = _Core(
                files=self._inputs(hour),
                max_u_before=quotes.start_u,
                trades=trades.get(hour) or trade_hour(empty_trades()),
                quotes=quotes.finish(),
            )
            whole = (
                hour not in too_early
                and read.issuperset(name for name, _ in core.files)
                and not quotes.out_of_order
            )
            # An hour that was counted too early is void: no files, so that it does not stand and is read again.
            cores[hour] = core if whole else _Core((("", -1),), core.max_u_before, core.trades, core.quotes)
        return cores

    def _may_hold(self, name: str) -> set[int]:
        entry = self._index.get(name)
        if entry is not None:
            return {*entry.trade_hours, *entry.quote_hours}
        hour = _unix_hour(self._files[name].hour)
        return {hour - 1, hour, hour + 1}

    def _may_touch(self, name: str, need: set[int]) -> bool:
        return not need.isdisjoint(self._may_hold(name))

    def _put_aside(self, name: str, items: list[Unreadable]) -> None:
        origin = f"raw/{self.exchange}/{self.symbol}/{name}"
        for item in items:
            self.unreadable += item.count
            self.quarantine.add(
                f"{origin.removeprefix('raw/').replace('/', '-')}.unreadable",
                b"\n".join(item.data),
                f"{item.reason} ({item.count})",
                origin,
            )

    def _save_index(self, day: str) -> None:
        files = {
            name.partition("/")[2]: entry for name, entry in self._index.items() if name.startswith(f"{day}/")
        }
        write_raw_index(self.layout, self.exchange, self.symbol, day, files)

    def _report(
        self, day: str, hours: Sequence[int], made: int, refused: int, rows: pl.DataFrame
    ) -> DayReport:
        records = [self._records[hour] for hour in hours]
        return DayReport(
            symbol=self.symbol,
            day=day,
            rows=rows.height,
            trades=sum(r.trades for r in records),
            quotes=sum(r.quotes for r in records),
            hours_made=made,
            hours_kept_without_raw=refused,
            duplicates=sum(r.duplicates for r in records),
            conflicts=sum(r.conflicts for r in records),
            holes=sum(r.holes for r in records),
            missing_ids=sum(r.missing_ids for r in records),
            incomplete_seconds=int((rows["state"] == "incomplete").sum()),
            final=self._manifests[day].final,
        )

    def last_second(self) -> int | None:
        """The newest second that has a row."""
        for day in sorted(self._manifests, reverse=True):
            if self._manifests[day].rows:
                path = self.layout.root / self._manifests[day].path
                last = (
                    pl.scan_parquet(path).select(pl.col("window_start").cast(pl.Int64).max()).collect().item()
                )
                return int(last) // 10**6
        return None


def _by_hour(frame: pl.DataFrame, column: str, per_hour: int) -> list[tuple[int, pl.DataFrame]]:
    """The frame cut by hours; nearly always it is of one."""
    if frame.is_empty():
        return []
    low, high = frame.select(
        (pl.col(column).min() // per_hour).alias("low"), (pl.col(column).max() // per_hour).alias("high")
    ).row(0)
    if low == high:
        return [(low, frame)]
    hours = frame[column] // per_hour
    return [(hour, frame.filter(hours == hour)) for hour in sorted(hours.unique().to_list())]


def _unix_hour(hour: Hour) -> int:
    return hour.start_ns // _HOUR_NS


def _edge(edge: Edge | None) -> tuple[int, int] | None:
    return None if edge is None else (edge.id, edge.time_us)


def _digests(manifest: BarsManifest) -> dict[int, str]:
    return {hour: record.digest for hour, record in manifest.hours.items() if record.rows}


def _records_of(rows: pl.DataFrame, digests: dict[int, str]) -> dict[int, BarsHour]:
    """What can be told of hours whose manifest was lost, from the rows themselves. Their key matches nothing."""
    found: dict[int, BarsHour] = {}
    for hour, digest in digests.items():
        part = table.hour_of(rows, hour)
        traded = part.filter(pl.col("trade_count") > 0)
        stamps = traded["window_start"].cast(pl.Int64)
        last = part.tail(1).select(pl.col("close", "bid", "bid_size", "ask", "ask_size").to_physical())
        if last.is_empty():
            continue
        close, *quote = last.row(0)
        found[hour] = BarsHour(
            key="",
            digest=digest,
            rows=part.height,
            trades=int(part["trade_count"].sum()),
            quotes=int(part["quote_updates"].sum()),
            first=None if traded.is_empty() else (traded["first_trade_id"][0], stamps[0]),
            last=None if traded.is_empty() else (traded["last_trade_id"][-1], stamps[-1]),
            close=close,
            quote=None if quote[0] is None else (quote[0], quote[1], quote[2], quote[3]),
        )
    return found
