"""Bars by the book, in plain integers and loops: what the columnar ones are held against."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class T:
    id: int
    time_us: int
    price: int
    size: int
    maker: bool
    rest: bool = False


@dataclass(frozen=True)
class Q:
    received_ns: int
    u: int
    connection: str
    bid: int
    bid_size: int
    ask: int
    ask_size: int


def bars(trades: list[T], quotes: list[Q], reach: int = 0) -> dict[int, dict[str, Any]]:
    """Rows by second. `reach`: seconds below it may be written after the last trade."""
    by_id: dict[int, T] = {}
    for trade in sorted(trades, key=lambda t: (t.id, t.rest, t.time_us, t.price, t.size, t.maker)):
        by_id.setdefault(trade.id, trade)
    ordered = [by_id[i] for i in sorted(by_id)]
    if not ordered:
        return {}
    holes = [
        (min(a.time_us, b.time_us) // 10**6, max(a.time_us, b.time_us) // 10**6)
        for a, b in itertools.pairwise(ordered)
        if b.id != a.id + 1
    ]
    first_second, last_second = ordered[0].time_us // 10**6, max(t.time_us for t in ordered) // 10**6
    rows: dict[int, dict[str, Any]] = {}
    close = 0
    for second in range(min(t.time_us for t in ordered) // 10**6, max(last_second + 1, reach)):
        here = [t for t in ordered if t.time_us // 10**6 == second]
        touched = any(low <= second <= high for low, high in holes)
        if here:
            close = here[-1].price
            incomplete = touched or second in (first_second, last_second)
            quote = [t.price * t.size // 10**8 for t in here]
            rows[second] = {
                "open": here[0].price,
                "high": max(t.price for t in here),
                "low": min(t.price for t in here),
                "close": close,
                "volume_base": sum(t.size for t in here),
                "volume_quote": sum(quote),
                "trade_count": len(here),
                "taker_buy_base": sum(t.size for t in here if not t.maker),
                "taker_buy_quote": sum(q for t, q in zip(here, quote, strict=True) if not t.maker),
                "first_trade_id": here[0].id,
                "last_trade_id": here[-1].id,
                "state": "incomplete"
                if incomplete
                else "healed"
                if any(t.rest for t in here)
                else "complete",
            }
        elif not any(low < second < high for low, high in holes) and second >= first_second:
            rows[second] = {
                **dict.fromkeys(("open", "high", "low", "close"), close),
                **dict.fromkeys(("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote"), 0),
                "trade_count": 0,
                "first_trade_id": None,
                "last_trade_id": None,
                "state": "complete" if second < last_second else "incomplete",
            }
    _add_quotes(rows, quotes)
    return rows


def _add_quotes(rows: dict[int, dict[str, Any]], quotes: list[Q]) -> None:
    greatest = -1
    counted: list[Q] = []
    key = lambda q: (q.received_ns, q.u, q.connection, q.bid, q.bid_size, q.ask, q.ask_size)  # noqa: E731
    for quote in sorted(quotes, key=key):
        if quote.u > greatest:
            greatest = quote.u
            counted.append(quote)
    for second, row in rows.items():
        standing = [q for q in counted if q.received_ns // 10**9 <= second]
        spreads = [q.ask - q.bid for q in counted if q.received_ns // 10**9 == second]
        last = standing[-1] if standing else None
        row["bid"] = last.bid if last else None
        row["bid_size"] = last.bid_size if last else None
        row["ask"] = last.ask if last else None
        row["ask_size"] = last.ask_size if last else None
        row["spread_min"] = min(spreads) if spreads else None
        row["spread_max"] = max(spreads) if spreads else None
        total = sum(spreads)
        row["spread_mean"] = (abs(total) // len(spreads)) * (-1 if total < 0 else 1) if spreads else None
        row["quote_updates"] = len(spreads)
