"""The same bars, rollups and measures in BigQuery: statements over the bucket's Parquet. Pure.

An external table with hive partitions wants its partitions to begin where the common part of all names ends, and the
symbol's folder is none. So each symbol has a table of its own, and the view `bars_1s` puts them together.

Types, by Google's pages "Parquet conversions" and "decimal_target_types": an adjusted timestamp of microseconds is a
TIMESTAMP, a string a STRING, an int64 an INT64. A decimal of 38 digits with 8 after the point has 30 before it, and NUMERIC
holds 29: it is BIGNUMERIC, which must be asked for, since NUMERIC alone is the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from crypto_lake.access.columns import BY_NAME, NAMES, STORED
from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.statements import VIEWS
from crypto_lake.model.symbols import InvalidSymbolError, validate_symbol

Kind = Literal["table", "view"]

BASE: Final = "bars_1s"
LABEL: Final = "crypto_lake"
"""Each of ours bears it; what does not is somebody else's, and is not replaced."""
PARTITIONS: Final = ("year", "month", "day_of_month")
"""What a filter leaves out files by, in every view that has a time."""
MEASURE_SECONDS: Final = {"1h": 3600, "1d": 86400}

_DATASET: Final = re.compile(r"(?:(?P<project>[a-z0-9][a-z0-9.:-]{2,60}[a-z0-9])\.)?(?P<name>\w{1,1024})")
_EXCHANGE: Final = re.compile(r"[a-z0-9_]+")
_BUCKET: Final = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[^'\"\\\n*]+)?")
_E8: Final = 100_000_000
_MOST_CHARACTERS: Final = 256_000
"""Of a view's query, by Google's page "Quotas and limits"."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """`project` is "" where the client's own is meant."""

    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}.{self.name}" if self.project else self.name

    def of(self, name: str) -> str:
        """A table's or view's whole name, quoted."""
        return f"`{self}.{name}`"


@dataclass(frozen=True, slots=True)
class Statement:
    """What makes one table or view. `query`: of a view, what it selects."""

    kind: Kind
    name: str
    sql: str
    query: str = ""


def dataset_of(text: str) -> Dataset:
    """`dataset` or `project.dataset`. InvalidArgumentError for another text."""
    match = _DATASET.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(
            f"dataset {text!r}: write dataset or project.dataset, such as my-project.lake"
        )
    return Dataset(match["project"] or "", match["name"])


def table_of(exchange: str, symbol: str) -> str:
    """The name of a symbol's external table."""
    return f"files_{exchange}_{symbol}"


def statements(url: str, dataset: Dataset, symbols: Sequence[str], exchange: str) -> list[Statement]:
    """All that the lake in the bucket `url` needs, in the order in which it can be run, again and again.

    `url`: gs://bucket or gs://bucket/prefix. InvalidArgumentError for what can't be one, a wrong symbol, or none.
    """
    root = url.rstrip("/")
    if not _BUCKET.fullmatch(root):
        raise InvalidArgumentError(f"{url}: BigQuery reads a bucket; write gs://bucket/prefix")
    if not _EXCHANGE.fullmatch(exchange):
        raise InvalidArgumentError(f"exchange {exchange!r}: expected a name such as binance")
    try:
        names = [validate_symbol(symbol) for symbol in dict.fromkeys(symbols)]
    except InvalidSymbolError as error:
        raise InvalidArgumentError(str(error)) from None
    if not names:
        raise InvalidArgumentError(f"{url} has no symbols; `crypto-lake publish` puts days of bars there")
    found = [_table(root, dataset, exchange, symbol) for symbol in names]
    found.append(_view(dataset, BASE, _all_symbols(dataset, exchange, names), "one-second bars"))
    base = dataset.of(BASE)
    for name, seconds in VIEWS.items():
        if seconds > 1:
            found.append(_view(dataset, name, rollup(base, seconds), f"bars of {seconds} seconds"))
    for every, seconds in MEASURE_SECONDS.items():
        found.append(_view(dataset, f"volume_{every}", _volume(base, seconds), "volume by interval"))
        found.append(_view(dataset, f"spread_{every}", _spread(base, seconds), "spread by interval, in time"))
    hour = "EXTRACT(HOUR FROM window_start)"
    weekday = "MOD(DATE_DIFF(day, DATE '1970-01-05', DAY), 7) + 1"  # that day was a Monday
    found += [
        _view(dataset, "volume_by_hour", _volume_by(base, "hour", hour), "volume by hour of the day, UTC"),
        _view(
            dataset, "volume_by_weekday", _volume_by(base, "weekday", weekday), "volume by weekday; 1: Monday"
        ),
        _view(dataset, "gaps", _gaps(base), "seconds and trades that are missing"),
        _view(dataset, "coverage", _coverage(base), "what is known of each day, in seconds"),
    ]
    return found


def script(found: Iterable[Statement]) -> str:
    """As one text to paste."""
    return "\n\n".join(f"{statement.sql};" for statement in found)


def _table(root: str, dataset: Dataset, exchange: str, symbol: str) -> Statement:
    folder = f"{root}/parquet/{exchange}/{symbol}"
    name = table_of(exchange, symbol)
    sql = f"""CREATE OR REPLACE EXTERNAL TABLE {dataset.of(name)}
WITH PARTITION COLUMNS (year INT64, month INT64, day INT64)
OPTIONS (
  format = 'PARQUET',
  uris = ['{folder}/*'],
  hive_partition_uri_prefix = '{folder}',
  decimal_target_types = ['BIGNUMERIC'],
  description = 'Days of one-second bars of {symbol}; read them through {BASE}',
  labels = [('{LABEL}', 'table')]
)"""
    return Statement("table", name, sql)


def _view(dataset: Dataset, name: str, query: str, description: str) -> Statement:
    if len(query) > _MOST_CHARACTERS:
        raise InvalidArgumentError(
            f"{name} would be {len(query):,} characters, longer than BigQuery takes of a view ({_MOST_CHARACTERS:,}); name "
            "fewer symbols, and others in another dataset"
        )
    sql = (
        f"CREATE OR REPLACE VIEW {dataset.of(name)}\n"
        f"OPTIONS (description = '{description}', labels = [('{LABEL}', 'view')])\nAS\n{query}"
    )
    return Statement("view", name, sql, query)


def _all_symbols(dataset: Dataset, exchange: str, symbols: Sequence[str]) -> str:
    # The two that the folder names are constants, so that no column is read to tell a symbol from another.
    rest = ",\n  ".join(name for name in STORED if name not in ("exchange", "symbol"))
    return "\nUNION ALL\n".join(
        f"SELECT\n  '{exchange}' AS exchange,\n  '{symbol}' AS symbol,\n  {rest},\n"
        f"  DATE(year, month, day) AS day,\n  year,\n  month,\n  day AS day_of_month\n"
        f"FROM {dataset.of(table_of(exchange, symbol))}"
        for symbol in symbols
    )


def rollup(source: str, seconds: int) -> str:
    """Bars of a length that divides a day, with the columns that `Lake.bars` has, and those to leave out files by."""
    parts = [_of_interval(name, seconds) for name in NAMES]
    return (
        f"SELECT\n  {_listed([*parts, 'day', *PARTITIONS])}\n"
        f"FROM (\n{_numbered(source, seconds)}\n)\n{_grouped('day')}"
    )


_TRADED: Final = "IF(first_trade_id IS NULL, NULL, {0})"


def _last_of(name: str) -> str:
    return f"MAX_BY({name}, IF({name} IS NULL, NULL, window_start))"


_ROLLUPS: Final = {
    "open": "COALESCE(MIN_BY(open, first_trade_id), ANY_VALUE(close))",
    "high": f"COALESCE(MAX({_TRADED.format('high')}), ANY_VALUE(close))",
    "low": f"COALESCE(MIN({_TRADED.format('low')}), ANY_VALUE(close))",
    "close": "COALESCE(MAX_BY(close, last_trade_id), ANY_VALUE(close))",
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


def _volume(source: str, seconds: int) -> str:
    parts = ["exchange", "symbol", _of_interval("window_start", seconds), *_VOLUMES, *PARTITIONS]
    return f"SELECT\n  {_listed(parts)}\nFROM (\n{_numbered(source, seconds)}\n)\n{_grouped()}"


def _volume_by(source: str, name: str, expression: str) -> str:
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


def _spread(source: str, seconds: int) -> str:
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


def _gaps(source: str) -> str:
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


def _coverage(source: str) -> str:
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
