"""What is to be sealed of a day, and what is not, and why. Pure: from what is there to what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crypto_lake.lake.layout import RawFile
from crypto_lake.lake.raw_manifests import RawManifest
from crypto_lake.model.clock import Hour

# After an hour's end a batch may still be on its way to the disk. A part that comes later makes an hour of its own.
MARGIN_NS: Final = 60 * 10**9


@dataclass(frozen=True, slots=True)
class DayState:
    """One symbol's raw of a day, as it lies there.

    sizes: bytes of each of `files`. manifests: of raw files of the day by name, whether the file is there or not;
    None where it can't be read. strangers: names in the day's folder that are none of the lake's.
    """

    day: str
    files: Sequence[RawFile]
    sizes: Mapping[str, int]
    manifests: Mapping[str, RawManifest | None]
    strangers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SealHour:
    """Join these parts, in this order, into the hour's file of this number."""

    hour: Hour
    number: int
    parts: tuple[RawFile, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The hour is sealed; these of its parts are still there."""

    sealed: RawFile
    manifest: RawManifest


@dataclass(frozen=True, slots=True)
class Attest:
    """Read a file that is whole as it is, and write its manifest: a healed one, or one whose manifest was lost."""

    file: RawFile


@dataclass(frozen=True, slots=True)
class Wait:
    hour: Hour
    reason: str


@dataclass(frozen=True, slots=True)
class Odd:
    """Something is as this program does not leave it; it is told, and left alone."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Plan:
    finish: list[Finish] = field(default_factory=list[Finish])
    seal: list[SealHour] = field(default_factory=list[SealHour])
    attest: list[Attest] = field(default_factory=list[Attest])
    wait: list[Wait] = field(default_factory=list[Wait])
    odd: list[Odd] = field(default_factory=list[Odd])


def plan(state: DayState, now_ns: int, margin_ns: int = MARGIN_NS) -> Plan:
    """`now_ns`: the lake's clock."""
    made = Plan(odd=[Odd(name, "not a name of the lake; left alone") for name in state.strangers])
    there = {file.path.name: file for file in state.files}
    replaced: dict[str, int] = {}  # parts that a sealed hour which is there stands for: name, bytes
    for name, manifest in sorted(state.manifests.items()):
        file = there.get(name)
        if file is None or manifest is None:
            continue
        if state.sizes[name] != manifest.bytes:
            made.odd.append(
                Odd(
                    name,
                    f"has {state.sizes[name]} bytes, its manifest says {manifest.bytes}; left alone. "
                    "`crypto-lake verify` tells where they differ",
                )
            )
            continue
        names = {Path(part.path).name: part.bytes for part in manifest.inputs}
        replaced |= names
        if any(there_too in there for there_too in names):
            made.finish.append(Finish(file, manifest))
    for file in state.files:
        name = file.path.name
        if file.kind != "part" and state.manifests.get(name) is None:
            made.attest.append(Attest(file))
    _plan_parts(made, state, replaced, now_ns - margin_ns)
    return made


def _plan_parts(made: Plan, state: DayState, replaced: Mapping[str, int], ended_before_ns: int) -> None:
    waiting: dict[Hour, list[RawFile]] = {}
    writing: set[Hour] = set()
    for file in state.files:
        name = file.path.name
        if file.kind != "part":
            continue
        if file.is_open:
            writing.add(file.hour)
        elif name not in replaced:
            waiting.setdefault(file.hour, []).append(file)
        elif replaced[name] != state.sizes[name]:
            made.odd.append(
                Odd(
                    name,
                    f"has {state.sizes[name]} bytes and bears the name of a part of {replaced[name]} that is sealed; "
                    "left alone",
                )
            )
    for hour in sorted(waiting.keys() | writing):
        if hour.end_ns > ended_before_ns:
            made.wait.append(Wait(hour, "not over"))
        elif hour in writing:
            made.wait.append(Wait(hour, "a part of it is open"))
        else:
            made.seal.append(SealHour(hour, _number(state, hour), tuple(waiting[hour])))


def _number(state: DayState, hour: Hour) -> int:
    """1 + the greatest ever given to a file of the hour: also of one that went to the bucket and is gone here.

    A manifest whose file is not there while all its parts are is of a run that was cut off before the file had its
    name: its number is free.
    """
    there = {file.path.name for file in state.files}
    used = [file.number for file in state.files if file.kind == "hour" and file.hour == hour]
    for name, manifest in state.manifests.items():
        if name in there or not name.startswith(f"hour_{hour.hour:02d}"):
            continue
        cut_off = (
            manifest is not None
            and bool(manifest.inputs)
            and all(Path(part.path).name in there for part in manifest.inputs)
        )
        if not cut_off:
            late = name.removesuffix(".jsonl.zst").split("_")[2:]
            used.append(int(late[0]) if late else 1)
    return 1 + max(used, default=0)
