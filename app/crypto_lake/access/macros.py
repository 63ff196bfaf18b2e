"""Table macros over the bars: volume, spread, gaps and coverage. Pure: names, parameters, and their SQL.

    FROM volume('BTCUSDT', since := '2024-08-08', every := '1h')

All take `symbols` (one, or several separated by commas), `since` (included) and `until` (excluded); NULL: all there is.
What is a ratio is a DOUBLE; sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from crypto_lake.access.statements import Asked, numbered, rollup, start_of_interval

_COMMON: Final = {"symbols": "NULL", "since": "NULL", "until": "NULL"}


@dataclass(frozen=True, slots=True)
class Macro:
    """`parameters`: name -> default as SQL. `body`: from a source, what is asked of it, and the parameters as SQL."""

    name: str
    meaning: str
    parameters: Mapping[str, str]
    body: Callable[[str, Asked, Mapping[str, str]], str]

    def create(self, source: str) -> str:
        """The statement that makes it in DuckDB."""
        given = ", ".join(f"{name} := {default}" for name, default in self.parameters.items())
        parameters = {name: name for name in self.parameters}
        return f"CREATE OR REPLACE MACRO {self.name}({given}) AS TABLE\n{self.body(source, by_parameters(self), parameters)}"


def by_parameters(macro: Macro) -> Asked:
    """What a macro's own parameters ask for. Where it has `every`, whole intervals: those that begin in the range."""
    seconds = "(epoch_us(every::INTERVAL) // 1000000)" if "every" in macro.parameters else "1"
    whole = "every" in macro.parameters
    since, until = (_up(at, seconds) if whole else f"{at}::TIMESTAMPTZ" for at in ("since", "until"))
    first_day = f"(({since}) AT TIME ZONE 'UTC')::DATE"
    last_day = f"(({until} - INTERVAL 1 MICROSECOND) AT TIME ZONE 'UTC')::DATE"
    return Asked(
        (
            "(symbols IS NULL OR list_contains(list_transform(string_split(symbols, ','), lambda s: trim(s)), symbol))",
            f"(since IS NULL OR (day >= {first_day} AND window_start >= {since}))",
            f"(until IS NULL OR (day <= {last_day} AND window_start < {until}))",
        ),
        seconds,
    )


def _up(name: str, seconds: str) -> str:
    """A parameter's time rounded up to the beginning of an interval."""
    us = f"({seconds} * 1000000)"
    return f"to_timestamp((epoch_us({name}::TIMESTAMPTZ) + {us} - 1) // {us} * {seconds})"


def _bars(source: str, want: Asked, _: Mapping[str, str]) -> str:
    return f"{rollup(source, want)}\nORDER BY window_start, symbol"


_VOLUMES: Final = """count(*) AS known_seconds,
  sum(trade_count)::BIGINT AS trade_count,
  sum(volume_base) AS volume_base,
  sum(volume_quote) AS volume_quote,
  sum(taker_buy_base) AS taker_buy_base,
  {vwap} AS vwap,
  {imbalance} AS taker_imbalance""".format(
    vwap="sum(volume_quote)::DOUBLE / nullif(sum(volume_base), 0)::DOUBLE",
    imbalance="(2 * sum(taker_buy_base) - sum(volume_base))::DOUBLE / nullif(sum(volume_base), 0)::DOUBLE",
)
# What is known of a time is divided by the seconds that are known of it: a gap makes no quiet hour.
_PER_HOUR: Final = "sum(volume_quote)::DOUBLE / count(*) * 3600 AS volume_quote_per_hour"


def _volume(source: str, want: Asked, _: Mapping[str, str]) -> str:
    return (
        f"SELECT\n  exchange,\n  symbol,\n  {start_of_interval(want.seconds)},\n  {_VOLUMES}\n"
        f"FROM (\n{numbered(source, want)}\n)\nGROUP BY exchange, symbol, interval_number\nORDER BY window_start, symbol"
    )


def _volume_by(name: str, expression: str) -> Callable[[str, Asked, Mapping[str, str]], str]:
    def body(source: str, want: Asked, _: Mapping[str, str]) -> str:
        return (
            f"SELECT\n  exchange,\n  symbol,\n  {expression} AS {name},\n  count(DISTINCT day) AS days,\n"
            f"  {_VOLUMES},\n  {_PER_HOUR}\n"
            f"FROM {source}\n{want.where()}\nGROUP BY exchange, symbol, {name}\nORDER BY symbol, {name}"
        )

    return body


def _volume_profile(source: str, want: Asked, given: Mapping[str, str]) -> str:
    levels = f"({given['levels']})"
    return f"""WITH traded AS (
  SELECT exchange, symbol, low, high, volume_base, volume_quote, taker_buy_base,
    volume_quote::DOUBLE / volume_base::DOUBLE AS price
  FROM {source}
  {want.where("volume_base > 0")}
),
bounds AS (
  SELECT exchange, symbol, min(low)::DOUBLE AS lowest, (max(high) - min(low))::DOUBLE / {levels} AS step
  FROM traded GROUP BY exchange, symbol
),
levelled AS (
  SELECT *, CASE WHEN step = 0 THEN 0
    ELSE greatest(0, least({levels} - 1, floor((price - lowest) / step)))::BIGINT END AS level
  FROM traded JOIN bounds USING (exchange, symbol)
)
SELECT exchange, symbol, level,
  any_value(lowest + level * step) AS price_from,
  any_value(lowest + (level + 1) * step) AS price_to,
  sum(volume_base) AS volume_base,
  sum(volume_quote) AS volume_quote,
  (2 * sum(taker_buy_base) - sum(volume_base))::DOUBLE / sum(volume_base)::DOUBLE AS taker_imbalance,
  sum(volume_base)::DOUBLE / sum(sum(volume_base)) OVER (PARTITION BY exchange, symbol)::DOUBLE AS share
FROM levelled
GROUP BY exchange, symbol, level
ORDER BY symbol, level"""


def _spread(source: str, want: Asked, _: Mapping[str, str]) -> str:
    inner = numbered(source, want, "bid IS NOT NULL")
    return f"""SELECT
  exchange,
  symbol,
  {start_of_interval(want.seconds)},
  count(*) AS quoted_seconds,
  sum(quote_updates)::BIGINT AS quote_updates,
  avg(spread) AS mean_price,
  avg(bps) AS mean_bps,
  quantile_cont(bps, 0.5) AS p50_bps,
  quantile_cont(bps, 0.95) AS p95_bps,
  quantile_cont(bps, 0.99) AS p99_bps,
  max(bps) AS max_bps
FROM (
  SELECT *, (ask - bid)::DOUBLE AS spread, (ask - bid)::DOUBLE / ((ask + bid)::DOUBLE / 2) * 10000 AS bps
  FROM ({inner})
)
GROUP BY exchange, symbol, interval_number
ORDER BY window_start, symbol"""


def _gaps(source: str, want: Asked, _: Mapping[str, str]) -> str:
    return f"""WITH rows AS (
  SELECT exchange, symbol, window_start, trade_count, first_trade_id, last_trade_id,
    lag(window_start) OVER seconds AS before,
    max(last_trade_id) OVER (seconds ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_id
  FROM {source}
  {want.where()}
  WINDOW seconds AS (PARTITION BY exchange, symbol ORDER BY window_start)
)
SELECT exchange, symbol,
  before + INTERVAL 1 SECOND AS gap_start,
  window_start AS gap_end,
  (epoch_us(window_start) - epoch_us(before)) // 1000000 - 1 AS missing_seconds,
  CASE WHEN first_trade_id > before_id + 1 THEN before_id + 1 END AS first_missing_id,
  CASE WHEN first_trade_id > before_id + 1 THEN first_trade_id - 1 END AS last_missing_id,
  greatest(first_trade_id - before_id - 1, 0) AS missing_trades
FROM rows
WHERE window_start > before + INTERVAL 1 SECOND OR first_trade_id > before_id + 1
UNION ALL
SELECT exchange, symbol, window_start, window_start + INTERVAL 1 SECOND, 0, NULL, NULL,
  last_trade_id - first_trade_id + 1 - trade_count
FROM rows
WHERE last_trade_id - first_trade_id + 1 > trade_count
ORDER BY symbol, gap_start"""


def _coverage(source: str, want: Asked, given: Mapping[str, str]) -> str:
    since, until = (f"({given[name]})::TIMESTAMPTZ" for name in ("since", "until"))
    first_day = f"coalesce(({since} AT TIME ZONE 'UTC')::DATE, min(day))"
    last_day = f"coalesce((({until} - INTERVAL 1 MICROSECOND) AT TIME ZONE 'UTC')::DATE, max(day))"
    begin = f"greatest(coalesce(epoch_us({since}), 0), epoch_us(day::TIMESTAMP))"
    end = f"least(coalesce(epoch_us({until}), 253402300800000000), epoch_us(day::TIMESTAMP) + 86400000000)"
    return f"""WITH known AS (
  SELECT exchange, symbol, day,
    min(window_start) AS first_second,
    max(window_start) AS last_second,
    count(*) AS known_seconds,
    count(*) FILTER (WHERE state = 'complete') AS complete_seconds,
    count(*) FILTER (WHERE state = 'healed') AS healed_seconds,
    count(*) FILTER (WHERE state = 'aggregated') AS aggregated_seconds,
    count(*) FILTER (WHERE state = 'incomplete') AS incomplete_seconds,
    sum(trade_count)::BIGINT AS trade_count,
    (max(last_trade_id) - min(first_trade_id) + 1 - sum(trade_count))::BIGINT AS missing_trades
  FROM {source}
  {want.where()}
  GROUP BY exchange, symbol, day
),
days AS (
  SELECT exchange, symbol, unnest(generate_series({first_day}, {last_day}, INTERVAL 1 DAY))::DATE AS day
  FROM known GROUP BY exchange, symbol
),
spans AS (
  -- How many whole seconds begin in the range.
  SELECT *, ({end} + 999999) // 1000000 - ({begin} + 999999) // 1000000 AS seconds FROM days
)
SELECT exchange, symbol, day, seconds,
  coalesce(complete_seconds, 0) AS complete_seconds,
  coalesce(healed_seconds, 0) AS healed_seconds,
  coalesce(aggregated_seconds, 0) AS aggregated_seconds,
  coalesce(incomplete_seconds, 0) AS incomplete_seconds,
  seconds - coalesce(known_seconds, 0) AS missing_seconds,
  coalesce(trade_count, 0) AS trade_count,
  missing_trades, first_second, last_second
FROM spans LEFT JOIN known USING (exchange, symbol, day)
ORDER BY symbol, day"""


MACROS: Final[Mapping[str, Macro]] = MappingProxyType(
    {
        macro.name: macro
        for macro in (
            Macro("bars", "bars of any interval", {**_COMMON, "every": "'1m'"}, _bars),
            Macro(
                "volume",
                "volume, VWAP and taker imbalance by interval",
                {**_COMMON, "every": "'1h'"},
                _volume,
            ),
            Macro(
                "volume_by_hour",
                "the same by hour of the day (UTC)",
                _COMMON,
                _volume_by("hour", "hour(window_start AT TIME ZONE 'UTC')"),
            ),
            Macro(
                "volume_by_weekday",
                "the same by weekday; 1 is Monday",
                _COMMON,
                _volume_by("weekday", "isodow(day)"),
            ),
            Macro(
                "volume_profile",
                "volume by price, in equal steps",
                {**_COMMON, "levels": "24"},
                _volume_profile,
            ),
            Macro(
                "spread",
                "the standing quote's spread by interval, weighted by time",
                {**_COMMON, "every": "'1h'"},
                _spread,
            ),
            Macro("gaps", "seconds and trades that are missing between those that are there", _COMMON, _gaps),
            Macro("coverage", "what is known of each day, in seconds", _COMMON, _coverage),
        )
    }
)
