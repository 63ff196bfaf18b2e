"""What a run of `compact` did: returned, printed, and in figures in `state/tasks/compact.json`."""

from __future__ import annotations

import msgspec


class SealedHour(msgspec.Struct, frozen=True):
    """A file that has its manifest since this run."""

    path: str
    parts: int
    bytes: int
    lines: int
    trades: int
    missing_ids: int
    damaged_bytes: int


class LeftAlone(msgspec.Struct, frozen=True):
    """A file that is not as this program leaves it. It was not touched."""

    path: str
    problem: str


class CompactReport(msgspec.Struct, frozen=True):
    """`failed`: what could not be done although it should, by file, with the error; the rest was done."""

    schema: int
    seconds: float
    salvaged_parts: int
    salvaged_cut_bytes: int
    hours_sealed: int
    files_attested: int  # healed ones, and such whose manifest was lost
    parts_sealed: int
    parts_deleted: int
    bytes_sealed: int
    lines: int
    damaged_bytes: int
    hours_waiting: int
    sealed: list[SealedHour]
    left_alone: list[LeftAlone]
    failed: dict[str, str]

    def figures(self) -> dict[str, int | float]:
        """All numbers, and how many of the rest there are."""
        numbers = {name: value for name, value in msgspec.structs.asdict(self).items() if name != "schema"}
        return {
            name: value if isinstance(value, int | float) else len(value) for name, value in numbers.items()
        }
