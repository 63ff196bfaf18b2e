"""Parts: the files that the collector appends to, and what becomes of one that a crash left open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from crypto_lake.lake import durable
from crypto_lake.lake.frames import FrameCompressor, whole_prefix_bytes
from crypto_lake.lake.layout import OPEN_SUFFIX, Layout, parse_raw_name
from crypto_lake.lake.manifests import parts_named
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour


def next_part_number(layout: Layout, exchange: str, symbol: str, day: str) -> int:
    """1 + the greatest number ever used in that day: on disk, open ones too, and in the day's manifests.

    Without the manifests a number would come again after sealing has removed its part, and two parts would
    bear one name.
    """

    on_disk = [f.number for f in layout.raw_files(exchange, symbol, day) if f.kind == "part"]
    return 1 + max([0, *on_disk, *parts_named(layout, exchange, symbol, day)])


class PartWriter:
    """One open part. Each `append` is a whole frame; it is acknowledged once `sync` has returned.

    An OSError from `append` or `sync` leaves the part unusable: what reached the disk is then unknown, and only
    salvage may say. It is not tried again (an fsync that failed and is repeated may claim success falsely).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open_path = path.with_name(path.name + OPEN_SUFFIX)
        durable.make_directory(path.parent)
        self._descriptor = os.open(
            self.open_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self._name_synced = False
        self.bytes_written = 0

    def append(self, lines: bytes | bytearray, compressor: FrameCompressor) -> int:
        """Write the lines as one frame; return its size in bytes."""
        frame = memoryview(compressor.frame(lines))
        size = len(frame)
        while frame:
            frame = frame[os.write(self._descriptor, frame) :]
        self.bytes_written += size
        return size

    def sync(self) -> None:
        """Make everything appended last; the first time, the file's name too."""
        os.fdatasync(self._descriptor)
        if not self._name_synced:
            durable.sync_directory(self.path.parent)
            self._name_synced = True

    def close(self) -> None:
        """Sync and give the part its final name. An empty part vanishes."""
        if self.bytes_written == 0:
            os.close(self._descriptor)
            self.open_path.unlink(missing_ok=True)
            return
        self.sync()
        os.close(self._descriptor)
        durable.rename(self.open_path, self.path)

    def abandon(self) -> None:
        """Close without a promise; salvage will look at it."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of an `.open` part: closed with `kept_bytes`, `cut_bytes` put aside."""

    path: Path
    kept_bytes: int
    cut_bytes: int


def salvage(layout: Layout, quarantine: Quarantine) -> list[Salvaged]:
    """Close every part that a crash left open, cut after its last frame that decodes.

    Only for the holder of the lock `capture` (or of `transform` when no capture runs): a living part must not be
    touched. Interrupted anywhere, it may be run again. The cut bytes are kept before they are cut.
    """
    return [salvage_part(layout, path, quarantine) for path in sorted(layout.open_parts())]


def salvage_part(layout: Layout, open_path: Path, quarantine: Quarantine) -> Salvaged:
    final = open_path.with_name(open_path.name.removesuffix(OPEN_SUFFIX))
    size = open_path.stat().st_size
    kept = whole_prefix_bytes(open_path)
    if kept < size:
        with open_path.open("rb") as file:
            file.seek(kept)
            cut = file.read()
        name = "-".join(final.relative_to(layout.root).parts[-4:])
        quarantine.add(
            f"{name}.cut", cut, "cut after the last whole frame", str(final.relative_to(layout.root))
        )
        with open_path.open("r+b") as file:
            file.truncate(kept)
            os.fsync(file.fileno())
    if kept == 0:
        open_path.unlink()
        durable.sync_directory(open_path.parent)
    else:
        with open_path.open("rb") as file:
            os.fsync(file.fileno())
        durable.rename(open_path, final)
    return Salvaged(final, kept, size - kept)


def hour_of_part(path: Path) -> Hour | None:
    """The hour in a part's path, or None where the path is no part's."""
    parsed = parse_raw_name(path.parent.name, path)
    return parsed.hour if parsed else None
