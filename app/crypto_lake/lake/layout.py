"""Where everything is. No other module puts a path together."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crypto_lake.lake import durable
from crypto_lake.lake.control import CONTROL
from crypto_lake.model.clock import Hour

OPEN_SUFFIX = ".open"
_RAW_NAME = re.compile(
    r"(?:part_(?P<part_hour>\d\d)_(?P<number>\d{4,})"
    r"|hour_(?P<hour>\d\d)(?:_(?P<late>\d+))?"
    r"|healed_(?P<healed_hour>\d\d)_(?P<first>\d+)-(?P<last>\d+)(?:_\d+)?)"
    r"\.jsonl\.zst(?P<open>\.open)?"
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_BARS_NAME = re.compile(
    r"parquet/(?P<exchange>[^/]+)/(?P<symbol>[^/]+)/year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)/bars\.parquet"
)


@dataclass(frozen=True, slots=True, order=True)
class RawFile:
    """A file of raw lines. Sorted, they stand in the order in which they were received.

    `kind`: "hour" (sealed), "part" (closed or open), "healed" (fetched from REST, under the hour of its trades).
    """

    hour: Hour
    kind: str
    number: int  # of a part; of a sealed hour's late file (1 for the first); the first id of a healed one
    path: Path
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one data directory."""

    root: Path

    # raw
    def raw_root(self) -> Path:
        return self.root / "raw"

    def raw_day(self, exchange: str, symbol: str, day: str) -> Path:
        return self.root / "raw" / exchange / symbol / day

    def part(self, exchange: str, symbol: str, hour: Hour, number: int) -> Path:
        """The closed part's path; while it is being written `.open` stands behind it."""
        return self.raw_day(exchange, symbol, hour.day) / f"part_{hour.hour:02d}_{number:04d}.jsonl.zst"

    def sealed(self, exchange: str, symbol: str, hour: Hour, number: int) -> Path:
        """The sealed hour's path; `number` counts from 2 on for parts that came after the first seal."""
        late = f"_{number}" if number > 1 else ""
        return self.raw_day(exchange, symbol, hour.day) / f"hour_{hour.hour:02d}{late}.jsonl.zst"

    def healed(
        self, exchange: str, symbol: str, hour: Hour, first_id: int, last_id: int, number: int = 1
    ) -> Path:
        """The path of trades that were fetched, of the hour in which they happened; `number` from 2 on: once more."""
        again = f"_{number}" if number > 1 else ""
        name = f"healed_{hour.hour:02d}_{first_id}-{last_id}{again}.jsonl.zst"
        return self.raw_day(exchange, symbol, hour.day) / name

    def exchanges(self) -> list[str]:
        return _folders(self.root / "raw")

    def symbols(self, exchange: str) -> list[str]:
        """Symbols with raw on the disk, whatever today's configuration says."""
        return [name for name in _folders(self.root / "raw" / exchange) if name != CONTROL]

    def raw_days(self, exchange: str, symbol: str) -> list[str]:
        return [name for name in _folders(self.root / "raw" / exchange / symbol) if _DAY.fullmatch(name)]

    def manifest_days(self, exchange: str, symbol: str) -> list[str]:
        """Days with manifests of raw, whether the raw is still here or not."""
        folder = self.root / "manifests" / "raw" / exchange / symbol
        return [name for name in _folders(folder) if _DAY.fullmatch(name)]

    def raw_files(self, exchange: str, symbol: str, day: str) -> list[RawFile]:
        """All raw files of a day, open ones included, sorted. Other names are passed over."""
        folder = self.raw_day(exchange, symbol, day)
        found = [parse_raw_name(day, path) for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(file for file in found if file is not None)

    def open_parts(self) -> Iterator[Path]:
        """Parts that are being written, or that a crash left behind."""
        return (self.root / "raw").glob(f"*/*/*/part_*{OPEN_SUFFIX}")

    # bars
    def bars(self, exchange: str, symbol: str, day: str) -> Path:
        return self.root.joinpath("parquet", exchange, symbol, *_dated_folders(day), "bars.parquet")

    def bar_days(self, exchange: str, symbol: str) -> list[str]:
        """Days with a file of bars, or with a manifest of one (a day may have no row), sorted."""
        found: set[str] = set()
        for root in (self.root / "parquet", self.root / "manifests" / "parquet"):
            for path in (root / exchange / symbol).glob("year=*/month=*/day=*/bars.parquet*"):
                year, month, day = (part.partition("=")[2] for part in path.parts[-4:-1])
                found.add(f"{year}-{month}-{day}")
        return sorted(day for day in found if _DAY.fullmatch(day))

    def bar_exchanges(self) -> list[str]:
        return _folders(self.root / "parquet")

    def bar_symbols(self, exchange: str) -> list[str]:
        """Symbols with a folder of bars."""
        return _folders(self.root / "parquet" / exchange)

    def days_with_bars(
        self, exchange: str, symbol: str, first: str = "", last: str = "9999-12-31"
    ) -> list[str]:
        """Days from first to last with a file of bars, sorted. Years and months outside are not looked into."""
        found: list[str] = []
        root = self.root / "parquet" / exchange / symbol
        for year in _values(root, "year", first[:4], last[:4]):
            for month in _values(
                root / f"year={year}", "month", first[5:7] if year == first[:4] else "", "99"
            ):
                folder = root / f"year={year}" / f"month={month}"
                for day in _values(folder, "day", "", "99"):
                    name = f"{year}-{month}-{day}"
                    if (
                        first <= name <= last
                        and _DAY.fullmatch(name)
                        and self.bars(exchange, symbol, name).exists()
                    ):
                        found.append(name)
        return found

    # verdicts
    def verdicts(self, exchange: str, symbol: str, day: str) -> Path:
        """What the bars of a day are, held against the exchange's own. Not below `parquet`: a query of bars reads all of it."""
        return self.root.joinpath("verdicts", exchange, symbol, *_dated_folders(day), "verdicts.parquet")

    def report(self, exchange: str, symbol: str, day: str, suffix: str) -> Path:
        """A day's report; `suffix`: json or md."""
        return self.root / "reports" / exchange / symbol / f"{day}.{suffix}"

    def judged_days(self) -> list[tuple[str, str, str]]:
        """Exchange, symbol and day of which verdicts or a report are here, the oldest day first."""
        found: set[tuple[str, str, str]] = set()
        for path in (self.root / "verdicts").glob("*/*/year=*/month=*/day=*/verdicts.parquet"):
            exchange, symbol, *folders = path.parts[-6:-1]
            found.add((exchange, symbol, "-".join(folder.partition("=")[2] for folder in folders)))
        for path in (self.root / "reports").glob("*/*/*.*"):
            found.add((path.parts[-3], path.parts[-2], path.stem))
        return sorted((at for at in found if _DAY.fullmatch(at[2])), key=lambda at: (at[2], *at[:2]))

    # ledger, manifests, the rest
    def ledger(self, exchange: str, symbol: str) -> Path:
        return self.root / "ledger" / exchange / f"{symbol}.jsonl"

    def manifest(self, path: Path) -> Path:
        """The manifest of a file of this lake."""
        relative = path.relative_to(self.root)
        return self.root / "manifests" / relative.with_name(relative.name + ".json")

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def locks(self) -> Path:
        return self.root / "state" / "locks"

    @property
    def clock(self) -> Path:
        return self.root / "state" / "clock.json"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def health(self) -> Path:
        return self.root / "health"

    @property
    def log(self) -> Path:
        return self.root / "logs" / "qa" / "crypto-lake.log"

    def collector_id(self) -> str:
        """This data directory's own name for its collector, minted the first time it is asked for.

        A lost volume's successor gets another one, so that it never meets the old one's names in the bucket.
        """
        path = self.state / "collector"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40].strip("-") or "local"
            minted = f"{host}-{secrets.token_hex(2)}"
            durable.write(path, minted.encode() + b"\n")
            return minted


def parse_raw_name(day: str, path: Path) -> RawFile | None:
    """What a name in a raw folder says, or None where it is not one of ours."""
    match = _RAW_NAME.fullmatch(path.name)
    if match is None:
        return None
    is_open = match["open"] is not None
    if match["part_hour"] is not None:
        hour, kind, number = match["part_hour"], "part", int(match["number"])
    elif match["hour"] is not None:
        hour, kind, number = match["hour"], "hour", int(match["late"] or 1)
    else:
        hour, kind, number = match["healed_hour"], "healed", int(match["first"])
    if int(hour) > 23 or (is_open and kind != "part"):
        return None
    return RawFile(Hour(day, int(hour)), kind, number, path, is_open)


def healed_ids(path: Path) -> tuple[int, int]:
    """The first and the last id in a healed file's name. Raises ValueError where it is none."""
    match = _RAW_NAME.fullmatch(path.name)
    if match is None or match["first"] is None:
        raise ValueError(f"{path.name} is no healed file")
    return int(match["first"]), int(match["last"])


def symbol_of(raw: Path) -> str:
    """Whose lines a raw file of this path holds."""
    return raw.parent.parent.name


def bars_name(exchange: str, symbol: str, day: str) -> str:
    """The path of a day of bars below a data directory, or below a bucket's prefix."""
    return Layout(Path()).bars(exchange, symbol, day).as_posix()


def parse_bars_name(name: str) -> tuple[str, str, str] | None:
    """Exchange, symbol and day of such a path; None where it is none."""
    match = _BARS_NAME.fullmatch(name)
    if match is None:
        return None
    return match["exchange"], match["symbol"], f"{match['year']}-{match['month']}-{match['day']}"


def _dated_folders(day: str) -> tuple[str, str, str]:
    year, month, day_of_month = day.split("-")
    return f"year={year}", f"month={month}", f"day={day_of_month}"


def _values(path: Path, key: str, first: str, last: str) -> list[str]:
    """Of folders `key=value`: the values from first to last, sorted."""
    values = (name.partition("=")[2] for name in _folders(path) if name.startswith(f"{key}="))
    return [value for value in values if first <= value <= last]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
