"""A symbol that trades no more: its last rows stand, however long ago, and whatever of its raw is still here."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import polars as pl

from crypto_lake.bars.transform import transform
from crypto_lake.lake.control import CONTROL, Alive, Subscribed
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour


def _load(name: str):
    full = f"bars_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


lake = _load("lake")
NS, DAY_SECONDS = 10**9, 86400
BASE = Hour("2024-08-09", 21).start_ns // NS
DAYS = 5


def trade(layout: Layout, number: int, second: int) -> Path:
    us = (BASE + second) * 10**6
    line = lake.trade_line(number, us, 10**10, 10**8, False, us * 1000 + 5_000_000, "c-1-0")
    return lake.write_part(layout, Hour.of_ns(us * 1000), number, [line])


def watch(layout: Layout, day: int) -> None:
    """A day of one connection after the other, by one sign of life a quarter of an hour; each begins before midnight."""
    start, stream = BASE + day * DAY_SECONDS, ("btcusdt@trade",)
    name = f"c-1-{day}"
    lake.write_control(
        layout,
        [((start - 60) * NS, name, Subscribed(stream))]
        + [(at * NS, name, Alive(at * 10**6, 1)) for at in range(start - 50, start + DAY_SECONDS + 60, 900)],
    )


def upto(layout: Layout) -> int:
    path = max((layout.root / "parquet").rglob("*.parquet"))
    return int(pl.read_parquet(path)["window_start"].dt.epoch("s").max())  # pyright: ignore[reportArgumentType]


def test_last_rows_are_the_same_whenever_they_are_made(tmp_path: Path) -> None:
    often, once = Layout(tmp_path / "often"), Layout(tmp_path / "once")
    for layout in (often, once):
        trade(layout, 1, 0)
        trade(layout, 2, 100)
    for day in range(DAYS):
        for layout in (often, once):
            watch(layout, day)
        assert not transform(often, "binance", workers=1).failed
        reached = upto(often)
        assert reached > BASE + (day + 1) * DAY_SECONDS - 1000
    assert not transform(once, "binance", workers=1).failed
    assert lake.bars_files(once) == lake.bars_files(often)
    # A cache that is lost changes nothing.
    shutil.rmtree(often.state / "bars")
    assert not transform(often, "binance", workers=1, rebuild=True).failed
    assert lake.bars_files(once) == lake.bars_files(often)


def test_last_rows_stay_when_the_raw_that_they_were_made_of_goes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    trade(layout, 1, 0)
    trade(layout, 2, 100)
    for day in range(2):
        watch(layout, day)
    assert not transform(layout, "binance", workers=1).failed
    before = lake.bars_files(layout)
    assert len(before) == 3
    shutil.rmtree(layout.raw_root() / "binance" / CONTROL)
    assert not transform(layout, "binance", workers=1).failed
    assert lake.bars_files(layout) == before
    shutil.rmtree(layout.raw_root() / "binance" / "BTCUSDT" / "2024-08-09")
    for rebuild in (False, True):
        made = transform(layout, "binance", workers=1, symbols=["BTCUSDT"], rebuild=rebuild)
        assert not made.failed
        assert lake.bars_files(layout) == before
