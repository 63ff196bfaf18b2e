"""What is to be uploaded, in which order, and what waits, and why. Pure: from facts to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.upkeep import names
from crypto_lake.upkeep.scan import RawFact, Seal, SymbolDay
from crypto_lake.upkeep.seal_plan import MARGIN_NS

Kind = Literal["hour", "healed", "manifest"]
Why = Literal["hour_open", "not_sealed", "no_manifest"]

REASONS: Final[Mapping[Why, str]] = {
    "hour_open": "its hour is not over, or a part of it is being written",
    "not_sealed": "its hour is over and not sealed yet: `crypto-lake compact`",
    "no_manifest": "it has no manifest: `crypto-lake compact` makes one",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to be put. `path`: of the local file, relative to the data directory.

    `seal`: what raw must be, or it is not uploaded; None for a manifest. `proven`: of a manifest, whether the raw that
    it tells of is in the bucket already; else that goes first.
    """

    of: SymbolDay
    kind: Kind
    path: str
    name: str
    bytes: int
    end_ns: int
    seal: Seal | None
    proven: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    path: str
    bytes: int
    why: Why


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that is not what its manifest says. It is never uploaded."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """`uploads`: in their order. `done`: files, with their bytes, whose object is recorded already."""

    uploads: list[Upload] = field(default_factory=list[Upload])
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    changed: list[Changed] = field(default_factory=list[Changed])
    done_files: int = 0
    done_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DayFacts:
    """A day's raw with the records of it. `manifest_bytes`: size of each raw file's manifest, by the file's path.

    `doubted`: names of objects that a clean-up did not find as they are recorded; they are put again.
    """

    raw: list[RawFact]
    records: Mapping[str, UploadRecord]
    manifest_bytes: Mapping[str, int]
    doubted: frozenset[str] = frozenset()


def plan(days: Iterable[DayFacts], collector: str, now_ns: int) -> UploadPlan:
    """`now_ns`: the lake's clock. The oldest hour goes first, and in it a file before its manifest.

    Raises ValueError where the collector's name can't stand in an object's name.
    """
    found: list[Upload] = []
    waiting: list[Waiting] = []
    changed: list[Changed] = []
    done_files = done_bytes = 0
    for day in days:
        for fact in day.raw:
            why = _why_waiting(fact, now_ns)
            if why is not None:
                waiting.append(Waiting(fact.path, fact.bytes, why))
                continue
            seal = fact.seal
            assert seal is not None
            if seal.bytes != fact.bytes:
                problem = f"has {fact.bytes} bytes, its manifest says {seal.bytes}"
                changed.append(Changed(fact.path, problem))
                continue
            made = names.raw_object(fact.path, collector)
            raw_done = _is_done(day, made.name, seal)
            if raw_done:
                done_files, done_bytes = done_files + 1, done_bytes + fact.bytes
            else:
                kind: Kind = "healed" if fact.kind == "healed" else "hour"
                slim = replace(seal, inputs=())  # there may be many
                found.append(Upload(fact.of, kind, fact.path, made.name, fact.bytes, fact.end_ns, slim))
            manifest = names.Manifest(made)
            if not (raw_done and _is_done(day, manifest.name, None)):
                size = day.manifest_bytes.get(fact.path, 0)
                of_raw = Upload(
                    fact.of, "manifest", manifest.local, manifest.name, size, fact.end_ns, None, raw_done
                )
                found.append(of_raw)
    order = {"hour": 0, "healed": 0, "manifest": 1}
    found.sort(key=lambda one: (one.end_ns, order[one.kind], one.name))
    return UploadPlan(found, waiting, changed, done_files, done_bytes)


def _why_waiting(fact: RawFact, now_ns: int) -> Why | None:
    if fact.kind == "part":
        return "hour_open" if fact.is_open or fact.end_ns + MARGIN_NS > now_ns else "not_sealed"
    return "no_manifest" if fact.seal is None else None


def _is_done(day: DayFacts, name: str, seal: Seal | None) -> bool:
    """`seal`: what the object must be recorded as; None for a manifest, which may be written anew here."""
    record = day.records.get(name)
    if record is None or name in day.doubted:
        return False
    return seal is None or (record.bytes, record.sha256) == (seal.bytes, seal.sha256)
