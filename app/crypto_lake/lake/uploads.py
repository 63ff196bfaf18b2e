"""Records of uploads: what was put into which bucket, and read back there. `state/uploads/`, one line an object.

A line is written, and fsynced, after the object was read back; nothing may be deleted here without one. A line that a
crash cut off is passed over, and a record that is lost is made again by the next upload, which finds the object there.
Of several lines for one object of one bucket the last one holds.

Records of raw, bars and their manifests are by symbol and day, those of ledgers in one file a symbol. They are
appended under the lock `upload`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.records import append_lines, read_lines

LEDGER = "ledger"
"""In place of a day: where the records of a symbol's ledger are."""


class UploadRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object as it was read back. `crc32c` in base64 as Cloud Storage writes it, `sha256` in hex.

    `uploaded_ns`: by the lake's clock. `offset`: of a piece of a ledger, where it begins in the ledger. `modified_ns`: of
    a file that may be written anew, its time when it was measured; as long as that and its size stay it is the same. 0: it
    was too young for that.
    """

    url: str  # of the bucket, with its prefix
    name: str  # below the prefix
    generation: int
    bytes: int
    crc32c: str
    sha256: str
    uploaded_ns: int
    path: str  # of the local file, relative to the data directory
    offset: int = 0
    modified_ns: int = 0


_decode_record = msgspec.json.Decoder(UploadRecord).decode


def path_of(layout: Layout, exchange: str, symbol: str, day: str) -> Path:
    """`day`: a day, or LEDGER."""
    return layout.state / "uploads" / exchange / symbol / f"{day}.jsonl"


def read(layout: Layout, exchange: str, symbol: str, day: str, url: str) -> dict[str, UploadRecord]:
    """The records of one bucket by object's name, in the order in which they were first written."""
    found: dict[str, UploadRecord] = {}
    for record in read_lines(path_of(layout, exchange, symbol, day), _decode_record):
        if record.url == url:
            found[record.name] = record
    return found


def other_urls(layout: Layout, exchange: str, symbol: str, day: str, url: str) -> dict[str, str]:
    """Of objects that have a record of another bucket: name -> that bucket (the latest)."""
    records = read_lines(path_of(layout, exchange, symbol, day), _decode_record)
    return {record.name: record.url for record in records if record.url != url}


def append(layout: Layout, exchange: str, symbol: str, day: str, records: Iterable[UploadRecord]) -> None:
    """Add records; they last when this returns."""
    append_lines(layout, path_of(layout, exchange, symbol, day), records)


def read_doubts(layout: Layout, url: str) -> frozenset[str]:
    """Names of objects that the last clean-up did not find as they are recorded; the next upload puts them again."""
    try:
        doubts = _decode_doubts(_doubts_path(layout).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return frozenset()
    return frozenset(doubts.names) if doubts.url == url else frozenset()


def write_doubts(layout: Layout, url: str, names: Iterable[str]) -> None:
    """In place of those before. Not fsynced: the next clean-up finds them again."""
    doubts = _Doubts(url, sorted(names))
    if read_doubts(layout, url) != frozenset(doubts.names):
        durable.write_fleeting(_doubts_path(layout), msgspec.json.encode(doubts))


class _Doubts(msgspec.Struct, frozen=True):
    url: str
    names: list[str]


_decode_doubts = msgspec.json.Decoder(_Doubts).decode


def _doubts_path(layout: Layout) -> Path:
    return layout.state / "doubts.json"


def read_settled(layout: Layout, exchange: str, symbol: str, url: str, collector: str) -> dict[str, str]:
    """Of days whose verdicts and reports are recorded as they are: what `upload_settled` knows them by. None where it can't
    be read, or is of another bucket or collector: then each day is looked at.
    """
    try:
        settled = _decode_settled(_settled_path(layout, exchange, symbol).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return settled.days if (settled.url, settled.collector) == (url, collector) else {}


def write_settled(
    layout: Layout, exchange: str, symbol: str, url: str, collector: str, days: dict[str, str]
) -> None:
    """In place of those before. Not fsynced: what a crash takes is found again."""
    data = msgspec.json.encode(_Settled(url, collector, days))
    durable.write_fleeting(_settled_path(layout, exchange, symbol), data)


class _Settled(msgspec.Struct, frozen=True):
    url: str
    collector: str
    days: dict[str, str]


_decode_settled = msgspec.json.Decoder(_Settled).decode


def _settled_path(layout: Layout, exchange: str, symbol: str) -> Path:
    return layout.state / "settled" / exchange / f"{symbol}.json"


def read_kept(layout: Layout, exchange: str, symbol: str, url: str, collector: str) -> dict[str, str]:
    """Of days of bars that are kept for good: what `cleanup_kept` knows them by. None as `read_settled`."""
    try:
        kept = _decode_settled(_kept_path(layout, exchange, symbol).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return kept.days if (kept.url, kept.collector) == (url, collector) else {}


def write_kept(
    layout: Layout, exchange: str, symbol: str, url: str, collector: str, days: dict[str, str]
) -> None:
    """In place of those before. Not fsynced: what a crash takes is found again."""
    data = msgspec.json.encode(_Settled(url, collector, days))
    durable.write_fleeting(_kept_path(layout, exchange, symbol), data)


def _kept_path(layout: Layout, exchange: str, symbol: str) -> Path:
    return layout.state / "kept" / exchange / f"{symbol}.json"
