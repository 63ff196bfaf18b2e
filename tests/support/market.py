"""A simulated exchange in the cluster: its time, its klines, and bars held against them."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from crypto_lake.completeness.klines import FIELDS
from support.cluster import Cluster
from support.klines import klines_over_rest
from support.pods import GCS, GCS_PORT, SIMULATOR_PORT

MILLISECOND = 10**6


def ns_of(text: str) -> int:
    """`2026-03-02T01:00:00`, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@dataclass(frozen=True)
class Market:
    cluster: Cluster
    service: str

    def get(self, path: str) -> Any:
        return self.cluster.ask_json(self.service, SIMULATOR_PORT, path)

    def post(self, path: str, body: object = None) -> Any:
        return self.cluster.ask_json(self.service, SIMULATOR_PORT, path, {} if body is None else body)

    def start(self) -> None:
        """Of one that is held."""
        self.post("/control/start")

    def now_ns(self) -> int:
        setting = self.get("/control/clock")
        return setting["exchange_ns"] + int((time.time_ns() - setting["wall_ns"]) * setting["speed"])

    def wait_until(self, text: str, seconds: float) -> None:
        end = ns_of(text)
        self.cluster.wait(f"{text} on {self.service}", lambda: self.now_ns() >= end, seconds)

    def klines(self, symbol: str, start_ns: int, end_ns: int) -> dict[datetime, dict[str, Any]]:
        """By second, from start on and before end."""
        return klines_over_rest(self.get, symbol, start_ns // MILLISECOND, end_ns // MILLISECOND)


def bars_of(data: bytes) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(data))


def assert_equal(bars: pl.DataFrame, market: Market, symbol: str) -> int:
    """Each complete bar is the exchange's kline in every field, and none is missing between them; how many there were."""
    complete = bars.filter(pl.col("state") == "complete")
    assert complete.height, f"no complete bar of {symbol}"
    first, last = complete["window_start"].min(), complete["window_start"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    start_ns, end_ns = (int(at.timestamp()) * 10**9 for at in (first, last))
    klines = market.klines(symbol, start_ns, end_ns + 10**9)
    ours = {
        row["window_start"]: {name: row[name] for name in FIELDS} for row in complete.iter_rows(named=True)
    }
    assert ours.keys() == klines.keys(), sorted(ours.keys() ^ klines.keys())[:10]
    differing = [at for at in ours if ours[at] != klines[at]]
    assert not differing, f"{symbol} {differing[0]}: {ours[differing[0]]} is not {klines[differing[0]]}"
    return complete.height


@dataclass(frozen=True)
class Bucket:
    """What the fake store holds below a prefix."""

    cluster: Cluster
    prefix: str

    def objects(self) -> dict[str, dict[str, Any]]:
        """By name without the prefix: the object's resource, with size, crc32c, md5Hash, generation."""
        found = self.cluster.ask_json(GCS, GCS_PORT, "/_fake/objects")
        return {
            name.removeprefix(self.prefix): value
            for name, value in found.items()
            if name.startswith(self.prefix)
        }

    def read(self, name: str) -> bytes:
        return self.cluster.ask(GCS, GCS_PORT, "/_fake/data", {"name": self.prefix + name})

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def remove(self, name: str) -> None:
        self.cluster.ask(GCS, GCS_PORT, "/_fake/remove", {"name": self.prefix + name})
