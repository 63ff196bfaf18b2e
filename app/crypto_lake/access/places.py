"""Where a lake's bars are: a data directory or a bucket. Which days there are, and one file's bytes, held fast.

A day is replaced whole while others read it. So a file is opened once and read from what was opened: on a disk from the
descriptor, which keeps its content when the name is taken over; in a bucket from the generation that was listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from crypto_lake.access.errors import DamagedError, InvalidArgumentError, ReplacedError, UnreachableError
from crypto_lake.access.macro import Files, LocalFiles
from crypto_lake.access.times import Span
from crypto_lake.lake.layout import Layout

NOT_EXCHANGES: Final = frozenset({"macro"})
"""Folders beside those of exchanges that hold other series."""


@dataclass(frozen=True, slots=True, order=True)
class DayFile:
    """A day of bars. `generation` and `bytes`: of the bucket's object as it was listed; 0 on a disk."""

    exchange: str
    symbol: str
    day: str
    generation: int = 0
    bytes: int = 0


class Held(Protocol):
    """One version of a file. Safe to read from several threads."""

    @property
    def size(self) -> int: ...

    @property
    def identity(self) -> object:
        """What tells this version from another one under the same name."""
        ...

    def read(self, offset: int, length: int) -> bytes: ...


class Place(Protocol):
    """`url`: as people write it, and as a path's beginning for other programs."""

    @property
    def url(self) -> str: ...

    @property
    def is_remote(self) -> bool: ...

    def exchanges(self) -> list[str]: ...

    def symbols(self, exchange: str) -> list[str]: ...

    def days(self, exchange: str, symbol: str, span: Span) -> list[DayFile]:
        """Files that are there, sorted by day."""
        ...

    def hold(self, file: DayFile) -> Held:
        """FileNotFoundError where it is there no more."""
        ...

    def macro(self) -> Files:
        """Its macro series."""
        ...


class LocalFile:
    """An open descriptor, closed with the last reference."""

    __slots__ = ("_descriptor", "identity", "size")

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stat = os.fstat(self._descriptor)
        self.size = stat.st_size
        self.identity: object = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class LocalPlace:
    """A data directory."""

    is_remote = False

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UnreachableError(
                f"there is no data directory {root}; name one that `crypto-lake run` writes to"
            )
        self._layout = Layout(root.absolute())
        self.url = str(root)

    def exchanges(self) -> list[str]:
        return [name for name in self._layout.bar_exchanges() if name not in NOT_EXCHANGES]

    def symbols(self, exchange: str) -> list[str]:
        return self._layout.bar_symbols(exchange)

    def days(self, exchange: str, symbol: str, span: Span) -> list[DayFile]:
        days = self._layout.days_with_bars(exchange, symbol, span.first_day, span.last_day)
        return [DayFile(exchange, symbol, day) for day in days]

    def hold(self, file: DayFile) -> Held:
        return LocalFile(self._layout.bars(file.exchange, file.symbol, file.day))

    def macro(self) -> Files:
        return LocalFiles(self._layout.root)


def open_place(where: str | os.PathLike[str]) -> Place:
    """A path, `file:///path` or `gs://bucket/prefix`. Nothing is sent yet. InvalidArgumentError for another URL."""
    text = os.fspath(where)
    if text.startswith("gs://"):
        # Imported here: the client library takes a quarter of a second that a lake on a disk need not spend.
        from crypto_lake.access.bucket import BucketPlace

        return BucketPlace(text)
    if text.startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidArgumentError(f"{text}: write three slashes, file:///folder")
        return LocalPlace(Path(unquote(parts.path)))
    if "://" in text:
        raise InvalidArgumentError(f"{text}: a lake is a folder, file:///folder or gs://bucket/prefix")
    return LocalPlace(Path(text))


def files_of(place: Place, exchange: str | None, symbols: Iterable[str], span: Span) -> list[DayFile]:
    """Files of these symbols (of all, where none is named), sorted."""
    named = list(symbols)
    return sorted(
        file
        for name in ([exchange] if exchange else place.exchanges())
        for symbol in (named or place.symbols(name))
        for file in place.days(name, symbol, span)
    )


def replaced(url: str, file: DayFile) -> ReplacedError:
    return ReplacedError(
        f"the bars of {file.symbol} of {file.day} in {url} were replaced while they were read; run the query again"
    )


def damaged(place: Place, symbol: str, day: str, why: str) -> DamagedError:
    make = f"{'publish' if place.is_remote else 'transform'} --rebuild --symbol {symbol} --day {day}"
    return DamagedError(
        f"the bars of {symbol} of {day} in {place.url} can't be read ({why}); `crypto-lake verify` tells what of the lake is "
        f"damaged, `crypto-lake {make}` makes them anew from raw"
    )
