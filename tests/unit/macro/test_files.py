"""Names of files, and years of a series in them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.lake.macro_files import (
    folder_of,
    name_of,
    parse,
    series_in,
    series_of,
    years_of,
)
from crypto_lake.lake.macro_schema import MACRO_SCHEMA, MACRO_SCHEMA_VERSION
from crypto_lake.macro import table
from crypto_lake.macro.days import Days, Seen, Values
from crypto_lake.macro.table import NotOursError
from crypto_lake.model.series import DEFAULT_SERIES, InvalidSeriesError, validate_series
from crypto_lake.store.names import name_problem

names = st.from_regex(r"[A-Z0-9^][A-Z0-9^=.&-]{0,23}", fullmatch=True)
prices = st.none() | st.floats(allow_nan=False, allow_infinity=False)
values = st.builds(
    Values,
    prices,
    prices,
    prices,
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(0, 2**63 - 1),
    st.sampled_from(["USD", "JPY", ""]),
    st.sampled_from(["America/New_York", "Asia/Tokyo"]),
)


@st.composite
def years(draw: st.DrawFn) -> Days:
    found: dict[date, tuple[Seen, ...]] = {}
    for day in sorted(draw(st.sets(st.dates(date(2024, 1, 1), date(2024, 12, 31)), max_size=5))):
        times = sorted(draw(st.sets(st.integers(0, 2**51), min_size=1, max_size=3)))
        found[day] = tuple(Seen(known_us, draw(values)) for known_us in times)
    return found


@settings(max_examples=25, deadline=None)
@given(names)
def test_a_folder_tells_its_series_and_holds_nothing_that_is_read_otherwise(name: str) -> None:
    folder = folder_of(name)
    assert series_of(folder) == name
    assert re.fullmatch(r"[A-Z0-9.~-]+", folder)
    assert not folder.startswith((".", "_"))
    assert name_problem(folder) is None
    assert parse(name_of(name, 2024)) == (name, 2024)


@settings(max_examples=25, deadline=None)
@given(names, names)
def test_two_series_never_share_a_folder_whatever_the_case(one: str, other: str) -> None:
    assert (folder_of(one).lower() == folder_of(other).lower()) == (one == other)


def test_the_folders_of_the_usual_series() -> None:
    assert [folder_of(name) for name in DEFAULT_SERIES] == [
        "~5EGSPC", "~5EVIX", "DX-Y.NYB", "GC~3DF", "CL~3DF", "~5ETNX",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "folder", ["^GSPC", "~5eGSPC", "~41BC", "GC=F", "gc~3DF", "~ZZ", "", ".", "..", "~2E"]
)
def test_other_folders_are_no_series(folder: str) -> None:
    assert series_of(folder) is None


@pytest.mark.parametrize("name", ["", "gc=f", "A/B", "..", "A B", "A_B", "A" * 25, "-A", "É"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidSeriesError):
        validate_series(name)


@settings(max_examples=25, deadline=None)
@given(year=years())
def test_a_year_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, year: Days) -> None:
    path = tmp_path_factory.mktemp("year") / "daily.parquet"
    table.write(path, "^GSPC", year)
    assert table.read(path, "^GSPC") == year
    first = path.read_bytes()
    table.write(path, "^GSPC", dict(reversed(list(year.items()))))
    assert path.read_bytes() == first, "the same days make the same bytes"


DAY = date(2024, 8, 8)
YEAR: Days = {
    DAY: (
        Seen(1_723_200_000_000_000, Values(1.0, 2.0, 0.5, 4.293000221252441, 7, "USD", "America/Chicago")),
        Seen(1_723_300_000_000_000, Values(1.0, 2.0, 0.5, 1.75, 8, "USD", "America/Chicago")),
    )
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / name_of("^TNX", 2024)
    table.write(path, "^TNX", YEAR)
    return path


def test_the_columns_are_those_of_the_contract(path: Path, tmp_path: Path) -> None:
    """A change of these lines is a change of the schema's version."""
    assert MACRO_SCHEMA_VERSION == 1
    assert {name: str(kind) for name, kind in MACRO_SCHEMA.items()} == {
        "series": "String",
        "date": "Date",
        "version": "Int32",
        "open": "Float64",
        "high": "Float64",
        "low": "Float64",
        "close": "Float64",
        "volume": "Int64",
        "currency": "String",
        "timezone": "String",
        "day_end": "Datetime(time_unit='us', time_zone='UTC')",
        "known_at": "Datetime(time_unit='us', time_zone='UTC')",
    }
    assert pl.scan_parquet(path).collect_schema() == MACRO_SCHEMA
    row = pl.read_parquet(path).row(0, named=True)
    assert row["close"] == 4.293000221252441, "to the bit"
    assert row["day_end"] == datetime(2024, 8, 9, 5, tzinfo=UTC)
    assert (series_in(tmp_path), years_of(tmp_path, "^TNX")) == (["^TNX"], [2024])


def test_duckdb_reads_it(path: Path, tmp_path: Path) -> None:
    query = f"SELECT series, date, version, close FROM read_parquet('{tmp_path}/parquet/macro/*/*/*.parquet')"
    assert duckdb.connect().execute(query + " ORDER BY version").fetchall() == [
        ("^TNX", DAY, 1, 4.293000221252441),
        ("^TNX", DAY, 2, 1.75),
    ]


def test_each_flipped_byte_is_found(path: Path) -> None:
    """By a page's checksum, the digest, or since it can't be read; or it changes nothing that is read."""
    good = path.read_bytes()
    found = 0
    for offset in range(0, len(good), 23):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 0x10]) + good[offset + 1 :])
        try:
            assert table.read(path, "^TNX") == YEAR, f"byte {offset}"
        except NotOursError:
            found += 1
    assert found > len(good) // 23 // 2


def test_a_file_that_is_not_ours_is_told(path: Path) -> None:
    rows = pq.read_table(path)
    with pytest.raises(NotOursError, match=r"rows of another series than \^GSPC"):
        table.read(path, "^GSPC")
    pq.write_table(rows.replace_schema_metadata({}), path)
    with pytest.raises(NotOursError, match="not written by this program"):
        table.read(path, "^TNX")
    pq.write_table(rows.replace_schema_metadata({"crypto_lake.macro_schema": "2"}), path)
    with pytest.raises(NotOursError, match="version 2 of the schema"):
        table.read(path, "^TNX")
    digest = {"crypto_lake.macro_schema": "1", "crypto_lake.macro_rows": "0" * 64}
    pq.write_table(rows.replace_schema_metadata(digest), path)
    with pytest.raises(NotOursError, match="other rows than its digest says"):
        table.read(path, "^TNX")
    path.write_bytes(b"PAR1")
    with pytest.raises(NotOursError, match="can't be read"):
        table.read(path, "^TNX")
