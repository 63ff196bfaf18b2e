"""Who may write: locks under `state/locks`, held by open file and let go by the kernel when a process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

LockName = Literal["capture", "transform", "upload", "cleanup"]


class LockHeldError(RuntimeError):
    """Another process holds the lock; the message says which, and what to do."""


@contextmanager
def hold(locks: Path, name: LockName) -> Generator[None]:
    """Hold the lock for the block; raise LockHeldError at once where another process has it.

    The file stays when the lock is let go: removing it would let two processes lock two files of one name.
    """
    locks.mkdir(parents=True, exist_ok=True)
    path = locks / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            raise LockHeldError(
                f"{path.parents[2]} is in use: process {holder} holds the lock '{name}'. "
                f"One {name} runs per data directory; stop that one or give this one another --data."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(locks: Path, name: LockName) -> bool:
    """Whether some process holds the lock now. It may have changed by the time you read the answer."""
    try:
        descriptor = os.open(locks / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
