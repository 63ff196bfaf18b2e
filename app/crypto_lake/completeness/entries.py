"""Lines of the ledger, in their final form.

    {"kind":"seen","hour":"2024-08-08T13","first_id":1,"last_id":9,…,"previous":"<sha256 of the line before>"}

One file per exchange and symbol, append-only. `previous` is the SHA-256 (hex) of the line before, without its
newline; of the first line it is 64 zeros. So a byte changed anywhere, or a line taken out, is found by reading.
Fields may be added, with a default; none may change its meaning.

Only what follows from durable raw stands in a line: no time of writing, no process. The same raw gives the same
lines, which is how a ledger is checked.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1
NO_PREVIOUS = "0" * 64

Cause = Literal["disk_full", "write_error", "restart", "disconnect", "unsubscribed", "message_lost"]


class Line(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Base of all lines."""

    previous: str = NO_PREVIOUS


class Opened(Line, frozen=True, tag="opened", kw_only=True):
    """The first line: whose ledger this is. Of ids before the first seen it says nothing."""

    schema: int = SCHEMA
    exchange: str
    symbol: str
    collector: str


class Seen(Line, frozen=True, tag="seen", kw_only=True):
    """Every id of first..last is in the raw files of this receive hour (or of one before, where it came twice).

    Times are the trades' own, of the first and the last id.
    """

    hour: str
    first_id: int
    last_id: int
    first_time_us: int
    last_time_us: int


class Hole(Line, frozen=True, tag="hole", kw_only=True):
    """No id of first..last came within the grace. What became of it stands in later `outcome` lines.

    The missing trades lie between `after_time_us` (the trade before) and `before_time_us` (the one after).
    `found_ns`: when the trade after it was received. cause: `restart` the collector was off in between;
    `disk_full` messages came and there was no room for them; `write_error` messages came and could not be written for
    another reason; `disconnect` a connection of the stream ended in between;
    `unsubscribed` the symbol was taken out of the configuration for a while;
    `message_lost` none of these: the exchange or the network did not deliver.
    """

    first_id: int
    last_id: int
    after_time_us: int
    before_time_us: int
    found_ns: int
    cause: Cause


class Outcome(Line, frozen=True, tag="outcome", kw_only=True):
    """What was done about ids of a hole, and what came of it. It may concern a part of the hole.

    action `none` with outcome `received_late`: they came after all, past the grace.
    Actions and outcomes of healing (healed, never_existed, unavailable, quiet_verified) have this form too.
    """

    first_id: int
    last_id: int
    action: str
    outcome: str
    file: str = ""
    reason: str = ""


AnyLine = Opened | Seen | Hole | Outcome
