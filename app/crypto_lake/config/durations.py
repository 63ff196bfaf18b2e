"""Durations as people write them: 90s, 2m, 1h30m, 7d."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")


class InvalidDurationError(ValueError):
    """A text that is no duration; the message says what one looks like."""


def parse_duration(text: str) -> float:
    """`"1h30m"` -> 5400.0 seconds. Zero is a duration; a number without its unit is not.

    A minute has 60 seconds and a day 24 hours; there are no months.
    """
    compact = text.strip().lower()
    pieces = _PIECE.findall(compact)
    if not pieces or "".join(number + unit for number, unit in pieces) != compact:
        raise InvalidDurationError(
            f"{text!r} is not a duration; expected a number and s, m, h, d or w: 90s, 7d"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in pieces)


def parse_retention(text: str) -> float | None:
    """A duration in seconds, or None for `never`: kept for good."""
    return None if text.strip().lower() == "never" else parse_duration(text)
