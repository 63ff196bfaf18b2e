"""What `verify` found: returned, printed, and in figures in `state/tasks/verify.json`."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["hour", "healed", "part", "bars", "ledger"]


class Item(msgspec.Struct, frozen=True):
    """A file to look at. `name`: its path in the lake, with slashes."""

    name: str
    kind: Kind
    bytes: int
    exchange: str
    symbol: str
    day: str = ""
    hour: int = -1


class Difference(msgspec.Struct, frozen=True):
    """What of a file is not as it must be.

    `offset`, `size`: the bytes that no frame decodes from. `line`: of a ledger, or of a raw file's unpacked lines,
    from 1; `hour`: of a day of bars. None where that can't be known: a checksum says that a file differs, not where.
    """

    path: str
    problem: str
    offset: int | None = None
    size: int | None = None
    line: int | None = None
    hour: int | None = None


class Checked(msgspec.Struct, frozen=True):
    """One file, looked at. `alone`: it has no manifest yet, and was compared with itself."""

    item: Item
    lines: int = 0
    differences: tuple[Difference, ...] = ()
    alone: bool = False


class VerifyReport(msgspec.Struct, frozen=True):
    """`without_manifest`: parts and healed files that are not sealed yet; every frame and line of them was read.

    `absent`: files whose manifest is here and which are known to be elsewhere. `unfinished`: manifests of a sealing
    that was cut off before its file had its name; its parts are here. `unknown`: names that are none of the lake's.
    """

    schema: int
    seconds: float
    files: int
    bytes: int
    lines: int
    by_kind: dict[str, int]
    without_manifest: int
    open_parts: int
    absent: int
    unfinished: int
    unknown: list[str]
    differences: list[Difference]

    def figures(self) -> dict[str, int | float]:
        return {
            "seconds": self.seconds,
            "files": self.files,
            "bytes": self.bytes,
            "lines": self.lines,
            "differences": len(self.differences),
            "files_that_differ": len({d.path for d in self.differences}),
            "absent": self.absent,
        }
