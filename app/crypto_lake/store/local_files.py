"""Files that arrive: written beside their place, fsynced, read back, and only then given their name."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from crypto_lake.store.base import Declared
from crypto_lake.store.checksums import crc32c_of
from crypto_lake.store.errors import LocalFileChanged


def sync_folder(path: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """mkdir -p, with each folder that is made here fsynced into its parent."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_file(file: IO[bytes]) -> None:
    """Bring a file's bytes to the disk, and let the next reading come from there where the system allows."""
    file.flush()
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def changed(path: Path, at: str) -> LocalFileChanged:
    """The error for a local file that is not what was declared."""
    return LocalFileChanged(
        f"{path} is no longer what it was measured to be",
        at=at,
        hint="Nothing was stored. Upload only files that nobody writes; verify this one against its manifest.",
    )


def check_size(file: IO[bytes], declared: Declared, at: str, path: Path) -> None:
    if os.fstat(file.fileno()).st_size != declared.bytes:
        raise changed(path, at)


class Arriving:
    """A file that takes its target's name when it is accepted, and leaves nothing when it is not."""

    def __init__(self, target: Path) -> None:
        make_folder(target.parent)
        self._target = target
        self._temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        self._accepted = False
        self.file: IO[bytes] = self._temporary.open("wb")

    def __enter__(self) -> Arriving:
        return self

    def finish(self) -> tuple[int, str]:
        """Close it, and tell the size and CRC32C that it reads back with."""
        sync_file(self.file)
        self.file.close()
        return crc32c_of(self._temporary)

    def accept(self) -> None:
        self._temporary.replace(self._target)
        self._accepted = True
        sync_folder(self._target.parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if not self._accepted:
            self._temporary.unlink(missing_ok=True)
