"""The steps to which a status rounds its figures, and how they read. Pure.

A figure goes up to the next step. It leaves a step only when it is a tenth beyond it, so that one that wavers about a
limit causes no writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400
LAG_SECONDS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, _HOUR, 3 * _HOUR, 12 * _HOUR, _DAY)
BYTES: Final = (0, *(digit * 10**power for power in range(6, 16) for digit in (1, 2, 5)))
DISK_FULL_SECONDS: Final = (
    *(hours * _HOUR for hours in (1, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 3, 5, 7, 14, 30)),
)
DISK_PERCENT: Final = tuple(range(0, 101, 5))
_MARGIN: Final = 0.1


def up(value: float, steps: Sequence[int], previous: int | None = None) -> int:
    """The first step that is not below the value; beyond the last the last. `previous` holds within its margin."""
    if previous is not None and previous in steps:
        at = steps.index(previous)
        below = steps[at - 1] if at else 0
        if below * (1 - _MARGIN) < value <= previous * (1 + _MARGIN) or (at == 0 and value <= previous):
            return previous
    return steps[min(bisect_left(steps, value), len(steps) - 1)]


def down(value: float, steps: Sequence[int], previous: int | None = None) -> int | None:
    """The last step that is not above the value, 0 below the first; None from the last on: it is far off."""
    if value >= steps[-1] * (1 + _MARGIN if previous is not None else 1):
        return None
    at = bisect_left(steps, value * (1 + 1e-9)) - 1
    step = steps[at] if at >= 0 else 0
    if previous is not None and previous != step:
        following = next((s for s in steps if s > previous), steps[-1])
        if previous * (1 - _MARGIN) <= value < following * (1 + _MARGIN):
            return previous
    return step


def read_seconds(seconds: int) -> str:
    """`<1s`, `5s`, `10m`, `3h`, `2d`; at most so long, as it is rounded up."""
    if seconds <= 1:
        return "<1s"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def read_bytes(count: int) -> str:
    """`0`, `5M`, `2G`: powers of ten, as the steps are."""
    for size, unit in ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M")):
        if count >= size:
            return f"{count // size}{unit}"
    return "0" if count == 0 else "<1M"
