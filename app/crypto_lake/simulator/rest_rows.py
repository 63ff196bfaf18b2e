"""The rows of the exchange's REST answers, in the form in which it writes them. Pure."""

from __future__ import annotations

from typing import Any

from crypto_lake.model.decimals import format_e8, quote_volume_e8
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.klines import Kline
from crypto_lake.simulator.messages import Aggregate
from crypto_lake.simulator.profiles import profile_of


def trade_row(trade: SimulatedTrade, unit_us: int) -> dict[str, Any]:
    return {
        "id": trade.id,
        "price": format_e8(trade.price_e8),
        "qty": format_e8(trade.size_e8),
        "quoteQty": format_e8(quote_volume_e8(trade.price_e8, trade.size_e8)),
        "time": trade.time_us // unit_us,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_row(found: Aggregate, unit_us: int) -> dict[str, Any]:
    return {
        "a": found.id,
        "p": format_e8(found.price_e8),
        "q": format_e8(found.size_e8),
        "f": found.first_id,
        "l": found.last_id,
        "T": found.time_us // unit_us,
        "m": found.buyer_is_maker,
        "M": True,
    }


def kline_row(kline: Kline, interval_us: int, unit_us: int) -> list[Any]:
    return [
        kline.open_us // unit_us,
        format_e8(kline.open_e8),
        format_e8(kline.high_e8),
        format_e8(kline.low_e8),
        format_e8(kline.close_e8),
        format_e8(kline.volume_e8),
        (kline.open_us + interval_us) // unit_us - 1,
        format_e8(kline.quote_volume_e8),
        kline.trade_count,
        format_e8(kline.taker_base_e8),
        format_e8(kline.taker_quote_e8),
        "0",
    ]


def symbol_row(symbol: str, *, halted: bool) -> dict[str, Any]:
    profile = profile_of(symbol)
    return {
        "symbol": symbol,
        "status": "BREAK" if halted else "TRADING",
        "baseAsset": profile.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": profile.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": format_e8(profile.tick_e8)},
            {"filterType": "LOT_SIZE", "stepSize": format_e8(profile.step_e8)},
        ],
    }
