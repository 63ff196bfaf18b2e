"""What `run` decides without starting anything: its parts, whose market a directory holds, what is shown."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.cli import bars_shown, source
from crypto_lake.cli.common import CommandError, flag_values
from crypto_lake.cli.progress import clock_text, size
from crypto_lake.cli.run_parts import TEST_TRANSFORM_SECONDS, child_flags, parts_of
from crypto_lake.config.load import Loaded, load
from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.locks import LockHeldError


def loaded(**flags: str) -> Loaded:
    return load(None, {}, {path.replace("__", "."): (text, "--set") for path, text in flags.items()})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data": st.sampled_from(["d", "with space", "a=b"]),
            "symbols": st.sampled_from(["BTCUSDT", "A,B"]),
            "port": st.integers(-1, 65535).map(str),
            "assignments": st.just(("collector.fsync_ms=20", "logging.file=INFO")),
        },
    )
)
def test_a_child_reads_the_configuration_of_its_parent(options: dict[str, object]) -> None:
    parent = load(None, {}, flag_values(options))
    flags = child_flags(parent, options)
    assert flags[::2] == ["--set"] * (len(flags) // 2)
    assert load(None, {}, flag_values({"assignments": flags[1::2]})).config == parent.config


def test_the_collector_is_stopped_first_and_test_mode_transforms_often() -> None:
    settings = loaded(transform__every_minutes="7")
    for test_mode, every in ((False, 7 * 60.0), (True, TEST_TRANSFORM_SECONDS)):
        parts = parts_of(settings, ["--set", "collector.port=0"], test_mode=test_mode)
        assert [part.name for part in parts] == [
            "collector",
            "transformer",
            *([] if test_mode else ["checker", "cleaner"]),
        ]
        assert parts[0].essential
        assert parts[0].every_seconds is None
        assert parts[1].every_seconds == every
        assert parts[0].argv[-2:] == ("--set", "collector.port=0")


def test_what_moves_finished_hours_on_runs_where_it_is_configured() -> None:
    def upkeep(**flags: str) -> dict[str, float | None]:
        parts = parts_of(loaded(**flags), ["--set", "data=d"], test_mode=False)[2:]
        assert all(part.argv[-2:] == ("--set", "data=d") for part in parts)
        starts = [part.first_seconds for part in parts]
        assert starts == sorted(set(starts))
        return {part.name: part.every_seconds for part in parts}

    off = {"check__enabled": "false"}
    assert upkeep(retention__raw="never", **off) == {}
    assert upkeep(retention__raw="never", check__every_minutes="20") == {"checker": 1200.0}
    assert upkeep(retention__every_minutes="5", **off) == {"cleaner": 300.0}
    with_bucket = upkeep(gcs__bucket_name="b", gcs__every_minutes="10", retention__raw="never")
    assert with_bucket == {"checker": 3600.0, "uploader": 600.0, "publisher": 600.0, "cleaner": 3600.0}


@given(st.booleans(), st.booleans(), st.booleans())
def test_two_markets_are_never_mixed(simulated: bool, marked: bool, has_raw: bool) -> None:
    action = source.what_to_do(simulated=simulated, marked=marked, has_raw=has_raw)
    if has_raw and simulated != marked:
        assert action == "refuse"
    if has_raw and simulated and marked:
        assert action == "aside"
    if not has_raw:
        assert action in ("go", "mark")


def collected(layout: Layout, *, simulated: bool) -> str:
    told = source.prepare(layout, simulated=simulated)
    layout.raw_day("binance", "BTCUSDT", "2024-08-08").mkdir(parents=True)
    return told


def test_a_real_lake_refuses_a_simulated_market_and_the_other_way_round(tmp_path: Path) -> None:
    real, simulated = Layout(tmp_path / "real"), Layout(tmp_path / "simulated")
    assert collected(real, simulated=False) == ""
    assert collected(simulated, simulated=True) == ""
    assert source.prepare(real, simulated=False) == ""
    with pytest.raises(CommandError, match="holds a real market"):
        source.prepare(real, simulated=True)
    with pytest.raises(CommandError, match="holds a simulated market"):
        source.prepare(simulated, simulated=False)


def test_an_earlier_simulated_market_is_moved_aside_whole(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    collected(layout, simulated=True)
    layout.log.parent.mkdir(parents=True)
    layout.log.write_text("log")
    (layout.state / "clock.json").write_text("{}")
    with locks.hold(layout.locks, "capture"), pytest.raises(LockHeldError):
        source.prepare(layout, simulated=True)
    told = source.prepare(layout, simulated=True)
    (aside,) = (layout.root / "earlier").iterdir()
    assert str(aside) in told
    assert (aside / "raw/binance/BTCUSDT/2024-08-08").is_dir()
    assert (aside / "state/clock.json").exists()
    assert not layout.raw_root().exists()
    assert sorted(path.name for path in layout.state.iterdir()) == ["locks", "simulated"]
    assert layout.log.read_text() == "log"


def test_a_directory_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for simulated in (False, True):
        with pytest.raises(CommandError, match="can't be written"):
            source.prepare(Layout(tmp_path / "file"), simulated=simulated)


def test_bars_are_shown_in_full(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "da ta")
    assert bars_shown.describe(layout)[1] == 0
    start = datetime(2024, 8, 8, 13, 0, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "window_start": [start + timedelta(seconds=n) for n in range(10)],
            "close": [Decimal("0.00000123")] * 10,
            "bid": [None] * 10,
            "trade_count": [1] * 10,
            "state": ["complete"] * 10,
        },
        schema_overrides={"close": pl.Decimal(38, 8)},
    )
    path = layout.bars("binance", "BTCUSDT", "2024-08-08")
    path.parent.mkdir(parents=True)
    frame.write_parquet(path)
    quiet = layout.bars("binance", "ADAUSDT", "2024-08-08")
    quiet.parent.mkdir(parents=True)
    frame.with_columns(trade_count=0).write_parquet(quiet)
    lines, rows = bars_shown.describe(layout)
    assert rows == 20
    assert any("of binance/BTCUSDT" in line for line in lines), "the one that traded most is shown"
    text = "\n".join(lines)
    assert all(part in text for part in ("20 seconds of 2 symbols in", "13:00:09", "0.00000123", "complete"))
    assert "13:00:04" not in text  # the last five alone
    assert "--data '" in text  # a path with a space can be pasted


@given(st.integers(0, 10**15))
def test_sizes_are_short(count: int) -> None:
    assert len(size(count)) <= 9


def test_times_read_as_on_a_clock() -> None:
    assert [clock_text(n) for n in (0, 65, 3601)] == ["0:00", "1:05", "1:00:01"]


SHOW = """
from crypto_lake.cli.progress import display
with display() as shown:
    shown.live("live words")
    shown.line("a line that stays")
    shown.live("other " + "words " * 100)
"""


def shown_on(terminal: bool) -> str:
    """What `SHOW` writes to stderr, on a terminal or in a pipe."""
    if not terminal:
        return subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stderr
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "60"}
    with subprocess.Popen([sys.executable, "-c", SHOW], stderr=theirs, env=environment) as process:
        os.close(theirs)
        told = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while piece := os.read(ours, 65536):
                told += piece
        assert process.wait(90) == 0
    os.close(ours)
    return told.decode()


def test_a_terminal_has_a_live_line_and_a_pipe_only_lines() -> None:
    assert shown_on(terminal=False) == "a line that stays\n"
    told = shown_on(terminal=True)
    assert "a line that stays" in told
    assert "words" in told
    assert "words " * 20 not in told  # cut to one line
