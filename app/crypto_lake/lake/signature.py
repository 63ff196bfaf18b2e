"""Whether files are as they were at an earlier look, told without reading them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# A change within one tick of the file system's clock leaves no trace in times: what is younger is looked at again.
_YOUNG_NS: Final = 2 * 10**9

Signature = tuple[int, ...]


def signature_of(*paths: Path) -> Signature:
    """Of each when it changed, how large it is, which it is; zeros where it is not."""
    found: list[int] = []
    for path in paths:
        try:
            seen = os.stat(path)  # noqa: PTH116  # there are many
        except FileNotFoundError:
            found += (0, 0, 0)
        else:
            found += (seen.st_mtime_ns, seen.st_size, seen.st_ino)
    return tuple(found)


def is_young(signature: Signature, taken_ns: int) -> bool:
    """Whether a change that came after it was taken may have left it as it is. `taken_ns`: real time, before that."""
    return any(abs(taken_ns - changed_ns) < _YOUNG_NS for changed_ns in signature[::3])
