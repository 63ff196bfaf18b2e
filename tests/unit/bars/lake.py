"""Small lakes: lines as the exchange writes them, in parts as the collector leaves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from crypto_lake.lake import control, envelope
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8

SYMBOL = "BTCUSDT"


def trade_line(
    id_: int,
    time_us: int,
    price: int,
    size: int,
    maker: bool,
    received_ns: int,
    connection: str = "c-1",
    *,
    symbol: str = SYMBOL,
    microseconds: bool = False,
) -> bytes:
    time = time_us if microseconds else time_us // 1000
    message = (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time},"s":"{symbol}","t":{id_},'
        f'"p":"{format_e8(price)}","q":"{format_e8(size)}","T":{time},"m":{"true" if maker else "false"},"M":true}}}}'
    )
    return envelope.encode(received_ns, connection, message.encode())


def quote_line(
    received_ns: int,
    u: int,
    connection: str,
    bid: int,
    bid_size: int,
    ask: int,
    ask_size: int,
    symbol: str = SYMBOL,
) -> bytes:
    message = (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{u},"s":"{symbol}","b":"{format_e8(bid)}",'
        f'"B":"{format_e8(bid_size)}","a":"{format_e8(ask)}","A":"{format_e8(ask_size)}"}}}}'
    )
    return envelope.encode(received_ns, connection, message.encode())


def rest_line(id_: int, time_us: int, price: int, size: int, maker: bool, received_ns: int) -> bytes:
    message = (
        f'{{"id":{id_},"price":"{format_e8(price)}","qty":"{format_e8(size)}",'
        f'"quoteQty":"{format_e8(price * size // 10**8)}","time":{time_us // 1000},'
        f'"isBuyerMaker":{"true" if maker else "false"},"isBestMatch":true}}'
    )
    return envelope.encode(received_ns, "rest-1", message.encode(), "historicalTrades")


def write_part(
    layout: Layout, hour: Hour, number: int, lines: Sequence[bytes], *, frames: int = 1, symbol: str = SYMBOL
) -> Path:
    compressor = FrameCompressor()
    writer = PartWriter(layout.part("binance", symbol, hour, number))
    step = max(1, -(-len(lines) // frames))
    for at in range(0, len(lines), step):
        writer.append(b"".join(lines[at : at + step]), compressor)
    writer.close()
    return writer.path


def write_control(layout: Layout, events: Iterable[tuple[int, str, Any]]) -> None:
    by_hour: dict[Hour, list[bytes]] = {}
    for received_ns, connection, event in events:
        line = envelope.encode(received_ns, connection, control.encode_event(event))
        by_hour.setdefault(Hour.of_ns(received_ns), []).append(line)
    for number, (hour, lines) in enumerate(sorted(by_hour.items()), start=1):
        write_part(layout, hour, number, lines, symbol=CONTROL)


def bars_files(layout: Layout) -> dict[str, bytes]:
    root = layout.root / "parquet"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.parquet"))}


def rows_of(layout: Layout, symbol: str = SYMBOL) -> dict[int, dict[str, Any]]:
    """Every bar by its second, prices and sizes as hundred-millionths."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((layout.root / "parquet" / "binance" / symbol).rglob("*.parquet")):
        for row in pl.read_parquet(path).iter_rows(named=True):
            second = int(row.pop("window_start").timestamp())
            assert second not in found
            assert (row.pop("exchange"), row.pop("symbol")) == ("binance", symbol)
            found[second] = {k: int(v.scaleb(8)) if isinstance(v, Decimal) else v for k, v in row.items()}
    return found
