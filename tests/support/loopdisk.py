"""Small file systems of a test's own: one in memory, or one on a loop device whose power can be cut. Root only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"


@contextmanager
def memory_disk(mount: Path, size_mb: int, *, inodes: int = 0) -> Iterator[Path]:
    """A tmpfs of this size. `inodes` 0: as many as it likes."""
    need_root()
    mount.mkdir(parents=True, exist_ok=True)
    options = f"size={size_mb}m" + (f",nr_inodes={inodes}" if inodes else "")
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)], capture_output=True, text=True
    )
    if tried.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {tried.stderr.strip()}")
    try:
        yield mount
    finally:
        _unmount(mount)


@dataclass
class LoopDisk:
    """`kind` is ext4 or xfs."""

    kind: str
    image: Path
    mount: Path

    def cut_power(self) -> None:
        """From now on nothing reaches the disk; what was not synced by now is gone after `again`."""
        _run("xfs_io", "-x", "-c", "shutdown", str(self.mount))

    def again(self) -> None:
        """Unmount and mount, as after a boot: the journal is replayed."""
        _unmount(self.mount)
        _run("mount", "-o", "loop", str(self.image), str(self.mount))


@contextmanager
def loop_disk(folder: Path, mount: Path, kind: str, size_mb: int) -> Iterator[LoopDisk]:
    """A file system in a file. Skips, with the reason, where a tool, the file system or a loop device is missing."""
    need_root()
    for tool in (f"mkfs.{kind}", "xfs_io", "losetup"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(size_mb * 1024 * 1024)
    mount.mkdir(parents=True, exist_ok=True)
    quiet = {"ext4": ["-q", "-F", "-m", "0"], "xfs": ["-q", "-f"]}[kind]
    _run(f"mkfs.{kind}", *quiet, str(image))
    tried = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no loop device with {kind} can be mounted here: {tried.stderr.strip()}")
    try:
        yield LoopDisk(kind, image, mount)
    finally:
        _unmount(mount)
        image.unlink()


def fill(mount: Path, *, leave_bytes: int = 0) -> list[Path]:
    """Take all room of a file system but so much; returns the files to remove to give it back.

    Where room appears meanwhile a collector has met the end of it first, and gave up its reserve: that is left to it.
    """
    filler = mount / "filler"
    with filler.open("wb", buffering=0) as file:
        size = most = 1024 * 1024
        free = None
        while size >= 512:
            space = os.statvfs(mount)
            before, free = free, space.f_bavail * space.f_frsize
            if before is not None and free > before + most:
                break
            if free - leave_bytes < size and leave_bytes:
                size //= 2
                continue
            try:
                file.write(os.urandom(size))
            except OSError:
                size //= 2
    return [filler]


def fill_inodes(mount: Path) -> list[Path]:
    """Take all inodes."""
    folder = mount / "fillers"
    folder.mkdir()
    made: list[Path] = []
    with suppress(OSError):
        while True:
            path = folder / str(len(made))
            path.touch(exist_ok=False)
            made.append(path)
    return made


def _unmount(mount: Path) -> None:
    done = subprocess.run(["umount", str(mount)], capture_output=True, text=True)
    if done.returncode:  # a process of a failed test is still there
        _run("umount", "-l", str(mount))
