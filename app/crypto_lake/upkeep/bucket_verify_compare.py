"""Objects of a bucket against their manifests, and against each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from crypto_lake.lake.raw_manifests import RawManifest, decode_raw_manifest
from crypto_lake.store import Stored
from crypto_lake.upkeep.names import BarsObject, RawObject
from crypto_lake.upkeep.publish_manifest import PublishedManifest, decode
from crypto_lake.upkeep.publish_plan import FileSeen, Ours, recognise
from crypto_lake.upkeep.verify_compare import manifest_differences
from crypto_lake.upkeep.verify_report import Difference


def raw_differences(raw: RawObject, stored: Stored | None, manifest: bytes) -> Iterator[Difference]:
    """`stored` None: there is no such object."""
    if stored is None:
        yield Difference(raw.name, "is missing; its manifest is there")
        return
    try:
        told = decode_raw_manifest(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield Difference(raw.name, f"its manifest can't be read: {error}")
        return
    yield from manifest_differences(raw.name, manifest)
    if told.path != raw.local:
        yield Difference(raw.name, f"its manifest is of {told.path}")
    yield from _checksums(raw.name, stored, told)


def bars_differences(
    bars: BarsObject, stored: Stored | None, manifest: bytes | None, raw: Mapping[str, Stored] | None
) -> Iterator[Difference]:
    """`raw`: all objects of raw, by name; None: they are not known."""
    if manifest is None:
        if stored is not None:
            yield Difference(bars.name, "has no manifest; `crypto-lake publish` makes it again where it can")
        return
    try:
        told = decode(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield Difference(bars.name, f"its manifest can't be read: {error}")
        return
    yield from manifest_differences(bars.name, manifest)
    seen = FileSeen(stored.generation, stored.sha256) if stored is not None else None
    match recognise(told, seen):
        case Ours():
            if stored is not None:
                yield from _checksums(bars.name, stored, told)
        case other:
            problem = getattr(
                other, "problem", "a publish was cut off; the next `crypto-lake publish` completes it"
            )
            yield Difference(bars.name, problem)
    if raw is not None:
        yield from _input_differences(bars, told, raw)


def _input_differences(
    bars: BarsObject, told: PublishedManifest, raw: Mapping[str, Stored]
) -> Iterator[Difference]:
    for one in told.inputs:
        there = raw.get(one.path)
        if one.gone:
            continue
        if there is None:
            yield Difference(bars.name, f"was made of {one.path}, which is gone; its rows are kept")
        elif there.bytes != one.bytes or there.sha256 not in (None, one.sha256):
            yield Difference(bars.name, f"was made of {one.path}, under whose name another object is now")


def _checksums(name: str, stored: Stored, told: RawManifest | PublishedManifest) -> Iterator[Difference]:
    for what, there, says in (
        ("size", stored.bytes, told.bytes),
        ("CRC32C", stored.crc32c, told.crc32c),
        ("MD5", stored.md5 or told.md5, told.md5),
        ("declared SHA-256", stored.sha256 or told.sha256, told.sha256),
    ):
        if there != says:
            yield Difference(name, f"its {what} is {there}, its manifest says {says}")
            return


def gone_inputs(manifests: Iterable[bytes]) -> int:
    """How many inputs of published days are known to be gone. What can't be read counts for nothing."""
    found = 0
    for data in manifests:
        try:
            found += sum(one.gone for one in decode(data).inputs)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return found
