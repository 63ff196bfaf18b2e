"""Small lakes, and what a reader sees of them: each line, read by other means than the program's own readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from crypto_lake.lake import envelope
from crypto_lake.lake.control import CONTROL, Alive, encode_event
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.parts import PartWriter
from crypto_lake.lake.raw_manifests import raw_inputs
from crypto_lake.model.clock import Hour

EXCHANGE = "binance"
DAY = "2024-08-08"


class At:
    """A clock that stands."""

    speed = 0.0

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def observe(self, exchange_ns: int) -> None:
        pass


def trade(symbol: str, id_: int, received_ns: int) -> bytes:
    time = received_ns // 10**6 - 3
    message = (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time},"s":"{symbol}","t":{id_},'
        f'"p":"61837.{id_ % 97:02d}000000","q":"0.{id_ % 89 + 10}000000","T":{time},"m":false,"M":true}}}}'
    )
    return envelope.encode(received_ns, "c-1", message.encode())


def quote(symbol: str, u: int, received_ns: int) -> bytes:
    message = (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{u},"s":"{symbol}","b":"61837.{u % 90 + 10}000000",'
        f'"B":"1.00000000","a":"61838.{u % 90 + 10}000000","A":"2.00000000"}}}}'
    )
    return envelope.encode(received_ns, "c-1", message.encode())


def kline(symbol: str, received_ns: int) -> bytes:
    """A closed one-second kline, of the second before."""
    open_ms = received_ns // 10**9 * 1000 - 1000
    price = "61837.00000000"
    message = (
        f'{{"stream":"{symbol.lower()}@kline_1s","data":{{"e":"kline","E":{open_ms + 1005},"s":"{symbol}","k":{{'
        f'"t":{open_ms},"T":{open_ms + 999},"s":"{symbol}","i":"1s","f":-1,"L":-1,"o":"{price}","c":"{price}",'
        f'"h":"{price}","l":"{price}","v":"0.00000000","n":0,"x":true,"q":"0.00000000","V":"0.00000000",'
        f'"Q":"0.00000000","B":"0"}}}}}}'
    )
    return envelope.encode(received_ns, "c-1", message.encode())


def market(
    symbol: str, hour: Hour, first_id: int, trades: int, *, start: float = 0.0, end: float = 1.0
) -> list[bytes]:
    """Trades with a quote between each two, received evenly over this share of the hour."""
    begin = hour.start_ns + int(start * 3600 * 10**9)
    step = int((end - start) * 3600 * 10**9) // max(1, 2 * trades)
    lines: list[bytes] = []
    for n in range(trades):
        lines.append(trade(symbol, first_id + n, begin + 2 * n * step))
        lines.append(quote(symbol, 7 * (first_id + n), begin + (2 * n + 1) * step))
    return lines


def control(received_ns: int) -> bytes:
    return envelope.encode(received_ns, "c-1", encode_event(Alive(received_ns // 1000, 1)))


def write_part(
    layout: Layout,
    symbol: str,
    hour: Hour,
    number: int,
    lines: list[bytes],
    *,
    frames: int = 3,
    closed: bool = True,
    tail: bytes = b"",
) -> Path:
    """A part as the collector leaves it. `tail`: bytes behind the last frame, as a crash leaves them."""
    compressor = FrameCompressor()
    writer = PartWriter(layout.part(EXCHANGE, symbol, hour, number))
    step = max(1, -(-len(lines) // frames))
    for at in range(0, len(lines), step):
        writer.append(b"".join(lines[at : at + step]), compressor)
    if closed:
        writer.close()
        return writer.path
    writer.sync()
    writer.abandon()
    with writer.open_path.open("ab") as file:
        file.write(tail)
    return writer.open_path


def lines_of(path: Path) -> list[bytes]:
    """By the system's zstd where it is there, else frame by frame with the library alone. Stops at what is damaged."""
    data, lines = path.read_bytes(), bytearray()
    while data:
        decompressor = zstd.ZstdDecompressor()
        lines += decompressor.decompress(data)
        assert decompressor.eof, f"{path} ends within a frame"
        data = decompressor.unused_data
    return bytes(lines).splitlines(keepends=True)


def seen_by_readers(layout: Layout) -> dict[str, Counter[bytes]]:
    """Every line of the lake's closed files by symbol, as often as a reader meets it."""
    seen: dict[str, Counter[bytes]] = {}
    for exchange in layout.exchanges():
        for symbol in [*layout.symbols(exchange), CONTROL]:
            for day in layout.raw_days(exchange, symbol):
                for file in raw_inputs(layout, exchange, symbol, day):
                    if not file.is_open:
                        seen.setdefault(symbol, Counter()).update(lines_of(file.path))
    return seen


def raw_files(layout: Layout) -> dict[str, bytes]:
    """All files under raw/, by their path in it."""
    root = layout.raw_root()
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def manifests(layout: Layout) -> dict[str, Any]:
    root = layout.root / "manifests"
    return {
        str(p.relative_to(root)): json.loads(p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()
    }


def leftovers(layout: Layout) -> list[Path]:
    """Temporary files of a writer that was cut off."""
    return sorted(layout.root.rglob("*.tmp"))


def closed(files: list[RawFile]) -> list[Path]:
    return [file.path for file in files if not file.is_open]


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`crypto-lake …` as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "crypto_lake.cli.main", *arguments], capture_output=True, text=True, **options
    )
