"""`prove` on a bucket: what a collector left there, put together as it lay on its disk.

Each collector's ledger of a symbol is proven by itself, from its own raw and control records. The objects are fetched
into a folder of their own, a collector at a time, and gone again afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.completeness import ledger
from crypto_lake.completeness.entries import Outcome, Quiet
from crypto_lake.completeness.ledger import BrokenLedgerError
from crypto_lake.completeness.prove import leading_to, within
from crypto_lake.completeness.prove_range import ProveError
from crypto_lake.completeness.prove_report import Disagreement
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store
from crypto_lake.upkeep import names
from crypto_lake.upkeep.names import LedgerSegment, Manifest, RawObject, manifest_name

_FETCHERS: Final = 8


@dataclass(frozen=True)
class Staged:
    """One collector's files. `ends`: of each piece of its ledger, the number of its last line."""

    collector: str
    layout: Layout
    ends: Sequence[tuple[int, LedgerSegment]]

    def in_bucket(self, found: Disagreement) -> Disagreement:
        """The same, of the object and not of the file."""
        if found.path.startswith("ledger/"):
            before = 0
            for end, piece in self.ends:
                if found.line <= end or piece is self.ends[-1][1]:
                    return msgspec.structs.replace(found, path=piece.name, line=found.line - before)
                before = end
        is_manifest = found.path.startswith(names.MANIFESTS)
        local = found.path.removeprefix(names.MANIFESTS).removesuffix(".json") if is_manifest else found.path
        try:
            name = names.raw_object(local, self.collector).name
        except ValueError:
            return found
        return msgspec.structs.replace(found, path=manifest_name(name) if is_manifest else name)


def collectors(store: Store, exchange: str, symbol: str) -> dict[str, list[LedgerSegment]]:
    """The pieces of each collector's ledger of this symbol, in their order: those of its latest edition."""
    found: dict[str, list[LedgerSegment]] = {}
    for stored in store.list(f"ledger/{exchange}/{symbol}/", measured=False):
        piece = names.parse(stored.name)
        if isinstance(piece, LedgerSegment):
            found.setdefault(piece.collector, []).append(piece)
    return {
        collector: [
            p for p in sorted(pieces, key=lambda p: p.order) if p.edition == max(q.edition for q in pieces)
        ]
        for collector, pieces in sorted(found.items())
    }


def exchanges(store: Store, symbol: str) -> list[str]:
    """On which exchanges there is a ledger of this symbol."""
    found = {
        piece.exchange
        for stored in store.list("ledger/", measured=False)
        if isinstance(piece := names.parse(stored.name), LedgerSegment) and piece.symbol == symbol
    }
    return sorted(found)


@contextmanager
def staged(
    store: Store,
    pieces: Sequence[LedgerSegment],
    days: tuple[str, str],
    *,
    folder: Path | None = None,
    on_object: Callable[[str, int], None] = lambda _name, _size: None,
) -> Generator[Staged]:
    """Fetch what proving these days of a collector's ledger takes. `on_object`: called for each that was fetched.

    Raises ProveError where the ledger does not reach so far, StoreError where the store can't be asked.
    """
    first = pieces[0]
    closed = max(piece.day for piece in pieces)
    if days[0] > closed:
        raise ProveError(
            f"the ledger of {first.collector} in the bucket ends with {closed}; {days[0]} is proven on its disk"
        )
    with tempfile.TemporaryDirectory(prefix="prove-", dir=folder) as temporary:
        layout = Layout(Path(temporary))
        ends = _fetch_ledger(store, layout, pieces, on_object)
        rests_on = _rests_on(layout, first, days)
        raw_days = {*_days(days[0], _shifted(days[1], 1))} | rests_on.raw_days
        # No connection is older than a day; and why a trade is missing may have happened since the one before it.
        control_days = {*_days(_shifted(min(raw_days), -1), max(raw_days))} | rests_on.control_days
        wanted: list[tuple[RawObject | Manifest, int]] = [
            *_raw_of(store, first, first.symbol, sorted(raw_days)),
            *_raw_of(store, first, CONTROL, sorted(control_days)),
        ]
        here = {raw.local for raw, _ in wanted}
        for local in sorted(rests_on.files - here):
            raw = names.raw_object(local, first.collector)
            stored = store.stat(raw.name)
            if stored is not None:
                wanted.append((raw, stored.bytes))
        with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="prove-fetch") as pool:
            for name, size in pool.map(partial(_fetch, store, layout), wanted):
                on_object(name, size)
        yield Staged(first.collector, layout, ends)


def _shifted(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


def _days(first_day: str, last_day: str) -> Iterator[str]:
    day = first_day
    while day <= last_day:
        yield day
        day = _shifted(day, 1)


def _raw_of(
    store: Store, of: LedgerSegment, symbol: str, days: Iterable[str]
) -> Iterator[tuple[RawObject | Manifest, int]]:
    for day in days:
        for root in ("", names.MANIFESTS):
            for stored in store.list(
                f"{root}raw/{of.exchange}/{symbol}/{day}/{of.collector}/", measured=False
            ):
                named = names.parse(stored.name)
                if isinstance(named, RawObject | Manifest):
                    yield named, stored.bytes


def _fetch(store: Store, layout: Layout, item: tuple[RawObject | Manifest, int]) -> tuple[str, int]:
    what, size = item
    target = layout.root / what.local
    target.parent.mkdir(parents=True, exist_ok=True)
    store.fetch(what.name, target)
    return what.name, size


def _fetch_ledger(
    store: Store,
    layout: Layout,
    pieces: Sequence[LedgerSegment],
    on_object: Callable[[str, int], None],
) -> list[tuple[int, LedgerSegment]]:
    path = layout.ledger(pieces[0].exchange, pieces[0].symbol)
    path.parent.mkdir(parents=True)
    ends: list[tuple[int, LedgerSegment]] = []
    lines = 0
    with path.open("wb") as out:
        for piece in pieces:
            _, data = store.read(piece.name)
            out.write(data)
            lines += data.count(b"\n")
            ends.append((lines, piece))
            on_object(piece.name, len(data))
    return ends


@dataclass(frozen=True)
class _RestsOn:
    """Healed files, and days of control records with answers, that outcomes of these days rest on.

    `raw_days`: before these days, of the last trades that came.
    """

    files: frozenset[str] = frozenset()
    control_days: frozenset[str] = frozenset()
    raw_days: frozenset[str] = frozenset()


def _rests_on(layout: Layout, of: LedgerSegment, days: tuple[str, str]) -> _RestsOn:
    """Of a ledger that can't be read, nothing: that is told elsewhere."""
    try:
        lines = ledger.read(layout.ledger(of.exchange, of.symbol)).lines
    except BrokenLedgerError:
        return _RestsOn()
    found = [lines[at] for at in within(lines, f"{days[0]}T00", f"{days[1]}T23")]
    outcomes = [line for line in found if isinstance(line, Outcome | Quiet)]
    return _RestsOn(
        frozenset(line.file for line in outcomes if isinstance(line, Outcome) and line.file),
        frozenset(Hour.of_ns(line.answer_ns).day for line in outcomes if line.answer_ns),
        frozenset(hour.day for hour in leading_to(lines, Hour(days[0], 0))),
    )
