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

from crypto_lake.access import bigquery_views as views
from crypto_lake.access.columns import STORED
from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.statements import VIEWS
from crypto_lake.model.symbols import InvalidSymbolError, validate_symbol

Kind = Literal["table", "view"]

BASE: Final = "bars_1s"
LABEL: Final = "crypto_lake"
"""Each of ours bears it; what does not is somebody else's, and is not replaced."""
MEASURE_SECONDS: Final = {"1h": 3600, "1d": 86400}

MACRO_FILES: Final = "files_macro"

_DATASET: Final = re.compile(r"(?:(?P<project>[a-z0-9][a-z0-9.:-]{2,60}[a-z0-9])\.)?(?P<name>\w{1,1024})")
_EXCHANGE: Final = re.compile(r"[a-z0-9_]+")
_BUCKET: Final = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[^'\"\\\n*]+)?")
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


def statements(
    url: str, dataset: Dataset, symbols: Sequence[str], exchange: str, *, macro: bool = False
) -> list[Statement]:
    """All that the lake in the bucket `url` needs, in the order in which it can be run, again and again.

    `url`: gs://bucket or gs://bucket/prefix. `macro`: with its macro series, of which there must be some: BigQuery makes no
    external table without a file. InvalidArgumentError for what can't be a bucket, a wrong symbol, or none.
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
            found.append(_view(dataset, name, views.rollup(base, seconds), f"bars of {seconds} seconds"))
    for every, seconds in MEASURE_SECONDS.items():
        found.append(_view(dataset, f"volume_{every}", views.volume(base, seconds), "volume by interval"))
        found.append(
            _view(dataset, f"spread_{every}", views.spread(base, seconds), "spread by interval, in time")
        )
    hour = "EXTRACT(HOUR FROM window_start)"
    weekday = "MOD(DATE_DIFF(day, DATE '1970-01-05', DAY), 7) + 1"  # that day was a Monday
    found += [
        _view(
            dataset, "volume_by_hour", views.volume_by(base, "hour", hour), "volume by hour of the day, UTC"
        ),
        _view(
            dataset,
            "volume_by_weekday",
            views.volume_by(base, "weekday", weekday),
            "volume by weekday; 1: Monday",
        ),
        _view(
            dataset,
            "volume_profile_1d",
            views.volume_profile(base),
            f"volume by price, in {views.LEVELS} steps a day",
        ),
        _view(dataset, "gaps", views.gaps(base), "seconds and trades that are missing"),
        _view(dataset, "coverage", views.coverage(base), "what is known of each day, in seconds"),
    ]
    return [*found, *_macro(root, dataset)] if macro else found


def script(found: Iterable[Statement]) -> str:
    """As one text to paste."""
    return "\n\n".join(f"{statement.sql};" for statement in found)


def _table(root: str, dataset: Dataset, exchange: str, symbol: str) -> Statement:
    folder = f"{root}/parquet/{exchange}/{symbol}"
    return _external(
        dataset,
        table_of(exchange, symbol),
        folder,
        f"Days of one-second bars of {symbol}; read them through {BASE}",
        partitions="\nWITH PARTITION COLUMNS (year INT64, month INT64, day INT64)",
        options=f"\n  hive_partition_uri_prefix = '{folder}',\n  decimal_target_types = ['BIGNUMERIC'],",
    )


def _macro(root: str, dataset: Dataset) -> list[Statement]:
    # Without partitions: a folder names its series as no partition does, and all of them are some kB.
    versions = dataset.of("macro_versions")
    return [
        _external(
            dataset, MACRO_FILES, f"{root}/parquet/macro", "Macro series; read them through macro_versions"
        ),
        _view(
            dataset,
            "macro_versions",
            views.macro_versions(dataset.of(MACRO_FILES)),
            "daily macro series, all versions of each day",
        ),
        _view(dataset, "macro", views.macro(versions), "daily macro series, the latest version of each day"),
        _view(
            dataset,
            "macro_known",
            views.macro_known(versions),
            "which day was the latest known, from when on",
        ),
    ]


def _external(
    dataset: Dataset, name: str, folder: str, description: str, *, partitions: str = "", options: str = ""
) -> Statement:
    sql = f"""CREATE OR REPLACE EXTERNAL TABLE {dataset.of(name)}{partitions}
OPTIONS (
  format = 'PARQUET',
  uris = ['{folder}/*'],{options}
  description = '{description}',
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
