"""A picture holds what the lake has: what is missing is a break and a shade, and every second is counted once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake import Lake
from crypto_lake.dashboard import figure, reading
from crypto_lake.dashboard.choice import Freshness, Window
from crypto_lake.dashboard.series import Stretch, gap_windows, series_of
from crypto_lake.dashboard.words import known_words, number, numbers_of, percent
from support.bar_rows import Second, write_days

START = datetime(2024, 8, 8, 13, tzinfo=UTC)
AT = int(START.timestamp())
PRICE = 50_000 * 10**8


def rows(seconds: list[int], healed: tuple[int, ...] = (), incomplete: tuple[int, ...] = ()) -> list[Second]:
    return [
        Second(
            AT + n,
            PRICE + n * 10**6,
            ((n + 1, PRICE + n * 10**6, 10**7, True),),
            state="healed" if n in healed else "incomplete" if n in incomplete else "complete",
            quote=(PRICE, 10**8, PRICE + 10**7, 10**8),
            spreads=(10**7,),
        )
        for n in seconds
    ]


def picture(root: Path, seconds: list[Second], window: Window, every: int) -> reading.Picture:
    write_days(root, "BTCUSDT", seconds)
    lake = Lake(root)
    return reading.read(lake, ["BTCUSDT"], window, every, reading.known_until(lake, ["BTCUSDT"]))


def window(seconds: int) -> Window:
    return Window(START, START + timedelta(seconds=seconds))


def test_a_gap_is_a_break_a_shade_and_a_row(tmp_path: Path) -> None:
    there = [n for n in range(200) if not 75 <= n < 130]
    shown = picture(tmp_path, rows(there, healed=(3,)), window(300), 10)
    (series,) = shown.series
    assert series.grid.height == 30
    assert [(s.kind, (s.start - START).seconds, (s.end - START).seconds) for s in series.stretches] == [
        ("partial", 70, 80),
        ("missing", 80, 130),
        ("waiting", 200, 300),
    ]
    known = series.known
    assert (known.complete, known.healed, known.missing, known.waiting) == (144, 1, 55, 100)
    assert shown.gaps.select("missing_seconds", "missing_trades").rows() == [(55, 55)]
    assert shown.gaps_whole

    made = figure.figure_of(series)
    go.Figure(made)  # plotly knows every name and value of it
    by_name = {trace["name"]: trace for trace in made["data"]}
    hole = slice(8, 13)
    for trace, key in (
        ("price", "close"),
        ("best bid", "y"),
        ("best ask", "y"),
        ("volume", "y"),
        ("spread", "y"),
    ):
        assert by_name[trace][key][hole] == [None] * 5
        assert None not in by_name[trace][key][:8] + by_name[trace][key][13:20]
    assert not any(trace.get("connectgaps") for trace in made["data"])
    assert by_name["known"]["z"] == [[3, *[4] * 6, 1, *[0] * 5, *[4] * 7, *[None] * 10]]
    assert [shape["name"] for shape in made["layout"]["shapes"]] == ["partial", "missing", "waiting"]
    assert by_name["spread"]["y"][0] == pytest.approx(0.1 / 50_000.05 * 10_000)


def test_volume_has_the_colour_of_the_candle(tmp_path: Path) -> None:
    down = [Second(AT + n, PRICE - n * 10**6, ((n + 1, PRICE - n * 10**6, 10**7, True),)) for n in range(20)]
    (series,) = picture(tmp_path, down, window(20), 10).series
    made = figure.figure_of(series)["data"]
    assert next(t for t in made if t["name"] == "volume")["marker"]["color"] == [figure.DOWN] * 2
    assert made[0]["decreasing"]["fillcolor"] == figure.DOWN


def test_the_interval_in_which_the_bars_end_is_not_called_broken(tmp_path: Path) -> None:
    (series,) = picture(tmp_path, rows(list(range(15))), window(20), 10).series
    assert series.stretches == ()
    assert series.known.share == 1.0
    assert figure.ranks_of(series) == [4, 4]
    until = START + timedelta(seconds=15)
    assert known_words(series, Freshness("BTCUSDT", until, 60.0, "fresh")) == (
        "100% known · bars end 2024-08-08 13:00:15Z, 1 min ago"
    )


def test_a_window_without_bars_is_missing_or_not_there_yet(tmp_path: Path) -> None:
    write_days(tmp_path, "BTCUSDT", rows([0]))
    lake = Lake(tmp_path)
    until = reading.known_until(lake, ["BTCUSDT"])
    for days, kind in ((-5, "missing"), (5, "waiting")):
        begin = START + timedelta(days=days)
        empty = reading.read(lake, ["BTCUSDT"], Window(begin, begin + timedelta(hours=1)), 60, until)
        assert [s.kind for s in empty.series[0].stretches] == [kind]
        assert empty.bars.is_empty()
        go.Figure(figure.figure_of(empty.series[0]))
        assert numbers_of(empty.series[0])[0][1] == "–"
    full = lake.bars("BTCUSDT", columns=reading.COLUMNS).collect()
    assert empty.bars.schema == full.schema


def test_a_symbol_without_any_day_is_told(tmp_path: Path) -> None:
    write_days(tmp_path, "BTCUSDT", rows([0]))
    (tmp_path / "parquet/binance/ETHUSDT").mkdir()
    lake = Lake(tmp_path)
    if "ETHUSDT" in lake.symbols():
        assert reading.known_until(lake, ["ETHUSDT"]) == {"ETHUSDT": None}


@given(
    st.lists(st.sampled_from(["complete", "healed", "aggregated", "incomplete", None]), max_size=120),
    st.sampled_from([1, 7, 10, 60]),
    st.integers(1, 150),
)
def test_every_second_is_counted_once_and_every_flaw_is_shaded(
    states: list[str | None], every: int, length: int
) -> None:
    end = -(-length // every) * every
    bars = pl.DataFrame(
        [
            bar(group, at, every)
            for at, group in ((at, states[at : at + every]) for at in range(0, end, every))
            if any(group)
        ],
        schema=reading.schema(),
    )
    last = max((n for n, state in enumerate(states) if state is not None), default=None)
    until = None if last is None else START + timedelta(seconds=last + 1)
    series = series_of(bars, "X", window(end), every, until)
    known = series.known
    total = (
        known.complete + known.healed + known.aggregated + known.incomplete + known.missing + known.waiting
    )
    assert total == end
    assert known.waiting == (end if last is None else max(0, end - last - 1))
    for one, other in zip(series.stretches, series.stretches[1:], strict=False):
        assert one.end <= other.start
    for n in range(end):
        flawed = last is not None and n <= last and states[n] in ("incomplete", None)
        at = START + timedelta(seconds=n)
        if flawed:
            assert any(s.start <= at < s.end and s.kind != "waiting" for s in series.stretches)
    asked, whole = gap_windows(series, 10**6)
    assert whole
    for stretch in series.stretches:
        if stretch.kind != "waiting":
            assert any(w.start <= stretch.start and stretch.end <= w.end for w in asked)
    assert sum(w.seconds for w in gap_windows(series, every * 3)[0]) <= every * 3


def bar(group: list[str | None], at: int, every: int) -> dict[str, object]:
    counts = {
        f"{name}_seconds": group.count(name) for name in ("complete", "healed", "aggregated", "incomplete")
    }
    missing = every - sum(counts.values())
    return {
        "window_start": START + timedelta(seconds=at),
        "symbol": "X",
        "state": "incomplete" if missing or counts["incomplete_seconds"] else "complete",
        **counts,
        "missing_seconds": missing,
    }


def test_too_many_shades_leave_out_the_shortest() -> None:
    many = [
        Stretch(START + timedelta(minutes=n), START + timedelta(minutes=n, seconds=n % 50 + 1), "missing")
        for n in range(500)
    ]
    kept = figure.shades(many, 100)
    assert len(kept) == 100
    assert kept == sorted(kept, key=lambda one: one.start)
    assert min(s.end - s.start for s in kept) >= max(s.end - s.start for s in many if s not in kept)


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "100%"), (0.0, "0%"), (0.999999, "99.99 %"), (1e-9, "0.01 %"), (0.5, "50.00 %")],
)
def test_a_missing_second_is_never_rounded_away(share: float, words: str) -> None:
    assert percent(share) == words


def test_numbers_lose_only_zeros() -> None:
    assert (number(60000.0), number(0.00001234), number(1234.5), number(None)) == (
        "60,000",
        "0.00001234",
        "1,234.5",
        "–",
    )
