"""What the bucket holds, as publishing needs to know it. Listings first; manifests only of the days at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from crypto_lake.completeness.entries import TELLING, Ended, Outcome, ReadLine, Seen, decode_line
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import RawFile, parse_raw_name
from crypto_lake.lake.raw_manifests import RawManifest, decode_raw_manifest
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.store import NoSuchObject, Store, Stored
from crypto_lake.upkeep import names
from crypto_lake.upkeep.names import BarsObject, LedgerSegment, Manifest, RawObject, manifest_name
from crypto_lake.upkeep.publish_facts import DayFacts, LedgerFact, RawFact, day_after
from crypto_lake.upkeep.publish_manifest import PublishedManifest, Standing, decode, digest_of_names
from crypto_lake.upkeep.upload_ledger import day_of

_READERS: Final = 8
_DAYS_AFTER: Final = 2  # in which a stray of a day, and the trade after it, are looked for
_LEDGER_DAYS_AFTER: Final = 3  # in whose pieces lines about a day are looked for
# Outcomes that promise the trade: it is missing until its file is there.
_PROMISED: Final = frozenset({"received_late", "healed"})
_ROOTS: Final = ("manifests/raw/", "ledger/", "parquet/", "manifests/parquet/")
_Given = TypeVar("_Given")
_Got = TypeVar("_Got")


@dataclass
class SymbolListing:
    """One symbol's names. `raw`: by day, objects that have a manifest. `files`, `manifests`: of published days."""

    exchange: str
    symbol: str
    raw: dict[str, list[RawObject]] = field(default_factory=dict[str, list[RawObject]])
    ledgers: dict[str, list[LedgerSegment]] = field(default_factory=dict[str, list[LedgerSegment]])
    manifests: dict[str, Stored] = field(default_factory=dict[str, Stored])
    files: dict[str, Stored] = field(default_factory=dict[str, Stored])

    def days(self) -> list[str]:
        """Days that have raw, or were published."""
        return sorted({*self.raw, *self.manifests, *self.files})

    def watched(self, day: str) -> str:
        """A digest of the names that the published day goes by; another one, and the day is looked at.

        Hours of the next two days count when they have ended, so that a day is not looked at each hour.
        """
        before, after, second = (day_after(day, n) for n in (-1, 1, 2))
        wanted = [*self.raw.get(before, []), *self.raw.get(day, [])]
        wanted += [one for one in self.raw.get(after, []) if parsed(one).hour.hour == 0]
        latest = max(self.raw, default="")
        if latest > after:
            wanted += self.raw.get(after, [])
        if latest > second:
            wanted += self.raw.get(second, [])
        return digest_of_names({one.name for one in wanted})


def list_bucket(store: Store, symbols: Sequence[str] | None) -> dict[tuple[str, str], SymbolListing]:
    """Everything by (exchange, symbol), control records among it. Names that are none of the lake's are passed over."""
    found: dict[tuple[str, str], SymbolListing] = {}

    def entry(at: RawObject | BarsObject | LedgerSegment) -> SymbolListing:
        return found.setdefault((at.exchange, at.symbol), SymbolListing(at.exchange, at.symbol))

    wanted = None if symbols is None else {*symbols, CONTROL}
    for prefix in _ROOTS:
        for stored in store.list(prefix, measured=False):
            named = names.parse(stored.name)
            of = named.of if isinstance(named, Manifest) else named
            if of is None or (wanted is not None and of.symbol not in wanted):
                continue
            match named:
                case Manifest(RawObject() as raw):
                    entry(raw).raw.setdefault(raw.day, []).append(raw)
                case Manifest(BarsObject() as bars):
                    entry(bars).manifests[bars.day] = stored
                case BarsObject() as bars:
                    entry(bars).files[bars.day] = stored
                case LedgerSegment() as piece:
                    entry(piece).ledgers.setdefault(piece.collector, []).append(piece)
                case _:
                    pass
    return found


@dataclass
class SymbolReader:
    """Reads manifests and ledgers of one symbol, each once as long as its day is near the one at hand."""

    store: Store
    listing: SymbolListing
    _raw: dict[str, _RawDay] = field(default_factory=dict[str, "_RawDay"])

    def facts(
        self,
        day: str,
        *,
        published: PublishedManifest | None,
        before: Standing,
        day_before_waits: bool,
    ) -> DayFacts:
        days = [day_after(day, n) for n in range(-1, _DAYS_AFTER + 1)]
        for known in [known for known in self._raw if known < days[0]]:
            del self._raw[known]
        read = [self.raw_day(at) for at in days]
        collectors = sorted({fact.collector for fact in self.raw_day(day).facts})
        return DayFacts(
            self.listing.exchange,
            self.listing.symbol,
            day,
            raw=[fact for at in read for fact in at.facts],
            ledgers={name: self._ledger(name, day) for name in collectors},
            published=published,
            before=before,
            day_before_waits=day_before_waits,
            unproven=self.raw_day(day).unproven,
            lost=self.raw_day(day).lost,
            changed=[problem for at in read for problem in at.changed],
        )

    def raw_day(self, day: str) -> _RawDay:
        if day not in self._raw:
            self._raw[day] = _read_raw_day(self.store, self.listing, day)
        return self._raw[day]

    def _ledger(self, collector: str, day: str) -> LedgerFact:
        pieces = self.listing.ledgers.get(collector, [])
        latest = day_after(day, _LEDGER_DAYS_AFTER)
        near = (piece for piece in pieces if day <= piece.day <= latest)
        read = [piece.name for piece in sorted(near, key=lambda piece: piece.order)]
        lines: list[ReadLine] = []
        problem = ""
        for name, data in _side_by_side(lambda name: _read(self.store, name), read):
            try:
                lines += [decode_line(line) for line in (data or b"").split(b"\n") if line]
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                problem = f"{name} can't be read: {error}"
        return ledger_fact(day, max((_closed_day(piece) for piece in pieces), default=""), lines, problem)


def _closed_day(piece: LedgerSegment) -> str:
    """The latest day that is closed where this piece is there: a numbered one goes before its own day's closing."""
    return day_after(piece.day, -1) if piece.number else piece.day


def ledger_fact(day: str, closed_day: str, lines: Iterable[ReadLine], problem: str = "") -> LedgerFact:
    """What these lines say of a day. Pure."""
    seen, settled = IntervalSet(), IntervalSet()
    ended_ns: int | None = None
    for line in lines:
        if isinstance(line, Ended):
            ended_ns = line.ended_ns
        elif isinstance(line, TELLING) and (day_of(line) or "") <= day:
            ended_ns = None
        if isinstance(line, Seen) and line.hour.startswith(day):
            seen.add_interval(line.first_id, line.last_id)
        elif isinstance(line, Outcome) and line.outcome not in _PROMISED:
            settled.add_interval(line.first_id, line.last_id)
    return LedgerFact(closed_day, seen, settled, problem, ended_ns)


@dataclass
class _RawDay:
    facts: list[RawFact] = field(default_factory=list[RawFact])
    unproven: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    changed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def _read_raw_day(store: Store, listing: SymbolListing, day: str) -> _RawDay:
    proven = {one.name: one for one in listing.raw.get(day, [])}
    there: dict[str, Stored] = {}
    result = _RawDay()
    if not proven:
        return result
    for stored in store.list(f"raw/{listing.exchange}/{listing.symbol}/{day}/"):
        if stored.name in proven:
            there[stored.name] = stored
        elif isinstance(names.parse(stored.name), RawObject):
            result.unproven.append(stored.name)
    result.lost = sorted(proven.keys() - there.keys())
    for name, data in _side_by_side(lambda name: _read(store, manifest_name(name)), sorted(there)):
        fact = raw_fact(proven[name], there[name], data)
        if isinstance(fact, RawFact):
            result.facts.append(fact)
        else:
            result.changed.append((name, fact))
    return result


def raw_fact(raw: RawObject, stored: Stored, manifest_data: bytes | None) -> RawFact | str:
    """The fact, or why the object can't be used. Pure."""
    if manifest_data is None:
        return "lost its manifest while it was looked at"
    try:
        manifest = decode_raw_manifest(manifest_data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"has a manifest that can't be read: {error}"
    if problem := _differs(raw, stored, manifest):
        return problem
    file = parsed(raw)
    return RawFact(
        raw.name,
        raw.collector,
        raw.day,
        file.hour.hour,
        file.kind,
        stored.bytes,
        manifest.sha256,
        stored.generation,
        manifest.id_runs,
    )


def parsed(raw: RawObject) -> RawFile:
    """What its name says. `names.parse` has seen that it says something."""
    file = parse_raw_name(raw.day, Path(raw.file))
    assert file is not None
    return file


def _differs(raw: RawObject, stored: Stored, manifest: RawManifest) -> str:
    for what, there, told in (
        ("path", raw.local, manifest.path),
        ("bytes", stored.bytes, manifest.bytes),
        ("crc32c", stored.crc32c, manifest.crc32c),
        ("sha256", stored.sha256 or manifest.sha256, manifest.sha256),
    ):
        if there != told:
            return f"has {what} {there}, its manifest says {told}"
    return ""


def read_published(store: Store, name: str) -> tuple[Stored, PublishedManifest] | None:
    """None where there is none now. Raises msgspec.MsgspecError where it can't be read."""
    try:
        stored, data = store.read(name)
    except NoSuchObject:
        return None
    return stored, decode(data)


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name)[1]
    except NoSuchObject:
        return None


def _side_by_side(get: Callable[[_Given], _Got], items: Sequence[_Given]) -> Iterable[tuple[_Given, _Got]]:
    if len(items) < 2:
        return [(item, get(item)) for item in items]
    with ThreadPoolExecutor(min(_READERS, len(items)), thread_name_prefix="publish-read") as pool:
        return list(zip(items, pool.map(get, items), strict=True))


def control_names(
    listings: Mapping[tuple[str, str], SymbolListing], exchange: str, day: str
) -> list[RawObject]:
    """Control records of all collectors, of the day and those beside it: a connection may have begun the day before."""
    control = listings.get((exchange, CONTROL))
    if control is None:
        return []
    days = (day_after(day, -1), day, day_after(day))
    return [one for at in days for one in control.raw.get(at, [])]
