"""Raw of a made-up hour, as the collector writes it: 13 symbols, a part a minute, frames of about 256 KiB.

The figures are of no real market, but their shapes are: lines as the exchange writes them, 2 quotes to a trade on
busy symbols and more on quiet ones, contiguous trade ids, prices and sizes with eight decimals, bursts.
"""

from __future__ import annotations

import random
from pathlib import Path

from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8
from crypto_lake.model.symbols import DEFAULT_SYMBOLS

START_NS = 1_723_161_600 * 10**9  # 2024-08-09, midnight
MINUTES = 60
_FRAME_BYTES = 256 * 1024
# Price in hundred-millionths, its step, a size's step, trades' share of the messages, share of the traffic.
_MARKETS = {
    "BTCUSDT": (6_183_763_000_000, 1_000_000, 1_000, 0.40, 30),
    "ETHUSDT": (260_000_000_000, 1_000_000, 10_000, 0.38, 22),
    "SOLUSDT": (15_400_000_000, 1_000_000, 100_000, 0.35, 11),
    "PEPEUSDT": (812, 1, 100_000_000, 0.25, 4),
}
_OTHER = (50_000_000, 10_000, 10_000_000, 0.30, 4)


def generate(root: Path, megabytes: float, jsonl: Path | None = None, seed: int = 7) -> tuple[int, int]:
    """Write about `megabytes` of lines (unpacked) below `root`; with `jsonl`, the same unpacked there too.

    Returns lines and bytes, unpacked.
    """
    layout = Layout(root)
    compressor = FrameCompressor()
    rng = random.Random(seed)
    shares = {symbol: _MARKETS.get(symbol, _OTHER)[4] for symbol in DEFAULT_SYMBOLS}
    total = sum(shares.values())
    lines = size = 0
    for symbol in DEFAULT_SYMBOLS:
        wanted = megabytes * 1e6 * shares[symbol] / total / MINUTES
        market = _Market(symbol, rng)
        for minute in range(MINUTES):
            text = market.minute(START_NS + minute * 60 * 10**9, int(wanted / 200))
            lines += len(text)
            data = "".join(text).encode()
            size += len(data)
            hour = Hour.of_ns(START_NS)
            writer = PartWriter(layout.part("binance", symbol, hour, minute + 1))
            for frame in _frames(data):
                writer.append(frame, compressor)
            writer.close()
            if jsonl is not None:
                target = jsonl / symbol / f"part_{minute:02d}.jsonl"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
    return lines, size


def _frames(data: bytes) -> list[bytes]:
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        cut = data.find(b"\n", min(at + _FRAME_BYTES, len(data) - 1)) + 1
        frames.append(data[at:cut])
        at = cut
    return frames


class _Market:
    def __init__(self, symbol: str, rng: random.Random) -> None:
        self.symbol = symbol
        self.price, self.step, self.size_step, self.trade_share, _ = _MARKETS.get(symbol, _OTHER)
        self.rng = rng
        self.id = rng.randrange(10**8, 4 * 10**9)
        self.u = rng.randrange(10**9, 5 * 10**10)

    def minute(self, start_ns: int, count: int) -> list[str]:
        rng, stream = self.rng, self.symbol.lower()
        # Bursts: times are drawn about a few moments as often as over the whole minute.
        moments = [rng.randrange(60 * 10**9 - 10**9) for _ in range(5)]
        times = sorted(
            rng.choice(moments) + rng.randrange(10**9) if rng.random() < 0.5 else rng.randrange(60 * 10**9)
            for _ in range(count)
        )
        lines: list[str] = []
        for offset in times:
            received = start_ns + offset
            if rng.random() < 0.1:
                self.price = max(self.step, self.price + self.step * rng.randrange(-3, 4))
            head = f'{{"received_ns":{received},"connection":"c-7f3a-1","message":{{"stream":"{stream}@'
            if rng.random() < self.trade_share:
                self.id += 1
                event_ms = (received - 8_000_000) // 10**6
                lines.append(
                    f'{head}trade","data":{{"e":"trade","E":{event_ms},"s":"{self.symbol}","t":{self.id},'
                    f'"p":"{format_e8(self.price)}","q":"{self._size()}","T":{event_ms - 1},'
                    f'"m":{"true" if rng.random() < 0.5 else "false"},"M":true}}}}}}\n'
                )
            else:
                self.u += rng.randrange(1, 6)
                lines.append(
                    f'{head}bookTicker","data":{{"u":{self.u},"s":"{self.symbol}","b":"{format_e8(self.price)}",'
                    f'"B":"{self._size()}","a":"{format_e8(self.price + self.step)}","A":"{self._size()}"}}}}}}\n'
                )
        return lines

    def _size(self) -> str:
        return format_e8(self.size_step * self.rng.randrange(1, 100_000))
