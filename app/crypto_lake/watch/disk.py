"""What the lake takes up on its disk, read without opening the data."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from crypto_lake.lake.layout import OPEN_SUFFIX, Layout
from crypto_lake.lake.space import file_system_space

_LONG_SECONDS: Final = 1.0
_PAUSE: Final = 30
_MOST_SECONDS: Final = 600.0

_Seen = TypeVar("_Seen")


class DiskFigures(msgspec.Struct, frozen=True):
    """Sizes of the lake's files and of the file system below them.

    `parquet_rows` is taken from the manifests; files without a readable one are in `parquet_files_uncounted`.
    `limit_bytes`: what this lake may take of a disk that it shares (`disk.limit_gb`); 0: all of it.
    `used_percent`: of the file system, by whomever, or of that limit by the lake: whichever is more.
    """

    raw_files: int
    raw_open_files: int
    raw_bytes: int
    parquet_files: int
    parquet_bytes: int
    parquet_rows: int
    parquet_files_uncounted: int
    last_bars_ns: int  # when a file of bars was last written; 0: never
    lake_bytes: int
    total_bytes: int
    free_bytes: int
    total_inodes: int = 0  # 0: the file system has no such limit
    free_inodes: int = 0
    limit_bytes: int = 0
    used_percent: float = 0.0  # this and the next are computed, whatever is given
    used_inodes_percent: float = 0.0

    def __post_init__(self) -> None:
        of_disk = 1 - self.free_bytes / self.total_bytes if self.total_bytes else 0.0
        of_limit = self.lake_bytes / self.limit_bytes if self.limit_bytes else 0.0
        of_inodes = 1 - self.free_inodes / self.total_inodes if self.total_inodes else 0.0
        msgspec.structs.force_setattr(self, "used_percent", 100.0 * max(of_disk, of_limit))
        msgspec.structs.force_setattr(self, "used_inodes_percent", 100.0 * of_inodes)

    @property
    def room_bytes(self) -> int:
        """What may still be written: to the end of the disk, or of the limit."""
        left = max(0, self.limit_bytes - self.lake_bytes) if self.limit_bytes else self.free_bytes
        return min(self.free_bytes, left)

    @property
    def filled_bytes(self) -> int:
        """What grows until there is no room: what the lake takes where it has a limit, else what is used of the disk."""
        return self.lake_bytes if self.limit_bytes else self.total_bytes - self.free_bytes


NOTHING = DiskFigures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def space_of(root: Path) -> DiskFigures:
    """Only the file system's figures (see `Space`), which cost one call however many files there are; the others are 0."""
    seen = file_system_space(root)
    return msgspec.structs.replace(
        NOTHING,
        total_bytes=seen.total_bytes,
        free_bytes=seen.free_bytes,
        total_inodes=seen.total_inodes,
        free_inodes=seen.free_inodes,
    )


def lake_bytes_of(root: Path) -> int:
    """What the lake's files take up; all are looked at."""
    lake_bytes = 0
    for _, entry in _files(root):
        try:
            lake_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # gone meanwhile
    return lake_bytes


def usage_of(root: Path, limit_bytes: int, lake_bytes: Callable[[], int]) -> DiskFigures:
    """As `space_of`; where the lake has a limit of its own, also what its files take up."""
    space = space_of(root)
    if not limit_bytes:
        return space
    return msgspec.structs.replace(space, lake_bytes=lake_bytes(), limit_bytes=limit_bytes)


class Seldom(Generic[_Seen]):
    """A look at very many files, of which there are more the older the lake is: the longer it takes, the less often it is
    made, so that a thirtieth of the time goes to it at the most; but it is made every ten minutes however slow the disk is.
    Meanwhile what was seen last is told. A look of less than a second is made each time.
    """

    def __init__(self, look: Callable[[], _Seen], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._look, self._monotonic = look, monotonic
        self._last: tuple[_Seen, float] | None = None  # and until when it is told

    def __call__(self) -> _Seen:
        began = self._monotonic()
        if self._last is not None and began < self._last[1]:
            return self._last[0]
        seen = self._look()
        took = self._monotonic() - began
        pause = min(_PAUSE * took, _MOST_SECONDS) if took >= _LONG_SECONDS else 0.0
        self._last = (seen, began + pause)
        return seen


# Manifests are indented by one: in no other field a line begins like this. The whole line, for its end may be cut off.
_ROWS: Final = re.compile(rb'^ "rows": (\d+),?\n', re.MULTILINE)
_HEAD_BYTES: Final = 2048


class _Rows(msgspec.Struct):
    rows: int


_decode_rows = msgspec.json.Decoder(_Rows).decode


class DiskScanner:
    """Looks at a data directory again and again; rows of a file that has not changed are not read twice."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rows: dict[str, tuple[int, int, int]] = {}  # manifest -> (mtime, size, rows)

    def scan(self, limit_bytes: int = 0) -> DiskFigures:
        """The figures now. `limit_bytes`: what the lake may take, 0: all. Files that come and go while it looks are counted or not, as it happens."""
        root = self._layout.root
        raw_files = raw_open = raw_bytes = parquet_files = parquet_bytes = rows = uncounted = last_bars_ns = 0
        lake_bytes = 0
        for top, entry in _files(root):
            try:
                stat = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            lake_bytes += stat.st_size
            if top == "raw" and entry.name.endswith((".jsonl.zst", OPEN_SUFFIX)):
                raw_files += 1
                raw_open += entry.name.endswith(OPEN_SUFFIX)
                raw_bytes += stat.st_size
            elif top == "parquet" and entry.name.endswith(".parquet") and not _is_macro(root, entry):
                parquet_files += 1
                parquet_bytes += stat.st_size
                last_bars_ns = max(last_bars_ns, stat.st_mtime_ns)
                counted = self._rows_of(Path(entry.path))
                rows += counted or 0
                uncounted += counted is None
        space = space_of(root)
        return DiskFigures(
            raw_files=raw_files,
            raw_open_files=raw_open,
            raw_bytes=raw_bytes,
            parquet_files=parquet_files,
            parquet_bytes=parquet_bytes,
            parquet_rows=rows,
            parquet_files_uncounted=uncounted,
            last_bars_ns=last_bars_ns,
            lake_bytes=lake_bytes,
            total_bytes=space.total_bytes,
            free_bytes=space.free_bytes,
            total_inodes=space.total_inodes,
            free_inodes=space.free_inodes,
            limit_bytes=limit_bytes,
        )

    def _rows_of(self, bars: Path) -> int | None:
        manifest = self._layout.manifest(bars)
        try:
            stat = manifest.stat()
            known = self._rows.get(str(manifest))
            if known is not None and known[:2] == (stat.st_mtime_ns, stat.st_size):
                return known[2]
            rows = _rows_in(manifest)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._rows[str(manifest)] = (stat.st_mtime_ns, stat.st_size, rows)
        return rows


def _rows_in(manifest: Path) -> int:
    """As its manifest says. Its beginning tells: what follows may be a thousand times as long, for each day of the lake."""
    with manifest.open("rb") as file:
        told = _ROWS.search(file.read(_HEAD_BYTES))
        if told is not None:
            return int(told[1])
        file.seek(0)
        return _decode_rows(file.read()).rows


def _files(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below root with the name of its topmost folder; links are not followed."""
    stack: list[tuple[str, str]] = [("", str(root))]
    while stack:
        top, folder = stack.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append((top or entry.name, entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        yield top, entry
        except OSError:
            continue  # gone, or not ours to read


def _is_macro(root: Path, entry: os.DirEntry[str]) -> bool:
    """Whether a file of parquet/ is one of daily series, and not of bars."""
    return entry.path.startswith(os.path.join(root, "parquet", "macro", ""))  # noqa: PTH118  as entries' paths are made
