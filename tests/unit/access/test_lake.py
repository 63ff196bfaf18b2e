"""What `Lake` says of what it has, and of what it has not."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake import Lake
from crypto_lake.access.errors import (
    InvalidArgumentError,
    LakeError,
    NoDataError,
    UnknownSymbolError,
    UnreachableError,
)
from crypto_lake.access.times import Span, as_seconds, as_span, as_utc, interval_name, whole_intervals
from support.bar_rows import Second, write_days

START = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())


def seconds(first: int, count: int, *, id_: int = 0) -> list[Second]:
    return [Second(START + first + n, 100, ((id_ + n, 100, 10**8, n % 2 == 0),)) for n in range(count)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Ten seconds, five missing with seven trades, a healed one; a day without a file; and a second of one more day."""
    rows = [*seconds(0, 10), Second(START + 15, 100, ((17, 100, 1, True), (19, 100, 1, True)), "healed")]
    write_days(tmp_path, "BTCUSDT", [*rows, *seconds(2 * 86400, 1, id_=20)])
    write_days(tmp_path, "ETHUSDT", seconds(0, 3))
    return Lake(tmp_path)


def test_what_there_is(lake: Lake) -> None:
    assert lake.symbols() == ["BTCUSDT", "ETHUSDT"]
    assert lake.days() == ["2024-08-08", "2024-08-10"]
    assert lake.days("ETHUSDT") == ["2024-08-08"]
    assert lake.exchange == "binance"


def test_coverage_counts_every_second_of_the_range_once(lake: Lake) -> None:
    found = lake.coverage("BTCUSDT", "2024-08-08T00:00:05", "2024-08-11")
    lengths = (
        "complete_seconds",
        "healed_seconds",
        "aggregated_seconds",
        "incomplete_seconds",
        "missing_seconds",
    )
    assert found.select("day", "seconds", *lengths).rows() == [
        (date(2024, 8, 8), 86395, 5, 1, 0, 0, 86389),
        (date(2024, 8, 9), 86400, 0, 0, 0, 0, 86400),
        (date(2024, 8, 10), 86400, 1, 0, 0, 0, 86399),
    ]
    assert found["missing_trades"].to_list() == [8, None, 0]
    assert found["trade_count"].to_list() == [7, 0, 1]
    assert found["first_second"].to_list() == [
        datetime(2024, 8, 8, 0, 0, 5, tzinfo=UTC),
        None,
        datetime(2024, 8, 10, tzinfo=UTC),
    ]
    whole = lake.coverage("BTCUSDT")
    assert whole["day"].to_list() == [date(2024, 8, day) for day in (8, 9, 10)]
    nothing = lake.coverage("BTCUSDT", "2024-08-09T12:00", "2024-08-10")
    assert nothing.schema == whole.schema
    assert nothing.select("seconds", "missing_seconds", "trade_count").rows() == [(43200, 43200, 0)]
    with lake.connect() as connection:
        macro = "FROM coverage('BTCUSDT', '2024-08-08 00:00:05', '2024-08-11')"
        assert (
            connection.sql(macro)
            .pl()
            .drop("first_second", "last_second")
            .equals(found.drop("first_second", "last_second"))
        )


def test_gaps_name_what_is_missing(lake: Lake) -> None:
    at = datetime(2024, 8, 8, tzinfo=UTC)
    found = lake.gaps("BTCUSDT", end="2024-08-09")
    assert found.drop("exchange", "symbol").rows() == [
        (at + timedelta(seconds=10), at + timedelta(seconds=15), 5, 10, 16, 7),
        # Within one second: which of its ids it is is not known of the bar alone.
        (at + timedelta(seconds=15), at + timedelta(seconds=16), 0, None, None, 1),
    ]
    assert lake.gaps(["ETHUSDT"]).height == 0


def test_wrong_names_are_told_with_near_ones(lake: Lake) -> None:
    with pytest.raises(UnknownSymbolError, match=r"no bars of 'BTCUSD'; did you mean BTCUSDT\?"):
        lake.bars("BTCUSD")
    with pytest.raises(UnknownSymbolError, match="did you mean ETHUSDT"):
        lake.coverage("ethusdt")
    with pytest.raises(UnknownSymbolError, match="there are BTCUSDT, ETHUSDT"):
        lake.gaps("XRP")
    with pytest.raises(InvalidArgumentError, match=r"no column 'volume'; did you mean volume_base"):
        lake.bars("BTCUSDT", columns=["volume"])
    with pytest.raises(InvalidArgumentError, match="no view or macro 'volum'; did you mean volume"):
        lake.sql_for("volum")
    with pytest.raises(
        InvalidArgumentError, match="volume takes no levels; it takes symbols, since, until, every"
    ):
        lake.sql_for("volume", levels=3)


def test_a_range_without_data_says_what_there_is(lake: Lake) -> None:
    with pytest.raises(
        NoDataError, match=r"from 2023-01-01 to 2023-02-01; BTCUSDT: 2024-08-08 to 2024-08-10 \(2 days\)"
    ):
        lake.bars("BTCUSDT", "2023-01-01", "2023-02-01")
    with pytest.raises(InvalidArgumentError, match="the end is excluded"):
        lake.bars("BTCUSDT", "2024-08-09", "2024-08-08")
    with pytest.raises(InvalidArgumentError, match="no interval of 1h begins from 2024-08-08T00:10:00Z"):
        lake.bars("BTCUSDT", "2024-08-08T00:10", "2024-08-08T00:20", every="1h")


def test_several_exchanges_have_to_be_told_apart(tmp_path: Path) -> None:
    write_days(tmp_path, "BTCUSDT", seconds(0, 1))
    write_days(tmp_path, "XBTUSD", [Second(START, 5)], exchange="kraken")
    with pytest.raises(
        InvalidArgumentError, match=r"bars of binance, kraken; say which: Lake\(…, exchange='binance'\)"
    ):
        Lake(tmp_path).bars("BTCUSDT")
    assert Lake(tmp_path, exchange="kraken").symbols() == ["XBTUSD"]
    with pytest.raises(LakeError, match="no bars of okx; there are those of binance, kraken"):
        Lake(tmp_path, exchange="okx").symbols()


def test_where_a_lake_is(tmp_path: Path, lake: Lake) -> None:
    assert Lake(f"file://{lake.url}").symbols() == lake.symbols()
    with pytest.raises(UnreachableError, match="there is no data directory"):
        Lake(tmp_path / "elsewhere")
    for wrong in ("s3://bucket", "file://data", "gs://"):
        with pytest.raises(InvalidArgumentError):
            Lake(wrong)


def test_pandas_gets_floats_or_exact_decimals(lake: Lake) -> None:
    frame = lake.to_pandas("BTCUSDT", "2024-08-08", "2024-08-09", columns=["open", "trade_count"])
    assert list(frame.columns) == ["open", "trade_count"]
    assert frame.index.name == "window_start"
    assert str(frame.index.tz) == "UTC"  # pyright: ignore[reportAttributeAccessIssue]
    assert frame["open"].tolist() == [1e-6]
    exact = lake.to_pandas("BTCUSDT", "2024-08-08", "2024-08-09", exact=True)
    assert exact["open"].tolist() == [Decimal("0.00000100")]


def test_the_package_loads_no_engine_until_a_lake_is_asked_for() -> None:
    code = "import sys, crypto_lake; assert not {'duckdb', 'polars'} & set(sys.modules); crypto_lake.Lake; assert 'duckdb' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.integers(1, 366 * 86400))
def test_an_interval_is_read_as_it_is_written(seconds: int) -> None:
    assert as_seconds(interval_name(seconds)) == seconds
    assert as_seconds(timedelta(seconds=seconds)) == seconds


@pytest.mark.parametrize(
    "wrong", ["", "5", "m", "1w", "1M", "-5m", "0s", "1.5h", "367d", "999999999d", timedelta(0)]
)
def test_other_intervals_are_refused(wrong: str | timedelta) -> None:
    with pytest.raises(InvalidArgumentError):
        as_seconds(wrong)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(1, 400_000))
def test_a_range_begins_and_ends_with_an_interval(at: datetime, seconds: int) -> None:
    start = at.replace(tzinfo=UTC)
    found = whole_intervals(Span(start, start), seconds).start
    assert found is not None
    assert timedelta(0) <= found - start < timedelta(seconds=seconds)
    assert int(found.timestamp()) % seconds == 0
    assert whole_intervals(Span(found, found), seconds) == Span(found, found)


def test_times_are_utc() -> None:
    noon = datetime(2024, 8, 8, 12, tzinfo=UTC)
    for same in (
        noon,
        noon.replace(tzinfo=None),
        noon.astimezone(timezone(timedelta(hours=9))),
        "2024-08-08T12:00",
        "2024-08-08 12:00:00Z",
        "2024-08-08T21:00+09:00",
    ):
        assert as_utc(same) == noon
    assert as_utc(date(2024, 8, 8)) == as_utc("2024-08-08") == noon.replace(hour=0)
    for wrong in ("yesterday", "", "1969-12-31", "9999-01-01", 5):
        with pytest.raises(InvalidArgumentError, match="start"):
            as_utc(wrong, "start")  # pyright: ignore[reportArgumentType]
    assert as_span("2024-08-08", "2024-08-09").last_day == "2024-08-08"
    assert as_span("2024-08-08", "2024-08-09T00:00:00.000001").last_day == "2024-08-09"


def test_rows_are_typed(lake: Lake) -> None:
    schema = lake.bars("BTCUSDT", every="1d").collect().schema
    assert schema["open"] == pl.Decimal(38, 8)
    assert schema["window_start"] == pl.Datetime("us", "UTC")
    assert schema["missing_seconds"] == pl.Int64()
