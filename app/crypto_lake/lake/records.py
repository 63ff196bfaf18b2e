"""Files of records: a JSON document a line, only ever appended to, fsynced.

A line that a crash cut off is passed over by readers; the next one begins on a line of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from crypto_lake.lake import durable, reserve
from crypto_lake.lake.layout import Layout

Record = TypeVar("Record", bound=msgspec.Struct)


def read_lines(path: Path, decode: Callable[[bytes], Record]) -> list[Record]:
    """The lines that can be read; none where there is no file.

    decode: of a Decoder that was made when its module was imported. msgspec looks at a type when it first meets it, and
    where two threads make it do so at once the process dies.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found: list[Record] = []
    for line in data.split(b"\n"):
        if line:
            try:
                found.append(decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
    return found


def append_lines(layout: Layout, path: Path, lines: Iterable[msgspec.Struct]) -> None:
    """Add lines; they last when this returns. On a full disk the reserve is given up for it: see `reserve`."""
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    if not data:
        return
    try:
        _append(path, data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not reserve.give_up(layout):
            raise
        _append(path, data)


def _append(path: Path, data: bytes) -> None:
    durable.make_directory(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a crash cut ends where the next begins, so that this one can be read.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        view = memoryview(b"\n" * torn + data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Also where the file was there: whoever made it may have been cut off before this.
    durable.sync_directory(path.parent)
