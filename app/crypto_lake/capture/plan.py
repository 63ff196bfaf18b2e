"""Which connection carries which streams, and when one takes over from another. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from crypto_lake.capture.outcome import Reason

Slots = Mapping[int, frozenset[str]]


def plan(
    slots: Slots, wanted: Iterable[str], streams_per_slot: int, symbol_of: Callable[[str], str]
) -> dict[int, frozenset[str]]:
    """Spread the wanted streams over slots (a slot is served by one connection), starting from what is.

    A stream that has a slot stays in it. New ones go to the slot of their symbol where it has room, else all
    those of a symbol together to the first slot with room for them, else to a new slot. Numbers of slots are
    never used again as long as a greater one is in `slots`. Slots left without a stream are gone.

    Only where a symbol has more streams than a slot holds, or its slot was filled by others before it got another
    stream, is it on two connections: moving it would interrupt what flows.
    """
    if streams_per_slot < 1:
        raise ValueError(f"{streams_per_slot} streams per connection can carry nothing")
    wanted = frozenset(wanted)
    planned = {slot: kept for slot, streams in sorted(slots.items()) if (kept := streams & wanted)}
    placed = frozenset[str]().union(*planned.values())
    following = max(slots, default=0) + 1
    new: defaultdict[str, list[str]] = defaultdict(list)
    for stream in sorted(wanted - placed):
        new[symbol_of(stream)].append(stream)
    home = {symbol_of(stream): slot for slot, streams in planned.items() for stream in streams}
    for symbol, streams in new.items():
        rest = streams
        if symbol in home:
            room = streams_per_slot - len(planned[home[symbol]])
            planned[home[symbol]] |= frozenset(rest[:room])
            rest = rest[room:]
        while rest:
            together = rest[:streams_per_slot]
            rest = rest[streams_per_slot:]
            roomy = (s for s, held in planned.items() if len(held) + len(together) <= streams_per_slot)
            slot = next(roomy, None)
            if slot is None:
                slot, following = following, following + 1
            planned[slot] = planned.get(slot, frozenset()) | frozenset(together)
    return planned


@dataclass(frozen=True, slots=True)
class Standing:
    """A connection, as far as its slot's next step depends on it.

    covering: every stream is acknowledged, and a message came, or so much time passed that the streams are quiet.
    leave: why it must be replaced, or None.
    """

    covering: bool
    leave: Reason | None = None


class Step(Enum):
    """What a slot does next.

    OPEN: connect. PROMOTE: the successor is alone now and becomes the current one. SWAP: end the current one, the
    successor covers its streams. WAIT: nothing.
    """

    OPEN = "open"
    PROMOTE = "promote"
    SWAP = "swap"
    WAIT = "wait"


def next_step(current: Standing | None, successor: Standing | None, may_open: bool) -> Step:
    """Make before break: the old connection ends only when the new one covers all its streams.

    `may_open`: neither backoff nor the budget of attempts forbids it now.
    """
    if current is None:
        if successor is not None:
            return Step.PROMOTE
        return Step.OPEN if may_open else Step.WAIT
    if current.leave is None and successor is None:
        return Step.WAIT
    if successor is None:
        return Step.OPEN if may_open else Step.WAIT
    return Step.SWAP if successor.covering else Step.WAIT
