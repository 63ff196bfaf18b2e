"""What the lake takes up on its disk, read without opening the data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from crypto_lake.lake.layout import OPEN_SUFFIX, Layout


class DiskFigures(msgspec.Struct, frozen=True):
    """Sizes of the lake's files and of the file system below them.

    `parquet_rows` is taken from the manifests; files without a readable one are in `parquet_files_uncounted`.
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

    @property
    def used_percent(self) -> float:
        """Of the file system, by whomever."""
        return 100.0 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 0.0

    @property
    def used_inodes_percent(self) -> float:
        return 100.0 * (1 - self.free_inodes / self.total_inodes) if self.total_inodes else 0.0


NOTHING = DiskFigures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def space_of(root: Path) -> DiskFigures:
    """Only the file system's figures, which cost one call however many files there are; the others are 0.

    Free is what a user who is not root may still take.
    """
    seen = os.statvfs(_existing(root))
    return msgspec.structs.replace(
        NOTHING,
        total_bytes=seen.f_frsize * seen.f_blocks,
        free_bytes=seen.f_frsize * seen.f_bavail,
        total_inodes=seen.f_files,
        free_inodes=seen.f_favail,
    )


class _Rows(msgspec.Struct):
    rows: int


class DiskScanner:
    """Looks at a data directory again and again; rows of a file that has not changed are not read twice."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rows: dict[str, tuple[int, int, int]] = {}  # manifest -> (mtime, size, rows)

    def scan(self) -> DiskFigures:
        """The figures now. Files that come and go while it looks are counted or not, as it happens."""
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
            elif top == "parquet" and entry.name.endswith(".parquet"):
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
        )

    def _rows_of(self, bars: Path) -> int | None:
        manifest = self._layout.manifest(bars)
        try:
            stat = manifest.stat()
            known = self._rows.get(str(manifest))
            if known is not None and known[:2] == (stat.st_mtime_ns, stat.st_size):
                return known[2]
            rows = msgspec.json.decode(manifest.read_bytes(), type=_Rows).rows
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._rows[str(manifest)] = (stat.st_mtime_ns, stat.st_size, rows)
        return rows


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


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
