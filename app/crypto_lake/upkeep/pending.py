"""How much is not in the bucket yet: live, and cheap enough to be asked every few seconds.

It decides nothing itself: what `upload` would put, or waits for, is what counts (`upload_plan`, `upload_ledger`). What
has not changed since the last look is not read again, so that a look costs a few calls for each symbol and day.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.signature import Signature, is_young, signature_of
from crypto_lake.upkeep import scan
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_ledger import scan_ledger
from crypto_lake.upkeep.upload_look import day_facts
from crypto_lake.upkeep.upload_plan import plan

# Later than any day that a line can bear: all that a ledger will ever give to the bucket.
_FOR_GOOD_NS: Final = 7_000_000_000 * 10**9
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Pending:
    """`bytes`: of files that are closed or open, of their manifests and of ledgers, less what is recorded as uploaded.

    0 means that nothing is left to upload, nor will be from what is here: no part is open, no hour unsealed, no line
    of a ledger waits for its day's end (one that has ended does not). A file that can't be uploaded, because it is not what its manifest says, counts.
    """

    bytes: int
    files: int


BytesAndFiles = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a day or a ledger, as long as its signature stays. `growing`: open parts, whose sizes are asked anew."""

    signature: Signature
    settled: BytesAndFiles
    growing: tuple[str, ...] = ()


class PendingLook:
    """Looks at one data directory again and again. It blocks: call it in a thread, one call at a time."""

    def __init__(self, layout: Layout, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._layout = layout
        self._wall_ns = wall_ns
        self._url = ""
        self._known: dict[object, _Known] = {}

    def look(self, url: str) -> Pending:
        """`url`: of the bucket that counts. Raises OSError, and ValueError for a collector's name that no object bears."""
        if url != self._url:
            self._url, self._known = url, {}
        doubts = uploads.read_doubts(self._layout, url)
        doubts_key = hash(doubts)
        collector = self._collector()
        total, files = 0, 0
        there: set[object] = set()
        for at in scan.symbol_days(self._layout):
            there.add(at)
            size, count = self._day(at, collector, doubts, doubts_key)
            total, files = total + size, files + count
        for at in scan.symbols_with_ledger(self._layout):
            there.add(at)
            size, count = self._ledger(*at, doubts, doubts_key)
            total, files = total + size, files + count
        self._known = {at: known for at, known in self._known.items() if at in there}
        return Pending(total, files)

    def _collector(self) -> str:
        """Its id is not minted here: a lake that has none has uploaded nothing."""
        try:
            return (self._layout.state / "collector").read_text().strip()
        except FileNotFoundError:
            return "none"

    def _day(self, at: SymbolDay, collector: str, doubts: frozenset[str], doubts_key: int) -> BytesAndFiles:
        """A file that takes another name while it is looked at must not be missed: then all is looked at again."""
        for _ in range(_TRIES):
            before = self._signature(at, doubts_key)
            known = self._known.get(at)
            if known is None or known.signature != before:
                known = self._known[at] = self._day_anew(at, collector, doubts, before)
            sizes = [_size(path) for path in known.growing]
            if None not in sizes and self._signature(at, doubts_key) == before:
                size, count = known.settled
                return size + sum(filter(None, sizes)), count + len(sizes)
            del self._known[at]
        return 1, 1  # it changes all the time: there is something

    def _signature(self, at: SymbolDay, doubts_key: int) -> Signature:
        folder = self._layout.raw_day(at.exchange, at.symbol, at.day)
        manifests = self._layout.manifest(folder / "x").parent
        records = uploads.path_of(self._layout, at.exchange, at.symbol, at.day)
        return (doubts_key, *signature_of(folder, manifests, records))

    def _day_anew(
        self, at: SymbolDay, collector: str, doubts: frozenset[str], signature: Signature
    ) -> _Known:
        began_ns = self._wall_ns()
        facts = day_facts(self._layout, at, self._url, doubts)
        growing = [fact.path for fact in facts.raw if fact.is_open]
        made = plan([facts], collector, 0)
        sizes = [one.bytes for one in made.uploads]
        sizes += [item.bytes for item in made.waiting if item.path not in growing]
        changed = {item.path for item in made.changed}
        sizes += [fact.bytes for fact in facts.raw if fact.path in changed]
        paths = tuple(str(self._layout.root / path) for path in growing)
        return _Known(_kept(signature, began_ns), (sum(sizes), len(sizes)), paths)

    def _ledger(self, exchange: str, symbol: str, doubts: frozenset[str], doubts_key: int) -> BytesAndFiles:
        layout = self._layout
        path = layout.ledger(exchange, symbol)
        began_ns = self._wall_ns()
        records = uploads.path_of(layout, exchange, symbol, uploads.LEDGER)
        signature = (doubts_key, *signature_of(path, records))
        known = self._known.get((exchange, symbol))
        if known is not None and known.signature == signature:
            return known.settled
        found = scan_ledger(layout, exchange, symbol, self._url)
        if found.problem:
            left = _size(str(path)) or 0
        else:
            left = sum(piece.end - piece.offset for piece in found.next_pieces(_FOR_GOOD_NS))
            left += sum(record.bytes for record in found.pieces if record.name in doubts)
        settled = (left, int(left > 0))
        self._known[exchange, symbol] = _Known(_kept(signature, began_ns), settled)
        return settled


def _kept(signature: Signature, began_ns: int) -> Signature:
    """The signature; one that nothing equals where a change may have come in the same tick."""
    return () if is_young(signature[1:], began_ns) else signature


def _size(path: str) -> int | None:
    """None where it is not there any more."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return None
