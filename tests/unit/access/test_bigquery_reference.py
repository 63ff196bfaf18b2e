"""BigQuery's statements before the judge of their language: GoogleSQL's own analyzer, and its reference implementation.

The package `zetasql` has both, as Google publishes them, compiled to WebAssembly. What BigQuery reads of files and
buckets they don't know: rows come in as constants, with the types that BigQuery gives the files' columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake import Lake
from crypto_lake.access.bigquery import BASE, MACRO_FILES, Dataset, Statement, statements, table_of
from crypto_lake.access.bigquery_views import LEVELS
from crypto_lake.access.macro import VIEW_NAMES
from crypto_lake.access.statements import VIEWS
from support.bar_rows import Second, write_days
from support.macro import Scripted, ask, trading_days

# It takes a quarter of a minute to compile.
pytestmark = pytest.mark.faults
api = pytest.importorskip(
    "zetasql.api",
    reason="pip install zetasql, to have the statements run by GoogleSQL's reference implementation",
)

SYMBOLS = ("BTCUSDT", "ETHUSDT")
PAGE = Path(__file__).parents[3] / "docs" / "bigquery.md"
MIDNIGHT = int(datetime(2024, 8, 9, tzinfo=UTC).timestamp())
STATEMENTS = statements("gs://my-lake/prod", Dataset("", "lake"), SYMBOLS, "binance", macro=True)
BY_NAME = {one.name: one for one in STATEMENTS}


class Reference:
    """GoogleSQL as an engine of others has it (no INT32, no FLOAT), with the features that BigQuery documents."""

    def __init__(self) -> None:
        from zetasql.types import (
            AnalyzerOptions,
            LanguageOptions,
            ResolvedNodeKind,
            ZetaSQLBuiltinFunctionOptions,
        )
        from zetasql.types.proto_model import LanguageFeature, ProductMode

        language = LanguageOptions.maximum_features()
        language.product_mode = ProductMode.PRODUCT_EXTERNAL
        language.enabled_language_features.append(
            LanguageFeature.FEATURE_CREATE_EXTERNAL_TABLE_WITH_PARTITION_COLUMNS
        )
        language.supported_statement_kinds = [
            ResolvedNodeKind.RESOLVED_QUERY_STMT,
            ResolvedNodeKind.RESOLVED_CREATE_VIEW_STMT,
            ResolvedNodeKind.RESOLVED_CREATE_EXTERNAL_TABLE_STMT,
        ]
        builder = api.CatalogBuilder("lake")
        builtins = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._catalog = builder.with_builtin_functions(builtins).build()
        self._options = AnalyzerOptions(language_options=language, default_timezone="UTC")

    def analyzed(self, sql: str) -> Any:
        """Raises where it is no GoogleSQL, names what is not there, or takes one type for another."""
        return api.Analyzer(self._options, self._catalog).analyze_statement(sql)

    def rows(self, sql: str, like: pl.DataFrame) -> list[dict[str, Any]]:
        """The answer's columns that `like` has, as what they are there; their types are held against those."""
        texts = ", ".join(f"CAST(`{name}` AS STRING) AS `{name}`" for name in like.columns)
        kinds = {column.name: column.type.type_kind.name for column in self._run(sql)[0]}
        _, found = self._run(f"SELECT {texts} FROM (\n{sql}\n)")
        readers = [_reader(kind, kinds[name]) for name, kind in like.schema.items()]
        return [
            {
                name: None if cell.string_value is None else read(cell.string_value)
                for name, read, cell in zip(like.columns, readers, row.cell, strict=True)
            }
            for row in found
        ]

    def _run(self, sql: str) -> tuple[list[Any], list[Any]]:
        prepared = api.PreparedQuery.builder().set_sql(sql).set_analyzer_options(self._options)
        with prepared.set_catalog(self._catalog).prepare() as query:
            return list(query.columns), list(query.execute().content.table_data.row)


def _reader(kind: pl.DataType, theirs: str) -> Any:
    match kind:
        case pl.Decimal():
            wanted, read = "TYPE_BIGNUMERIC", Decimal
        case pl.Datetime():
            wanted, read = "TYPE_TIMESTAMP", datetime.fromisoformat
        case pl.Date():
            wanted, read = "TYPE_DATE", date.fromisoformat
        case pl.Float64():
            wanted, read = "TYPE_DOUBLE", float
        case pl.String():
            wanted, read = "TYPE_STRING", str
        case _:
            wanted, read = "TYPE_INT64", int
    assert theirs == wanted
    return read


def constants(rows: pl.DataFrame) -> str:
    """The rows as a query."""
    types = {pl.Decimal: "BIGNUMERIC", pl.Datetime: "TIMESTAMP", pl.Date: "DATE", pl.Float64: "FLOAT64"}
    named = {
        name: types.get(type(kind), "STRING" if kind == pl.String() else "INT64")
        for name, kind in rows.schema.items()
    }

    def text(value: Any) -> str:
        return "NULL" if value is None else f"'{value:f}'" if isinstance(value, Decimal) else f"'{value}'"

    return "\nUNION ALL\n".join(
        "SELECT "
        + ", ".join(f"CAST({text(row[name])} AS {kind}) AS `{name}`" for name, kind in named.items())
        for row in rows.iter_rows(named=True)
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Around midnight: quiet seconds, gaps, lost ids, every state, quotes and none; and two macro series, one revised."""
    folder = tmp_path_factory.mktemp("lake")
    seconds = [
        Second(MIDNIGHT - 61, 500, ((1, 500, 10**8, True),), quote=(499, 9, 501, 9)),
        Second(MIDNIGHT - 60, 500, quote=(499, 9, 501, 9)),
        Second(
            MIDNIGHT - 5,
            100,
            ((2, 100, 10**8, True), (3, 90, 3, False)),
            quote=(99, 5, 101, 6),
            spreads=(2, 5, 7),
        ),
        Second(MIDNIGHT - 4, 90, quote=(99, 5, 102, 6), spreads=(1,)),
        Second(MIDNIGHT + 7, 95, ((9, 95, 7, True), (11, 97, 7, False)), "healed"),
        Second(MIDNIGHT + 8, 97, ((12, 97, 10**22, True),), "incomplete", (96, 1, 99, 2), (3, 3, 4)),
        Second(MIDNIGHT + 2 * 86400, 50, ((13, 50, 10**9, False),), "aggregated", (49, 1, 51, 2), (2,)),
    ]
    for symbol in SYMBOLS:
        write_days(folder, symbol, seconds)
    days = trading_days(date(2024, 8, 1), date(2024, 8, 9))
    ask(Scripted({"^GSPC": days, "^VIX": days}), date(2024, 8, 7), "^GSPC", "^VIX", layout=_layout(folder))
    ask(
        Scripted({"^GSPC": days, "^VIX": _revised(days)}),
        date(2024, 8, 9),
        "^GSPC",
        "^VIX",
        layout=_layout(folder),
    )
    return Lake(folder)


def _layout(folder: Path) -> Any:
    from crypto_lake.lake.layout import Layout

    return Layout(folder)


def _revised(days: dict[date, Any]) -> dict[date, Any]:
    from dataclasses import replace

    return {day: replace(one, close=one.close + 1) for day, one in days.items()}


@pytest.fixture(scope="module")
def below(lake: Lake) -> dict[str, str]:
    """What a view reads, by the name that it has in a statement: tables as constants, views as their queries."""
    found: dict[str, str] = {}
    with lake.connect() as connection:
        for symbol in SYMBOLS:
            rows = connection.sql(f"SELECT * EXCLUDE (day) FROM bars_1s WHERE symbol = '{symbol}'").pl()
            at = pl.col("window_start")
            found[table_of("binance", symbol)] = constants(
                rows.with_columns(
                    at.dt.year().alias("year"), at.dt.month().alias("month"), at.dt.day().alias("day")
                )
            )
        found[MACRO_FILES] = constants(connection.sql("FROM macro_versions").pl())
    return {name: found.get(name, one.query) for name, one in BY_NAME.items()}


def whole(query: str, below: dict[str, str]) -> str:
    """A query with all that it reads before it."""
    needed: dict[str, str] = {}

    def need(text: str) -> None:
        for name in re.findall(r"`lake\.(\w+)`", text):
            if name not in needed:
                need(below[name])
                needed[name] = below[name]

    need(query)
    tables = ",\n".join(f"`lake.{name}` AS (\n{text}\n)" for name, text in needed.items())
    return f"WITH {tables}\nSELECT * FROM (\n{query}\n)"


def same(found: list[dict[str, Any]], wanted: pl.DataFrame, keys: Sequence[str]) -> None:
    """Exact where it is a sum or a price; to 12 digits where both say double."""

    def order(row: dict[str, Any]) -> list[Any]:
        return [row[key] for key in keys]

    rows = wanted.rows(named=True)
    assert rows
    assert len(found) == len(rows)
    for one, other in zip(sorted(found, key=order), sorted(rows, key=order), strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
            else:
                assert one[name] == value, name


def of_the_lake(lake: Lake, name: str) -> tuple[pl.DataFrame, list[str]]:
    """What the view of this name stands for, and by which columns its rows are told apart."""
    with lake.connect() as connection:
        if name in VIEWS:
            return connection.sql(f"FROM {name}").pl(), ["symbol", "window_start"]
        if name in VIEW_NAMES:
            return connection.sql(f"FROM {name}").pl(), ["series", "date", "version"]
        if name == "volume_profile_1d":
            parts = [
                connection.sql(
                    f"SELECT *, DATE '{day}' AS day FROM volume_profile('{symbol}', '{day}', '{day} 23:59:59.9', "
                    f"levels := {LEVELS})"
                ).pl()
                for symbol in SYMBOLS
                for day in lake.days(symbol)
            ]
            return pl.concat(parts), ["symbol", "day", "level"]
        macro, _, every = name.rpartition("_")
        if every in ("1h", "1d"):
            return connection.sql(f"FROM {macro}(every := '{every}')").pl(), ["symbol", "window_start"]
        keys = {
            "volume_by_hour": ["symbol", "hour"],
            "volume_by_weekday": ["symbol", "weekday"],
            "gaps": ["symbol", "gap_start", "gap_end", "missing_trades"],
            "coverage": ["symbol", "day"],
        }
        return connection.sql(f"FROM {name}()").pl(), keys[name]


@pytest.mark.parametrize("name", [one.name for one in STATEMENTS if one.kind == "view"])
def test_the_reference_implementation_says_what_the_lake_says(
    reference: Reference, lake: Lake, below: dict[str, str], name: str
) -> None:
    wanted, keys = of_the_lake(lake, name)
    same(reference.rows(whole(BY_NAME[name].query, below), wanted), wanted, keys)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.name)
def test_a_statement_is_googlesql(reference: Reference, below: dict[str, str], statement: Statement) -> None:
    sql = statement.sql
    if statement.kind == "view":
        sql = sql.replace(statement.query, whole(statement.query, below))
    made = reference.analyzed(sql)
    assert made.name_path == [f"lake.{statement.name}"]
    assert {option.name for option in made.option_list} >= {"description", "labels"}
    if statement.kind == "table" and statement.name != MACRO_FILES:
        columns = made.with_partition_columns.column_definition_list
        assert [column.name for column in columns] == ["year", "month", "day"]


def test_the_documented_queries_are_googlesql(reference: Reference, below: dict[str, str]) -> None:
    queries = re.findall(r"^```sql bigquery\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(queries) == 2
    for query in queries:
        reference.analyzed(whole(query.replace("my-project.", ""), below))


def test_what_is_no_googlesql_is_refused(reference: Reference, below: dict[str, str]) -> None:
    query = BY_NAME[BASE].query
    for wrong in (
        query.replace("open,", "opened,", 1),
        f"SELECT EPOCH_US(window_start) FROM ({query})",
        f"SELECT open + state FROM ({query})",
    ):
        with pytest.raises(Exception, match=r"opened|EPOCH_US|No matching signature"):
            reference.analyzed(whole(wrong, below))
