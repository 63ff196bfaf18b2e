"""Which collector collects what. Pure.

Symbols go to shards by rendezvous hash: from n to n + 1 shards only those move that the new one gets. A symbol that
moves is added to its new collector, seen live there, and then dropped from the old; until then both collect it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from crypto_lake_operator.naming import REPLICAS, Slot

Symbols = frozenset[str]
NONE: Symbols = frozenset()


@lru_cache(maxsize=65536)
def _weight(symbol: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}/{symbol}".encode(), digest_size=8).digest()


def owner(symbol: str, shards: int) -> int:
    """The shard of a symbol among shards 0 to shards - 1. Never changes between versions: claims depend on it."""
    return max(range(shards), key=lambda shard: _weight(symbol, shard))


def spread(symbols: Iterable[str], shards: int) -> list[Symbols]:
    """By shard, what it owns. One may own nothing."""
    owned: list[set[str]] = [set() for _ in range(shards)]
    for symbol in symbols:
        owned[owner(symbol, shards)].add(symbol)
    return [frozenset(each) for each in owned]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a slot. The default: nothing is, as of one that does not exist yet.

    exists: it has a collector, or had one that is not known to be empty.
    configured: what its configuration names now.
    live: what its collector reports as live; None where it can't be asked.
    drained: its collector says that it collects nothing, that all it had is in the bucket, and that it fetches nothing any
    more.
    """

    exists: bool = False
    configured: Symbols = NONE
    live: Symbols | None = None
    drained: bool = False

    def has(self, symbol: str) -> bool:
        """It collects the symbol, and is meant to: one that was told to drop it is not to be relied on."""
        return symbol in self.configured and symbol in (self.live or NONE)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What each slot collects now.

    wanted: slots that spec asks for. Others are going.
    moving: symbols that two slots of a replica collect, until the new one has them.
    """

    collects: Mapping[Slot, Symbols]
    wanted: frozenset[Slot]
    moving: Symbols

    @property
    def draining(self) -> tuple[Slot, ...]:
        return tuple(sorted(slot for slot in self.collects if slot not in self.wanted))

    def replicas(self) -> tuple[str, ...]:
        return tuple(sorted({slot.replica for slot in self.collects}))

    def pods(self, replica: str) -> int:
        """How many pods the replica's StatefulSet must have: it only drops the last ones."""
        return 1 + max((slot.shard for slot in self.collects if slot.replica == replica), default=-1)


def assign(
    symbols: Collection[str],
    shards: int,
    replicas: int,
    seen: Mapping[Slot, Seen],
    *,
    abandon: bool = False,
    suspended: bool = False,
) -> Assignment:
    """What each slot collects now, on the way to what is wanted.

    A wanted slot collects what it owns at once. What a slot has and does not own it keeps while the owner (of a replica
    that goes: the owner in the first one) does not have it live; when it has, or when the lake no longer wants
    the symbol, it drops it. A slot that is not wanted stays, collecting nothing, until it is drained, and so do the
    slots before it in its StatefulSet. `abandon`: it goes at once. `suspended`: nobody is live, nothing moves.
    """
    names = frozenset(symbols)
    owned = spread(names, shards)
    wanted = frozenset(Slot(replica, shard) for replica in REPLICAS[:replicas] for shard in range(shards))
    collects: dict[Slot, Symbols] = {slot: owned[slot.shard] for slot in wanted}
    moving: set[str] = set()
    for slot, state in seen.items():
        if slot not in wanted and (abandon or not state.exists):
            continue
        kept = frozenset(
            symbol
            for symbol in (state.configured & names) - collects.get(slot, NONE)
            if suspended or not _heir(slot, symbol, shards, replicas, seen).has(symbol)
        )
        moving |= kept
        if slot in wanted:
            collects[slot] |= kept
        elif kept or not state.drained:
            collects[slot] = kept
    for replica in REPLICAS:
        top = max((slot.shard for slot in collects if slot.replica == replica), default=-1)
        for shard in range(top):
            collects.setdefault(Slot(replica, shard), NONE)
    return Assignment(collects, wanted, frozenset(moving))


def _heir(slot: Slot, symbol: str, shards: int, replicas: int, seen: Mapping[Slot, Seen]) -> Seen:
    """Who has to have the symbol before this slot may drop it."""
    replica = slot.replica if slot.replica in REPLICAS[:replicas] else REPLICAS[0]
    return seen.get(Slot(replica, owner(symbol, shards)), Seen())
