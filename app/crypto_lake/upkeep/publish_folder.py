"""The folder in which days are put together, for as long as its publisher lives.

A publisher that is killed leaves its folder behind; the next one there takes it away. Whose publisher is alive is told
by a lock on a file in the folder, which the kernel lets go of with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "publish-"
_MARK: Final = ".publisher"


@contextmanager
def temporary(parent: Path | None) -> Generator[Path]:
    """A folder of this process alone in `parent` (None: where the system has temporary files), gone after the block."""
    if parent is None:
        parent = Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = -1
    try:
        # Locked before it has the name by which it is looked for.
        descriptor = os.open(
            folder / f"{_MARK}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        (folder / f"{_MARK}.new").rename(folder / _MARK)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _remove_if_left(folder: Path) -> None:
    """Only what such a publisher of this user made, and none holds any more. Nothing is raised: it is no more than room."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return
        descriptor = os.open(folder / _MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its publisher is alive
        return
    finally:
        os.close(descriptor)
