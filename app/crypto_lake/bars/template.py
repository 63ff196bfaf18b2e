"""The exact shape of one symbol's raw lines, as the collector writes them around what the exchange sends."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake.model.market import Stream


@dataclass(frozen=True, slots=True)
class Template:
    """`…_stream`: the streams' names as messages bear them (`btcusdt@trade`). Of klines no bar is made: they are skipped."""

    symbol: str
    trade_stream: str
    quote_stream: str
    kline_stream: str


def streams_of(symbol: str) -> tuple[str, str, str]:
    """Names of the symbol's streams, as its messages bear them, in the order of Template."""
    lower = symbol.lower()
    return (
        f"{lower}@{Stream.TRADE.value}",
        f"{lower}@{Stream.BOOK_TICKER.value}",
        f"{lower}@{Stream.KLINE.value}",
    )
