"""Lines of the ledger, in their final form.

    {"kind":"seen","hour":"2024-08-08T13","first_id":1,"last_id":9,…,"previous":"<sha256 of the line before>"}

One file per exchange and symbol, append-only. `previous` is the SHA-256 (hex) of the line before, without its
newline; of the first line it is 64 zeros. So a byte changed anywhere, or a line taken out, is found by reading.

A ledger lives longer than a version of the program, and each line is read by all later ones. So fields may be added,
with a default; none may change its meaning. Kinds, causes, actions and outcomes may be added too: a program that does
not know a kind passes over the line (`Other`), and its chain still holds.

Only what follows from durable raw stands in a line: no time of writing, no process. The same raw gives the same
lines, which is how a ledger is checked. `ended` and `resumed` alone say what raw can't: that nothing is to come. What was healed rests on the healed file, what never existed on the exchange's
answer, which is kept among the control records.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SCHEMA = 1
NO_PREVIOUS = "0" * 64

Cause = Literal["disk_full", "write_error", "restart", "disconnect", "unsubscribed", "message_lost"]
# `none`: nothing was done. The others name whom the ids were asked of, as `source` of a healed raw line does.
Action = Literal["none", "historicalTrades", "aggTrades", "archive"]
Settled = Literal["received_late", "healed", "never_existed", "unavailable"]


class Line(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Base of all lines that this version can write."""

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
    `message_lost` none of these: the exchange or the network did not deliver. One of Cause, or of a later version's.
    """

    first_id: int
    last_id: int
    after_time_us: int
    before_time_us: int
    found_ns: int
    cause: str


class Outcome(Line, frozen=True, tag="outcome", kw_only=True):
    """What was done about ids of a hole, and what came of it. It may concern a part of the hole.

    outcome (one of Settled, or of a later version's), of every id of first..last:

    - `received_late`, action `none`: they came after all, past the grace;
    - `healed`: they were fetched, and each is in `file`, a healed raw file (relative to the data directory);
    - `never_existed`: the exchange has no such trades. Its answer, which says so, is the control record `rest_answer`
      that was received at `answer_ns`;
    - `unavailable`: they can't be had, for the `reason` given; where an answer says so, it is the one at `answer_ns`.

    The last line about an id counts: what was unavailable may be healed later (from the next day's archive), and what
    was healed from aggregates may be healed again from single trades.
    """

    first_id: int
    last_id: int
    action: str
    outcome: str
    file: str = ""
    reason: str = ""
    answer_ns: int = 0


class Quiet(Line, frozen=True, tag="quiet", kw_only=True):
    """The stream was silent, and the exchange had no trade after `last_id` when it was asked: a quiet market.

    From `from_ns` to `until_ns` (received) nothing is missing. The answer is the control record at `answer_ns`.
    """

    last_id: int
    from_ns: int
    until_ns: int
    answer_ns: int = 0


class Ended(Line, frozen=True, tag="ended", kw_only=True):
    """Nothing of the symbol is received any more, and all that came is in the lines above.

    The collector stopped of its own accord, or the symbol was taken out of its configuration. A crash writes none.
    `ended_ns`: everything received before it has been entered.
    """

    ended_ns: int


class Resumed(Line, frozen=True, tag="resumed", kw_only=True):
    """The symbol is received again, after an `ended`. `resumed_ns`: since when."""

    resumed_ns: int


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a kind that a later version added. It is passed over, and can't be written."""

    kind: str
    previous: str = NO_PREVIOUS


AnyLine = Opened | Seen | Hole | Outcome | Quiet | Ended | Resumed
# Kinds that say whether the symbol is received: by the last of them it is, unless that is `Ended`.
TELLING: Final = (Seen, Hole, Ended, Resumed)
# What reading gives.
ReadLine = AnyLine | Other
_KINDS: Final = frozenset({"opened", "seen", "hole", "outcome", "quiet", "ended", "resumed"})

_decode_known: msgspec.json.Decoder[AnyLine] = msgspec.json.Decoder(AnyLine)
_decode_other = msgspec.json.Decoder(Other)


def decode_line(encoded: bytes) -> ReadLine:
    """Read one line, without its newline. Raises msgspec.MsgspecError where it is none."""
    try:
        return _decode_known.decode(encoded)
    except msgspec.ValidationError:
        other = _decode_other.decode(encoded)
        if other.kind in _KINDS:
            raise
        return other
