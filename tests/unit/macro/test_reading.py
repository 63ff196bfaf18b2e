"""Reading series, and joining them to bars without looking ahead."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake import Lake
from crypto_lake.access import macro
from crypto_lake.access.errors import InvalidArgumentError, NoDataError
from crypto_lake.lake.macro_files import name_of
from crypto_lake.macro import table
from crypto_lake.macro.days import Days, Seen, Values, day_end_us

ZONE = "America/New_York"
FIRST = date(2023, 12, 28)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400 * 10**6


def values(close: float) -> Values:
    return Values(None, None, None, close, 0, "USD", ZONE)


def stamp(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


BASE_US = day_end_us(FIRST, ZONE)


@st.composite
def histories(draw: st.DrawFn) -> Days:
    """Days known at any time after their end, each perhaps revised. Closes are all different."""
    found: dict[date, tuple[Seen, ...]] = {}
    close = 0.0
    for n in sorted(draw(st.sets(st.integers(0, 6), min_size=1))):
        day = FIRST + timedelta(days=n)
        times = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=3)))
        found[day] = ()
        for t in times:
            close += 1.0
            found[day] += (Seen(day_end_us(day, ZONE) + t * DAY_US // 2, values(close)),)
    return found


def frame(days: Days, series: str = "^GSPC") -> pl.LazyFrame:
    return table.rows_of(series, days).lazy()


def bars(times: list[datetime]) -> pl.LazyFrame:
    return pl.LazyFrame(
        {"window_start": times, "n": range(len(times))},
        schema_overrides={"window_start": pl.Datetime("us", "UTC")},
    )


@settings(max_examples=30, deadline=None)
@given(histories(), st.lists(st.integers(-20, 40), min_size=1, max_size=8))
def test_a_bar_has_the_latest_day_that_was_known_then_and_its_latest_version(
    days: Days, offsets: list[int]
) -> None:
    times = [stamp(BASE_US + n * DAY_US // 3) for n in offsets]
    joined = macro.join_as_of(bars(times), frame(days), ["^GSPC"]).collect()
    assert joined["n"].to_list() == list(range(len(times))), "in the order of the bars"
    for at, close, day in zip(times, joined["^GSPC"], joined["^GSPC date"], strict=True):
        known = {
            one: [seen for seen in history if stamp(seen.known_us) <= at] for one, history in days.items()
        }
        latest = max((one for one, seen in known.items() if seen), default=None)
        assert day == latest
        assert close == (known[latest][-1].values.close if latest else None)


@settings(max_examples=30, deadline=None)
@given(histories(), st.lists(st.integers(-20, 40), min_size=1, max_size=8))
def test_taken_as_known_at_the_days_end_nothing_is_used_before_it(days: Days, offsets: list[int]) -> None:
    times = [stamp(BASE_US + n * DAY_US // 3) for n in offsets]
    joined = macro.join_as_of(bars(times), frame(days), ["^GSPC"], late="day_end").collect()
    for at, close, day in zip(times, joined["^GSPC"], joined["^GSPC date"], strict=True):
        ended = [one for one in days if stamp(day_end_us(one, ZONE)) <= at]
        assert day == max(ended, default=None)
        if ended:
            known = [seen for seen in days[day] if stamp(seen.known_us) <= at] or [days[day][0]]
            assert close == known[-1].values.close


@settings(max_examples=30, deadline=None)
@given(histories())
def test_duckdb_says_the_same(days: Days) -> None:
    rows = table.rows_of("^GSPC", days)
    with duckdb.connect() as connection:
        connection.register("rows", rows.to_arrow())
        for name, body in macro.views("rows").items():
            connection.execute(f"CREATE TEMP VIEW {name} AS {body}")
        told = connection.execute(
            "SELECT epoch_us(usable_at), date, close FROM macro_known ORDER BY usable_at"
        ).fetchall()
        latest = connection.execute("SELECT date, version, close FROM macro ORDER BY date").fetchall()
    ours = macro.known_from(rows.lazy()).collect()
    assert told == list(zip(ours["usable_at"].dt.epoch("us"), ours["date"], ours["close"], strict=True))
    assert latest == [(day, len(history), history[-1].values.close) for day, history in sorted(days.items())]


@pytest.fixture
def lake(tmp_path: Path) -> macro.LocalFiles:
    """^GSPC of two years, 2024-01-02 revised a week later; GC=F of one."""

    def seen(day: date, close: float, later_days: int = 0) -> Seen:
        return Seen(day_end_us(day, ZONE) + later_days * DAY_US, values(close))

    for year, days in {
        2023: {date(2023, 12, 29): (seen(date(2023, 12, 29), 1.0),)},
        2024: {
            date(2024, 1, 2): (seen(date(2024, 1, 2), 2.0), seen(date(2024, 1, 2), 2.5, 7)),
            date(2024, 1, 3): (seen(date(2024, 1, 3), 3.0),),
        },
    }.items():
        table.write(tmp_path / name_of("^GSPC", year), "^GSPC", days)
    gold = {date(2024, 1, 3): (seen(date(2024, 1, 3), 2000.0),)}
    table.write(tmp_path / name_of("GC=F", 2024), "GC=F", gold)
    return macro.LocalFiles(tmp_path)


def closes(rows: pl.LazyFrame) -> list[float]:
    return rows.collect()["close"].to_list()


def test_days_and_versions_are_chosen(lake: macro.LocalFiles) -> None:
    assert macro.series_of(lake) == ["GC=F", "^GSPC"]
    assert closes(macro.read(lake, "^GSPC")) == [1.0, 2.5, 3.0]
    assert closes(macro.read(lake, "^GSPC", versions="all")) == [1.0, 2.0, 2.5, 3.0]
    assert closes(macro.read(lake, "^GSPC", as_of="2024-01-08")) == [1.0, 2.0, 3.0]
    assert closes(macro.read(lake, "^GSPC", as_of="2024-01-03T04:59:59")) == [1.0]
    assert closes(macro.read(lake, "^GSPC", "2024-01-02", date(2024, 1, 3))) == [2.5]
    assert closes(macro.read(lake, ["^GSPC", "GC=F"], start="2024-01-03")) == [2000.0, 3.0]
    assert closes(macro.read(lake)) == [2000.0, 1.0, 2.5, 3.0]
    assert macro.read(lake, "^GSPC", "2025-01-01").collect().schema == macro.MACRO_SCHEMA


def test_it_is_read_when_it_is_collected(lake: macro.LocalFiles, tmp_path: Path) -> None:
    frame = macro.read(lake, "GC=F")
    table.write(tmp_path / name_of("GC=F", 2024), "GC=F", {date(2024, 1, 4): (Seen(1, values(7.0)),)})
    assert closes(frame) == [7.0]


def test_several_series_beside_the_bars(lake: macro.LocalFiles) -> None:
    rows = macro.read(lake, versions="all")
    at = [
        datetime(2024, 1, 3, 5, tzinfo=UTC),
        datetime(2024, 1, 4, 5, tzinfo=UTC),
        datetime(2024, 1, 2, tzinfo=UTC),
    ]
    joined = macro.join_as_of(bars(at), rows, ["^GSPC", "GC=F"]).collect()
    assert joined.columns == ["window_start", "n", "^GSPC", "^GSPC date", "GC=F", "GC=F date"]
    assert joined["^GSPC"].to_list() == [2.0, 3.0, 1.0], "the revision of a week later is of an earlier day"
    assert joined["GC=F"].to_list() == [None, 2000.0, None]


def test_what_is_asked_wrongly_is_told(lake: macro.LocalFiles, tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"did you mean \^GSPC\?"):
        macro.read(lake, "^GSP")
    with pytest.raises(NoDataError, match="macro backfill"):
        macro.read(macro.LocalFiles(tmp_path / "empty"))
    with pytest.raises(InvalidArgumentError, match="upper case"):
        macro.read(lake, "gc=f")
    with pytest.raises(InvalidArgumentError, match="end is excluded"):
        macro.read(lake, "^GSPC", "2024-01-02", "2024-01-02")
    with pytest.raises(InvalidArgumentError, match="did you mean close"):
        macro.join_as_of(bars([EPOCH]), macro.read(lake, versions="all"), ["^GSPC"], column="clos")
    with pytest.raises(InvalidArgumentError, match="no column of times"):
        macro.join_as_of(bars([EPOCH]), macro.read(lake, versions="all"), ["^GSPC"], on="n")


def test_a_lake_has_them_in_python_and_in_sql(lake: macro.LocalFiles, tmp_path: Path) -> None:
    whole = Lake(tmp_path)
    assert whole.macro_series() == ["GC=F", "^GSPC"]
    assert closes(whole.macro("^GSPC", "2024-01-02")) == [2.5, 3.0]
    at = bars([datetime(2024, 1, 4, 5, tzinfo=UTC)])
    assert whole.with_macro(at, ["GC=F"]).collect()["GC=F"].to_list() == [2000.0]
    with whole.connect(read_only=True) as connection:
        query = "SELECT series, close FROM macro ORDER BY series, date"
        assert connection.sql(query).fetchall() == [
            ("GC=F", 2000.0), ("^GSPC", 1.0), ("^GSPC", 2.5), ("^GSPC", 3.0)
        ]  # fmt: skip
        assert connection.sql("SELECT count(*) FROM macro_versions").fetchall() == [(5,)]
        with duckdb.connect() as plain:
            plain.execute("SET TimeZone = 'UTC'")
            for view in macro.VIEW_NAMES:
                elsewhere = plain.sql(f"FROM ({whole.sql_for(view)}) ORDER BY ALL").fetchall()
                assert elsewhere == connection.sql(f"FROM {view} ORDER BY ALL").fetchall() != [], view
        with pytest.raises(InvalidArgumentError, match="macro takes nothing"):
            whole.sql_for("macro", "^GSPC")
        table.write(tmp_path / name_of("GC=F", 2024), "GC=F", {date(2024, 1, 4): (Seen(1, values(7.0)),)})
        assert connection.sql(query).fetchall()[0] == ("GC=F", 7.0), "as it is when the query begins"
        joined = connection.sql(
            "SELECT close FROM (SELECT TIMESTAMPTZ '2024-01-05 00:00:00+00' AS t) "
            "ASOF LEFT JOIN (SELECT * FROM macro_known WHERE series = '^GSPC') ON t >= usable_at"
        )
        assert joined.fetchall() == [(3.0,)]


def test_a_lake_without_series_answers_with_nothing(tmp_path: Path) -> None:
    whole = Lake(tmp_path)
    assert whole.macro_series() == []
    with whole.connect() as connection:
        for view in ("macro", "macro_versions", "macro_known"):
            assert connection.sql(f"SELECT * FROM {view}").fetchall() == []
    with pytest.raises(NoDataError):
        whole.macro()
