"""A file that holds room on the disk, given up when there is none left.

`state/reserve` is 16 MiB that nothing else can take. When the disk is full it is removed, so that what must be
written still can be: ledgers, manifests, records of deletion. Raw does not use that room; it waits until there is
enough for the reserve to be made again, and some more.

Any process may give it up; the collector makes it. Where the file system can't allocate ahead (or copies on write,
as btrfs does) the room is likely, not certain.
"""

from __future__ import annotations

import os
from pathlib import Path

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout

RESERVE_BYTES = 16 * 1024 * 1024
# Beyond the reserve, so that it is not made only to be given up at the next write.
_HEADROOM = 0.25


def path_of(layout: Layout) -> Path:
    return layout.state / "reserve"


def held_bytes(layout: Layout) -> int:
    """What is held now: 0 or the whole of it."""
    try:
        return path_of(layout).stat().st_size
    except OSError:
        return 0


def make(layout: Layout, size: int = RESERVE_BYTES) -> bool:
    """Hold the room; False where there is not enough of it, or it can't be made. It lasts when this returns True."""
    path = path_of(layout)
    if held_bytes(layout) == size:
        return True
    try:
        durable.make_directory(path.parent)
        space = os.statvfs(path.parent)
        if space.f_bavail * space.f_frsize < size * (1 + _HEADROOM):
            return False
        # Under another name until it is whole: one that a crash left half made would count as held.
        half_made = path.with_name(f".{path.name}{durable.TEMPORARY_SUFFIX}")
        try:
            descriptor = os.open(half_made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(descriptor, 0, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            durable.rename(half_made, path)
        except OSError:
            half_made.unlink(missing_ok=True)
            raise
    except OSError:
        return False
    return True


def give_up(layout: Layout) -> bool:
    """Let go of the room; whether there was any. Not made to last: after a crash it may be held again."""
    try:
        path_of(layout).unlink()
    except OSError:
        return False
    return True
