"""Bars of any interval are what the trades make by definition, in Python and in SQL, and the same in both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.access import reading
from crypto_lake.access.columns import NAMES
from crypto_lake.access.files import LakeFiles
from crypto_lake.access.lake import Lake
from crypto_lake.access.places import LocalPlace
from crypto_lake.access.reading import schema_of
from crypto_lake.access.session import open_session
from crypto_lake.access.statements import VIEWS
from crypto_lake.access.times import interval_name
from support.bar_rows import E8, Second, expected, write_days

MIDNIGHT = int(datetime(2024, 8, 9, tzinfo=UTC).timestamp())
PRICES = st.integers(1, 10**14)


@st.composite
def seconds_of_a_market(draw: st.DrawFn) -> list[Second]:
    """Around midnight, with stretches that are missing, seconds without trades or quotes, and every state."""
    at = MIDNIGHT - draw(st.integers(0, 150))
    id_, close = draw(st.integers(1, 10**12)), draw(PRICES)
    quote: tuple[int, int, int, int] | None = None
    found: list[Second] = []
    for _ in range(draw(st.integers(1, 20))):
        at += draw(st.sampled_from((1, 1, 1, 1, 2, 7, 61, 400)))
        trades: list[tuple[int, int, int, bool]] = []
        for price, size, buys in draw(
            st.lists(st.tuples(PRICES, st.integers(1, 10**22), st.booleans()), max_size=3)
        ):
            id_ += draw(st.sampled_from((1, 1, 1, 5)))
            trades.append((id_, price, size, buys))
        close = trades[-1][1] if trades else close
        quote = draw(st.sampled_from((quote, (close, 3, close + 7, 10**15))))
        spreads = tuple(draw(st.lists(st.integers(0, 10**12), max_size=3))) if quote else ()
        state = draw(st.sampled_from(("complete", "complete", "healed", "aggregated", "incomplete")))
        if not trades and (not found or at > found[-1].second + 1):
            id_ += 1  # after seconds that are missing the first one has a trade
            trades.append((id_, close, 10**8, True))
        found.append(Second(at, close, tuple(trades), state, quote, spreads))
    return found


INTERVALS = st.one_of(st.sampled_from((1, 60, 300, 3600, 86400)), st.integers(2, 2000))


class Rewritten:
    """A lake whose bars are others each time, read over one connection that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake(folder)
        self.files = LakeFiles(LocalPlace(folder))
        self.connection = open_session(self.files)

    def write(self, seconds: list[Second]) -> None:
        shutil.rmtree(self.folder / "parquet", ignore_errors=True)
        write_days(self.folder, "BTCUSDT", seconds)

    def sql(self, text: str) -> list[dict[str, object]]:
        self.files.refresh()
        return self.connection.sql(text).pl().rows(named=True)


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewritten]:
    lake = Rewritten(tmp_path_factory.mktemp("lake"))
    yield lake
    lake.connection.close()


def check_bars(lake: Rewritten, seconds: list[Second], every: int) -> None:
    lake.write(seconds)
    found = lake.lake.bars("BTCUSDT", every=timedelta(seconds=every)).collect()
    assert found.schema == schema_of(NAMES)
    wanted = expected("BTCUSDT", seconds, every)
    assert found.rows(named=True) == wanted
    lengths = [name for name in NAMES if name.endswith("_seconds")]
    assert (found.select(pl.sum_horizontal(lengths)).to_series() == every).all()
    name = interval_name(every)
    assert lake.sql(f"FROM bars('BTCUSDT', every := '{name}')") == wanted
    if f"bars_{name}" in VIEWS and every > 1:
        assert lake.sql(f"SELECT * EXCLUDE (day) FROM bars_{name} ORDER BY window_start") == wanted


def check_range(lake: Rewritten, seconds: list[Second], every: int, start: int, length: int) -> None:
    begin = datetime.fromtimestamp(MIDNIGHT - 150 + start, UTC)
    end = begin + timedelta(seconds=length)
    wanted = [bar for bar in expected("BTCUSDT", seconds, every) if begin <= bar["window_start"] < end]
    lake.write(seconds)
    if wanted:
        assert (
            lake.lake.bars("BTCUSDT", begin, end, every=timedelta(seconds=every)).collect().rows(named=True)
            == wanted
        )
    macro = f"bars('BTCUSDT', since := '{begin}', until := '{end}', every := '{interval_name(every)}')"
    assert lake.sql(f"FROM {macro}") == wanted


@settings(deadline=None, max_examples=12)
@given(seconds_of_a_market(), INTERVALS)
def test_bars_are_what_the_trades_make(rewritten: Rewritten, seconds: list[Second], every: int) -> None:
    check_bars(rewritten, seconds, every)


@settings(deadline=None, max_examples=8)
@given(seconds_of_a_market(), INTERVALS, st.integers(0, 300), st.integers(1, 300))
def test_a_range_has_the_whole_bars_that_begin_in_it(
    rewritten: Rewritten, seconds: list[Second], every: int, start: int, length: int
) -> None:
    check_range(rewritten, seconds, every, start, length)


@pytest.mark.faults
@settings(deadline=None, max_examples=400)
@given(seconds_of_a_market(), INTERVALS, st.integers(0, 300), st.integers(1, 300))
def test_many_markets(
    rewritten: Rewritten, seconds: list[Second], every: int, start: int, length: int
) -> None:
    check_bars(rewritten, seconds, every)
    check_range(rewritten, seconds, every, start, length)


def test_it_is_the_same_in_one_stretch_and_in_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [Second(MIDNIGHT - 600 + n, 5, ((n, 5 + n, 7, True),)) for n in range(1200)]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write_days(tmp_path, symbol, seconds)
    lake = Lake(tmp_path)
    few = ("close", "window_start", "symbol")
    for every, rows in (("1s", 30_000), ("7s", 4000), ("7m", 60)):
        bars = lake.bars(["ETHUSDT", "BTCUSDT"], every=every, columns=few)
        whole = bars.collect()
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_ROWS_AT_ONCE", rows)
            assert bars.collect().equals(whole)
        keys = whole.select("window_start", "symbol")
        assert keys.equals(keys.sort(pl.all()))


def test_a_price_before_the_interval_is_no_price_of_it(tmp_path: Path) -> None:
    """The minute begins with quiet seconds at a price that none of its trades had."""
    trade = (2, 100, 10**8, True)
    write_days(
        tmp_path,
        "BTCUSDT",
        [
            Second(MIDNIGHT - 1, 500, ((1, 500, 10**8, True),)),
            *(Second(MIDNIGHT + n, 500) for n in range(30)),
            Second(MIDNIGHT + 30, 100, (trade,)),
            *(Second(MIDNIGHT + n, 100) for n in range(31, 120)),
        ],
    )
    bars = Lake(tmp_path).bars("BTCUSDT", columns=["open", "high", "low", "close", "state"]).collect()
    assert bars.select(pl.exclude("state")).rows() == [(price * E8,) * 4 for price in (500, 100, 100)]
    assert bars["state"].to_list() == ["incomplete", "complete", "complete"]


def test_columns_come_as_asked_and_a_predicate_and_a_limit_hold(tmp_path: Path) -> None:
    write_days(tmp_path, "BTCUSDT", [Second(MIDNIGHT + n, 5, ((n, 5 + n, 7, True),)) for n in range(600)])
    lake = Lake(tmp_path)
    bars = lake.bars("BTCUSDT", columns=["close", "trade_count"])
    assert bars.collect_schema() == schema_of(["close", "trade_count"])
    assert bars.collect().columns == ["close", "trade_count"]
    assert bars.select("trade_count").collect()["trade_count"].to_list() == [60] * 10
    assert bars.head(3).collect().equals(bars.collect().head(3))
    late = lake.bars("BTCUSDT").filter(pl.col("last_trade_id") > 500).select("close")
    assert late.collect().height == 2
    streamed = lake.bars("BTCUSDT").collect(engine="streaming")
    assert streamed.equals(lake.bars("BTCUSDT").collect())


def test_filling_says_that_it_does_not_know(tmp_path: Path) -> None:
    seconds = [
        *(Second(MIDNIGHT + n, 5, ((n, 5, 7, True),)) for n in range(60)),
        Second(MIDNIGHT + 240, 9, ((99, 9, 7, True),)),
    ]
    write_days(tmp_path, "BTCUSDT", seconds)
    write_days(tmp_path, "ETHUSDT", seconds[:60])
    lake = Lake(tmp_path)
    plain = lake.bars(["BTCUSDT", "ETHUSDT"]).collect()
    filled = lake.bars(["BTCUSDT", "ETHUSDT"], fill="previous").collect()
    assert filled.schema == plain.schema
    made = filled.filter(pl.col("state") == "missing")
    assert filled.filter(pl.col("state") != "missing").equals(plain)
    assert made["symbol"].to_list() == ["BTCUSDT"] * 3  # nothing after the last bar of the other
    assert (made["window_start"].dt.epoch("s") - MIDNIGHT).to_list() == [60, 120, 180]
    assert made["missing_seconds"].to_list() == [60] * 3
    unknown = [
        "volume_base",
        "volume_quote",
        "trade_count",
        "first_trade_id",
        "bid",
        "spread_mean",
        "quote_updates",
    ]
    assert made.select(unknown).null_count().row(0) == (3,) * len(unknown)
    assert set(made.select("open", "high", "low", "close").rows()) == {(5 * E8,) * 4}
    # In pieces, and without the columns that it is made by.
    few = lake.bars("BTCUSDT", columns=["volume_base"], fill="previous").collect()
    assert few["volume_base"].is_null().to_list() == [False, True, True, True, False]


def test_taken_elsewhere_the_sql_gives_the_same(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write_days(
            tmp_path,
            symbol,
            [
                Second(MIDNIGHT - 900 + n, 5, ((n, 5 + n, 7, n % 3 == 0),), quote=(4, 5, 6, 7))
                for n in range(0, 1800, 2)
            ],
        )
    lake = Lake(tmp_path)
    with lake.connect() as ours, duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'America/New_York'")
        for name in (
            "volume",
            "volume_by_hour",
            "volume_by_weekday",
            "volume_profile",
            "spread",
            "gaps",
            "coverage",
        ):
            sql = lake.sql_for(name, ["BTCUSDT", "ETHUSDT"], "2024-08-08T23:50", "2024-08-09T00:10")
            here = (
                f"FROM {name}('BTCUSDT, ETHUSDT', since := '2024-08-08 23:50', until := '2024-08-09 00:10')"
            )
            assert len(ours.sql(here).fetchall()) > 1
            assert plain.sql(sql).fetchall() == ours.sql(here).fetchall(), name
            assert plain.sql(lake.sql_for(name)).fetchall() == ours.sql(f"FROM {name}()").fetchall(), name
        for view in ("bars_1s", "bars_5m", "bars_1d"):
            theirs = plain.sql(lake.sql_for(view)).fetchall()
            assert (
                theirs == ours.sql(f"SELECT {', '.join(NAMES)} FROM bars(every := '{view[5:]}')").fetchall()
            ), view
