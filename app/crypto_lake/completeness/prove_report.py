"""What `prove` found. A contract: fields may be added, none changes its meaning."""

from __future__ import annotations

from typing import Final

import msgspec

REPORT_SCHEMA: Final = 1


class Disagreement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` is not what it should be. `line`: of a ledger, from 1; 0 where it is no matter of one line."""

    path: str
    problem: str
    line: int = 0


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """For how long live connections carried the stream of best quotes, which have no ids that follow each other.

    `watched_seconds` of `of_seconds`; `breaks`: how often no connection carried it for a while.
    """

    stream: str
    watched_seconds: float
    of_seconds: float
    breaks: int


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One collector's ledger of a symbol against the raw that it follows from.

    `first_hour`, `last_hour`: of receipt, that were derived; "" where there was no raw. `lines`: of the ledger, that
    were compared. Trades and ids are counts. `to_come`: lines that follow from raw and that the collector has yet to
    write. `later_lines`: of kinds that this version does not know. `set_back`: the clock was seen to go back, so that
    causes and what came late are compared less strictly (see docs/ledger.md). `causes_not_compared`: of holes whose trade
    before was received in an hour whose raw is not here. `healed_files_gone`: that these lines name and that were deleted
    here after their upload; their manifests say what was in them.
    """

    exchange: str
    symbol: str
    collector: str
    ledger: str
    first_hour: str
    last_hour: str
    lines: int
    trades_seen: int
    holes: int
    ids_missed: int
    ids_received_late: int
    ids_healed: int
    ids_never_existed: int
    ids_unavailable: int
    to_come: int
    later_lines: int
    set_back: bool
    raw_files: int
    raw_bytes: int
    quotes: Watched | None
    disagreements: list[Disagreement]
    causes_not_compared: int = 0
    healed_files_gone: int = 0
