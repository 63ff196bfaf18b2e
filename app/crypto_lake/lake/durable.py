"""Writing so that it lasts.

What is promised: after `write` returns, the file holds exactly these bytes and has this name, power loss
included, on a file system that honours fsync and atomic rename (ext4, XFS, btrfs; not NFS). A crash before that
leaves the old file, or none, and at most one file whose name ends in `.tmp`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def sync_directory(path: Path) -> None:
    """Make names in a folder last. An error is raised, never swallowed: what fsync failed to keep is unknown."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """mkdir -p, with every folder made here fsynced into its parent."""
    missing: list[Path] = []
    at = path
    while not at.is_dir():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_directory(folder.parent)


def write_with(path: Path, make: Callable[[Path], None], check: Callable[[Path], None] | None = None) -> None:
    """Let `make` write a temporary file in the same folder, then sync, check and rename it into place.

    `check` reads the temporary file back and raises where it is not what it should be.
    """
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        make(temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if check is not None:
            check(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write(path: Path, data: bytes) -> None:
    """Replace a file's content whole, read back before it takes the name."""

    def read_back(temporary: Path) -> None:
        if temporary.read_bytes() != data:
            raise OSError(
                f"{temporary} reads back other bytes than were written; the disk is not to be trusted"
            )

    write_with(path, lambda temporary: _create(temporary, data), read_back)


def write_fleeting(path: Path, data: bytes) -> None:
    """Replace a file whole and at once, without fsync: for a status or a clock, that a crash may lose."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        _create(temporary, data)
        temporary.replace(path)
    except BaseException:  # a full disk is not made fuller
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _create(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rename(source: Path, target: Path) -> None:
    """Rename within a folder, made to last."""
    source.rename(target)
    sync_directory(target.parent)
