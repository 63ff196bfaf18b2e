"""What the fold remembers (see `fold`), in a form that can be stored."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from crypto_lake.model.intervals import Interval


class Run(NamedTuple):
    """Trades with ids first..last without a hole, all received at `received_ns`.

    `process`: which run of the collector received them, where they were read from raw: connections of one bear one name
    but for the last piece (c-9f3a-12-3).
    """

    first_id: int
    last_id: int
    first_time_us: int
    last_time_us: int
    received_ns: int
    process: str = ""


class Span(msgspec.Struct):
    """Ids seen since the last flush, and the times of both ends."""

    first_id: int
    last_id: int
    first_time_us: int
    last_time_us: int


class Suspect(msgspec.Struct):
    """Ids that were jumped over and may still come until `found_ns` plus the grace."""

    first_id: int
    last_id: int
    after_time_us: int
    before_time_us: int
    after_ns: int  # when the trade before was received
    found_ns: int
    restarted: bool = False  # the collector started in between, whatever its clock said


class FoldState(msgspec.Struct):
    """All that the fold remembers; it can be stored and taken up again."""

    hour: str = ""  # receive hour of the latest run, "" before the first
    hour_end_ns: int = 0
    started_ns: int = 0  # the collector's latest start that was fed
    restarted: bool = False  # it started since the trade with the greatest id
    seen: list[tuple[int, int]] = []
    base_id: int = -1  # the first one ever seen, whether or not lower ones came later
    frontier_time_us: int = 0
    frontier_ns: int = 0
    fresh: list[Span] = []
    late: list[tuple[int, int]] = []
    suspects: list[Suspect] = []
    open_holes: list[tuple[int, int]] = []
    events: list[tuple[int, str]] = []  # (received_ns, cause) of what may explain a hole
    connections: list[str] = []  # that carry the symbol's trades
    duplicates: int = 0
    holes_total: int = 0
    ended: bool = False  # nothing is received any more, and the ledger says so


def without(suspect: Suspect, piece: Interval, run: Run) -> list[Suspect]:
    """What is left of a suspect when the ids of `piece` have come."""
    if piece.last < suspect.first_id or piece.first > suspect.last_id:
        return [suspect]
    left: list[Suspect] = []
    if piece.first > suspect.first_id:
        left.append(
            msgspec.structs.replace(suspect, last_id=piece.first - 1, before_time_us=run.first_time_us)
        )
    if piece.last < suspect.last_id:
        left.append(msgspec.structs.replace(suspect, first_id=piece.last + 1, after_time_us=run.last_time_us))
    return left
