"""Who may write: locks under `state/locks`, held by open file and let go by the kernel when a process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

LockName = Literal[
    "capture", "transform", "upload", "cleanup", "alerts", "macro", "healed", "backfill", "check"
]

_LOOKS, _LOOK_SECONDS = 5, 0.02
_HOLDER_BYTES = 16


class LockHeldError(RuntimeError):
    """Another process holds the lock; the message says which, and what to do."""


@contextmanager
def hold(locks: Path, name: LockName) -> Generator[None]:
    """Hold the lock for the block; raise LockHeldError within a moment where another process has it.

    The file stays when the lock is let go: removing it would let two processes lock two files of one name.
    """
    locks.mkdir(parents=True, exist_ok=True)
    path = locks / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            _take(descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode(errors="replace").strip() or "unknown"
            raise LockHeldError(
                f"{path.parents[2]} is in use: process {holder} holds the lock '{name}'. "
                f"One {name} runs per data directory; stop that one or give this one another --data."
            ) from None
        # For whoever asks. Over what stood there, so that a full disk has room for it; without it the lock holds too.
        with suppress(OSError):
            os.pwrite(descriptor, (b"%d\n" % os.getpid()).ljust(_HOLDER_BYTES), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """Raises BlockingIOError where another has it. One that only looks (`is_held`) has it for a moment."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(locks: Path, name: LockName) -> bool:
    """Whether some process holds the lock now. It may have changed by the time you read the answer."""
    try:
        # To read is enough, so that whoever may read the lake may ask.
        descriptor = os.open(locks / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
