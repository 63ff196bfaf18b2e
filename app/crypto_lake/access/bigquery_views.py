"""What the views in BigQuery select: rollups, measures, macro series. Pure.

Each has the names, columns and values of the view or macro in `statements`, `macros` and `macro` that it stands for; tests
hold the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crypto_lake.access.columns import BY_NAME, NAMES
from crypto_lake.access.macro import COLUMNS as MACRO_COLUMNS

PARTITIONS: Final = ("year", "month", "day_of_month")
"""What a filter leaves out files by, in every view that has a time."""
LEVELS: Final = 24
"""Of a day's volume profile."""
_E8: Final = 100_000_000


def rollup(source: str, seconds: int) -> str:
    """Bars of a length that divides a day, with the columns that `Lake.bars` has, and those to leave out files by."""
    parts = [_of_interval(name, seconds) for name in NAMES]
    return (
        f"SELECT\n  {_listed([*parts, 'day', *PARTITIONS])}\n"
        f"FROM (\n{_numbered(source, seconds)}\n)\n{_grouped('day')}"
    )


_TRADED: Final = "IF(first_trade_id IS NULL, NULL, {0})"


def _last_of(name: str) -> str:
    return f"ANY_VALUE({name} HAVING MAX IF({name} IS NULL, NULL, window_start))"


_ROLLUPS: Final = {
    "open": "COALESCE(ANY_VALUE(open HAVING MIN first_trade_id), ANY_VALUE(close))",
    "high": f"COALESCE(MAX({_TRADED.format('high')}), ANY_VALUE(close))",
    "low": f"COALESCE(MIN({_TRADED.format('low')}), ANY_VALUE(close))",
    "close": "COALESCE(ANY_VALUE(close HAVING MAX last_trade_id), ANY_VALUE(close))",
    **{
        name: f"SUM({name})"
        for name in (
            "volume_base",
            "volume_quote",
            "trade_count",
            "taker_buy_base",
            "taker_buy_quote",
            "quote_updates",
        )
    },
    "first_trade_id": "MIN(first_trade_id)",
    "last_trade_id": "MAX(last_trade_id)",
    **{name: _last_of(name) for name in ("bid", "bid_size", "ask", "ask_size")},
    "spread_min": "MIN(spread_min)",
    # In hundred-millionths, so that the division is one of whole numbers.
    "spread_mean": f"DIV(SUM(spread_mean * {_E8} * quote_updates), NULLIF(SUM(quote_updates), 0)) / {_E8}",
    "spread_max": "MAX(spread_max)",
    "state": "CASE WHEN COUNT(*) < {seconds} OR LOGICAL_OR(state = 'incomplete') THEN 'incomplete'"
    " WHEN LOGICAL_OR(state = 'aggregated') THEN 'aggregated'"
    " WHEN LOGICAL_OR(state = 'healed') THEN 'healed' ELSE 'complete' END",
    **{
        f"{state}_seconds": f"COUNTIF(state = '{state}')"
        for state in ("complete", "healed", "aggregated", "incomplete")
    },
    "missing_seconds": "{seconds} - COUNT(*)",
    "window_start": "TIMESTAMP_SECONDS(interval_number * {seconds})",
}


def _of_interval(name: str, seconds: int) -> str:
    if name in ("exchange", "symbol"):
        return name
    assert name in BY_NAME
    return f"{_ROLLUPS[name].replace('{seconds}', str(seconds))} AS {name}"


def _numbered(source: str, seconds: int, where: str = "") -> str:
    condition = f"\n  WHERE {where}" if where else ""
    return f"  SELECT *, DIV(UNIX_SECONDS(window_start), {seconds}) AS interval_number\n  FROM {source}{condition}"


def _grouped(*more: str) -> str:
    # By the partitions as well, though the interval says them: a filter on them then reaches the files.
    return f"GROUP BY {', '.join(('exchange', 'symbol', *more, *PARTITIONS, 'interval_number'))}"


def _listed(parts: Sequence[str]) -> str:
    return ",\n  ".join(parts)


def _ratio(above: str, below: str) -> str:
    return f"SAFE_DIVIDE(CAST({above} AS FLOAT64), CAST({below} AS FLOAT64))"


_VOLUMES: Final = (
    "COUNT(*) AS known_seconds",
    "SUM(trade_count) AS trade_count",
    "SUM(volume_base) AS volume_base",
    "SUM(volume_quote) AS volume_quote",
    "SUM(taker_buy_base) AS taker_buy_base",
    f"{_ratio('SUM(volume_quote)', 'SUM(volume_base)')} AS vwap",
    f"{_ratio('2 * SUM(taker_buy_base) - SUM(volume_base)', 'SUM(volume_base)')} AS taker_imbalance",
)


def volume(source: str, seconds: int) -> str:
    parts = ["exchange", "symbol", _of_interval("window_start", seconds), *_VOLUMES, *PARTITIONS]
    return f"SELECT\n  {_listed(parts)}\nFROM (\n{_numbered(source, seconds)}\n)\n{_grouped()}"


def volume_by(source: str, name: str, expression: str) -> str:
    parts = [
        "exchange",
        "symbol",
        f"{expression} AS {name}",
        "COUNT(DISTINCT day) AS days",
        *_VOLUMES,
        # By the seconds that are known: a gap makes no quiet hour.
        "CAST(SUM(volume_quote) AS FLOAT64) / COUNT(*) * 3600 AS volume_quote_per_hour",
    ]
    return f"SELECT\n  {_listed(parts)}\nFROM {source}\nGROUP BY exchange, symbol, {name}"


def spread(source: str, seconds: int) -> str:
    number = _numbered(source, seconds, "bid IS NOT NULL").replace("\n", "\n    ")
    keys = ", ".join(("exchange", "symbol", *PARTITIONS, "interval_number"))
    quantiles = ",\n    ".join(
        f"PERCENTILE_CONT(bps, {share}) OVER (PARTITION BY {keys}) AS {name}"
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    )
    parts = [
        "exchange",
        "symbol",
        _of_interval("window_start", seconds),
        "COUNT(*) AS quoted_seconds",
        "SUM(quote_updates) AS quote_updates",
        "AVG(spread) AS mean_price",
        "AVG(bps) AS mean_bps",
        *(f"ANY_VALUE({name}) AS {name}_bps" for name in ("p50", "p95", "p99")),
        "MAX(bps) AS max_bps",
        *PARTITIONS,
    ]
    return f"""SELECT
  {_listed(parts)}
FROM (
  SELECT *,
    {quantiles}
  FROM (
    SELECT *, CAST(ask - bid AS FLOAT64) AS spread,
      CAST(ask - bid AS FLOAT64) / (CAST(ask + bid AS FLOAT64) / 2) * 10000 AS bps
    FROM (
    {number}
    )
  )
)
{_grouped()}"""


def gaps(source: str) -> str:
    return f"""WITH known AS (
  SELECT exchange, symbol, window_start, trade_count, first_trade_id, last_trade_id,
    LAG(window_start) OVER seconds AS before,
    MAX(last_trade_id) OVER (seconds ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_id
  FROM {source}
  WINDOW seconds AS (PARTITION BY exchange, symbol ORDER BY window_start)
)
SELECT exchange, symbol,
  TIMESTAMP_ADD(before, INTERVAL 1 SECOND) AS gap_start,
  window_start AS gap_end,
  TIMESTAMP_DIFF(window_start, before, SECOND) - 1 AS missing_seconds,
  IF(first_trade_id > before_id + 1, before_id + 1, NULL) AS first_missing_id,
  IF(first_trade_id > before_id + 1, first_trade_id - 1, NULL) AS last_missing_id,
  IF(first_trade_id - before_id - 1 < 0, 0, first_trade_id - before_id - 1) AS missing_trades
FROM known
WHERE window_start > TIMESTAMP_ADD(before, INTERVAL 1 SECOND) OR first_trade_id > before_id + 1
UNION ALL
SELECT exchange, symbol, window_start, TIMESTAMP_ADD(window_start, INTERVAL 1 SECOND), 0, NULL, NULL,
  last_trade_id - first_trade_id + 1 - trade_count
FROM known
WHERE last_trade_id - first_trade_id + 1 > trade_count"""


def coverage(source: str) -> str:
    states = ("complete", "healed", "aggregated", "incomplete")
    counted = ",\n    ".join(f"COUNTIF(state = '{state}') AS {state}_seconds" for state in states)
    shown = ",\n  ".join(f"COALESCE({state}_seconds, 0) AS {state}_seconds" for state in states)
    return f"""WITH known AS (
  SELECT exchange, symbol, day,
    MIN(window_start) AS first_second,
    MAX(window_start) AS last_second,
    COUNT(*) AS known_seconds,
    {counted},
    SUM(trade_count) AS trade_count,
    MAX(last_trade_id) - MIN(first_trade_id) + 1 - SUM(trade_count) AS missing_trades
  FROM {source}
  GROUP BY exchange, symbol, day
),
bounds AS (
  SELECT exchange, symbol, MIN(day) AS first_day, MAX(day) AS last_day FROM known GROUP BY exchange, symbol
),
days AS (
  SELECT exchange, symbol, day FROM bounds, UNNEST(GENERATE_DATE_ARRAY(first_day, last_day)) AS day
)
SELECT exchange, symbol, day,
  86400 AS seconds,
  {shown},
  86400 - COALESCE(known_seconds, 0) AS missing_seconds,
  COALESCE(trade_count, 0) AS trade_count,
  missing_trades, first_second, last_second
FROM days LEFT JOIN known USING (exchange, symbol, day)"""


def volume_profile(source: str) -> str:
    """Of each day, between its own lowest and highest price; in one reading of its seconds."""
    keys = ", ".join(("exchange", "symbol", "day", *PARTITIONS))
    price = "CAST(volume_quote AS FLOAT64) / CAST(volume_base AS FLOAT64)"
    level = f"GREATEST(0, LEAST({LEVELS - 1}, CAST(FLOOR(SAFE_DIVIDE(price - lowest, step)) AS INT64)))"
    parts = [
        "exchange",
        "symbol",
        "day",
        "level",
        "ANY_VALUE(lowest + level * step) AS price_from",
        "ANY_VALUE(lowest + (level + 1) * step) AS price_to",
        "SUM(volume_base) AS volume_base",
        "SUM(volume_quote) AS volume_quote",
        f"{_ratio('2 * SUM(taker_buy_base) - SUM(volume_base)', 'SUM(volume_base)')} AS taker_imbalance",
        f"CAST(SUM(volume_base) AS FLOAT64) / CAST(SUM(SUM(volume_base)) OVER (PARTITION BY {keys}) AS FLOAT64) AS share",
        *PARTITIONS,
    ]
    return f"""SELECT
  {_listed(parts)}
FROM (
  SELECT *, COALESCE({level}, 0) AS level
  FROM (
    SELECT {keys}, volume_base, volume_quote, taker_buy_base,
      {price} AS price,
      CAST(MIN(low) OVER bounds AS FLOAT64) AS lowest,
      CAST(MAX(high) OVER bounds - MIN(low) OVER bounds AS FLOAT64) / {LEVELS} AS step
    FROM {source}
    WHERE volume_base > 0
    WINDOW bounds AS (PARTITION BY {keys})
  )
)
GROUP BY {keys}, level"""


def macro_versions(files: str) -> str:
    return f"SELECT\n  {_listed(MACRO_COLUMNS)}\nFROM {files}"


def macro(versions: str) -> str:
    """The latest version of each day."""
    return f"""SELECT * FROM {versions}
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY series, date ORDER BY version DESC) = 1"""


def macro_known(versions: str) -> str:
    """From when on which day was the latest one known."""
    return f"""SELECT
  {_listed([*MACRO_COLUMNS, "known_at AS usable_at"])}
FROM (
  SELECT *, MAX(date) OVER (
    PARTITION BY series ORDER BY known_at, date, version ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  ) AS latest
  FROM {versions}
)
WHERE date = latest
QUALIFY ROW_NUMBER() OVER (PARTITION BY series, known_at ORDER BY date DESC, version DESC) = 1"""
