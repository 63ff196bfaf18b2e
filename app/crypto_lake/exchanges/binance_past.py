"""Binance spot trades of the past: by REST, and as daily archives.

Weights and hosts are from rest-api.md and faqs/market_data_only.md of its documents (as of 2026-07-21), the form of the
archives from the README of github.com/binance/binance-public-data: no header (a file of futures has one), times in
microseconds from 2025 on.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crypto_lake.exchanges.base import Past, PastCall, PastHost, PastRow
from crypto_lake.exchanges.binance_time import to_us

_ARCHIVE_FIELDS = 7


class _Trade(msgspec.Struct, gc=False):
    """A row of GET /api/v3/historicalTrades: what of it is used here."""

    id: int
    time: int


class _Aggregate(msgspec.Struct, gc=False):
    """A row of GET /api/v3/aggTrades: what of it is used here."""

    a: int
    f: int
    l: int  # noqa: E741  the exchange's name
    T: int


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_aggregate = msgspec.json.Decoder(_Aggregate).decode


def read_trades(answer: bytes) -> list[PastRow]:
    """Raises ValueError (msgspec's errors are such) where the answer is no list of trades."""
    rows: list[PastRow] = []
    for message in _decode_rows(answer):
        row = _decode_trade(message)
        rows.append(PastRow(row.id, row.id, to_us(row.time), row.id, bytes(message)))
    return rows


def read_aggregates(answer: bytes) -> list[PastRow]:
    """Raises ValueError where the answer is no list of aggregates. One without trades (f = l = -1) is left out."""
    rows: list[PastRow] = []
    for message in _decode_rows(answer):
        row = _decode_aggregate(message)
        if 0 <= row.f <= row.l:
            rows.append(PastRow(row.f, row.l, to_us(row.T), row.a, bytes(message)))
    return rows


def trades_query(symbol: str, from_id: int, limit: int) -> dict[str, str]:
    return {"symbol": symbol, "fromId": str(from_id), "limit": str(limit)}


def aggregates_query(symbol: str, start_us: int, end_us: int, limit: int) -> dict[str, str]:
    """Both ends included, and the last one's whole millisecond: streams tell times cut off to it, the exchange compares
    its own. With both ends the answer begins with the oldest.
    """
    start_ms, end_ms = start_us // 1000, end_us // 1000 + 1
    return {"symbol": symbol, "startTime": str(start_ms), "endTime": str(end_ms), "limit": str(limit)}


def aggregates_next(symbol: str, from_key: int, limit: int) -> dict[str, str]:
    return {"symbol": symbol, "fromId": str(from_key), "limit": str(limit)}


def archive_path(symbol: str, day: str) -> str:
    return f"/data/spot/daily/trades/{symbol}/{symbol}-trades-{day}.zip"


def archive_message(row: Sequence[bytes]) -> PastRow:
    """A row of a daily trades file: id, price, qty, quoteQty, time, isBuyerMaker, isBestMatch."""
    if len(row) != _ARCHIVE_FIELDS:
        raise ValueError(f"{len(row)} fields; expected {_ARCHIVE_FIELDS}")
    id_, price, size, quote, time, maker, best = row
    if not (id_.isdigit() and time.isdigit()):
        raise ValueError("id or time is no number")
    flags = maker.lower(), best.lower()
    if not {*flags} <= {b"true", b"false"}:
        raise ValueError("isBuyerMaker or isBestMatch is neither true nor false")
    if not all(number.replace(b".", b"", 1).isdigit() for number in (price, size, quote)):
        raise ValueError("price or size is no number")
    message = (
        b'{"id":%s,"price":"%s","qty":"%s","quoteQty":"%s","time":%s,"isBuyerMaker":%s,"isBestMatch":%s}'
        % (id_, price, size, quote, time, *flags)
    )
    return PastRow(int(id_), int(id_), to_us(int(time)), int(id_), message)


TRADES = PastCall("historicalTrades", "/api/v3/historicalTrades", 25, 1000, read_trades)
AGGREGATES = PastCall("aggTrades", "/api/v3/aggTrades", 4, 1000, read_aggregates)

PAST = Past(
    hosts=(
        PastHost("https://api.binance.com", frozenset({TRADES.source, AGGREGATES.source})),
        PastHost("https://data-api.binance.vision", frozenset({AGGREGATES.source})),
    ),
    trades=TRADES,
    aggregates=AGGREGATES,
    trades_query=trades_query,
    aggregates_query=aggregates_query,
    aggregates_next=aggregates_next,
    used_weight_header="X-MBX-USED-WEIGHT-1M",
    archive="https://data.binance.vision",
    archive_path=archive_path,
    checksum_suffix=".CHECKSUM",
    archive_message=archive_message,
    headers={"X-MBX-TIME-UNIT": "MICROSECOND"},
)
