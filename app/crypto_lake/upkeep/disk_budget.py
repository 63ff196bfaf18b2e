"""How full the disk is, and what follows from it. Pure, but for `look`.

Up to the first limit nothing. Above it files that are proven to be elsewhere go before their time (`cleanup`), until
there is some room again. Above the second no derived files are made (`transform`): they can be made later, raw can't.
Raw itself is written to the last byte. The warning before all that is an alert: `disk_usage`, see docs/alerts.md.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from crypto_lake.lake.space import file_system_space

Level = Literal["ok", "shed", "stop_derived"]
# So far below its limit shedding goes, so that the next file does not start it again.
ROOM_PERCENT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Percentages of the file system, by bytes and by inodes, and of `lake_bytes` where that is set.

    `lake_bytes`: what this lake may take of a disk that it shares; 0: all of it.
    """

    shed_percent: float = 90.0
    stop_derived_percent: float = 95.0
    lake_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Total and free as `Space` tells them. `lake_bytes`: of the lake's own files; 0 where nobody asked."""

    total_bytes: int
    free_bytes: int
    total_inodes: int = 0
    free_inodes: int = 0
    lake_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What has to go, so that there is room again."""

    bytes: int = 0
    files: int = 0

    def is_met(self, bytes_freed: int, files_freed: int) -> bool:
        return bytes_freed >= self.bytes and files_freed >= self.files


@dataclass(frozen=True, slots=True)
class _Measure:
    """Something that can be used up: bytes of the disk, its inodes, the lake's share."""

    unit: Literal["bytes", "files"]
    used: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.total


def _measures(usage: Usage, limits: Limits) -> list[_Measure]:
    found = [
        _Measure("bytes", usage.total_bytes - usage.free_bytes, usage.total_bytes),
        _Measure("files", usage.total_inodes - usage.free_inodes, usage.total_inodes),
        _Measure("bytes", usage.lake_bytes, limits.lake_bytes),
    ]
    return [measure for measure in found if measure.total > 0]


def used_percent(usage: Usage, limits: Limits) -> float:
    """Of what is used up most."""
    return max((measure.percent for measure in _measures(usage, limits)), default=0.0)


def level(usage: Usage, limits: Limits) -> Level:
    percent = used_percent(usage, limits)
    if percent >= limits.stop_derived_percent:
        return "stop_derived"
    return "shed" if percent >= limits.shed_percent else "ok"


def need(usage: Usage, limits: Limits) -> Need:
    """What to free: nothing of what is below the limit."""
    over = {"bytes": 0, "files": 0}
    target_percent = max(0.0, limits.shed_percent - ROOM_PERCENT)
    for measure in _measures(usage, limits):
        if measure.percent >= limits.shed_percent:
            too_much = measure.used - math.floor(measure.total * target_percent / 100)
            over[measure.unit] = max(over[measure.unit], too_much)
    return Need(over["bytes"], over["files"])


def refusal(usage: Usage, limits: Limits) -> str:
    """Why no derived file is made now, for a person; nothing where one may be."""
    if level(usage, limits) != "stop_derived":
        return ""
    return (
        f"the disk is {used_percent(usage, limits):.1f}% full ({usage.free_bytes / 1e9:.2f} GB are free): above "
        f"{limits.stop_derived_percent:g}% no bars are made, so that raw has the room that is left. Free some, or "
        "enlarge the volume; `crypto-lake cleanup --explain` tells what may go, and why the rest may not"
    )


def look(root: Path, limits: Limits) -> Usage:
    """The usage now. The lake's own files are summed up only where they have a limit."""
    seen = file_system_space(root)
    return Usage(
        total_bytes=seen.total_bytes,
        free_bytes=seen.free_bytes,
        total_inodes=seen.total_inodes,
        free_inodes=seen.free_inodes,
        lake_bytes=_allocated_bytes(root) if limits.lake_bytes else 0,
    )


def _allocated_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118  # many files: no objects
            except OSError:
                continue  # gone meanwhile
    return total
