"""What each symbol of a generated market is like: price, steps, how busy.

Figures are of the order of the real market's, so that sizes of messages, digits of prices and the share of
each symbol are realistic. A symbol that is not in the table gets a profile that follows from its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crypto_lake.model.decimals import ONE_E8, parse_e8

_QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY")


@dataclass(frozen=True, slots=True)
class Profile:
    """One symbol. Prices and sizes in hundred-millionths; rates a second, at activity 1.

    size_steps: the greatest size of a usual fill, in steps.
    quiet: has whole minutes without a trade.
    """

    symbol: str
    price_e8: int
    tick_e8: int
    step_e8: int
    size_steps: int
    orders_per_second: float
    quotes_per_second: float
    first_id: int
    quiet: bool = False

    @property
    def price_ticks(self) -> int:
        return self.price_e8 // self.tick_e8

    @property
    def base_asset(self) -> str:
        return self.symbol.removesuffix(self.quote_asset)

    @property
    def quote_asset(self) -> str:
        for asset in _QUOTE_ASSETS:
            if self.symbol.endswith(asset) and len(self.symbol) > len(asset):
                return asset
        return self.symbol[-3:]


# symbol: price, tick, step, size in steps, orders a second, quotes a second, first trade id, quiet
_TABLE: dict[str, tuple[str, str, str, int, float, float, int, bool]] = {
    "BTCUSDT": ("61837.63", "0.01", "0.00001", 60_000, 60, 120, 3_745_110_000, False),
    "ETHUSDT": ("2683.41", "0.01", "0.0001", 80_000, 45, 100, 1_543_280_000, False),
    "BNBUSDT": ("571.90", "0.01", "0.001", 20_000, 12, 50, 812_640_000, False),
    "SOLUSDT": ("155.27", "0.01", "0.001", 90_000, 25, 70, 731_950_000, False),
    "XRPUSDT": ("0.6121", "0.0001", "0.1", 50_000, 20, 60, 640_870_000, False),
    "ADAUSDT": ("0.3463", "0.0001", "0.1", 30_000, 7, 30, 522_310_000, False),
    "DOGEUSDT": ("0.10472", "0.00001", "1", 40_000, 15, 55, 734_420_000, False),
    "TRXUSDT": ("0.1275", "0.0001", "0.1", 90_000, 4, 15, 254_190_000, False),
    "DOTUSDT": ("4.681", "0.001", "0.01", 30_000, 2, 14, 376_530_000, True),
    "LINKUSDT": ("10.43", "0.01", "0.01", 20_000, 4, 24, 411_700_000, False),
    "LTCUSDT": ("60.62", "0.01", "0.001", 30_000, 3, 22, 389_260_000, True),
    "AVAXUSDT": ("21.72", "0.01", "0.01", 20_000, 4, 25, 318_840_000, True),
    "PEPEUSDT": ("0.00000841", "0.00000001", "1", 300_000_000, 10, 35, 205_730_000, False),
}


def profile_of(symbol: str) -> Profile:
    """The profile of a symbol; the same for the same name, wherever it is asked."""
    if symbol in _TABLE:
        price, tick, step, size_steps, orders, quotes, first_id, quiet = _TABLE[symbol]
        return Profile(
            symbol,
            parse_e8(price),
            parse_e8(tick),
            parse_e8(step),
            size_steps,
            orders,
            quotes,
            first_id,
            quiet,
        )
    digest = hashlib.sha256(symbol.encode()).digest()
    draw = int.from_bytes(digest[:8], "big")
    tick_e8 = ONE_E8 // 10 ** (2 + draw % 3)
    return Profile(
        symbol=symbol,
        price_e8=tick_e8 * (2_000 + draw // 7 % 200_000),
        tick_e8=tick_e8,
        step_e8=ONE_E8 // 10 ** (draw // 11 % 4),
        size_steps=1_000 + draw // 13 % 50_000,
        orders_per_second=1 + draw // 17 % 8,
        quotes_per_second=5 + draw // 19 % 40,
        first_id=1_000_000 + draw // 23 % 100_000_000,
        quiet=draw // 29 % 4 == 0,
    )
