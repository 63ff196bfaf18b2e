"""The resumable upload of Cloud Storage: chunks to a session, which knows how far it got.

After every failure the session is asked what it holds, and the upload goes on from there: nothing is sent twice that
the server has, and a chunk whose answer was lost is not taken for a failed one. The client library's own loop is not
used because it sends a failed chunk again unasked, and deletes the object, whatever its generation, when checksums
differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

_RANGE = re.compile(r"bytes=0-(\d+)")
GRAIN_BYTES = 256 * 2**10
"""Every chunk but the last is a multiple of this."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the session answered: HTTP status, the Range header where there is one, and the body."""

    status: int
    range: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The object is made; `body` is its resource as JSON."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Holds:
    """The session holds the first `offset` bytes and waits for more."""

    offset: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The session is no more (it expired, or was dropped): a new one is to be started."""


Progressed = Finished | Holds | Gone


def chunk_size(chunk_bytes: int, limit_bytes_per_second: float | None) -> int:
    """Bytes of one chunk: as configured, and with a limit at most about a second's worth, so that it flows evenly."""
    wanted = chunk_bytes if limit_bytes_per_second is None else min(chunk_bytes, int(limit_bytes_per_second))
    return max(GRAIN_BYTES, wanted // GRAIN_BYTES * GRAIN_BYTES)


def understand(reply: Reply, size_bytes: int) -> Progressed | None:
    """What an answer to a chunk or to a question says; None where it is an error to be looked at."""
    if reply.status in (200, 201):
        return Finished(reply.body)
    if reply.status == 308:
        if reply.range is None:
            return Holds(0)
        found = _RANGE.fullmatch(reply.range.strip())
        if found and (offset := int(found[1]) + 1) <= size_bytes:
            return Holds(offset)
        return None
    if reply.status in (404, 410):
        return Gone()
    return None


def content_range(offset: int, length: int, size_bytes: int) -> str:
    return f"bytes {offset}-{offset + length - 1}/{size_bytes}"


def question(size_bytes: int) -> str:
    """The Content-Range that asks how far the session got."""
    return f"bytes */{size_bytes}"


class Garbled(Exception):  # noqa: N818
    """An answer that is no HTTP of the protocol: a bit flipped on the way, or something else answered."""


class Shrunk(Exception):  # noqa: N818
    """The local file ended before the size that was declared."""


def send(
    file: IO[bytes],
    size_bytes: int,
    *,
    request: Callable[[str, bytes], Reply],
    chunk_bytes: int,
    take: Callable[[int], None],
    pause: Callable[[Exception], None],
    progressed: Callable[[int], None],
    failure: Callable[[Reply], Exception],
    passing: tuple[type[Exception], ...],
) -> Finished | Gone:
    """Send a file to a session until it is finished or gone.

    `take(bytes)` waits for the bandwidth; `request(content_range, body)` sends one PUT; `failure(reply)` makes the error of an answer out of the protocol.
    `pause(error)` waits after an error of the kinds in `passing`, or raises; other errors end the upload.
    `progressed(offset)` is told what the session holds.
    """
    held = Holds(0)
    asked = False  # whether the next request asks how far the session got
    while True:
        try:
            if asked:
                reply = request(question(size_bytes), b"")
            else:
                file.seek(held.offset)
                body = file.read(chunk_bytes)
                if len(body) != min(chunk_bytes, size_bytes - held.offset):
                    raise Shrunk(f"{len(body)} bytes could be read at {held.offset} of {size_bytes}")
                take(len(body))
                reply = request(content_range(held.offset, len(body), size_bytes), body)
            state = understand(reply, size_bytes)
            if state is None:
                raise failure(reply)
            if isinstance(state, Holds) and not asked and state.offset <= held.offset:
                raise Garbled(
                    f"the session holds {state.offset} bytes after a chunk from {held.offset} was sent"
                )
            if isinstance(state, Holds) and state.offset == size_bytes:
                raise Garbled("the session holds all bytes and is not finished")
        except passing as error:
            pause(error)
            asked = True
            continue
        if not isinstance(state, Holds):
            return state
        if state.offset > held.offset:
            progressed(state.offset)
        held, asked = state, False
