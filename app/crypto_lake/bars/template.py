"""The exact shape of one symbol's raw lines, as the collector writes them around what the exchange sends."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake.model.market import Stream


@dataclass(frozen=True, slots=True)
class Template:
    """`trade_stream` and `quote_stream`: the streams' names as messages bear them (`btcusdt@trade`)."""

    symbol: str
    trade_stream: str
    quote_stream: str


def streams_of(symbol: str) -> tuple[str, str]:
    """Names of the symbol's two streams, as its messages bear them."""
    lower = symbol.lower()
    return f"{lower}@{Stream.TRADE.value}", f"{lower}@{Stream.BOOK_TICKER.value}"
