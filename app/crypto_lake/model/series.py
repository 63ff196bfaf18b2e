"""Names of macro series, as their provider writes them: ^GSPC, GC=F, DX-Y.NYB.

A name holds what no file name should; `lake.macro_files` makes the folder's name of it.
"""

from __future__ import annotations

import re
from typing import Final

DEFAULT_SERIES: Final = ("^GSPC", "^VIX", "DX-Y.NYB", "GC=F", "CL=F", "^TNX")
"""S&P 500, its volatility, the dollar's index, gold, crude oil, the yield of ten-year Treasuries."""

MAX_SERIES_LENGTH: Final = 24
_NAME = re.compile(r"[A-Z0-9^][A-Z0-9^=.&-]*")


class InvalidSeriesError(ValueError):
    """A text that can't be a series; the message says what is wrong with it."""


def validate_series(name: str) -> str:
    """Return `name` if it may be a series, else raise InvalidSeriesError.

    A series is 1 to 24 of A to Z, 0 to 9 and ^ = . & -, and begins with one of the first two kinds or ^.
    """
    if not name:
        raise InvalidSeriesError("a series is empty; expected a name such as ^GSPC")
    if len(name) > MAX_SERIES_LENGTH:
        raise InvalidSeriesError(f"series {name!r} has {len(name)} characters; at most {MAX_SERIES_LENGTH}")
    if name != name.upper():
        raise InvalidSeriesError(f"series {name!r} must be in upper case: {name.upper()}")
    if not _NAME.fullmatch(name):
        raise InvalidSeriesError(
            f"series {name!r} may hold A to Z, 0 to 9 and ^ = . & - only, such as ^GSPC or GC=F"
        )
    return name
