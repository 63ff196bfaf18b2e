"""Names of symbols, and why not every text is one.

A symbol becomes a folder on disk and part of an object's name in a bucket, so it is checked before it
becomes either. Binance's symbols may hold letters outside ASCII ("ensure your code is designed to handle
UTF-8", its changelog of 2025-12-15), so the rule is one of kinds of characters, not of a list.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_SYMBOL_LENGTH = 32

DEFAULT_SYMBOLS: tuple[str, ...] = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "ADAUSDT",
    "DOGEUSDT",
    "TRXUSDT",
    "DOTUSDT",
    "LINKUSDT",
    "LTCUSDT",
    "AVAXUSDT",
    "PEPEUSDT",
)


class InvalidSymbolError(ValueError):
    """A text that can't be a symbol; the message says what is wrong with it."""


def validate_symbol(name: str) -> str:
    """Return `name` if it may be a symbol, else raise InvalidSymbolError.

    A symbol is 1 to 32 letters and digits, in upper case where the script has cases.
    """
    if not name:
        raise InvalidSymbolError("a symbol is empty; expected a name such as BTCUSDT")
    if len(name) > MAX_SYMBOL_LENGTH:
        raise InvalidSymbolError(f"symbol {name!r} has {len(name)} characters; at most {MAX_SYMBOL_LENGTH}")
    if not name.isalnum():
        raise InvalidSymbolError(f"symbol {name!r} may hold letters and digits only, such as BTCUSDT")
    if name != name.upper():
        raise InvalidSymbolError(f"symbol {name!r} must be in upper case: {name.upper()}")
    return name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, for «did you mean …», or None where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
