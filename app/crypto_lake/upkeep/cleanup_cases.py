"""From what lies there and what is recorded to the cases that `cleanup_plan` decides: what blocks each file.

Raw is not the only copy of anything once it may go: it is in the bucket with its manifest and its day of the ledger
(or, without a bucket, its bars are final), and bars were made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crypto_lake.lake import uploads
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import BarsManifest, read_bars_manifest
from crypto_lake.lake.raw_manifests import raw_manifest_paths, read_raw_manifest
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep import names, scan, upload_ledger
from crypto_lake.upkeep.cleanup_kept import KeptBars
from crypto_lake.upkeep.cleanup_plan import Blocker, Case
from crypto_lake.upkeep.scan import RawFact, SymbolDay
from crypto_lake.upkeep.scan_bars import SymbolBarsScan
from crypto_lake.upkeep.scan_judged import judged_days, judged_facts
from crypto_lake.upkeep.scan_ledger import LedgerScan, piece_day, scan_ledger


@dataclass(frozen=True, slots=True)
class Candidate:
    """A case with what its proof has to look at.

    objects: records of everything in the bucket that the deletion relies on, the file's own first. bars: days of bars
    that must be whole and final now. made_of: objects (name, sha256) that the published version of a day of bars must
    have been made of, where it is not the same file.
    """

    case: Case
    of: SymbolDay
    sha256: str
    objects: tuple[UploadRecord, ...] = ()
    bars: tuple[SymbolDay, ...] = ()
    made_of: tuple[tuple[str, str], ...] = ()


@dataclass
class LedgerOf:
    """What a symbol's ledger accounts for: in the bucket, and here."""

    scan: LedgerScan
    url: str
    uploaded: IntervalSet = field(init=False)
    here: IntervalSet = field(init=False)
    first_day_left: str | None = field(init=False)  # earliest day of a line that is not in the bucket

    def __post_init__(self) -> None:
        end = self.scan.uploaded_bytes
        self.here = upload_ledger.ids_in(self.scan.lines)
        self.uploaded = upload_ledger.ids_in(line for line in self.scan.lines if line.end <= end)
        left = [line.day for line in self.scan.lines if line.end > end and line.day is not None]
        self.first_day_left = min(left, default=None)

    def blocker(self, fact: RawFact) -> Blocker | None:
        if self.scan.problem:
            return Blocker("not_in_ledger", f"its ledger can't be read: {self.scan.problem}")
        runs = fact.seal.id_runs if fact.seal is not None else ()
        if not _holds(self.here, runs):
            text = "holds trades that its ledger does not know; the collector enters them when it starts"
            return Blocker("not_in_ledger", text)
        if not self.url:
            return None
        left = self.first_day_left
        if not _holds(self.uploaded, runs) or (left is not None and left <= fact.of.day):
            return Blocker("ledger_not_uploaded", "its day of the ledger is not in the bucket yet")
        return None

    def pieces(self, day: str) -> list[UploadRecord]:
        """Records of the pieces that tell of a day: its own, and those that were closed around it."""
        around = (_days_from(day, -1), _days_from(day, 2))
        return [piece for piece in self.scan.pieces if around[0] <= piece_day(piece) <= around[1]]


def candidates(layout: Layout, url: str, collector: str, kept: KeptBars | None = None) -> Iterator[Candidate]:
    """Every file of raw, of bars, and of what was judged of these, with what blocks it; symbol by symbol. `url` "": there is no bucket.

    `kept`: where bars are kept for good, and no more than a count is asked of them: of days that it knows nothing is read,
    nor of what was judged of bars that are here. Raises OSError where it can't be looked at.
    """
    with_raw: dict[tuple[str, str], list[SymbolDay]] = {}
    for at in scan.symbol_days(layout):
        if layout.raw_files(at.exchange, at.symbol, at.day):
            with_raw.setdefault((at.exchange, at.symbol), []).append(at)
    for (exchange, symbol), days in with_raw.items():
        if symbol == CONTROL:
            of_market = (
                d.day for (e, s), ds in with_raw.items() for d in ds if e == exchange and s != CONTROL
            )
            oldest_day = min(of_market, default="")
            judge = partial(_control, oldest_day=oldest_day)
        else:
            ledger = LedgerOf(scan_ledger(layout, exchange, symbol, url), url)
            bars = SymbolBarsScan(layout, exchange, symbol)
            judge = partial(_market, ledger=ledger, bars=bars, url=url)
        for at in days:
            records = uploads.read(layout, exchange, symbol, at.day, url) if url else {}
            elsewhere = uploads.other_urls(layout, exchange, symbol, at.day, url) if url else {}
            bucket = _Bucket(url, collector, records, elsewhere)
            for fact in scan.raw_facts(layout, at):
                yield _raw(fact, judge(fact), bucket)
    raw_days = {at for days in with_raw.values() for at in days}
    # What a day was made of may lie in the folders beside its own.
    near_raw = {
        SymbolDay(at.exchange, at.symbol, _days_from(at.day, n)) for at in raw_days for n in (-1, 0, 1)
    }
    for at in scan.bar_days(layout):
        case, digest = kept.known(at) if kept is not None and at not in near_raw else (None, "")
        if case is not None:
            yield Candidate(case, at, "")
            continue
        candidate = _bars(layout, at, url, collector, raw_days)
        if candidate is not None:
            if kept is not None:
                kept.enter(at, candidate.case, digest)
            yield candidate
    for at in judged_days(layout):
        yield from _judged(layout, at, url, collector, ages=kept is None)


@dataclass(frozen=True, slots=True)
class _Bucket:
    url: str
    collector: str
    records: Mapping[str, UploadRecord]
    elsewhere: Mapping[str, str]

    def objects(self, fact: RawFact) -> tuple[list[UploadRecord], Blocker | None]:
        """Records of a raw file's object and of its manifest's, or why they do not count."""
        named = names.raw_object(fact.path, self.collector)
        found: list[UploadRecord] = []
        for name, what in ((named.name, ""), (names.Manifest(named).name, "its manifest ")):
            record = self.records.get(name)
            if record is None and name in self.elsewhere:
                text = f"{what}is in {self.elsewhere[name]}, and not yet in {self.url}"
                return [], Blocker("other_bucket", text)
            if record is None:
                return [], Blocker("not_uploaded", f"{what}is not in the bucket yet: `crypto-lake upload`")
            found.append(record)
        seal = fact.seal
        if seal is None or (found[0].bytes, found[0].sha256) != (seal.bytes, seal.sha256):
            return [], Blocker("not_uploaded", "is another file than the one that was uploaded")
        return found, None


@dataclass(frozen=True, slots=True)
class _Made:
    """What stands for a raw file elsewhere than in its own object."""

    blocker: Blocker | None = None
    pieces: tuple[UploadRecord, ...] = ()
    bars: tuple[SymbolDay, ...] = ()


def _raw(fact: RawFact, made: _Made, bucket: _Bucket) -> Candidate:
    blocker, objects = _not_sealed(fact), list[UploadRecord]()
    if blocker is None and bucket.url:
        objects, blocker = bucket.objects(fact)
    blocker = blocker or made.blocker
    case = Case(fact.path, "raw", fact.bytes, fact.end_ns, () if blocker is None else (blocker,))
    sha256 = fact.seal.sha256 if fact.seal is not None else ""
    return Candidate(case, fact.of, sha256, (*objects, *made.pieces), made.bars)


def _not_sealed(fact: RawFact) -> Blocker | None:
    if fact.is_open:
        return Blocker("open", "is being written")
    if fact.kind == "part":
        return Blocker("not_sealed", "is a part that is not sealed: `crypto-lake compact`")
    if fact.seal is None:
        return Blocker("not_sealed", "has no manifest: `crypto-lake compact` makes one")
    if fact.seal.bytes != fact.bytes:
        return Blocker("local_changed", f"has {fact.bytes} bytes, its manifest says {fact.seal.bytes}")
    return None


def _market(fact: RawFact, ledger: LedgerOf, bars: SymbolBarsScan, url: str) -> _Made:
    """Raw of a symbol."""
    blocker = ledger.blocker(fact)
    if blocker is not None:
        return _Made(blocker)
    made = bars.made_of(fact)
    if made.missing:
        return _Made(Blocker("bars_not_made", made.missing))
    if url:
        return _Made(pieces=tuple(ledger.pieces(fact.of.day)))
    if made.unused:
        lines = "1 line" if made.unused == 1 else f"{made.unused:,} lines"
        text = f"holds {lines} that no bar was made of, and there is no bucket: nothing else has them whole"
        return _Made(Blocker("lines_unused", text))
    for day in made.days:
        manifest = bars.manifest(day)
        if manifest is None or not manifest.final:
            return _Made(Blocker("bars_not_final", f"bars of {day} are not final, and there is no bucket"))
    of_days = tuple(SymbolDay(fact.of.exchange, fact.of.symbol, day) for day in made.days)
    return _Made(bars=of_days)


def _control(fact: RawFact, oldest_day: str) -> _Made:
    """Control records tell how far bars reach, and why trades are missing; they stay as long as raw that is here needs them.

    The connection that received an hour may have begun on the day before, and is known by its beginning alone.
    """
    if oldest_day and oldest_day <= _days_from(fact.of.day, 1):
        return _Made(Blocker("raw_here", f"raw of {oldest_day} is still here, and is read with it"))
    return _Made()


def _bars(
    layout: Layout, at: SymbolDay, url: str, collector: str, raw_days: set[SymbolDay]
) -> Candidate | None:
    path = layout.bars(at.exchange, at.symbol, at.day)
    name = str(path.relative_to(layout.root))
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    manifest = read_bars_manifest(layout, path)
    records = uploads.read(layout, at.exchange, at.symbol, at.day, url) if url else {}
    record = records.get(names.BarsObject(at.exchange, at.symbol, at.day).name)
    made_of: list[tuple[str, str]] = []
    blocker: Blocker | None = None
    if manifest is None or not manifest.final:
        blocker = Blocker("bars_not_final", "is not final")
    elif (manifest.bytes, manifest.path) != (size, name):
        blocker = Blocker("local_changed", f"has {size} bytes, its manifest says {manifest.bytes}")
    elif record is None:
        blocker = Blocker("not_published", "is not published: `crypto-lake publish`")
    elif at in raw_days or _any_is_here(layout, manifest):
        blocker = Blocker("raw_here", "raw that it is made of is still here")
    elif record.sha256 != manifest.sha256:
        # Made of all collectors' raw: it stands for ours where ours is among that.
        made_of = _objects_of(layout, at, manifest, collector)
        if not made_of:
            blocker = Blocker("not_published", "is another version than the published one")
    case = Case(
        path=name,
        kind="bars",
        bytes=size,
        ages_from_ns=record.uploaded_ns if record is not None else 0,
        blockers=() if blocker is None else (blocker,),
    )
    sha256 = manifest.sha256 if manifest is not None else ""
    return Candidate(case, at, sha256, () if record is None else (record,), made_of=tuple(made_of))


def _any_is_here(layout: Layout, manifest: BarsManifest) -> bool:
    """Whether raw that the day was made of is here. Where its folder is gone, as that of a day long over is, none is."""
    folders: dict[str, bool] = {}
    for part in manifest.inputs:
        folder = part.path.rpartition("/")[0]
        if folder not in folders:
            folders[folder] = (layout.root / folder).exists()
        if folders[folder] and (layout.root / part.path).exists():
            return True
    return False


def _judged(layout: Layout, at: SymbolDay, url: str, collector: str, *, ages: bool) -> Iterator[Candidate]:
    """Verdicts and reports: they outlive their day's bars until the bucket is proven to have them. `ages`: whether it matters
    how old those are that stay as long as their bars.
    """
    has_bars = layout.bars(at.exchange, at.symbol, at.day).exists()
    matters = bool(url) and (ages or not has_bars)
    records = uploads.read(layout, at.exchange, at.symbol, at.day, url) if matters else {}
    for fact in judged_facts(layout, at):
        record = records.get(fact.name(collector))
        blocker: Blocker | None = None
        if has_bars:
            blocker = Blocker("bars_here", "the day's bars are still here, and may be judged anew")
        elif record is None or not fact.is_recorded(record):
            blocker = Blocker("not_uploaded", "is not in the bucket as it is here: `crypto-lake upload`")
        case = Case(
            path=fact.path,
            kind="judged",
            bytes=fact.bytes,
            ages_from_ns=record.uploaded_ns if record is not None else 0,
            blockers=() if blocker is None else (blocker,),
        )
        objects = () if record is None else (record,)
        yield Candidate(case, at, record.sha256 if record is not None else "", objects)


def _objects_of(
    layout: Layout, at: SymbolDay, manifest: BarsManifest, collector: str
) -> list[tuple[str, str]]:
    """Names and sha256 of the raw objects that a day of bars was made of; none where one of its inputs is in none."""
    found: dict[str, str] = {}
    sealed: dict[str, dict[str, tuple[str, str]]] = {}  # by day: file or part -> the object that holds it
    for part in manifest.inputs:
        day, name = part.path.split("/")[-2:]
        if day not in sealed:
            sealed[day] = {}
            for path in raw_manifest_paths(layout, at.exchange, at.symbol, day):
                raw = read_raw_manifest(layout, path)
                if raw is not None:
                    held = (names.raw_object(raw.path, collector).name, raw.sha256)
                    sealed[day] |= {Path(one.path).name: held for one in raw.inputs} | {path.name: held}
        if name not in sealed[day]:
            return []
        found.update([sealed[day][name]])
    return sorted(found.items())


def _holds(ids: IntervalSet, runs: tuple[tuple[int, int], ...]) -> bool:
    return not any(ids.missing(Interval(first, last)) for first, last in runs)


def _days_from(day: str, days: int) -> str:
    return Hour.of_ns(Hour(day, 12).start_ns + days * 24 * 3600 * 10**9).day
