"""Faults to come: each is for one step and counts how often it struck."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

STEPS = frozenset(
    {"multipart", "start", "chunk", "finalise", "query", "get", "media", "list", "bucket", "delete"}
)
KINDS = frozenset(
    {"reset_before", "reset_half", "reset_after", "stall", "stall_after", "flip_up", "flip_down"}
)


@dataclass
class Fault:
    """`kind` strikes the next `times` requests of `step` after letting `after` of them pass."""

    step: str
    kind: str
    times: int = 1
    after: int = 0
    body: bytes | None = None  # of a status, in place of the usual one
    seed: int | None = None  # which bit is flipped; None: one in the middle
    fired: int = 0
    taken: int = 0  # by how many requests; the same, but for one whose work is still to be done

    @property
    def status(self) -> int | None:
        return int(self.kind) if self.kind.isdigit() else None


@dataclass
class Faults:
    planned: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        if fault.step not in STEPS:
            raise ValueError(f"no step {fault.step!r}; there are {', '.join(sorted(STEPS))}")
        if not fault.kind.isdigit() and fault.kind not in KINDS:
            raise ValueError(f"no kind {fault.kind!r}; there are statuses and {', '.join(sorted(KINDS))}")
        with self.lock:
            self.planned.append(fault)
        return fault

    def strike(self, step: str) -> Fault | None:
        """The fault for this request, counted as fired: but for `stall_after`, which is when all of it was taken."""
        with self.lock:
            for fault in self.planned:
                if fault.step != step or fault.taken >= fault.times:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.taken += 1
                fault.fired += fault.kind != "stall_after"
                return fault
        return None


def flip(data: bytes, fault: Fault) -> bytes:
    """The same bytes with one bit flipped."""
    if not data:
        return data
    chance = random.Random(fault.seed)
    at = len(data) // 2 if fault.seed is None else chance.randrange(len(data))
    bit = 0 if fault.seed is None else chance.randrange(8)
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
