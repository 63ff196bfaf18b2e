"""What the store of a folder knows of an object beside its bytes: a record, and the one to come while it is changed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from crypto_lake.store.local_files import make_folder, sync_file, sync_folder


class Record(msgspec.Struct, frozen=True):
    """What is known of an object beside its bytes. `changed_ns`: the time of the file with these; 0 where nobody looked."""

    name: str
    bytes: int
    crc32c: str
    generation: int
    metadata: dict[str, str]
    changed_ns: int = 0


_decode_record = msgspec.json.Decoder(Record).decode


class Records:
    """By the object's key, for the holder of its lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> Record | None:
        """None where there is none that can be read."""
        return _read(self._record(key))

    def coming(self, key: str) -> Record | None:
        """The one that takes effect with the bytes it tells of."""
        return _read(self._coming(key))

    def write(self, key: str, record: Record) -> None:
        _write(self._record(key), record)

    def announce(self, key: str, record: Record) -> None:
        _write(self._coming(key), record)

    def take_effect(self, key: str) -> None:
        """Of the record to come."""
        self._coming(key).replace(self._record(key))
        sync_folder(self._record(key).parent)

    def drop_coming(self, key: str) -> None:
        self._coming(key).unlink(missing_ok=True)

    def next_generation(self, key: str) -> int:
        """Greater than every one this name had, also where the clock went back."""
        record = self.read(key)
        return max(time.time_ns() // 1000, 0 if record is None else record.generation + 1)

    def _record(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _coming(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.coming"


def _read(path: Path) -> Record | None:
    try:
        return _decode_record(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, record: Record) -> None:
    make_folder(path.parent)
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(record))
        sync_file(file)
    temporary.replace(path)
    sync_folder(path.parent)
