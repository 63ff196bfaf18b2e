"""What goes from the event loop to the writer's thread: one cut of everything received so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto_lake.completeness.entries import Outcome, Quiet
from crypto_lake.completeness.fold_state import Run
from crypto_lake.lake import control
from crypto_lake.model.clock import Hour

# Events that concern the process and no connection bear this name in the envelope.
PROCESS = "collector"


@dataclass(slots=True)
class Item:
    """Lines of one symbol (or of `_control`), in the order of their receipt, and the trades in them.

    The writer keeps the lines until they are fsynced: after an error they are written again.
    """

    symbol: str
    lines: bytes | bytearray
    runs: list[Run]
    oldest_monotonic: float
    hour: Hour
    cut_ns: int
    durable: bool = False


@dataclass(slots=True)
class Rejected:
    """A message that may not become a line."""

    data: bytes
    reason: str
    connection: str
    received_ns: int


@dataclass(slots=True)
class Batch:
    """All items were received within `hour`.

    `cut_ns`: when it was cut. `whole`: everything received before then is in this batch or an earlier one; not so
    where only one symbol's full buffer was sent. `sync`: fsync at once when it is written. `settled`: what healing did,
    by symbol; what its lines rest on is in a file already, or among the control records of this batch.
    """

    hour: Hour
    items: list[Item]
    cut_ns: int
    whole: bool
    sync: bool = False
    events: list[tuple[int, str, control.AnyEvent]] = field(
        default_factory=list[tuple[int, str, control.AnyEvent]]
    )
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    settled: list[tuple[str, Outcome | Quiet]] = field(default_factory=list[tuple[str, Outcome | Quiet]])
