"""How far the copies of a day's trades agree that several collectors kept: what travels from `publish` to a lake's status."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

# A collector of a lake with replicas is called by its pod, <lake>-<replica>-<shard>, and four more letters.
_OF_REPLICA: Final = re.compile(r".*-([ab])-\d+-[0-9a-f]+")


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """Trades by who has them. `trades`: that anyone has, each once; so many are `shared` by several copies, and so many
    only one has: replica a, replica b, or a collector of no replica, such as one machine's.

    `missing`: ids that nobody has. `differing`: trades of which two copies do not say the same.
    """

    trades: int = 0
    shared: int = 0
    only_a: int = 0
    only_b: int = 0
    only_other: int = 0
    missing: int = 0
    differing: int = 0


FIGURES: Final = Copies.__struct_fields__


class PublishedCopies(Copies, frozen=True, kw_only=True):
    """Of the last published day, of all `symbols` whose manifest tells it."""

    day: str
    symbols: int


def summed(day: str, found: Iterable[Copies]) -> PublishedCopies:
    all_ = list(found)
    sums = {name: sum(getattr(one, name) for one in all_) for name in FIGURES}
    return PublishedCopies(day=day, symbols=len(all_), **sums)


def replica_of(collector: str) -> str:
    """`a` or `b`; empty where its name tells of none."""
    found = _OF_REPLICA.fullmatch(collector)
    return found[1] if found else ""
