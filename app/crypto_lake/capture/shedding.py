"""What is not taken any more while the disk takes nothing: decided per symbol, pure.

Connections are kept and go on being read, for a connection that is not read is soon closed by the exchange, and what
came meanwhile would not even be known. So messages are counted and let go, the newest first; their trades are a gap
by id.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    """Bytes received and not yet safe: of all symbols, and how many may wait; `symbols` share the room."""

    total_bytes: int
    limit_bytes: int
    symbols: int


def sheds(queue: Queue, own_bytes: int, *, shedding: bool) -> bool:
    """Whether messages of a symbol with so many bytes in the queue are let go.

    Where all are stuck, all of the room is used. One that alone can't be written may fill half of it: the others keep
    their share. A symbol that sheds goes on doing so until its backlog has clearly gone, so that a gap is one gap.
    """
    share = queue.limit_bytes // max(queue.symbols, 1)
    if queue.total_bytes > queue.limit_bytes:
        return True
    if shedding:
        return queue.total_bytes > queue.limit_bytes // 4 and own_bytes > share // 2
    return queue.total_bytes > queue.limit_bytes // 2 and own_bytes > share
