"""BigQuery's statements are its dialect, and what they say is what `Lake` says.

BigQuery itself can't be had here. Its statements are parsed as its dialect by sqlglot, which also writes them down for DuckDB;
there they run over a lake on the disk, and their answers are held against those of `Lake`, value by value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from crypto_lake import Lake
from crypto_lake.access import bigquery_views
from crypto_lake.access import macro as series
from crypto_lake.access.bigquery import (
    BASE,
    MACRO_FILES,
    Dataset,
    Statement,
    dataset_of,
    script,
    statements,
    table_of,
)
from crypto_lake.access.columns import NAMES, STORED
from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.statements import VIEWS
from crypto_lake.bars import table
from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.macro_schema import MACRO_SCHEMA
from support.bar_rows import Second, frame_of, write_days
from support.macro import Scripted, ask, trading_days

SYMBOLS = ("BTCUSDT", "ETHUSDT")
PAGE = Path(__file__).parents[3] / "docs" / "bigquery.md"
DATASET = Dataset("", "lake")
MIDNIGHT = int(datetime(2024, 8, 9, tzinfo=UTC).timestamp())
PARTITIONS = ", ".join(bigquery_views.PARTITIONS)


def of_lake(symbols: tuple[str, ...] = SYMBOLS) -> list[Statement]:
    return statements("gs://my-lake/prod", DATASET, symbols, "binance", macro=True)


@cache
def in_duckdb(statement: Statement) -> str:
    """A view's query as DuckDB has it. Where DuckDB divides decimals as doubles, and only there, another way is taken."""
    tree = sqlglot.parse_one(statement.query, read="bigquery")
    for alias in tree.find_all(exp.Alias):
        mean = alias.this
        if alias.alias == "spread_mean" and isinstance(mean, exp.Div):
            whole = sqlglot.parse_one(
                mean.this.sql("duckdb").replace(
                    "SUM(spread_mean * 100000000 *", "SUM(CAST(spread_mean * 100000000 AS HUGEINT) *"
                ),
                read="duckdb",
            )
            assert "AS INT128" in whole.sql("duckdb")
            text = f"CAST({whole.sql('duckdb')} AS DECIMAL(30, 0)) * CAST(0.00000001 AS DECIMAL(8, 8))"
            alias.set("this", sqlglot.parse_one(text, read="duckdb"))
    return tree.sql("duckdb")


class Transpiled:
    """The external tables as DuckDB reads the files, and BigQuery's views over them."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute("CREATE SCHEMA lake")
        for symbol in SYMBOLS:
            files = f"{folder}/parquet/binance/{symbol}/*/*/*/bars.parquet"
            self.connection.execute(
                f"CREATE VIEW lake.{table_of('binance', symbol)} AS FROM read_parquet('{files}', "
                "hive_partitioning = true, hive_types = {'year': BIGINT, 'month': BIGINT, 'day': BIGINT})"
            )
        rows = f"read_parquet('{folder}/parquet/macro/*/*/*.parquet', hive_partitioning = false)"
        if not self.lake.macro_series():
            rows = f"(SELECT {', '.join(f'NULL AS {name}' for name in MACRO_SCHEMA)} WHERE false)"
        self.connection.execute(f"CREATE VIEW lake.{MACRO_FILES} AS FROM {rows}")
        for statement in of_lake():
            if statement.kind == "view":
                self.connection.execute(f"CREATE VIEW lake.{statement.name} AS {in_duckdb(statement)}")

    def rows(self, text: str) -> list[dict[str, Any]]:
        return self.connection.sql(text).pl().rows(named=True)


@st.composite
def markets(draw: st.DrawFn) -> list[Second]:
    """Around midnight: seconds that are missing, quiet ones, lost ids, quotes and none, every state."""
    at = MIDNIGHT - draw(st.integers(1, 4000))
    id_, close = draw(st.integers(1, 10**12)), draw(st.integers(2, 10**13))
    quote: tuple[int, int, int, int] | None = None
    found: list[Second] = []
    for _ in range(draw(st.integers(1, 15))):
        at += draw(st.sampled_from((1, 1, 1, 2, 61, 4000, 86400)))
        trades: list[tuple[int, int, int, bool]] = []
        for price, size, buys in draw(
            st.lists(st.tuples(st.integers(1, 10**13), st.integers(1, 10**15), st.booleans()), max_size=3)
        ):
            id_ += draw(st.sampled_from((1, 1, 4)))
            trades.append((id_, price, size, buys))
        if not trades and (not found or at > found[-1].second + 1):
            id_ += 1
            trades.append((id_, close, 10**8, True))
        close = trades[-1][1] if trades else close
        quote = draw(st.sampled_from((quote, (close, 3, close + 7, 10**15))))
        spreads = tuple(draw(st.lists(st.integers(0, 10**12), max_size=3))) if quote else ()
        state = draw(st.sampled_from(("complete", "complete", "healed", "aggregated", "incomplete")))
        found.append(Second(at, close, tuple(trades), state, quote, spreads))
    return found


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Exact where it is a sum or a price; to 12 digits where both say DOUBLE."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
            else:
                assert one[name] == value, name


def check(folder: Path, seconds: list[Second], views: Iterable[str] = VIEWS) -> None:
    for symbol in SYMBOLS:
        write_days(folder, symbol, seconds)
    ours = Transpiled(folder)
    with ours.connection, ours.lake.connect() as lake:
        for name in views:
            if name == BASE:
                wanted = lake.sql(
                    f"SELECT {', '.join(STORED)}, day FROM bars_1s ORDER BY symbol, window_start"
                )
            else:
                wanted = lake.sql(f"SELECT {', '.join(NAMES)}, day FROM {name} ORDER BY symbol, window_start")
            found = ours.rows(
                f"SELECT * EXCLUDE ({PARTITIONS}) FROM lake.{name} ORDER BY symbol, window_start"
            )
            rows = wanted.pl().rows(named=True)
            assert rows
            same(found, rows)
        for view, macro, order in (
            ("volume_1h", "volume(every := '1h')", "window_start"),
            ("volume_1d", "volume(every := '1d')", "window_start"),
            ("spread_1h", "spread(every := '1h')", "window_start"),
            ("spread_1d", "spread(every := '1d')", "window_start"),
            ("volume_by_hour", "volume_by_hour()", "hour"),
            ("volume_by_weekday", "volume_by_weekday()", "weekday"),
            ("gaps", "gaps()", "gap_start, gap_end, missing_seconds DESC"),
            ("coverage", "coverage()", "day"),
        ):
            wanted = lake.sql(f"FROM {macro} ORDER BY symbol, {order}").pl()
            left_out = [name for name in wanted.columns if name not in bigquery_views.PARTITIONS]
            found = ours.rows(f"SELECT {', '.join(left_out)} FROM lake.{view} ORDER BY symbol, {order}")
            same(found, wanted.rows(named=True))
        found = ours.rows("FROM lake.volume_profile_1d ORDER BY symbol, day, level")
        wanted_rows: list[dict[str, Any]] = []
        for symbol in SYMBOLS:
            for day in ours.lake.days(symbol):
                profile = f"volume_profile('{symbol}', '{day}', '{day} 23:59:59.999999')"
                wanted_rows += lake.sql(f"FROM {profile} ORDER BY level").pl().rows(named=True)
        same(found, wanted_rows)
        for view in series.VIEW_NAMES:
            rows = f"SELECT * FROM {{}}{view} ORDER BY series, date, version"
            assert (
                ours.connection.sql(rows.format("lake.")).fetchall() == lake.sql(rows.format("")).fetchall()
            )


def keep_series(folder: Path) -> None:
    """Two series: days that were fetched later and days that were known at once, and one that was revised."""
    days = trading_days(date(2024, 8, 1), date(2024, 8, 9))
    provider = Scripted({"^GSPC": days, "^VIX": days})
    for now in (date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 10)):
        ask(provider, now, "^GSPC", "^VIX", layout=Layout(folder))
        provider.days["^VIX"] = {day: replace(one, close=one.close + 1) for day, one in days.items()}


def test_what_the_views_say_is_what_the_lake_says(tmp_path: Path) -> None:
    seconds = [
        # A minute that begins quiet, at a price that none of its trades had; and a bid that falls.
        Second(MIDNIGHT - 61, 500, ((1, 500, 10**8, True),), quote=(499, 9, 501, 9)),
        Second(MIDNIGHT - 60, 500, quote=(499, 9, 501, 9)),
        Second(
            MIDNIGHT - 5,
            100,
            ((2, 100, 10**8, True), (3, 90, 3, False)),
            quote=(99, 5, 101, 6),
            spreads=(2, 5),
        ),
        Second(MIDNIGHT - 4, 90, quote=(99, 5, 102, 6)),
        Second(MIDNIGHT + 7, 95, ((9, 95, 7, True), (11, 97, 7, False)), "healed"),
        Second(MIDNIGHT + 8, 97, ((12, 97, 7, True),), "incomplete", (96, 1, 99, 2), (3, 3, 4)),
        Second(MIDNIGHT + 2 * 86400, 50, ((13, 50, 10**9, False),), "aggregated", (49, 1, 51, 2), (2,)),
    ]
    keep_series(tmp_path)
    check(tmp_path, seconds)
    with Lake(tmp_path).connect() as lake:
        latest, all_, known = (lake.sql(f"FROM {view}").fetchall() for view in series.VIEW_NAMES)
    assert len(latest) == 14
    assert len(all_) > len(known) > 5


@settings(deadline=None, max_examples=3)
@given(markets())
def test_of_any_market(tmp_path_factory: pytest.TempPathFactory, seconds: list[Second]) -> None:
    check(tmp_path_factory.mktemp("lake"), seconds, ("bars_1m", "bars_1d"))


@pytest.mark.faults
@settings(deadline=None, max_examples=150)
@given(markets())
def test_of_many_markets(tmp_path_factory: pytest.TempPathFactory, seconds: list[Second]) -> None:
    check(tmp_path_factory.mktemp("lake"), seconds)


@pytest.fixture(scope="module")
def parsed() -> dict[str, exp.Expression]:
    return {one.name: sqlglot.parse_one(one.sql, read="bigquery") for one in of_lake() if one.kind == "view"}


def test_views_are_of_bigquery_s_dialect(parsed: dict[str, exp.Expression]) -> None:
    for name, tree in parsed.items():
        assert isinstance(tree, exp.Create), name
        assert tree.kind == "VIEW"
        assert not list(tree.find_all(exp.Command))
        # Functions that sqlglot does not know are taken for somebody's own: a slip of the pen would be one.
        assert not list(tree.find_all(exp.Anonymous)), name


def test_a_view_reads_what_is_made_before_it() -> None:
    made: set[str] = set()
    for statement in of_lake():
        if statement.kind == "view":
            tree = sqlglot.parse_one(statement.query, read="bigquery")
            local = {cte.alias for cte in tree.find_all(exp.CTE)}
            # An UNNEST of an array is no table.
            read = {one.name for one in tree.find_all(exp.Table) if one.name} - local
            assert read, statement.name
            assert read <= made, statement.name
        made.add(statement.name)
    assert {
        *VIEWS,
        *series.VIEW_NAMES,
        "volume_1h",
        "volume_profile_1d",
        "spread_1h",
        "gaps",
        "coverage",
    } < made


def test_views_that_have_a_time_have_the_partitions(parsed: dict[str, exp.Expression]) -> None:
    for name, tree in parsed.items():
        if name.startswith("bars_") or name in (
            "volume_1h", "volume_1d", "volume_profile_1d", "spread_1h", "spread_1d"
        ):  # fmt: skip
            assert set(bigquery_views.PARTITIONS) <= set(tree.expression.named_selects), name


def test_an_external_table_stands_over_one_symbol_s_days() -> None:
    made = of_lake(("BTCUSDT",))[0]
    clause = "WITH PARTITION COLUMNS (year INT64, month INT64, day INT64)\n"
    assert clause in made.sql
    # sqlglot knows all of it but that clause.
    tree = sqlglot.parse_one(made.sql.replace(clause, ""), read="bigquery")
    assert isinstance(tree, exp.Create)
    options = {
        option.this.name: option.args["value"].sql("bigquery")
        for option in tree.find_all(exp.Property)
        if "value" in option.args
    }
    assert [kind.this.name for kind in tree.find_all(exp.FileFormatProperty)] == ["PARQUET"]
    folder = "gs://my-lake/prod/parquet/binance/BTCUSDT"
    assert options["uris"] == f"['{folder}/*']"
    assert options["hive_partition_uri_prefix"] == f"'{folder}'"
    assert options["decimal_target_types"] == "['BIGNUMERIC']"


def test_a_file_s_types_are_what_the_statements_count_on(tmp_path: Path) -> None:
    """As the writer of days writes them: by these words of Parquet BigQuery chooses its types."""
    path = tmp_path / "bars.parquet"
    frame = frame_of("BTCUSDT", [Second(MIDNIGHT, 5, ((1, 5, 7, True),), quote=(4, 5, 6, 7), spreads=(1,))])
    table.write(path, frame, {})
    schema = pq.ParquetFile(path).schema
    found = {
        column.name: (column.physical_type, str(column.logical_type))
        for column in map(schema.column, range(len(schema)))
    }
    for name, type_ in BAR_SCHEMA.items():
        physical, logical = found[name]
        match type_:
            case pl.Decimal():
                assert (physical, logical) == ("FIXED_LEN_BYTE_ARRAY", "Decimal(precision=38, scale=8)"), name
            case pl.Datetime():
                assert physical == "INT64"
                assert "isAdjustedToUTC=true, timeUnit=microseconds" in logical
            case pl.String():
                assert (physical, logical) == ("BYTE_ARRAY", "String"), name
            case _:
                assert physical == "INT64", name
    # BigQuery refuses partitions that have a column's name.
    assert not {"year", "month", "day"} & set(found)
    assert {
        column.compression
        for group in [pq.ParquetFile(path).metadata.row_group(0)]
        for column in map(group.column, range(group.num_columns))
    } == {"ZSTD"}


@pytest.mark.parametrize(
    ("url", "dataset", "symbols", "said"),
    [
        ("file:///lake", "lake", ["BTCUSDT"], "write gs://bucket/prefix"),
        ("gs://b'k/x", "lake", ["BTCUSDT"], "write gs://bucket/prefix"),
        ("gs://my-lake/it's", "lake", ["BTCUSDT"], "write gs://bucket/prefix"),
        ("gs://my-lake", "la`ke", ["BTCUSDT"], r"write dataset or project\.dataset"),
        ("gs://my-lake", "a.b.c", ["BTCUSDT"], r"write dataset or project\.dataset"),
        ("gs://my-lake", "lake", ["btcusdt"], "must be in upper case: BTCUSDT"),
        ("gs://my-lake", "lake", ["BTC'USDT"], "letters and digits only"),
        ("gs://my-lake", "lake", [], "crypto-lake publish"),
        ("gs://my-lake", "lake", [f"S{n}USDT" for n in range(700)], "longer than BigQuery takes"),
    ],
)
def test_what_can_t_be_is_refused(url: str, dataset: str, symbols: list[str], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        statements(url, dataset_of(dataset), symbols, "binance")


def test_a_project_a_prefix_and_a_script() -> None:
    found = statements("gs://my-lake/", dataset_of("my-project.lake"), ["BTCUSDT", "BTCUSDT"], "binance")
    assert "uris = ['gs://my-lake/parquet/binance/BTCUSDT/*']" in found[0].sql
    text = script(found)
    assert len(re.findall(r"^CREATE OR REPLACE", text, re.MULTILINE)) == len(found) == text.count(";\n") + 1
    assert text.count("`my-project.lake.bars_1s`") >= len(VIEWS)
    assert MACRO_FILES not in text, "without a file BigQuery makes no external table"


def test_the_documented_queries_run(tmp_path: Path) -> None:
    for symbol in SYMBOLS:
        write_days(tmp_path, symbol, [Second(MIDNIGHT + n, 5, ((n, 5, 7, True),)) for n in range(600)])
    keep_series(tmp_path)
    bars, joined = re.findall(r"^```sql bigquery\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    ours = Transpiled(tmp_path)

    def rows(query: str) -> list[dict[str, Any]]:
        text = query.replace("my-project.", "")
        return ours.rows(sqlglot.transpile(text, read="bigquery", write="duckdb")[0])

    with ours.connection:
        assert [row["missing_seconds"] for row in rows(bars)] == [0, 0]
        (row,) = rows(joined)
        assert (row["window_start"].hour, row["sp500_day"]) == (0, date(2024, 8, 7))


def test_the_bytes_that_the_page_reckons_with_are_those_of_the_schema() -> None:
    def bytes_of(names: Iterable[str]) -> int:
        sizes = {pl.Decimal: 32, pl.Datetime: 8, pl.Int64: 8, pl.String: 2 + len("complete")}
        return sum(sizes[type(BAR_SCHEMA[name])] for name in names)

    ids = ("first_trade_id", "last_trade_id")
    candles = ("window_start", "open", "high", "low", "close", "volume_base", *ids)
    page = PAGE.read_text()
    for size in (
        bytes_of(name for name in BAR_SCHEMA if name not in ("exchange", "symbol")),
        bytes_of(candles),
        bytes_of(("window_start", "trade_count", *ids, "state")),
    ):
        day, year, thirteen = size * 86400 / 1e6, size * 86400 * 365 / 1e9, size * 86400 * 365 * 13 / 1e9
        assert (
            f"| {size} | {day:.1f} MB | {year:.1f} GB | {thirteen:.{0 if thirteen > 100 else 1}f} GB |"
            in page
        )


def test_the_page_names_every_view() -> None:
    page = PAGE.read_text()
    for statement in of_lake(("BTCUSDT",)):
        name = statement.name.removeprefix("bars_") if statement.name in VIEWS else statement.name
        assert f"`{name}`" in page or f"`{statement.name}`" in page, statement.name
