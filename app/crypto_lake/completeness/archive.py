"""The exchange's daily archives of trades: fetched, their checksum verified, read row by row.

They are not always as they are described: a header where there should be none, rows twice, another unit of time than the
day before. So nothing is taken for granted but the number of fields.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

import aiohttp

from crypto_lake.exchanges import Past, PastRow
from crypto_lake.lake import durable

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 256 * 1024
_TRIES: Final = 4
_PAUSE_SECONDS: Final = 2.0  # doubled
_CHECKSUM: Final = re.compile(r"(?P<sha256>[0-9a-fA-F]{64})\s+\*?(?P<name>\S+)\s*")


_Got = TypeVar("_Got")


class ArchiveError(Exception):
    """An archive that can't be had, or is not what it should be; the text says which and why."""


class UnreachableError(ArchiveError):
    """Their host can't be reached, or does not answer: of others it would be the same."""


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    sha256: str
    bytes: int


class Archives:
    """Archives of one host, put into `folder` one at a time."""

    def __init__(
        self,
        past: Past,
        base: str,
        session: aiohttp.ClientSession,
        folder: Path,
    ) -> None:
        self._past, self._session, self._folder = past, session, folder
        self._base = (base or past.archive).rstrip("/")
        self.on_bytes: Callable[[int], None] = lambda _: None

    async def fetch(self, symbol: str, day: str) -> Fetched | None:
        """The day's file, verified; None where the exchange has none (yet). Remove it when it was read.

        Raises ArchiveError.
        """
        path = self._past.archive_path(symbol, day)
        checksum = await self._tried(lambda: self._text(path + self._past.checksum_suffix))
        if checksum is None:
            return None
        match = _CHECKSUM.fullmatch(checksum.strip())
        name = path.rpartition("/")[2]
        if match is None or match["name"] != name:
            raise ArchiveError(f"{self._base}{path}{self._past.checksum_suffix} names no checksum of {name}")
        wanted = match["sha256"].lower()
        fetched: Fetched | None = None
        for _ in range(2):  # what was damaged on its way comes right the second time
            fetched = await self._tried(lambda: self._file(path, self._folder / name))
            if fetched is None:
                return None
            if fetched.sha256 == wanted:
                return fetched
            fetched.path.unlink(missing_ok=True)
            log.warning("%s%s has the checksum %s, not %s", self._base, path, fetched.sha256, wanted)
        assert fetched is not None
        raise ArchiveError(
            f"{self._base}{path} has the checksum {fetched.sha256}, and its checksum file says {wanted}: it is damaged, "
            "or was published anew between the two requests"
        )

    async def _tried(self, get: Callable[[], Awaitable[_Got | None]]) -> _Got | None:
        """Raises ArchiveError where it fails again and again."""
        pause = _PAUSE_SECONDS
        for number in range(1, _TRIES + 1):
            try:
                return await get()
            except (aiohttp.ClientError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                if number == _TRIES:
                    answered = isinstance(error, aiohttp.ClientResponseError)
                    raise (ArchiveError if answered else UnreachableError)(f"{self._base}: {why}") from None
                log.warning("%s: %s; tried again in %.0f s", self._base, why, pause)
            await asyncio.sleep(pause)
            pause *= 2
        return None

    async def _text(self, path: str) -> str | None:
        async with self._session.get(self._base + path) as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            return (await response.content.read(_CHUNK_BYTES)).decode(errors="replace")

    async def _file(self, path: str, target: Path) -> Fetched | None:
        durable.make_directory(target.parent)
        digest, size = hashlib.sha256(), 0
        async with self._session.get(self._base + path) as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            with target.open("wb") as file:
                async for piece in response.content.iter_chunked(_CHUNK_BYTES):
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
                    self.on_bytes(len(piece))
        return Fetched(target, digest.hexdigest(), size)


def rows(path: Path, past: Past) -> Iterator[PastRow]:
    """Every trade of an archive, in the file's order, repeated ones too. Raises ArchiveError where it can't be read."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = [info for info in packed.infolist() if info.filename.endswith(".csv")]
            if len(members) != 1:
                raise ArchiveError(f"{path.name} holds {len(members)} CSV files; expected one")
            with packed.open(members[0]) as file:
                yield from _rows(file, path.name, past)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArchiveError(f"{path.name} is no whole zip: {error}") from None


def _rows(file: IO[bytes], name: str, past: Past) -> Iterator[PastRow]:
    for number, line in enumerate(file, start=1):
        text = line.strip()
        if not text or (number == 1 and not text[:1].isdigit()):  # a header, where there is one
            continue
        try:
            yield past.archive_message(text.split(b","))
        except ValueError as error:
            raise ArchiveError(f"{name}, line {number}: {error}: {text[:100]!r}") from None


def remove_old(folder: Path) -> None:
    """What a run that was cut off has left."""
    if folder.is_dir():
        for path in folder.glob("*.zip"):
            path.unlink(missing_ok=True)
