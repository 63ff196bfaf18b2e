"""What a query reads of a day is one version of it, and only days that are asked for are opened."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from crypto_lake.access import files as files_
from crypto_lake.access.errors import DamagedError, ReplacedError
from crypto_lake.access.files import EVERYTHING, STORED_SCHEMA, LakeFile, LakeFiles
from crypto_lake.access.lake import Lake
from crypto_lake.access.places import DayFile, Held, LocalFile, LocalPlace
from crypto_lake.access.session import asking, open_session, source
from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.lake.layout import Layout
from support.bar_rows import Second, frame_of, write_days, write_frames

DAYS = ("2024-08-08", "2024-08-09", "2024-08-10")
ROWS = 400


def start_of(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def write(root: Path, version: int, symbol: str = "BTCUSDT", days: tuple[str, ...] = DAYS) -> None:
    """A version has its own number of rows, and bears its number in every row."""
    for day in days:
        rows = [
            Second(start_of(day) + n, version, ((n, version, version, True),)) for n in range(ROWS * version)
        ]
        write_days(root, symbol, rows)


def days_in(lake_files: LakeFiles) -> list[str]:
    """What is listed, but for the file without rows that is first in every listing."""
    first, *days = lake_files.glob(EVERYTHING)
    assert "exchange=none" in first
    return days


class Replacing(LocalPlace):
    """Each time that a file was opened, its day is replaced by the other version."""

    def __init__(self, root: Path, versions: tuple[Path, Path]) -> None:
        super().__init__(root)
        self.root, self.versions, self.replaced = root, versions, 0

    def hold(self, file: DayFile) -> Held:
        held = super().hold(file)
        self.replace(file)
        return held

    def replace(self, file: DayFile) -> None:
        self.replaced += 1
        path = Layout(self.root).bars(file.exchange, file.symbol, file.day)
        other = Layout(self.versions[self.replaced % 2]).bars(file.exchange, file.symbol, file.day)
        temporary = path.with_suffix(".tmp")
        shutil.copy(other, temporary)
        temporary.replace(path)


class Unheld(LakeFiles):
    """Opens by name, each time: what every reader does that opens a file twice."""

    def _hold(self, snapshot: Any, file: DayFile) -> Held:
        return self.place.hold(file)


@pytest.fixture
def replacing(tmp_path: Path) -> Replacing:
    for version in (1, 2):
        write(tmp_path / str(version), version)
    shutil.copytree(tmp_path / "1", tmp_path / "lake")
    return Replacing(tmp_path / "lake", (tmp_path / "1", tmp_path / "2"))


WHOLE = {(day, version, ROWS * version, ROWS * version**2) for day in DAYS for version in (1, 2)}
QUESTION = f"""SELECT day::VARCHAR, any_value((close * 100000000)::BIGINT), count(*)::BIGINT,
  (sum(volume_base) * 100000000)::BIGINT FROM {source(EVERYTHING)} GROUP BY day ORDER BY day"""


def test_a_day_that_is_replaced_between_two_openings_is_read_in_one_version(replacing: Replacing) -> None:
    lake_files = LakeFiles(replacing)
    seen: set[int] = set()
    with open_session(lake_files, views=False) as connection:
        for number in range(1, 11):
            lake_files.refresh()
            rows = connection.sql(QUESTION).fetchall()
            assert [day for day, *_ in rows] == list(DAYS)
            assert set(rows) <= WHOLE
            assert replacing.replaced >= number * len(DAYS)
            seen |= {version for _, version, *_ in rows}
    assert seen == {1, 2}


def test_without_holding_it_the_answer_is_torn_or_an_error(replacing: Replacing) -> None:
    """The fault that the test above is about does happen."""
    torn = 0
    with open_session(Unheld(replacing), views=False) as connection:
        for _ in range(10):
            try:
                torn += not set(connection.sql(QUESTION).fetchall()) <= WHOLE
            except duckdb.Error:
                torn += 1
    assert torn > 0


def test_two_readings_of_one_query_see_the_same(replacing: Replacing) -> None:
    with open_session(LakeFiles(replacing)) as connection:
        for _ in range(5):
            twice = (
                "SELECT count(*) FROM bars_1s a JOIN bars_1s b USING (window_start) WHERE a.close <> b.close"
            )
            assert connection.sql(twice).fetchall() == [(0,)]


def test_a_file_that_was_let_go_is_not_read_in_another_version(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_, "_HELD_FILES", 1)
    lake_files = LakeFiles(replacing)
    paths = days_in(lake_files)
    kept = lake_files.open(paths[0])  # keeps the snapshot from being over
    lake_files.open(paths[1])
    assert days_in(lake_files) == paths
    with pytest.raises(ReplacedError, match=r"BTCUSDT of 2024-08-08 .* replaced .* run the query again"):
        lake_files.open(paths[0])
    assert isinstance(lake_files.take_problem(), ReplacedError)
    assert lake_files.take_problem() is None
    assert len(kept.read()) == kept.size


def test_a_new_day_and_a_new_version_are_seen_by_the_next_query(tmp_path: Path) -> None:
    write(tmp_path, 1, days=DAYS[:1])
    lake_files = LakeFiles(LocalPlace(tmp_path))
    with open_session(lake_files, views=False) as connection:
        count = f"SELECT count(*) FROM {source(EVERYTHING)}"
        assert connection.sql(count).fetchall() == [(ROWS,)]
        write(tmp_path, 2, days=DAYS[:2])
        lake_files.refresh()
        assert connection.sql(count).fetchall() == [(4 * ROWS,)]


def test_a_snapshot_is_over_when_it_was_not_used_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, days=DAYS[:1])
    now = [100.0]
    monkeypatch.setattr(files_.time, "monotonic", lambda: now[0])
    lake_files = LakeFiles(LocalPlace(tmp_path))
    (first,) = days_in(lake_files)
    now[0] += 0.2
    assert days_in(lake_files) == [first]
    now[0] += 0.3
    (second,) = days_in(lake_files)
    assert second != first
    opened = lake_files.open(second)
    now[0] += 20
    assert days_in(lake_files) == [second]  # a query runs
    now[0] += 20
    assert days_in(lake_files) != [second]
    assert opened.size == lake_files.open(first).size


def test_nothing_stays_open(tmp_path: Path) -> None:
    write(tmp_path, 1)

    def descriptors() -> int:
        return sum(
            str(p.readlink()).startswith(str(tmp_path))
            for p in Path("/proc/self/fd").iterdir()
            if p.is_symlink()
        )

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc on this system")
    lake = Lake(tmp_path)
    for _ in range(3):
        lake.bars("BTCUSDT").collect()
    assert 0 < descriptors() < 50  # held for a while, for queries that are bound to them
    del lake
    assert descriptors() == 0


def test_only_days_that_are_asked_for_are_opened(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write(tmp_path, 1, symbol)
    opened: list[tuple[str, str]] = []

    class Watched(LocalPlace):
        def hold(self, file: DayFile) -> Held:
            opened.append((file.symbol, file.day))
            return super().hold(file)

    lake_files = LakeFiles(Watched(tmp_path))
    with open_session(lake_files) as connection:
        for sql in (
            "FROM bars('ETHUSDT', since := '2024-08-09', until := '2024-08-10')",
            "SELECT * FROM bars_1h WHERE symbol = 'ETHUSDT' AND day = '2024-08-09'",
            "FROM volume('ETHUSDT', '2024-08-09', '2024-08-10')",
            "FROM coverage('ETHUSDT', '2024-08-09 07:00', '2024-08-09 23:00')",
        ):
            opened.clear()
            lake_files.refresh()
            connection.sql(sql).fetchall()
            # Besides, the first file of all is asked for the columns' types.
            assert set(opened) - {("BTCUSDT", "2024-08-08")} == {("ETHUSDT", "2024-08-09")}, sql
    lake = Lake(tmp_path)
    lake._files.place = Watched(tmp_path)
    opened.clear()
    lake.bars("ETHUSDT", "2024-08-09T10:00", "2024-08-09T11:00", every="1s").collect()
    assert set(opened) == {("ETHUSDT", "2024-08-09")}


def test_threads_that_share_a_file_do_not_move_each_other(tmp_path: Path) -> None:
    from threading import Barrier, Thread

    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)) * 64)
    file, barrier, wrong = LakeFile(LocalFile(path)), Barrier(4), list[int]()

    def read(first: int) -> None:
        barrier.wait()
        for n in range(500):
            at = (first * 64 + n) % 16000
            file.seek(at)
            if file.read(1) != bytes([at % 256]):
                wrong.append(at)

    threads = [Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("left", [b"", b"PAR1", None], ids=["empty", "begun", "cut off"])
def test_a_damaged_file_is_named_and_others_are_read(tmp_path: Path, left: bytes | None) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write(tmp_path, 1, symbol)
    path = Layout(tmp_path).bars("binance", "BTCUSDT", DAYS[0])
    path.write_bytes(path.read_bytes()[:-9] if left is None else left)
    lake, files = Lake(tmp_path), LakeFiles(LocalPlace(tmp_path))
    told = rf"bars of BTCUSDT of {DAYS[0]} in .* can't be read \(.*transform --rebuild --symbol BTCUSDT --day {DAYS[0]}"
    with pytest.raises(DamagedError, match=told):
        next(lake.batches("BTCUSDT"))
    with open_session(files, read_only=True) as connection:
        with pytest.raises(DamagedError, match=told), asking(files):
            connection.sql("SELECT count(*) FROM bars_1m").fetchall()
        counted = "SELECT sum(trade_count) FROM bars_1m WHERE"
        for condition in ("symbol = 'ETHUSDT'", f"day > '{DAYS[0]}' AND symbol = 'BTCUSDT'"):
            with asking(files):
                (row,) = connection.sql(f"{counted} {condition}").fetchall()
            assert row[0] == ROWS * (3 if "ETH" in condition else 2)


def test_a_file_of_a_later_version_has_columns_more(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = Layout(tmp_path).bars("binance", "BTCUSDT", DAYS[0])
    pl.read_parquet(path, hive_partitioning=False).with_columns(later=pl.lit(1)).write_parquet(path)
    assert Lake(tmp_path).bars("BTCUSDT", every="1d").collect()["trade_count"].to_list() == [ROWS] * 3
    with Lake(tmp_path).connect() as connection:
        for view in ("bars_1s", "bars_1d"):
            assert connection.sql(f"SELECT sum(trade_count) FROM {view}").fetchall() == [(3 * ROWS,)]


def test_a_session_opens_no_file_before_it_is_asked(tmp_path: Path) -> None:
    write(tmp_path, 1)
    files = LakeFiles(LocalPlace(tmp_path))
    with open_session(files):
        assert files.opened_days == 0


def test_a_lake_without_bars_answers_with_nothing(tmp_path: Path) -> None:
    with Lake(tmp_path).connect() as connection:
        for sql in (
            "FROM bars_1s",
            "FROM bars_1d",
            "FROM gaps()",
            "FROM coverage()",
            "FROM volume_profile()",
        ):
            assert connection.sql(sql).fetchall() == [], sql
    assert Lake(tmp_path).symbols() == []
    assert Lake(tmp_path).days() == []


def test_columns_are_those_that_are_written(tmp_path: Path) -> None:
    frame = frame_of("BTCUSDT", [Second(0, 1)])
    assert frame.schema == BAR_SCHEMA
    assert frame.columns == STORED_SCHEMA.names
    write(tmp_path, 1, days=DAYS[:1])
    with (
        open_session(LakeFiles(LocalPlace(tmp_path))) as full,
        open_session(LakeFiles(LocalPlace(tmp_path / "..")), views=False) as none,
    ):
        describe = f"DESCRIBE SELECT * FROM {source(EVERYTHING)}"
        assert full.sql(describe).fetchall() == none.sql(describe).fetchall()


def test_other_folders_and_leftovers_are_no_bars(tmp_path: Path) -> None:
    write(tmp_path, 1, days=DAYS[:1])
    path = Layout(tmp_path).bars("binance", "BTCUSDT", DAYS[0])
    (path.parent / ".bars.parquet.77.tmp").write_bytes(b"half")
    (path.parent.parent / "day=11").mkdir()
    macro = tmp_path / "parquet" / "macro" / "VIX" / "year=2024"
    macro.mkdir(parents=True)
    (macro / "series.parquet").write_bytes(b"no bars")
    lake = Lake(tmp_path)
    assert (lake.exchange, lake.symbols(), lake.days()) == ("binance", ["BTCUSDT"], [DAYS[0]])
    with lake.connect() as connection:
        assert connection.sql("SELECT count(*) FROM bars_1s").fetchall() == [(ROWS,)]


def test_a_symbol_of_any_script(tmp_path: Path) -> None:
    symbol = "币安人生USDT"
    write_frames(tmp_path, symbol, frame_of(symbol, [Second(start_of(DAYS[0]), 7, ((1, 7, 7, True),))]))
    lake = Lake(tmp_path)
    assert lake.bars(symbol).select("symbol", "trade_count").collect().rows() == [(symbol, 1)]
    with lake.connect() as connection:
        assert connection.sql(f"SELECT symbol FROM bars('{symbol}')").fetchall() == [(symbol,)]


def test_a_read_only_connection_reaches_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with Lake(tmp_path).connect(read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM bars_1m").fetchall() != [(0,)]
        for sql in (
            f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
            "COPY (SELECT 1) TO 'lake://new.parquet'",
            f"FROM read_csv('{tmp_path}/secret.csv')",
            f"ATTACH '{tmp_path}/new.db'",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            f"EXPORT DATABASE '{tmp_path}/out'",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parquet", "secret.csv"]
