"""Parts: the files that the collector appends to, and what becomes of one that a crash left open."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crypto_lake.lake import durable, locks
from crypto_lake.lake.frames import FrameCompressor, end_of_last_frame
from crypto_lake.lake.layout import OPEN_SUFFIX, Layout, parse_raw_name
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import parts_named
from crypto_lake.model.clock import Hour


def next_part_number(layout: Layout, exchange: str, symbol: str, day: str) -> int:
    """1 + the greatest number ever used in that day: on disk, open ones too, and in the day's manifests.

    Without the manifests a number would come again after sealing has removed its part, and two parts would
    bear one name. The disk is looked at first: a part that is sealed meanwhile is in a manifest before it goes.
    """
    on_disk = [f.number for f in layout.raw_files(exchange, symbol, day) if f.kind == "part"]
    return 1 + max([0, *on_disk, *parts_named(layout, exchange, symbol, day)])


class PartWriter:
    """One open part. Each `append` is a whole frame; it is acknowledged once `sync` has returned.

    An OSError from `append` leaves the part as it was before: what was written of the frame is cut off again.
    An OSError from `sync` leaves it `broken`: what reached the disk beyond `synced_bytes` is unknown and stays so (an
    fsync that failed and is repeated may claim success falsely). A broken part takes nothing more; `close` cuts it
    back to what is proven, and what was appended since must be written again, into another part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open_path = path.with_name(path.name + OPEN_SUFFIX)
        durable.make_directory(path.parent)
        self._descriptor: int | None = os.open(
            self.open_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self._name_synced = False
        self._renamed = False
        self.bytes_written = 0
        self.synced_bytes = 0
        self.broken = False

    def append(self, lines: bytes | bytearray, compressor: FrameCompressor) -> int:
        """Write the lines as one frame; return its size in bytes."""
        assert self._descriptor is not None
        frame = memoryview(compressor.frame(lines))
        size = len(frame)
        try:
            while frame:
                frame = frame[os.write(self._descriptor, frame) :]
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.bytes_written)
            except OSError:
                self.broken = True
            raise
        self.bytes_written += size
        return size

    def sync(self) -> None:
        """Make everything appended last; the first time, the file's name too."""
        assert self._descriptor is not None
        try:
            os.fdatasync(self._descriptor)
            if not self._name_synced:
                durable.sync_directory(self.path.parent)
                self._name_synced = True
        except OSError:
            self.broken = True
            raise
        self.synced_bytes = self.bytes_written

    def close(self) -> None:
        """Sync and give the part its final name. An empty part vanishes, a broken one is cut back first.

        After an OSError it may be called again, until it returns.
        """
        if self._descriptor is not None:
            if self.broken:
                if self.synced_bytes:
                    os.ftruncate(self._descriptor, self.synced_bytes)
                    os.fsync(self._descriptor)
                self.bytes_written = self.synced_bytes
            elif self.bytes_written > 0:
                self.sync()
            self.abandon()
        if self.bytes_written == 0:
            self.open_path.unlink(missing_ok=True)
            return
        if not self._renamed:
            self.open_path.rename(self.path)
            self._renamed = True
        durable.sync_directory(self.path.parent)

    def abandon(self) -> None:
        """Close without a promise; salvage will look at it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of an `.open` part: closed with `kept_bytes`, `cut_bytes` put aside.

    `problem`: what could not be done. Where the part could not be closed `left` is true: it is as it was.
    """

    path: Path
    kept_bytes: int
    cut_bytes: int
    problem: str = ""
    left: bool = False


def salvage(layout: Layout, quarantine: Quarantine) -> list[Salvaged]:
    """Close every part that a crash left open, cut after its last frame that decodes.

    Only for the holder of the lock `capture` (or of `transform` when no capture runs): a living part must not be
    touched. Interrupted anywhere, it may be run again. The cut bytes are kept before they are cut. One that can't be
    salvaged does not keep the others from it, nor a collector from starting.
    """
    return [_salvaged(layout, path, quarantine) for path in sorted(layout.open_parts())]


def salvage_where_idle(layout: Layout, quarantine: Quarantine) -> list[Salvaged]:
    """The same for anybody else: nothing is done where a collector runs."""
    if next(layout.open_parts(), None) is None:
        return []
    # Its lock is taken for as long as it lasts, so that none starts meanwhile and finds its new part salvaged.
    with suppress(locks.LockHeldError), locks.hold(layout.locks, "capture"):
        return salvage(layout, quarantine)
    return []


def _salvaged(layout: Layout, open_path: Path, quarantine: Quarantine) -> Salvaged:
    try:
        return salvage_part(layout, open_path, quarantine)
    except OSError as error:
        return Salvaged(open_path, 0, 0, f"it could not be salvaged and is left as it is: {error}", left=True)


def salvage_part(layout: Layout, open_path: Path, quarantine: Quarantine) -> Salvaged:
    """Close one. Raises OSError where it can't be read, cut or renamed."""
    parsed = parse_raw_name(open_path.parent.name, open_path)
    if parsed is None or not open_path.is_file():
        return Salvaged(open_path, 0, 0, "it is no part of ours, and left as it is", left=True)
    final = open_path.with_name(open_path.name.removesuffix(OPEN_SUFFIX))
    exchange, symbol = open_path.parts[-4:-2]
    if final.exists():  # nobody's file is overwritten
        number = next_part_number(layout, exchange, symbol, parsed.hour.day)
        final = layout.part(exchange, symbol, parsed.hour, number)
    size = open_path.stat().st_size
    kept = end_of_last_frame(open_path)
    problem = ""
    if kept < size:
        with open_path.open("rb") as file:
            file.seek(kept)
            cut = file.read()
        name = "-".join(open_path.relative_to(layout.root).parts[-4:]).removesuffix(OPEN_SUFFIX)
        origin = str(open_path.relative_to(layout.root))
        try:
            quarantine.add_lasting(f"{name}.cut", cut, "cut after the last whole frame", origin)
        except OSError as error:  # no frame of it is whole: nothing that was acknowledged is in it
            problem = f"the {size - kept} bytes cut off its end could not be kept: {error}"
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
    return Salvaged(final, kept, size - kept, problem)


def hour_of_part(path: Path) -> Hour | None:
    """The hour in a part's path, or None where the path is no part's."""
    parsed = parse_raw_name(path.parent.name, path)
    return parsed.hour if parsed else None
