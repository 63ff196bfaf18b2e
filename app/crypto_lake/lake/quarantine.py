"""What could not be used, put aside with the reason: never skipped in silence, never in the way.

`quarantine/<name>` holds the bytes and `quarantine/index.jsonl` a line for each: when, from where, why, how
many bytes. A flood is cut: past the limit the bytes are counted and no longer kept.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from crypto_lake.lake import durable

DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True):
    """A line of `quarantine/index.jsonl`. `kept` false: the limit was reached and only the count is left."""

    recorded_ns: int
    origin: str
    reason: str
    bytes: int
    file: str | None
    kept: bool


@dataclass
class Quarantine:
    """Appends to a quarantine folder. Not fsynced, but for `add_lasting`: it is evidence, not the lake."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    counts: dict[str, int] = field(default_factory=dict[str, int])
    _used_bytes: int | None = None

    def add(self, name: str, data: bytes, reason: str, origin: str, recorded_ns: int | None = None) -> None:
        """Append `data` and a newline to `quarantine/<name>`; count it under `reason`."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._used_bytes is None:
            self._used_bytes = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
        keep = self._used_bytes + len(data) <= self.limit_bytes
        if keep:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as file:
                file.write(data + b"\n")
            self._used_bytes += len(data) + 1
        entry = Entry(recorded_ns or time.time_ns(), origin, reason, len(data), name if keep else None, keep)
        with (self.folder / "index.jsonl").open("ab") as index:
            index.write(msgspec.json.encode(entry) + b"\n")

    def add_lasting(self, name: str, data: bytes, reason: str, origin: str) -> None:
        """Put aside bytes whose file is deleted next: fsynced, whatever the limit.

        Interrupted anywhere it may be called again: the same name with the same bytes is kept and counted once.
        """
        target, index = self.folder / name, self.folder / "index.jsonl"
        if not target.exists() or target.read_bytes() != data:
            # Under its own name at once: cut off here, the next call completes it, and no temporary file is left.
            durable.make_directory(self.folder)
            with target.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            durable.sync_directory(self.folder)
        entry = Entry(time.time_ns(), origin, reason, len(data), name, True)
        noted = index.read_bytes() if index.exists() else b""
        if b'"file":%s,' % msgspec.json.encode(name) in noted:
            return
        self.counts[reason] = self.counts.get(reason, 0) + 1
        # A line that a crash cut ends where the next begins, so that this one can be read.
        torn = bool(noted) and not noted.endswith(b"\n")
        with index.open("ab") as file:
            file.write(b"\n" * torn + msgspec.json.encode(entry) + b"\n")
