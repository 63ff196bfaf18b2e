"""One symbol's raw on the disk: which files hold what of which hour, and reading hours of it.

A sealed hour stands for the parts it was made of: where those were read before, it need not be read again, and what
was made of them stands on them still. So sealing makes no bar anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from crypto_lake.bars.columns import empty_trades
from crypto_lake.bars.coverage import Receipt, Watch, watched_us
from crypto_lake.bars.reading import FileRead, Unreadable, read_files
from crypto_lake.bars.rows import HOUR_SECONDS
from crypto_lake.bars.seconds import QuoteHour, QuoteReducer, TradeHour, trade_hour
from crypto_lake.bars.template import Template
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.manifests import RawIndexEntry, read_raw_index, write_raw_index
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import raw_inputs, read_raw_manifest
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import NS_PER_SECOND

HOUR_NS = HOUR_SECONDS * NS_PER_SECOND
_DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True, slots=True)
class Core:
    """What an hour's raw came to, and what it was read from."""

    files: tuple[tuple[str, int], ...]
    max_u_before: int
    trades: TradeHour
    quotes: QuoteHour


@dataclass
class SymbolRaw:
    """Files go by <day>/<name>, hours by their Unix hour.

    `watches`: when the symbol's trade stream was carried by which connection, by the control records of a day and those
    after it. `on_file` gets the bytes of each raw file that was read.
    """

    layout: Layout
    exchange: str
    symbol: str
    watches: Callable[[str], Sequence[Watch]]
    quarantine: Quarantine
    template: Template
    on_file: Callable[[int], None] = lambda _: None
    unreadable: int = 0
    files_read: int = 0
    bytes_read: int = 0
    open_hours: set[int] = field(default_factory=set[int])
    _files: dict[str, RawFile] = field(default_factory=dict[str, RawFile])
    # What files hold; of a sealed hour whose parts were all read before, what each of those held.
    _index: dict[str, RawIndexEntry] = field(default_factory=dict[str, RawIndexEntry])
    _by_hour: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _parts: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    _sealed_in: dict[str, str] = field(default_factory=dict[str, str])
    _watched: tuple[tuple[frozenset[Receipt], int], int] | None = None  # what was asked last, and the answer

    def look(self) -> None:
        """List the files, and load what is known of them."""
        for day in self.layout.raw_days(self.exchange, self.symbol):
            known = read_raw_index(self.layout, self.exchange, self.symbol, day)
            for file in raw_inputs(self.layout, self.exchange, self.symbol, day):
                if file.is_open:
                    self.open_hours.add(unix_hour(file.hour))
                    continue
                name = f"{day}/{file.path.name}"
                self._files[name] = file
                entry = known.get(file.path.name)
                if entry is not None and entry.bytes == file.path.stat().st_size:
                    self._learn(name, entry)
                elif file.kind == "hour":
                    self._learn_parts(day, name, file, known)

    def _learn_parts(self, day: str, name: str, file: RawFile, known: dict[str, RawIndexEntry]) -> None:
        manifest = read_raw_manifest(self.layout, file.path)
        if manifest is None or not manifest.inputs or manifest.bytes != file.path.stat().st_size:
            return
        parts = {part.path.rpartition("/")[2]: part for part in manifest.inputs}
        if all(part in known and known[part].sha256 == of.sha256 for part, of in parts.items()):
            self._parts[name] = tuple(f"{day}/{part}" for part in parts)
            for part in parts:
                self._sealed_in[f"{day}/{part}"] = name
                self._learn(f"{day}/{part}", known[part])

    def _learn(self, name: str, entry: RawIndexEntry) -> None:
        self._index[name] = entry
        for hour in {*entry.trade_hours, *entry.quote_hours}:
            self._by_hour.setdefault(hour, []).append(name)

    def _is_read(self, name: str) -> bool:
        return name in self._index or name in self._parts

    def unread_hours(self) -> set[int]:
        """Hours in which files were received that were never read."""
        return {unix_hour(file.hour) for name, file in self._files.items() if not self._is_read(name)}

    def hours(self) -> set[int]:
        """Hours of which something was read, or is to be."""
        return self._by_hour.keys() | self.unread_hours()

    def greatest_id(self) -> int | None:
        """Of the trades that were read."""
        return max((entry.id_runs[-1][1] for entry in self._index.values() if entry.id_runs), default=None)

    def watched_us(self, last_id: int, known_us: int) -> int:
        """The exchange's time up to which the trade stream is known to have been watched since this trade, the last.

        `known_us`: how far by what is known already; 0: nothing is.
        """
        receipts = frozenset(
            Receipt(*receipt)
            for entry in self._index.values()
            if entry.id_runs and entry.id_runs[-1][1] == last_id
            for receipt in entry.last_receipts
        )
        asked = (receipts, known_us)
        if self._watched is None or self._watched[0] != asked:
            self._watched = (asked, self._look_at_watches(*asked))
        return self._watched[1]

    def _look_at_watches(self, receipts: frozenset[Receipt], known_us: int) -> int:
        # No connection lives longer than a day: exchanges end it, and the collector replaces it before.
        starts = [known_us * 1000 - 2 * _DAY_NS] if known_us else []
        starts += [receipt.received_ns - _DAY_NS for receipt in receipts if not known_us]
        if not starts:
            return 0
        watches = self.watches(Hour.of_ns(max(min(starts), 0)).day)
        return watched_us(watches, sorted(receipts, key=lambda r: (r.received_ns, r.connection)), known_us)

    def inputs(self, hour: int) -> tuple[tuple[str, int], ...]:
        """Names and sizes of what holds something of the hour."""
        return tuple(sorted((name, self._index[name].bytes) for name in self._by_hour.get(hour, ())))

    def entry(self, name: str) -> RawIndexEntry | None:
        return self._index.get(name)

    def near(self, hour: int) -> list[RawIndexEntry]:
        """What is known of files with something of the hour, or of one beside it."""
        names = {name for at in (hour - 1, hour, hour + 1) for name in self._by_hour.get(at, ())}
        return [self._index[name] for name in sorted(names)]

    def read(self, need: set[int], in_doubt: set[int], max_u_before: Callable[[int], int]) -> dict[int, Core]:
        """Read every file that may hold something of the hours `need`, each once, in the order of receipt.

        `in_doubt`: hours that were read before with something else before them; they are held whole.
        `max_u_before`: the greatest update id before an hour.
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
                max_u = max([max_u_before(hour), *(r.greatest_u() for h, r in reducers.items() if h < hour)])
                reducers[hour] = QuoteReducer(max_u, None if hour in in_doubt else 5)
            return reducers[hour]

        def take(new_trades: pl.DataFrame, new_quotes: pl.DataFrame) -> None:
            for hour, rows in _split_by_hour(new_trades, "time_us", HOUR_SECONDS * 10**6):
                if hour in trades:
                    too_early.add(hour)
                elif hour in need:
                    held.setdefault(hour, []).append(rows.drop("received_ns", "connection"))
            for hour, rows in _split_by_hour(new_quotes, "received_ns", HOUR_NS):
                if hour in need:
                    reducer(hour).add(rows)

        def done(files: list[FileRead]) -> None:
            for file in files:
                name = names[len(read)]
                read.add(name)
                size = file.path.stat().st_size
                self.files_read += 1
                self.bytes_read += size
                self.on_file(size)
                if not self._is_read(name):
                    self._put_aside(name, list(file.unreadable.values()))
                    self._learn(name, file.entry())
                    changed_days.add(name.partition("/")[0])
            for hour in [h for h in held if last_of[h] < len(read)]:
                trades[hour] = trade_hour(pl.concat(held.pop(hour)))

        read_files([self._files[name].path for name in names], self.template, take, done)
        for day in sorted(changed_days):
            self._save_index(day)
        cores: dict[int, Core] = {}
        for hour in sorted(need):
            quotes = reducer(hour)
            core = Core(
                files=self.inputs(hour),
                max_u_before=quotes.start_u,
                trades=trades.get(hour) or trade_hour(empty_trades()),
                quotes=quotes.finish(),
            )
            whole = (
                hour not in too_early
                and read.issuperset(self._sealed_in.get(name, name) for name, _ in core.files)
                and not quotes.out_of_order
            )
            # An hour that was counted too early is void: no files, so that it does not stand and is read again.
            cores[hour] = core if whole else Core((("", -1),), core.max_u_before, core.trades, core.quotes)
        return cores

    def _may_hold(self, name: str) -> set[int]:
        if self._is_read(name):
            entries = [self._index[part] for part in self._parts.get(name, (name,))]
            return {hour for entry in entries for hour in (*entry.trade_hours, *entry.quote_hours)}
        hour = unix_hour(self._files[name].hour)
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


def _split_by_hour(frame: pl.DataFrame, column: str, per_hour: int) -> list[tuple[int, pl.DataFrame]]:
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


def unix_hour(hour: Hour) -> int:
    return hour.start_ns // HOUR_NS
