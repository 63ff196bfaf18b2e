"""`verify --bucket`: every object compared with its manifest, and with what else in the bucket speaks of it.

It only lists and reads, so it may run beside everything. What differs is looked at a second time before it counts:
a day may be published, and raw uploaded, meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from crypto_lake.lake import macro_files
from crypto_lake.store import Corrupted, NoSuchObject, Store, Stored
from crypto_lake.upkeep import names
from crypto_lake.upkeep.bucket_verify_compare import bars_differences, gone_inputs, raw_differences
from crypto_lake.upkeep.bucket_verify_fetched import Fetched
from crypto_lake.upkeep.bucket_verify_judged import problems_of
from crypto_lake.upkeep.bucket_verify_ledger import check_chain
from crypto_lake.upkeep.bucket_verify_report import BucketProgress, BucketReport
from crypto_lake.upkeep.names import (
    BarsObject,
    LedgerSegment,
    Manifest,
    RawObject,
    ReportObject,
    VerdictsObject,
    manifest_name,
)
from crypto_lake.upkeep.publish_look import parsed
from crypto_lake.upkeep.verify_files import check
from crypto_lake.upkeep.verify_report import Difference, Item, Kind

REPORT_SCHEMA: Final = 1
_READERS: Final = 8
_MOST_NAMED: Final = 1000


def verify_bucket(
    store: Store,
    *,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    deep: bool = False,
    folder: Path | None = None,
    progress: Callable[[BucketProgress], None] | None = None,
    again_seconds: float = 1.0,
) -> BucketReport:
    """Compare every object with its manifest: size, CRC32C as the store measures it, SHA-256 as it was declared.

    And: manifests without an object; published days against the raw that they name, and their file's generation;
    ledgers against their own chain, from day to day. `deep`: raw and bars are fetched too, one at a time, hashed, and
    read whole, as `verify` does on a disk; `folder` is where they go meanwhile (default: a temporary one).
    Raises StoreError where the store can't be asked.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="verify-", dir=folder) as temporary:
        run = _Run(store, deep, progress, Path(temporary))
        run.look(symbols, days)
        run.check_all()
        if run.differences:
            time.sleep(again_seconds)
            run.look_again()
    return BucketReport(
        schema=REPORT_SCHEMA,
        url=store.url,
        deep=deep,
        seconds=round(time.monotonic() - started, 3),
        objects=len(run.objects),
        bytes=sum(stored.bytes for stored in run.objects.values()),
        bytes_read=run.bytes_read,
        lines=run.lines,
        by_kind=dict(sorted(run.kinds.items())),
        without_manifest=run.without_manifest[:_MOST_NAMED],
        gone_inputs=run.gone_inputs,
        unknown=run.unknown[:_MOST_NAMED],
        differences=sorted(
            (one for found in run.differences.values() for one in found),
            key=lambda d: (d.path, d.offset or 0, d.line or 0),
        ),
    )


_Named = TypeVar("_Named", RawObject, BarsObject)


@dataclass
class _Run:
    store: Store
    deep: bool
    progress: Callable[[BucketProgress], None] | None
    folder: Path
    objects: dict[str, Stored] = field(default_factory=dict[str, Stored])
    unknown: list[str] = field(default_factory=list[str])
    without_manifest: list[str] = field(default_factory=list[str])
    differences: dict[str, list[Difference]] = field(default_factory=dict[str, list[Difference]])
    kinds: Counter[str] = field(default_factory=Counter[str])
    gone_inputs: int = 0
    bytes_read: int = 0
    lines: int = 0
    _raw: list[RawObject] = field(default_factory=list[RawObject])
    _bars: list[BarsObject] = field(default_factory=list[BarsObject])
    _judged: list[VerdictsObject | ReportObject] = field(
        default_factory=list["VerdictsObject | ReportObject"]
    )
    _chains: dict[tuple[str, str, str, int], list[LedgerSegment]] = field(
        default_factory=dict[tuple[str, str, str, int], list[LedgerSegment]]
    )
    _corrupted: dict[str, str] = field(default_factory=dict[str, str])
    _whole: bool = True  # all of the bucket was listed
    _done: int = 0
    _bytes_done: int = 0
    _bytes: int = 0

    def look(self, symbols: Sequence[str] | None, days: Sequence[str] | None) -> None:
        """List. Manifests first: what is uploaded meanwhile is then at most an object without a manifest."""
        self._whole = symbols is None and days is None
        raw, bars = set[RawObject](), set[BarsObject]()
        for stored in self._all_objects():
            named = names.parse(stored.name)
            if named is None:
                if macro_files.parse(stored.name) is None:  # those prove themselves: see `macro check`
                    self.unknown.append(stored.name)
                continue
            of = named.of if isinstance(named, Manifest) else named
            if (symbols is not None and of.symbol not in symbols) or (
                days is not None and (of.day not in days or isinstance(of, LedgerSegment))
            ):
                continue
            self.objects[stored.name] = stored
            match of:
                case RawObject():
                    raw.add(of)
                case BarsObject():
                    bars.add(of)
                case LedgerSegment():
                    key = (of.exchange, of.symbol, of.collector, of.edition)
                    self._chains.setdefault(key, []).append(of)
                case VerdictsObject() | ReportObject():
                    self._judged.append(of)
        self._raw = sorted(raw, key=lambda one: one.name)
        self._bars = sorted(bars, key=lambda one: one.name)
        deep = ("raw/", "parquet/", "ledger/", "verdicts/", "reports/")
        read = deep if self.deep else ("ledger/",)
        self._bytes = sum(stored.bytes for name, stored in self.objects.items() if name.startswith(read))

    def _all_objects(self) -> Iterator[Stored]:
        first = ("manifests/", "raw/", "parquet/", "ledger/")
        for prefix in first:
            yield from self.store.list(prefix)
        yield from (stored for stored in self.store.list() if not stored.name.startswith(first))

    # All of it

    def check_all(self) -> None:
        for raw, data in self._with_manifests(self._raw):
            self._enter(raw.name, self._raw_problems(raw, data), "raw")
        for bars, data in self._with_manifests(self._bars):
            self._enter(bars.name, self._bars_problems(bars, data), "bars")
            self.gone_inputs += gone_inputs([data] if data is not None else [])
        for chain in self._chains.values():
            self._check_chain(sorted(chain, key=lambda piece: piece.order))
        for judged in self._judged:
            self._check_judged(judged)

    def look_again(self) -> None:
        """At each that differs, as it is now. A ledger's pieces never change."""
        for name in list(self.differences):
            named = names.parse(name)
            if isinstance(named, VerdictsObject | ReportObject):
                del self.differences[name]
                if problems := self._judged_problems(named):
                    self.differences[name] = problems
            if not isinstance(named, RawObject | BarsObject):
                continue
            for at in (name, manifest_name(name)):
                stored = self.store.stat(at)
                self.objects.pop(at, None)
                if stored is not None:
                    self.objects[at] = stored
            data = self._manifest(named)
            problems = (
                self._raw_problems(named, data)
                if isinstance(named, RawObject)
                else self._bars_problems(named, data)
            )
            del self.differences[name]
            if problems:
                self.differences[name] = problems

    def _with_manifests(self, objects: Sequence[_Named]) -> Iterator[tuple[_Named, bytes | None]]:
        some = 16 * _READERS
        with ThreadPoolExecutor(_READERS, thread_name_prefix="verify-read") as pool:
            for start in range(0, len(objects), some):
                batch = objects[start : start + some]
                yield from zip(batch, pool.map(self._manifest, batch), strict=True)

    def _manifest(self, of: RawObject | BarsObject) -> bytes | None:
        if manifest_name(of.name) not in self.objects:
            return None
        try:
            return self.store.read(manifest_name(of.name))[1]
        except NoSuchObject:
            return None
        except Corrupted as error:
            self._corrupted[of.name] = str(error)
            return b""  # which is no manifest

    def _raw_problems(self, raw: RawObject, data: bytes | None) -> list[Difference]:
        stored = self.objects.get(raw.name)
        if data == b"":
            return [
                Difference(
                    raw.name, f"its manifest can't be read: {self._corrupted.get(raw.name, 'it is empty')}"
                )
            ]
        if data is None:
            if stored is not None and raw.name not in self.without_manifest:
                self.without_manifest.append(raw.name)
            return []
        found = list(raw_differences(raw, stored, data))
        if self.deep and stored is not None:
            file = parsed(raw)
            kind: Kind = "hour" if file.kind == "hour" else "healed"
            found += self._read_whole(
                Item(raw.name, kind, stored.bytes, raw.exchange, raw.symbol, raw.day, file.hour.hour), data
            )
        return found

    def _bars_problems(self, bars: BarsObject, data: bytes | None) -> list[Difference]:
        stored = self.objects.get(bars.name)
        if data == b"":
            return [
                Difference(
                    bars.name, f"its manifest can't be read: {self._corrupted.get(bars.name, 'it is empty')}"
                )
            ]
        found = list(bars_differences(bars, stored, data, self.objects if self._whole else None))
        if self.deep and stored is not None and data is not None and not found:
            found += self._read_whole(
                Item(bars.name, "bars", stored.bytes, bars.exchange, bars.symbol, bars.day), data
            )
        return found

    def _check_judged(self, of: VerdictsObject | ReportObject) -> None:
        problems = self._judged_problems(of) if self.deep else []
        if self.deep:
            self.bytes_read += self.objects[of.name].bytes
        self._enter(of.name, problems, "verdicts" if isinstance(of, VerdictsObject) else "reports")

    def _judged_problems(self, of: VerdictsObject | ReportObject) -> list[Difference]:
        """Nothing vouches for it but what was declared when it was put, so it is read whole, or not at all."""
        try:
            stored, data = self.store.read(of.name)
        except NoSuchObject:  # replaced objects are there all the time; this one was deleted
            return []
        except Corrupted as error:
            return [Difference(of.name, f"can't be read: {error}")]
        return problems_of(of, stored, data)

    def _read_whole(self, item: Item, manifest: bytes) -> Sequence[Difference]:
        checked = check(Fetched(self.store, self.folder, manifest), item, quick=False)
        self.bytes_read += item.bytes
        self.lines += checked.lines
        return checked.differences

    def _check_chain(self, pieces: Sequence[LedgerSegment]) -> None:
        read: set[str] = set()

        def on_read(piece: LedgerSegment, size: int) -> None:
            read.add(piece.name)
            self.bytes_read += size
            self._enter(piece.name, [], "ledger", size)

        found = check_chain(self.store, pieces, self.folder, on_read)
        self.lines += found.lines
        if found.problem is None:
            return
        if found.problem.path in read:
            self.differences[found.problem.path] = [found.problem]
        else:
            self._enter(found.problem.path, [found.problem], "ledger")

    def _enter(self, name: str, problems: list[Difference], kind: str, read_bytes: int = 0) -> None:
        if problems:
            self.differences[name] = problems
        stored = self.objects.get(name)
        self.kinds[kind] += stored is not None
        self._done += (stored is not None) + (manifest_name(name) in self.objects)
        self._bytes_done += read_bytes or (stored.bytes if stored is not None and self.deep else 0)
        if self.progress is not None:
            told = self._done, len(self.objects), self._bytes_done, self._bytes, len(self.differences)
            self.progress(BucketProgress(*told))
