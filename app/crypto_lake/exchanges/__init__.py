"""Exchanges, described: URLs, limits, subscribe messages, and how a message names its stream, id and times.

No sockets here. An exchange is a value of `Exchange`; what it can't do is said in its fields.
"""

from __future__ import annotations

from crypto_lake.exchanges.base import (
    Exchange,
    Head,
    Limits,
    Past,
    PastCall,
    PastHost,
    PastRow,
    UnassignableMessageError,
)
from crypto_lake.exchanges.binance import BINANCE

EXCHANGES: dict[str, Exchange] = {BINANCE.name: BINANCE}

__all__ = [
    "BINANCE",
    "EXCHANGES",
    "Exchange",
    "Head",
    "Limits",
    "Past",
    "PastCall",
    "PastHost",
    "PastRow",
    "UnassignableMessageError",
]
