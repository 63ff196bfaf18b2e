"""What of an hour's raw other hours need to know. Pure."""

from __future__ import annotations

from crypto_lake.bars.raw import Core
from crypto_lake.bars.seconds import Edge
from crypto_lake.lake.manifests import BarsHour


def begun(core: Core) -> BarsHour:
    """The record of an hour that was read, before its rows are made: until then it has no key."""
    seconds, quotes = core.trades.seconds, core.quotes.seconds
    return BarsHour(
        key="",
        digest="",
        rows=0,
        trades=core.trades.trades,
        quotes=core.quotes.updates,
        first=_edge(core.trades.first),
        last=_edge(core.trades.last),
        close=None if seconds.is_empty() else seconds["close"][-1],
        quote=None if quotes.is_empty() else quotes.select("bid", "bid_size", "ask", "ask_size").row(-1),
        max_u=core.quotes.max_u,
        inputs=tuple(name for name, _ in core.files),
        duplicates=core.trades.duplicates,
        conflicts=core.trades.conflicts,
        conflicting=core.trades.conflicting,
    )


def _edge(edge: Edge | None) -> tuple[int, int] | None:
    return None if edge is None else (edge.id, edge.time_us)
