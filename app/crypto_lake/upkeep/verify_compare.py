"""A file's manifest against what the file holds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crypto_lake.completeness.content import Summary
from crypto_lake.lake.manifests import BarsManifest
from crypto_lake.lake.raw_manifests import RawManifest
from crypto_lake.lake.vouched import changed
from crypto_lake.model.checksums import Checksums
from crypto_lake.upkeep.verify_report import Difference


def differs_in_bytes(manifest: RawManifest | BarsManifest, sums: Checksums) -> str:
    """In which of its checksums the file differs, or nothing. Those that the manifest does not have are not compared."""
    for what, here, there in (
        ("bytes", sums.bytes, manifest.bytes),
        ("sha256", sums.sha256, manifest.sha256),
        ("crc32c", sums.crc32c, manifest.crc32c),
    ):
        if there != "" and here != there:
            return f"its {what} is {here}, its manifest says {there}"
    return ""


def manifest_differences(name: str, manifest: bytes) -> Iterator[Difference]:
    """Of the manifest's own bytes."""
    if changed(manifest):
        yield Difference(f"manifests/{name}.json", "is not what was written: its own checksum differs")


def raw_differences(
    name: str, manifest: RawManifest, sums: Checksums, content: Summary | None
) -> Iterator[Difference]:
    """`content` None: it was not looked at."""
    if problem := differs_in_bytes(manifest, sums):
        yield Difference(name, problem)
    for figure in Summary.__slots__ if content is not None else ():
        here, there = getattr(content, figure), getattr(manifest, figure)
        if here != there:
            yield Difference(name, f"{figure}: {_short(here)}, its manifest says {_short(there)}")


def hour_differences(
    manifest: BarsManifest, path: str, named: Mapping[int, str], found: Mapping[int, tuple[str, int]]
) -> Iterator[Difference]:
    """Digests of the hours of a day of bars: in the manifest, in the file's metadata, of the rows themselves.

    `found`: digest and number of the rows by Unix hour.
    """
    wanted = {hour: (record.digest, record.rows) for hour, record in manifest.hours.items() if record.rows}
    for hour in sorted(wanted.keys() | found.keys() | named.keys()):
        digest, rows = wanted.get(hour, ("", 0))
        here, rows_here = found.get(hour, ("", 0))
        if rows_here != rows:
            yield Difference(path, f"{rows_here} rows, its manifest says {rows}", hour=hour % 24)
        elif here != digest:
            yield Difference(path, "its rows have another digest than its manifest says", hour=hour % 24)
        elif named.get(hour, "") != digest:
            yield Difference(path, "its metadata has another digest than its manifest", hour=hour % 24)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
