"""The proof that a file may go, found now: it is what its manifest says, and so is everything that stands for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import read_bars_manifest, sha256_of
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.checksums import Checksummer, Checksums
from crypto_lake.store import NoSuchObject, Store, Stored, StoreError
from crypto_lake.upkeep.cleanup_cases import Candidate
from crypto_lake.upkeep.cleanup_plan import Blocker, Proof
from crypto_lake.upkeep.names import manifest_name
from crypto_lake.upkeep.scan import SymbolDay

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Signature:
    """By which a file is known to be the one that was measured, without reading it again."""

    device: int
    inode: int
    bytes: int
    modified_ns: int


def compare(record: UploadRecord, stored: Stored | None) -> Blocker | None:
    """What is in the bucket against what was recorded when it was read back. Pure."""
    if stored is None:
        return Blocker("gone_from_bucket", f"is no longer in the bucket: {record.url}/{record.name}")
    for what, here, there in (
        ("generation", record.generation, stored.generation),
        ("size", record.bytes, stored.bytes),
        ("crc32c", record.crc32c, stored.crc32c),
        ("sha256", record.sha256, stored.sha256),
    ):
        if here != there:
            text = (
                f"is another object in the bucket now: {record.name} has {what} {there}, recorded is {here}"
            )
            return Blocker("differs_in_bucket", text)
    return None


@dataclass
class Prover:
    """Proofs of one run; several threads may ask. What stands for many files is looked at once.

    `doubts`: names of objects that were not as they are recorded. `failed`: the store's error that ended the looking.
    """

    layout: Layout
    store: Store | None
    doubts: set[str] = field(default_factory=set[str])
    failed: StoreError | None = None
    signatures: dict[str, Signature] = field(default_factory=dict[str, Signature])
    _seen: dict[str, Blocker | None] = field(default_factory=dict[str, "Blocker | None"])
    _bars: dict[SymbolDay, Blocker | None] = field(default_factory=dict[SymbolDay, "Blocker | None"])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prove(self, candidate: Candidate) -> Proof:
        """Nothing is raised: what can't be read is no proof."""
        evidence: dict[str, str | int] = {}
        try:
            sums = self._measure(candidate.case.path)
        except OSError as error:
            return Proof("", Blocker("local_changed", f"can't be read: {error.strerror or error}"))
        if sums.sha256 != candidate.sha256:
            problem = f"has sha256 {sums.sha256}, its manifest says {candidate.sha256}"
            return Proof(sums.sha256, Blocker("local_changed", problem))
        for number, record in enumerate(candidate.objects):
            problem = self._object(record)
            if candidate.made_of:
                problem = problem or self._made_of(record, candidate.made_of)
            elif (
                problem is None and number == 0 and (record.bytes, record.crc32c) != (sums.bytes, sums.crc32c)
            ):
                problem = Blocker(
                    "differs_in_bucket", f"has crc32c {sums.crc32c}, uploaded was {record.crc32c}"
                )
            if problem is not None:
                return Proof(sums.sha256, problem)
            if number == 0:
                evidence = {
                    "url": record.url,
                    "object": record.name,
                    "generation": record.generation,
                    "crc32c": record.crc32c,
                }
        for day in candidate.bars:
            problem = self._day_of_bars(day)
            if problem is not None:
                return Proof(sums.sha256, problem)
            evidence[f"bars {day.day}"] = "final, and its sha256 is the manifest's"
        return Proof(sums.sha256, None, evidence)

    def _measure(self, path: str) -> Checksums:
        sums = Checksummer(md5=False)
        with (self.layout.root / path).open("rb", buffering=0) as file:
            self.signatures[path] = signature_of(os.fstat(file.fileno()))
            while chunk := file.read(_CHUNK_BYTES):
                sums.update(chunk)
        return sums.result()

    def _object(self, record: UploadRecord) -> Blocker | None:
        if self.store is None or record.url != self.store.url:
            return Blocker(
                "other_bucket", f"{record.name} is recorded in {record.url}, which is not the bucket"
            )
        if record.name in self._seen:
            return self._seen[record.name]
        if self.failed is not None:
            return Blocker("store_failed", "could not be looked at in the bucket")
        try:
            problem = compare(record, self.store.stat(record.name))
        except StoreError as error:
            with self._lock:
                self.failed = self.failed or error
            return Blocker("store_failed", f"could not be looked at in the bucket: {error}")
        with self._lock:
            self._seen[record.name] = problem
            if problem is not None:
                self.doubts.add(record.name)
        return problem

    def _made_of(self, record: UploadRecord, objects: Iterable[tuple[str, str]]) -> Blocker | None:
        """Whether the published day that is recorded was made of these objects, by its manifest in the bucket now."""
        assert self.store is not None
        try:
            _, data = self.store.read(manifest_name(record.name))
            published = _decode_published(data)
        except NoSuchObject:
            return Blocker("gone_from_bucket", f"has no manifest in the bucket: {manifest_name(record.name)}")
        except StoreError as error:
            return Blocker("store_failed", f"could not be looked at in the bucket: {error}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Blocker("differs_in_bucket", f"has a manifest in the bucket that can't be read: {error}")
        if (published.generation, published.sha256) != (record.generation, record.sha256):
            return Blocker("differs_in_bucket", "is being published anew")
        inputs = {one.path: one.sha256 for one in published.inputs}
        for name, sha256 in objects:
            if inputs.get(name) != sha256:
                return Blocker("not_published", f"is made of {name}, which the published version is not")
        return None

    def _day_of_bars(self, at: SymbolDay) -> Blocker | None:
        """Whether a day of bars is final, and its file whole, read now."""
        if at not in self._bars:
            path = self.layout.bars(at.exchange, at.symbol, at.day)
            manifest = read_bars_manifest(self.layout, path)
            problem: Blocker | None = None
            if manifest is None or not manifest.final:
                problem = Blocker("bars_not_final", f"bars of {at.day} are not final, and there is no bucket")
            elif manifest.rows:
                try:
                    sha256 = sha256_of(path)
                except OSError as error:
                    sha256 = f"none ({error.strerror or error})"
                if sha256 != manifest.sha256:
                    text = f"its bars of {at.day} have sha256 {sha256}, their manifest says {manifest.sha256}"
                    problem = Blocker("bars_differ", text)
            self._bars[at] = problem
        return self._bars[at]


class _PublishedInput(msgspec.Struct):
    path: str
    sha256: str


class _Published(msgspec.Struct):
    """Of a published day's manifest, what is needed here."""

    generation: int
    sha256: str
    inputs: list[_PublishedInput]


_decode_published = msgspec.json.Decoder(_Published).decode


def signature_of(seen: os.stat_result) -> Signature:
    return Signature(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
