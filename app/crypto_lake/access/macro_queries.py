"""Files of macro series for a DuckDB session: `lake://macro/*`. A path names the version, and its content never changes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import polars as pl

from crypto_lake.access.macro import Files
from crypto_lake.lake.macro_files import parse
from crypto_lake.lake.macro_schema import MACRO_SCHEMA

EVERY: Final = "macro/*"
_PREFIX: Final = "macro/"
# Where there is no series, DuckDB gets a file without rows: a query on it is then answered, with nothing.
_NO_ROWS: Final = f"{_PREFIX}none/daily.parquet"
_MOST_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes, as `places.Held` wants them."""

    data: bytes
    identity: object

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class MacroQueries:
    """What queries read of series: listed anew for each, and kept in memory while it fits. Files are some kB each.

    Safe to use from several threads.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()  # the least lately used goes first
        self._bytes = 0
        self._unread = threading.local()  # other threads query meanwhile

    @staticmethod
    def owns(path: str) -> bool:
        return path.startswith(_PREFIX)

    @contextmanager
    def unread(self) -> Generator[None]:
        """While views are made, no file is looked at: DuckDB wants to know the columns alone."""
        self._unread.here = True
        try:
            yield
        finally:
            self._unread.here = False

    def glob(self) -> list[str]:
        if getattr(self._unread, "here", False):
            return [_NO_ROWS]
        found: list[str] = []
        with self._lock:
            for name, version in self._files.versions().items():
                if parse(name) is None:
                    continue
                path = f"{_PREFIX}{version}/{name}"
                with suppress(FileNotFoundError):  # replaced since it was listed: the next query has it
                    self._content(path, name, version)
                    found.append(path)
        return found or [_NO_ROWS]

    def open(self, path: str) -> Content:
        """FileNotFoundError where `glob` never told the path, or long ago."""
        if path == _NO_ROWS:
            return Content(_no_rows(), path)
        with self._lock:
            if path not in self._kept:
                raise FileNotFoundError(f"lake://{path}: that version is gone; run the query again")
            self._kept.move_to_end(path)
            return Content(self._kept[path], path)

    def _content(self, path: str, name: str, version: str) -> None:
        if path not in self._kept:
            content = self._files.read(name, version)
            self._kept[path] = content
            self._bytes += len(content)
        self._kept.move_to_end(path)
        while self._bytes > _MOST_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])


def _no_rows() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(schema=MACRO_SCHEMA).write_parquet(buffer)
    return buffer.getvalue()
