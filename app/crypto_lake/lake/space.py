"""Room on the file system of a data directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Space:
    """What a user who is not root has of a file system, and may still take; what is kept back for root is in neither.

    So the share that is used is what `df` prints, and reaches 100 % when nothing more can be written. `total_inodes` 0:
    the file system has no such limit.
    """

    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int


def file_system_space(path: Path) -> Space:
    """Of the file system where the path is, or would be. Raises OSError."""
    while not path.exists():
        path = path.parent
    return space_told(os.statvfs(path))


def space_told(seen: os.statvfs_result) -> Space:
    return Space(
        total_bytes=seen.f_frsize * (seen.f_blocks - seen.f_bfree + seen.f_bavail),
        free_bytes=seen.f_frsize * seen.f_bavail,
        total_inodes=seen.f_files - seen.f_ffree + seen.f_favail,
        free_inodes=seen.f_favail,
    )
