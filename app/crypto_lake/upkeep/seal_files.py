"""The deeds of sealing: parts to one file, its manifest, and the parts' end.

Order is what makes it safe to be cut off anywhere: the file is written and read back under a temporary name; what is
not in it is put aside; its manifest lasts; it takes its name; only then its parts go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from crypto_lake import __version__
from crypto_lake.completeness.content import Content, Summary
from crypto_lake.lake import durable
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.manifests import Input, sha256_of
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import RawManifest, write_raw_manifest
from crypto_lake.model.checksums import Checksummer, Checksums
from crypto_lake.upkeep.seal_plan import SealHour

_WRITE_BYTES = 1024 * 1024


class SealError(OSError):
    """A file does not read back as what was written, or is not what its manifest says. Nothing was deleted."""


@dataclass(frozen=True, slots=True)
class Work:
    """Whose raw it is, and what goes into each manifest. `on_read` gets the bytes of each file that was read."""

    layout: Layout
    exchange: str
    symbol: str
    collector: str
    now_ns: int
    quarantine: Quarantine
    on_read: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    part: RawFile
    bad: BadBytes


@dataclass
class Joined:
    """What came of reading parts into one file. `left`: parts that are not in it, each with the reason."""

    content: Content
    inputs: list[Input] = field(default_factory=list[Input])
    damage: list[Damage] = field(default_factory=list[Damage])
    left: list[tuple[RawFile, str]] = field(default_factory=list[tuple[RawFile, str]])


def seal_hour(work: Work, job: SealHour) -> tuple[RawManifest | None, list[tuple[RawFile, str]]]:
    """Join the hour's parts. Returns the manifest, None where none of the parts could be used, and the parts left out.

    Raises SealError where the file reads back otherwise than it was written, OSError where it can't be written: the
    parts are then all there.
    """
    layout = work.layout
    target = layout.sealed(work.exchange, work.symbol, job.hour, job.number)
    joined = Joined(Content(work.exchange, work.symbol, job.hour))
    manifests: list[RawManifest] = []

    def make(temporary: Path) -> None:
        with temporary.open("wb", buffering=_WRITE_BYTES) as out:
            for part in job.parts:
                _join(work, joined, part, out)

    def check(temporary: Path) -> None:
        if not joined.inputs:
            raise _NothingToSealError
        content, sums = read_whole(work, temporary, Content(work.exchange, work.symbol, job.hour))
        wanted = joined.content.summary()
        if content != wanted:
            raise SealError(
                f"{target} reads back otherwise than its parts ({_difference(content, wanted)}); the parts are kept. "
                "The disk or the memory is not to be trusted"
            )
        for damage in joined.damage:
            _put_aside(work, damage)
        manifest = _manifest(work, target, "hour", job.hour.day, job.hour.hour, content, sums, joined)
        write_raw_manifest(layout, target, manifest)
        manifests.append(manifest)

    try:
        durable.write_with(target, make, check)
    except _NothingToSealError:
        return None, joined.left
    return manifests[0], joined.left


class _NothingToSealError(Exception):
    pass


def _join(work: Work, joined: Joined, part: RawFile, out: BinaryIO) -> None:
    """Append the part's whole frames to `out`, or leave it out as a whole."""
    start, content = out.tell(), joined.content.copy()
    before = content.summary().usable
    damage: list[Damage] = []
    digest, size = hashlib.sha256(), 0
    for item in read_frames(part.path):
        digest.update(item.packed)
        size += item.size
        if isinstance(item, BadBytes):
            damage.append(Damage(part, item))
        else:
            out.write(item.packed)
            content.add(item.data)
    work.on_read(size)
    if content.summary().usable == before:
        out.seek(start)
        out.truncate()
        whole = sum(item.bad.size for item in damage) == size
        problem = (
            "no frame of it decodes" if whole else f"holds no line of {work.symbol} received in {part.hour}"
        )
        joined.left.append((part, f"{problem}; left alone"))
        return
    joined.content = content
    joined.damage += damage
    joined.inputs.append(Input(str(part.path.relative_to(work.layout.root)), size, digest.hexdigest()))


def attest(work: Work, file: RawFile) -> RawManifest:
    """Write the manifest of a file that is whole as it is. Raises SealError where it is not."""
    hour = None if file.kind == "healed" else file.hour
    content, sums = read_whole(work, file.path, Content(work.exchange, work.symbol, hour))
    if not content.usable:
        raise SealError(f"{file.path} holds no line of {work.symbol}; left alone")
    nothing = Joined(Content(work.exchange, work.symbol, hour))
    lost = work.layout.manifest(file.path)
    if lost.exists():
        reason = "a manifest that can't be read; made anew from its file"
        origin = str(lost.relative_to(work.layout.root))
        work.quarantine.add_lasting("-".join(lost.parts[-4:]), lost.read_bytes(), reason, origin)
    manifest = _manifest(work, file.path, file.kind, file.hour.day, file.hour.hour, content, sums, nothing)
    write_raw_manifest(work.layout, file.path, manifest)
    return manifest


def read_whole(work: Work, path: Path, content: Content) -> tuple[Summary, Checksums]:
    """Every byte of a file, from the disk. Raises SealError at the first that no frame decodes from."""
    sums = Checksummer()
    for item in read_frames(path):
        if isinstance(item, BadBytes):
            raise SealError(f"{path}, from byte {item.offset} for {item.size}: {item.reason}; left alone")
        sums.update(item.packed)
        content.add(item.data)
    result = sums.result()
    work.on_read(result.bytes)
    return content.summary(), result


def delete_parts(work: Work, manifest: RawManifest) -> tuple[int, list[tuple[Path, str]]]:
    """Delete the parts that a sealed hour stands for, each only if it is the one that the manifest names.

    The hour must be there and sound. Returns how many went, and those that are another file, with what is wrong.
    """
    folder = (work.layout.root / manifest.path).parent
    # The hour's name lasts before the first part goes, also where a crash came right after the rename.
    durable.sync_directory(folder)
    deleted, odd = 0, list[tuple[Path, str]]()
    for entry in manifest.inputs:
        path = work.layout.root / entry.path
        try:
            same = path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
        except FileNotFoundError:
            continue
        if same:
            path.unlink()
            deleted += 1
        else:
            odd.append((path, f"is not the part that {manifest.path} was made of; left alone"))
    durable.sync_directory(folder)
    return deleted, odd


def ensure_sound(work: Work, manifest: RawManifest) -> None:
    """Read a sealed hour whole. Raises SealError where it is not what its manifest says."""
    path = work.layout.root / manifest.path
    sha256 = sha256_of(path)
    work.on_read(manifest.bytes)
    if sha256 != manifest.sha256:
        raise SealError(
            f"{path} is not what its manifest says; its parts are kept. `crypto-lake verify {path}` tells where; "
            "with the file and its manifest moved away, the next run seals the hour anew from its parts"
        )


def _put_aside(work: Work, damage: Damage) -> None:
    """Into quarantine, made to last: the part that holds these bytes is deleted next."""
    path, bad = damage.part.path, damage.bad
    origin = str(path.relative_to(work.layout.root))
    name = "-".join(Path(origin).parts[-4:])
    work.quarantine.add_lasting(
        f"{name}.{bad.offset}.damaged", bad.packed, f"no frame decodes ({bad.reason})", origin
    )


def _manifest(
    work: Work,
    path: Path,
    kind: str,
    day: str,
    hour: int,
    content: Summary,
    sums: Checksums,
    joined: Joined,
) -> RawManifest:
    return RawManifest(
        path=str(path.relative_to(work.layout.root)),
        kind=kind,
        exchange=work.exchange,
        symbol=work.symbol,
        day=day,
        hour=hour,
        bytes=sums.bytes,
        sha256=sums.sha256,
        crc32c=sums.crc32c,
        md5=sums.md5,
        content_sha256=content.content_sha256,
        lines=content.lines,
        trades=content.trades,
        quotes=content.quotes,
        others=content.others,
        klines=content.klines,
        unreadable=content.unreadable,
        damaged_bytes=sum(damage.bad.size for damage in joined.damage),
        first_received_ns=content.first_received_ns,
        last_received_ns=content.last_received_ns,
        first_id=content.first_id,
        last_id=content.last_id,
        id_runs=content.id_runs,
        holes=content.holes,
        inputs=tuple(joined.inputs),
        collector=work.collector,
        program=__version__,
        sealed_ns=work.now_ns,
    )


def _difference(one: Summary, other: Summary) -> str:
    """The first field in which they differ, for a person."""
    for name in Summary.__slots__:
        if getattr(one, name) != getattr(other, name):
            return f"{name}: {getattr(one, name)}, not {getattr(other, name)}"
    return "nothing"


def stale_temporaries(layout: Layout, exchange: str, symbol: str, day: str) -> Sequence[Path]:
    """Temporary files that a run which was cut off left of this day. For the holder of the lock `transform`."""
    raw = layout.raw_day(exchange, symbol, day)
    manifests = layout.manifest(raw / "x").parent
    # Healed files have other writers; manifests of raw have not.
    found = [
        *raw.glob(f".hour_*{durable.TEMPORARY_SUFFIX}"),
        *manifests.glob(f".*{durable.TEMPORARY_SUFFIX}"),
    ]
    return sorted(found)
