"""Manifests: what a file is proven to hold. Beside the lake under `manifests/`, at the file's own path.

Those of sealed raw are in `raw_manifests`. And, under `state/bars/`, what is known of each raw file without reading it again: a cache, that may be deleted.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.vouched import vouched


class Input(msgspec.Struct, frozen=True):
    """A file that another was made of."""

    path: str  # relative to the data directory
    bytes: int
    sha256: str


class BarsHour(msgspec.Struct, frozen=True, omit_defaults=True):
    """An hour of a day of bars.

    `key` names all that its rows were made of, so that an hour whose key stands need not be made again; `refused`
    is the key of raw that held less than the rows do (some of it has gone), and was not used.
    `conflicting`: trades of which two copies differ, a hundred at most; `conflicts` counts all.
    `reached`: of an hour that was made while no later trade was known: the last one's id, and the exchange's time (us) up
    to which its stream was watched since. Prices and sizes are hundred-millionths. Edges are (trade id, trade time in us).
    """

    key: str
    digest: str
    rows: int
    trades: int
    quotes: int
    inputs: tuple[str, ...] = ()
    first: tuple[int, int] | None = None
    last: tuple[int, int] | None = None
    close: int | None = None
    quote: tuple[int, int, int, int] | None = None
    max_u: int = -1
    holes: int = 0
    missing_ids: int = 0
    duplicates: int = 0
    conflicts: int = 0
    conflicting: tuple[int, ...] = ()
    refused: str = ""
    reached: tuple[int, int] | None = None


class BarsManifest(msgspec.Struct, frozen=True):
    """A day of bars: what its file is, and what it came from. `final`: see docs/bars.md."""

    exchange: str
    symbol: str
    day: str
    path: str
    schema: int
    program: str  # the version that wrote the file last
    bytes: int
    sha256: str
    rows: int
    trades: int
    first_trade_id: int | None
    last_trade_id: int | None
    final: bool
    inputs: tuple[Input, ...]
    hours: dict[int, BarsHour]
    # In base64, as Google Cloud Storage gives them; "" in manifests of a version that did not measure them.
    crc32c: str = ""
    md5: str = ""


_decode_bars = msgspec.json.Decoder(BarsManifest).decode


class RawIndexEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a raw file holds. Hours are Unix hours; trade hours go by trade time, quote hours by receive time.

    skipped: lines that a later version may make bars of. klines: lines of which none ever are.
    """

    bytes: int
    sha256: str
    lines: int
    trades: int
    quotes: int
    unreadable: int
    skipped: int
    trade_hours: tuple[int, ...]
    quote_hours: tuple[int, ...]
    id_runs: tuple[tuple[int, int], ...]
    last_receipts: tuple[tuple[int, str], ...]  # receive time and connection of each copy of the greatest id
    klines: int = 0


class _RawIndex(msgspec.Struct):
    version: int
    files: dict[str, RawIndexEntry]  # by name within the day's folder


_decode_index = msgspec.json.Decoder(_RawIndex).decode


_INDEX_VERSION = 1


def read_bars_manifest(layout: Layout, bars: Path) -> BarsManifest | None:
    """The manifest of a day of bars; None where there is none, or none that can be read (it is then made anew)."""
    try:
        return _decode_bars(layout.manifest(bars).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_bars_manifest(layout: Layout, bars: Path, manifest: BarsManifest) -> None:
    path = layout.manifest(bars)
    durable.write(path, vouched(msgspec.json.format(msgspec.json.encode(manifest), indent=1)))


def raw_index_path(layout: Layout, exchange: str, symbol: str, day: str) -> Path:
    return layout.state / "bars" / exchange / symbol / f"{day}.json"


def read_raw_index(layout: Layout, exchange: str, symbol: str, day: str) -> dict[str, RawIndexEntry]:
    """What is known of a day's raw files by name; empty where nothing is, or what is can't be read."""
    try:
        data = raw_index_path(layout, exchange, symbol, day).read_bytes()
        index = _decode_index(data)
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
    return index.files if index.version == _INDEX_VERSION else {}


def write_raw_index(
    layout: Layout, exchange: str, symbol: str, day: str, files: dict[str, RawIndexEntry]
) -> None:
    data = msgspec.json.encode(_RawIndex(_INDEX_VERSION, files), order="deterministic")
    durable.write_fleeting(raw_index_path(layout, exchange, symbol, day), data)


class SettledBars(msgspec.Struct, frozen=True):
    """A symbol's days of bars up to `last_day`, none of which is to be made anew as long as `digest` is theirs.

    `edge`: what stands at their end, as if it were an hour's. `after`: the trade that follows (id, time in us).
    """

    key_version: int
    last_day: str
    digest: str
    edge: BarsHour
    after: tuple[int, int]


_decode_settled = msgspec.json.Decoder(SettledBars).decode


def _settled_path(layout: Layout, exchange: str, symbol: str) -> Path:
    return layout.state / "bars" / exchange / symbol / "settled.json"


def read_settled_bars(layout: Layout, exchange: str, symbol: str) -> SettledBars | None:
    """None where there is none, or none that can be read."""
    try:
        return _decode_settled(_settled_path(layout, exchange, symbol).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_settled_bars(layout: Layout, exchange: str, symbol: str, settled: SettledBars) -> None:
    durable.write_fleeting(_settled_path(layout, exchange, symbol), msgspec.json.encode(settled))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
