"""Manifests of sealed raw, and which raw files hold the lines of a day once each.

A sealed hour takes its name only after its manifest is durable, and its parts go only after that. So at any moment:

- the hour's file is there: its manifest is too, and names the parts that it replaces, whether they are still there
  or not;
- it is not there: the parts are.

Hence `raw_inputs` gives each line once, whenever it is asked and wherever a crash came. A manifest whose file is not
there, while its parts are, was written by a run that a crash cut off; it says nothing, and the next run replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout, RawFile, parse_raw_name
from crypto_lake.lake.manifests import Input
from crypto_lake.lake.vouched import vouched

RAW_MANIFEST_SCHEMA: Final = 1


class RawManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed hour, or a healed file, is proven to hold: it was read back whole before this was written.

    `lines` = trades + quotes + others (control records, replies, klines) + unreadable. `klines`: of the others, the
    exchange's own bars; a version that wrote none knew of none. `unreadable`: lines that are no message
    of this symbol, or were not received in this hour. `content_sha256`: of all lines, unpacked. Ids are null where
    there is no trade; `holes` are the ids between the runs. `damaged_bytes`: bytes of the inputs that no frame decodes
    from; they are in quarantine, and not in this file.
    `inputs`: the parts whose frames this file holds, in order; none for a healed file, and none where the manifest was
    lost and made anew.
    """

    schema: int = RAW_MANIFEST_SCHEMA
    path: str  # relative to the data directory
    kind: str  # "hour" or "healed"
    exchange: str
    symbol: str
    day: str
    hour: int
    bytes: int
    sha256: str
    crc32c: str
    md5: str
    content_sha256: str
    lines: int
    trades: int
    quotes: int
    others: int
    unreadable: int
    damaged_bytes: int
    first_received_ns: int | None
    last_received_ns: int | None
    first_id: int | None
    last_id: int | None
    id_runs: tuple[tuple[int, int], ...]
    holes: tuple[tuple[int, int], ...]
    inputs: tuple[Input, ...]
    collector: str
    program: str
    sealed_ns: int
    klines: int = 0


_decode = msgspec.json.Decoder(RawManifest).decode


def encode_raw_manifest(manifest: RawManifest) -> bytes:
    return vouched(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def decode_raw_manifest(data: bytes) -> RawManifest:
    """Raises msgspec.MsgspecError where it is none, or of a later schema."""
    manifest = _decode(data)
    if manifest.schema > RAW_MANIFEST_SCHEMA:
        raise msgspec.ValidationError(
            f"schema {manifest.schema}; this program reads up to {RAW_MANIFEST_SCHEMA}: install a later one"
        )
    return manifest


def read_raw_manifest(layout: Layout, path: Path) -> RawManifest | None:
    """The manifest of a raw file; None where there is none, or none that can be read."""
    try:
        return decode_raw_manifest(layout.manifest(path).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def is_of_later_schema(layout: Layout, path: Path) -> bool:
    """Whether the file's manifest is there and says that a later version of the program wrote it."""
    try:
        return _decode_schema(layout.manifest(path).read_bytes()).schema > RAW_MANIFEST_SCHEMA
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return False


class _Schema(msgspec.Struct):
    schema: int = 0


_decode_schema = msgspec.json.Decoder(_Schema).decode


def write_raw_manifest(layout: Layout, path: Path, manifest: RawManifest) -> None:
    durable.write(layout.manifest(path), encode_raw_manifest(manifest))


def raw_manifest_paths(layout: Layout, exchange: str, symbol: str, day: str) -> list[Path]:
    """Paths of the raw files of a day that have a manifest, sorted, whether the files are there or not."""
    folder = layout.raw_day(exchange, symbol, day)
    manifests = layout.manifest(folder / "x").parent
    if not manifests.is_dir():
        return []
    files = (folder / path.name.removesuffix(".json") for path in manifests.glob("*.json"))
    return sorted(path for path in files if parse_raw_name(day, path) is not None)


def raw_inputs(layout: Layout, exchange: str, symbol: str, day: str) -> list[RawFile]:
    """The raw files of a day that hold each of its lines once, sorted; open parts are among them.

    That is `Layout.raw_files` without the parts that a sealed hour replaces and that are not deleted yet. Without the
    lock `transform` a part may be sealed, and be gone, before you open it: then its lines are in `sealed_into`.
    """
    files = layout.raw_files(exchange, symbol, day)
    hours = {file.hour for file in files if file.kind == "part" and not file.is_open}
    replaced: dict[str, int] = {}
    for file in files:
        # Once an hour's parts are gone nothing of it need be read to know that.
        if file.kind == "hour" and file.hour in hours:
            replaced |= _replaced_by(layout, file.path)
    return [file for file in files if not _is_replaced(file, replaced)]


def _replaced_by(layout: Layout, path: Path) -> dict[str, int]:
    """Names and sizes of the parts that a sealed hour stands for: of one that is cut short, none."""
    manifest = read_raw_manifest(layout, path)
    if manifest is None or path.stat().st_size != manifest.bytes:
        return {}
    return {Path(part.path).name: part.bytes for part in manifest.inputs}


def _is_replaced(file: RawFile, replaced: dict[str, int]) -> bool:
    if file.is_open or file.kind != "part" or file.path.name not in replaced:
        return False
    try:
        # A file of that name and another size is not the part that was sealed: nothing else holds its lines.
        return file.path.stat().st_size == replaced[file.path.name]
    except FileNotFoundError:
        return True


def sealed_into(layout: Layout, part: Path) -> Path | None:
    """The sealed hour that is there and holds this part's lines, or None."""
    parsed = parse_raw_name(part.parent.name, part)
    if parsed is None or parsed.kind != "part":
        return None
    exchange, symbol, day = part.parts[-4:-1]
    for file in layout.raw_files(exchange, symbol, day):
        if file.kind == "hour" and file.hour == parsed.hour and part.name in _replaced_by(layout, file.path):
            return file.path
    return None


_PART_NAME = re.compile(rb"part_\d\d_(\d{4,})\.jsonl\.zst")


def parts_named(layout: Layout, exchange: str, symbol: str, day: str) -> Iterator[int]:
    """Numbers of the parts that the day's manifests name as inputs, whether they are still there or not.

    Looked for as text: a manifest that is damaged elsewhere, or of a later schema, still says which names were used.
    """
    folder = layout.manifest(layout.raw_day(exchange, symbol, day) / "x").parent
    if folder.is_dir():
        for path in folder.glob("hour_*.json"):
            for match in _PART_NAME.finditer(path.read_bytes()):
                yield int(match[1])
