"""The lake as a file system for DuckDB: `lake://`. What a query reads of a day is one version of it.

    read_parquet('lake://*/*', hive_partitioning = true)                       every day of every symbol
    read_parquet('lake://binance@BTCUSDT,ETHUSDT@2024-08-01@2024-08-31/*', …)  these

A listing gives paths such as `lake://<version>/exchange=binance/symbol=BTCUSDT/day=2024-08-08/bars.parquet`, so that a
condition on exchange, symbol or day decides by the path which files are opened.

DuckDB opens a file more than once for one query, for its footer and for its columns, and it lists the lake anew for each
query, for each place where the query names it. On a disk `<version>` is a snapshot: within it a day's first opening holds
the file, and the next ones get the same. It is over when nothing of it is open and it was not used for a moment, or a
second has passed: the next query sees what was written meanwhile. In a bucket `<version>` is the object's generation.
"""

from __future__ import annotations

import io
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from crypto_lake.access.columns import COLUMNS
from crypto_lake.access.errors import InvalidArgumentError, LakeError
from crypto_lake.access.macro_queries import MacroQueries
from crypto_lake.access.places import DayFile, Held, Place, damaged, files_of, replaced
from crypto_lake.access.times import Span, as_span

PROTOCOL: Final = "lake"
EVERYTHING: Final = f"{PROTOCOL}://*/*"
_PATH: Final = re.compile(
    r"(?P<version>[^/]+)/exchange=(?P<exchange>[^/]+)/symbol=(?P<symbol>[^/]+)/day=(?P<day>[^/]+)/bars\.parquet"
)
_NAMED: Final = re.compile(rf"""['"]?{PROTOCOL}://{_PATH.pattern}['"]?:?""")
_HELD_FILES: Final = 256
_KEPT_SNAPSHOTS: Final = 64
# Between two listings of one query, and between its binding and its run, nothing need be open.
_IDLE_SECONDS: Final = 0.25
_YOUNG_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 30.0  # even where queries overlap without an end
# First in every listing is one without rows. DuckDB takes the columns of a query from it, and opens of the others only those that
# the query's conditions leave: a damaged one fails no query that does not read it, and without any the answer is nothing.
_NO_FILE: Final = f"none/exchange=none/symbol=none/day={datetime(1970, 1, 1):%Y-%m-%d}/bars.parquet"
_TYPES: Final = {
    "text": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "decimal": pa.decimal128(38, 8),
    "count": pa.int64(),
}
STORED_SCHEMA: Final = pa.schema([(column.name, _TYPES[column.kind]) for column in COLUMNS if column.stored])


def selection(exchange: str, symbols: list[str], span: Span) -> str:
    """The path that stands for these files. `span`: only its days count."""
    return f"{PROTOCOL}://{exchange}@{','.join(symbols)}@{span.first_day}@{span.last_day}/*"


class _Snapshot:
    """Files of a moment. `identities`: which version of each file was opened first, and is the only one since."""

    def __init__(self, number: int) -> None:
        self.name = f"s{number}"
        self.began = self.used = time.monotonic()
        self.is_ended = False
        self.listed: dict[str, list[DayFile]] = {}
        self.identities: dict[DayFile, object] = {}
        self.opened: weakref.WeakSet[LakeFile] = weakref.WeakSet()

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        if self.is_ended:
            return True
        if self.opened:
            return now - self.began > _LONGEST_SECONDS
        return now - self.used > _IDLE_SECONDS or now - self.began > _YOUNG_SECONDS

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self.began > _LONGEST_SECONDS


class LakeFiles(AbstractFileSystem):
    """One lake, read only. Safe to use from several threads."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.macro = MacroQueries(place.macro())
        self.problem: LakeError | None = None  # the last one; DuckDB's own error tells it as a traceback
        self.opened_days = 0  # files that were opened so far, each once a snapshot
        self._lock = threading.RLock()
        self._unread = threading.local()  # other threads query meanwhile
        self._number = 0
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()
        # By snapshot and file; the least lately used goes first. What is open has a hold of its own.
        self._held: OrderedDict[tuple[str, DayFile], Held] = OrderedDict()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return str(path).removeprefix(f"{PROTOCOL}://")

    def take_problem(self) -> LakeError | None:
        """What the last query failed by, where it was the lake."""
        found, self.problem = self.problem, None
        return found

    def refresh(self) -> None:
        """The next query sees the lake as it is, also within the second that a snapshot lives."""
        with self._lock:
            for snapshot in self._snapshots.values():
                snapshot.is_ended = True

    def damage_in(self, message: str) -> LakeError | None:
        """What DuckDB says of a file that it could not read, told so that it can be helped; None where it names none."""
        found = _NAMED.search(message)
        if found is None:
            return None
        why = " ".join(_NAMED.sub("", message).partition("\n")[0].split())
        return damaged(self.place, found["symbol"], found["day"], why)

    @contextmanager
    def unread(self) -> Generator[None]:
        """While views are made, no file is looked at: DuckDB wants to know the columns alone, and these are fixed."""
        self._unread.here = True
        try:
            with self.macro.unread():
                yield
        finally:
            self._unread.here = False

    def _failed(self, error: LakeError) -> None:
        self.problem = error

    # What DuckDB asks for
    def glob(self, path: str, **_: Any) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        name = self._strip_protocol(path)
        if "*" not in name:
            return [name]
        if getattr(self._unread, "here", False) and not self.macro.owns(name):
            return [_NO_FILE]
        try:
            return self.macro.glob() if self.macro.owns(name) else [_NO_FILE, *self._listing(name)]
        except LakeError as error:
            self._failed(error)
            raise

    def open(self, path: str, mode: str = "rb", **_: Any) -> LakeFile:  # pyright: ignore[reportIncompatibleMethodOverride]
        if mode != "rb":
            raise PermissionError(f"{path}: a lake is read only")
        try:
            return self._opened(self._strip_protocol(path))
        except LakeError as error:
            self._failed(error)
            raise

    def exists(self, path: str, **_: Any) -> bool:
        name = self._strip_protocol(path)
        return self.macro.owns(name) or _PATH.fullmatch(name) is not None

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": self._strip_protocol(path), "type": "file", "size": self.size(path)}

    def size(self, path: str) -> int:
        return self.open(path).size

    def modified(self, path: str) -> datetime:
        """Always the same: what is under a path never changes, for its version stands in it."""
        return datetime(2000, 1, 1, tzinfo=UTC)

    # Snapshots
    def _listing(self, name: str) -> list[str]:
        exchange, symbols, span = _selected(name)
        if self.place.is_remote:
            return [
                _path(f"g{file.generation}-{file.bytes}", file)
                for file in files_of(self.place, exchange, symbols, span)
            ]
        with self._lock:
            snapshot = self._current()
            if name not in snapshot.listed:
                snapshot.listed[name] = files_of(self.place, exchange, symbols, span)
            return [_path(snapshot.name, file) for file in snapshot.listed[name]]

    def _current(self) -> _Snapshot:
        newest = next(reversed(self._snapshots.values()), None)
        if newest is None or newest.is_over:
            # A query that was bound to an older one may still run.
            kept = {name for name, snapshot in self._snapshots.items() if not snapshot.is_old}
            for key in [key for key in self._held if key[0] not in kept]:
                del self._held[key]
            self._number += 1
            newest = _Snapshot(self._number)
            self._snapshots[newest.name] = newest
            while len(self._snapshots) > _KEPT_SNAPSHOTS:
                self._snapshots.popitem(last=False)
        newest.used = time.monotonic()
        return newest

    def _opened(self, name: str) -> LakeFile:
        if self.macro.owns(name):
            return LakeFile(self.macro.open(name))
        if name == _NO_FILE:
            return LakeFile(_NoRows())
        match = _PATH.fullmatch(name)
        if match is None:
            raise FileNotFoundError(f"{PROTOCOL}://{name}: a lake has no such file")
        version = match["version"]
        file = DayFile(match["exchange"], match["symbol"], match["day"])
        if version.startswith("g"):
            generation, _, size = version[1:].partition("-")
            self.opened_days += 1
            listed = DayFile(file.exchange, file.symbol, file.day, int(generation), int(size))
            return LakeFile(self.place.hold(listed), self._failed)
        with self._lock:
            snapshot = self._snapshots.get(version)
            if snapshot is None:
                raise replaced(self.place.url, file)
            snapshot.used = time.monotonic()
            opened = LakeFile(self._hold(snapshot, file), self._failed)
            snapshot.opened.add(opened)
            return opened

    def _hold(self, snapshot: _Snapshot, file: DayFile) -> Held:
        key = (snapshot.name, file)
        held = self._held.get(key)
        if held is None:
            try:
                held = self.place.hold(file)
            except FileNotFoundError:
                raise replaced(self.place.url, file) from None
            if snapshot.identities.setdefault(file, held.identity) != held.identity:
                raise replaced(self.place.url, file)
            self.opened_days += 1
            self._held[key] = held
            while len(self._held) > _HELD_FILES:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return held


def _selected(name: str) -> tuple[str | None, list[str], Span]:
    """What a listing asks for: see the head of this file."""
    words = name.removesuffix("/*").split("@")
    if words == ["*"]:
        return None, [], Span()
    if len(words) != 4:
        raise InvalidArgumentError(f"{PROTOCOL}://{name}: read {EVERYTHING}, or the views")
    exchange, symbols, first, last = words
    span = as_span(first or None, None if last >= "9999" else f"{last}T23:59:59.999999")
    return exchange, symbols.split(","), span


def _path(version: str, file: DayFile) -> str:
    return f"{version}/exchange={file.exchange}/symbol={file.symbol}/day={file.day}/bars.parquet"


class LakeFile:
    """A held file as DuckDB reads it. Its threads share one and seek in it: each has a position of its own."""

    mode = "rb"
    closed = False

    def __init__(self, held: Held, tell: Callable[[LakeError], None] | None = None) -> None:
        self._held: Held = held
        self._tell = tell
        self._at = threading.local()
        self.size = held.size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        self._at.offset = begin + offset
        return self._at.offset

    def tell(self) -> int:
        return getattr(self._at, "offset", 0)

    def read(self, length: int = -1) -> bytes:
        offset = self.tell()
        try:
            data = self._held.read(offset, self.size - offset if length < 0 else length)
        except LakeError as error:
            if self._tell is not None:
                self._tell(error)
            raise
        self._at.offset = offset + len(data)
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: DuckDB's other threads may read on. The last reference closes."""


class _NoRows:
    """A file of bars without rows."""

    identity: object = None

    def __init__(self) -> None:
        self._data = _no_rows()
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


@cache
def _no_rows() -> bytes:
    sink = io.BytesIO()
    pq.write_table(STORED_SCHEMA.empty_table(), sink)
    return sink.getvalue()
