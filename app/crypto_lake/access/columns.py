"""The columns that readers get: names, types, units, and how an interval's value comes from its seconds. Pure.

What stands in the files is written by the room `bars`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.model.symbols import nearest

Kind = Literal["text", "time", "decimal", "count"]


@dataclass(frozen=True, slots=True)
class Column:
    """`meaning`: of an interval, with its unit. `rollup`: SQL over the interval's rows; {seconds}: its length.

    `second`: SQL over one row, where that is not the column itself. `stored`: it stands in the files.
    """

    name: str
    kind: Kind
    meaning: str
    rollup: str
    second: str = ""
    stored: bool = True


# Where no second of the interval has a trade, all its rows bear the same close: that of the last trade before.
_STANDING: Final = "any_value(close)"
_TRADED: Final = "FILTER (WHERE first_trade_id IS NOT NULL)"


def _count_of(state: str) -> tuple[str, str]:
    return f"count(*) FILTER (WHERE state = '{state}')", f"(state = '{state}')::BIGINT"


COLUMNS: Final[tuple[Column, ...]] = (
    Column("exchange", "text", "the exchange's name", ""),
    Column("symbol", "text", "the symbol's name", ""),
    Column("window_start", "time", "start of the interval, UTC", ""),
    Column(
        "open",
        "decimal",
        "price of the first trade, by id; without a trade the previous close",
        f"coalesce(arg_min(open, first_trade_id), {_STANDING})",
    ),
    Column(
        "high",
        "decimal",
        "highest price; without a trade the previous close",
        f"coalesce(max(high) {_TRADED}, {_STANDING})",
    ),
    Column(
        "low",
        "decimal",
        "lowest price; without a trade the previous close",
        f"coalesce(min(low) {_TRADED}, {_STANDING})",
    ),
    Column(
        "close",
        "decimal",
        "price of the last trade, by id; without a trade the previous close",
        f"coalesce(arg_max(close, last_trade_id), {_STANDING})",
    ),
    Column("volume_base", "decimal", "sum of sizes, in the base asset", "sum(volume_base)"),
    Column(
        "volume_quote",
        "decimal",
        "sum of price x size, truncated to 8 decimals per trade, in the quote asset",
        "sum(volume_quote)",
    ),
    Column("trade_count", "count", "trades", "sum(trade_count)::BIGINT"),
    Column("taker_buy_base", "decimal", "the part of volume_base that takers bought", "sum(taker_buy_base)"),
    Column(
        "taker_buy_quote", "decimal", "the part of volume_quote that takers bought", "sum(taker_buy_quote)"
    ),
    Column("first_trade_id", "count", "the first trade's id; null without a trade", "min(first_trade_id)"),
    Column("last_trade_id", "count", "the last trade's id; null without a trade", "max(last_trade_id)"),
    Column(
        "bid", "decimal", "best bid at the end of the last second that is there", "arg_max(bid, window_start)"
    ),
    Column("bid_size", "decimal", "its size, in the base asset", "arg_max(bid_size, window_start)"),
    Column(
        "ask", "decimal", "best ask at the end of the last second that is there", "arg_max(ask, window_start)"
    ),
    Column("ask_size", "decimal", "its size, in the base asset", "arg_max(ask_size, window_start)"),
    Column(
        "spread_min",
        "decimal",
        "smallest spread of an update, as a price; null without one",
        "min(spread_min)",
    ),
    Column(
        "spread_mean",
        "decimal",
        "mean spread of the updates, truncated to 8 decimals; less than 0.00000001 below the exact one",
        # Spreads in hundred-millionths are whole numbers, so that nothing is rounded on the way.
        "(sum((spread_mean * 100000000)::HUGEINT * quote_updates) // nullif(sum(quote_updates), 0))::DECIMAL(30, 0)"
        " * 0.00000001::DECIMAL(8, 8)",
    ),
    Column(
        "spread_max",
        "decimal",
        "greatest spread of an update, as a price; null without one",
        "max(spread_max)",
    ),
    Column("quote_updates", "count", "updates of the best quote", "sum(quote_updates)::BIGINT"),
    Column(
        "state",
        "text",
        "the weakest of its seconds: complete, healed, aggregated; incomplete where one is missing or incomplete",
        "CASE WHEN count(*) < {seconds} OR bool_or(state = 'incomplete') THEN 'incomplete'"
        " WHEN bool_or(state = 'aggregated') THEN 'aggregated'"
        " WHEN bool_or(state = 'healed') THEN 'healed' ELSE 'complete' END",
    ),
    Column(
        "complete_seconds",
        "count",
        "seconds of which every trade was seen",
        *_count_of("complete"),
        stored=False,
    ),
    Column(
        "healed_seconds",
        "count",
        "seconds complete with trades fetched later",
        *_count_of("healed"),
        stored=False,
    ),
    Column(
        "aggregated_seconds",
        "count",
        "seconds known from aggregated trades",
        *_count_of("aggregated"),
        stored=False,
    ),
    Column(
        "incomplete_seconds",
        "count",
        "seconds of which a trade is missing, or the next one is not known yet",
        *_count_of("incomplete"),
        stored=False,
    ),
    Column(
        "missing_seconds",
        "count",
        "seconds without a bar: nothing is known of them",
        "{seconds} - count(*)",
        "0::BIGINT",
        stored=False,
    ),
)
BY_NAME: Final = {column.name: column for column in COLUMNS}
KEYS: Final = ("exchange", "symbol", "window_start")
NAMES: Final = tuple(BY_NAME)
STORED: Final = tuple(column.name for column in COLUMNS if column.stored)
FILLED_STATE: Final = "missing"
"""`state` of a row that fill="previous" made."""


def chosen(columns: Iterable[str] | str | None) -> tuple[str, ...]:
    """Names of columns as asked for, in that order; all for None. InvalidArgumentError names a wrong one and near ones."""
    if columns is None:
        return NAMES
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if name not in BY_NAME:
            near = nearest(str(name), NAMES)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(NAMES)}"
            raise InvalidArgumentError(f"there is no column {name!r}; {hint}")
    if not names:
        raise InvalidArgumentError(f"no column is asked for; there are {', '.join(NAMES)}")
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"a column is asked for twice: {', '.join(names)}")
    return names
