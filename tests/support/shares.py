"""Long enumerations: a fixed share of each always runs, the rest with `make faults`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest


def share(cases: Sequence[Any], always: int, *, seed: int = 1) -> list[Any]:
    """Every case, all but so many of them, chosen by the seed, with the marker `faults`."""
    chosen = set(random.Random(seed).sample(range(len(cases)), min(always, len(cases))))
    made: list[Any] = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        made.append(pytest.param(*values, marks=() if number in chosen else pytest.mark.faults))
    return made
