"""Days of bars written row by row, and what a rollup of them must be, by definition and in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.lake.layout import Layout

E8 = Decimal(1).scaleb(-8)


@dataclass(frozen=True)
class Second:
    """One second of one symbol: its trades as (id, price, size, taker buys), in hundred-millionths, and its quotes.

    `close` of the last trade before, where it has none. `quote`: bid, bid size, ask, ask size.
    """

    second: int
    close: int
    trades: tuple[tuple[int, int, int, bool], ...] = ()
    state: str = "complete"
    quote: tuple[int, int, int, int] | None = None
    spreads: tuple[int, ...] = ()

    def row(self, symbol: str) -> dict[str, Any]:
        prices = [price for _, price, _, _ in self.trades] or [self.close]
        quotes = [price * size // 10**8 for _, price, size, _ in self.trades]
        taken = [quote for quote, trade in zip(quotes, self.trades, strict=True) if trade[3]]
        spread = (
            (min(self.spreads), sum(self.spreads) // len(self.spreads), max(self.spreads))
            if self.spreads
            else (None, None, None)
        )
        values: dict[str, Any] = {
            "open": prices[0],
            "high": max(prices),
            "low": min(prices),
            "close": prices[-1],
            "volume_base": sum(size for _, _, size, _ in self.trades),
            "volume_quote": sum(quotes),
            "taker_buy_base": sum(size for _, _, size, buys in self.trades if buys),
            "taker_buy_quote": sum(taken),
            **dict(zip(("bid", "bid_size", "ask", "ask_size"), self.quote or (None,) * 4, strict=True)),
            **dict(zip(("spread_min", "spread_mean", "spread_max"), spread, strict=True)),
        }
        return {name: None if value is None else value * E8 for name, value in values.items()} | {
            "exchange": "binance",
            "symbol": symbol,
            "window_start": datetime.fromtimestamp(self.second, UTC),
            "trade_count": len(self.trades),
            "first_trade_id": self.trades[0][0] if self.trades else None,
            "last_trade_id": self.trades[-1][0] if self.trades else None,
            "quote_updates": len(self.spreads),
            "state": self.state,
        }


def frame_of(symbol: str, seconds: Iterable[Second]) -> pl.DataFrame:
    rows = [second.row(symbol) for second in seconds]
    return pl.DataFrame(rows, schema=dict(BAR_SCHEMA)).select(BAR_SCHEMA.names())


def write_days(root: Path, symbol: str, seconds: Iterable[Second], exchange: str = "binance") -> None:
    """One file a day, where the lake has them."""
    write_frames(root, symbol, frame_of(symbol, seconds), exchange)


def write_frames(root: Path, symbol: str, rows: pl.DataFrame, exchange: str = "binance") -> None:
    for (day,), part in rows.group_by(pl.col("window_start").dt.date(), maintain_order=True):
        path = Layout(root).bars(exchange, symbol, str(day))
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_parquet(path)


def quiet_day(
    day: str, *, close: int = 10**8, every: int = 1, trades: int = 1, first_id: int = 0
) -> list[Second]:
    """A whole day with `trades` trades in each `every`th second."""
    start = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    found: list[Second] = []
    id_ = first_id
    for second in range(86400):
        here = tuple((id_ + n, close, 10**8, True) for n in range(trades if second % every == 0 else 0))
        id_ += len(here)
        found.append(Second(start + second, close, here))
    return found


def expected(symbol: str, seconds: Sequence[Second], every: int) -> list[dict[str, Any]]:
    """Bars of `every` seconds of these seconds (in order), by definition: from the trades themselves."""
    groups: dict[int, list[Second]] = {}
    for second in seconds:
        groups.setdefault(second.second // every, []).append(second)
    return [_bar(symbol, number * every, group, every) for number, group in sorted(groups.items())]


def _bar(symbol: str, start: int, group: list[Second], every: int) -> dict[str, Any]:
    trades = sorted(trade for second in group for trade in second.trades)
    prices = [price for _, price, _, _ in trades] or [group[0].close]
    quotes = [(price * size // 10**8, buys) for _, price, size, buys in trades]
    standing = [second.quote for second in group if second.quote is not None]
    updates = [second for second in group if second.spreads]
    count = sum(len(second.spreads) for second in updates)
    mean = sum(sum(s.spreads) // len(s.spreads) * len(s.spreads) for s in updates)
    states = [second.state for second in group]
    counted = {
        f"{name}_seconds": states.count(name) for name in ("complete", "healed", "aggregated", "incomplete")
    }
    missing = every - len(group)
    worst = next((name for name in ("incomplete", "aggregated", "healed") if name in states), "complete")
    exact: dict[str, Any] = {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume_base": sum(size for _, _, size, _ in trades),
        "volume_quote": sum(quote for quote, _ in quotes),
        "taker_buy_base": sum(size for _, _, size, buys in trades if buys),
        "taker_buy_quote": sum(quote for quote, buys in quotes if buys),
        **dict(
            zip(
                ("bid", "bid_size", "ask", "ask_size"), standing[-1] if standing else (None,) * 4, strict=True
            )
        ),
        "spread_min": min((min(s.spreads) for s in updates), default=None),
        "spread_mean": mean // count if count else None,
        "spread_max": max((max(s.spreads) for s in updates), default=None),
    }
    return {name: None if value is None else value * E8 for name, value in exact.items()} | {
        "exchange": "binance",
        "symbol": symbol,
        "window_start": datetime.fromtimestamp(start, UTC),
        "trade_count": len(trades),
        "first_trade_id": trades[0][0] if trades else None,
        "last_trade_id": trades[-1][0] if trades else None,
        "quote_updates": count,
        **counted,
        "missing_seconds": missing,
        "state": "incomplete" if missing else worst,
    }
