"""Without a bucket raw is the only copy of what no bar was made of, however old it is."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.store import open_store
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.cleanup_report import Told
from crypto_lake.upkeep.upload import upload
from support.kept_lakes import DAY_NS, HOURS, NOW, bars_files, make_kept_lake, raw_names, settle
from support.lakes import At, kline, trade, write_part
from support.publishing import healed

HOUR = HOURS[-1]
AT_NS = HOUR.start_ns + 59 * 60 * 10**9


def nine_decimals() -> bytes:
    """A trade that is one, of a price that bars can't hold."""
    line = trade("BTCUSDT", 5000, AT_NS)
    before, _, after = line.partition(b'"p":"')
    assert after
    return before + b'"p":"0.123456789' + after[after.index(b'"') :]


def test_raw_that_bars_could_not_use_stays_without_a_bucket_and_goes_with_one(tmp_path: Path) -> None:
    layout: Layout = make_kept_lake(tmp_path / "data", symbols=("BTCUSDT",), trades=4)
    path = write_part(layout, "BTCUSDT", HOUR, 999, [trade("BTCUSDT", 1010, AT_NS), nine_decimals()])
    settle(layout)
    late = path.with_name(f"hour_{HOUR.hour:02d}_2.jsonl.zst")
    assert late.is_file()
    retention = Retention(DAY_NS)
    for _ in range(2):
        report = cleanup(layout, None, retention=retention, clock=At(NOW), explain=True)
    assert late.is_file()
    told = {one.path: one for one in report.files}[str(late.relative_to(layout.root))]
    assert isinstance(told, Told)
    assert (told.action, told.code) == ("keep", "lines_unused")
    assert "1 line" in told.text
    # The rest has gone: the run was one that deletes.
    assert not late.with_name(f"hour_{HOUR.hour:02d}.jsonl.zst").exists()
    (tmp_path / "bucket").mkdir()
    store = open_store(f"file://{tmp_path}/bucket")
    settle(layout)
    assert not upload(layout, store, clock=At(NOW)).problem
    for _ in range(2):
        cleanup(layout, store, retention=retention, clock=At(NOW + DAY_NS))
    assert not late.exists()


def test_klines_keep_no_raw_here_for_no_bar_is_ever_made_of_them(tmp_path: Path) -> None:
    layout: Layout = make_kept_lake(tmp_path / "data", symbols=("BTCUSDT",), trades=4)
    for number, lines in (
        (998, [trade("BTCUSDT", 1010, AT_NS), kline("BTCUSDT", AT_NS)]),
        (999, [kline("BTCUSDT", AT_NS)]),
    ):
        write_part(layout, "BTCUSDT", HOUR, number, lines)
    settle(layout)
    late = [name for name in raw_names(layout) if name.endswith(f"hour_{HOUR.hour:02d}_2.jsonl.zst")]
    assert late
    for _ in range(2):
        cleanup(layout, None, retention=Retention(DAY_NS), clock=At(NOW))
    assert raw_names(layout) == set()


def test_what_comes_for_an_hour_whose_raw_has_gone_stays_and_is_told(tmp_path: Path) -> None:
    """Bars are not made anew of less than they were made of, so they have nothing of it."""
    layout: Layout = make_kept_lake(tmp_path / "data", symbols=("BTCUSDT",), trades=4)
    for _ in range(2):
        cleanup(layout, None, retention=Retention(DAY_NS), clock=At(NOW))
    assert raw_names(layout) == set()
    before = bars_files(layout)
    first = HOURS[0]
    path = layout.raw_day("binance", "BTCUSDT", first.day) / f"healed_{first.hour}_1000-1000.jsonl.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(FrameCompressor().frame(healed(1000, first.start_ns, NOW - DAY_NS).data))
    settle(layout)
    assert bars_files(layout) == before
    report = cleanup(layout, None, retention=Retention(DAY_NS), clock=At(NOW + DAY_NS), explain=True)
    told = {one.path: one for one in report.files}[str(path.relative_to(layout.root))]
    assert (told.action, told.code) == ("keep", "bars_not_made")
    assert "other raw of that hour is gone" in told.text
    assert "transform" not in told.text
    assert path.is_file()
