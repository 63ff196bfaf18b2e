"""Verify on a real disk: a byte changed anywhere is found, and its place told as far as it can be known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_lake.bars.transform import transform
from crypto_lake.completeness.entries import Seen
from crypto_lake.completeness.ledger import LedgerFile
from crypto_lake.lake import deletions, tasks
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.frames import Frame, FrameCompressor, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import read_raw_manifest, write_raw_manifest
from crypto_lake.lake.records import read_lines
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep import verify_files
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.verify import Progress, verify, verify_disk
from crypto_lake.upkeep.verify_source import DiskSource
from support.crash import abort
from support.lakes import DAY, EXCHANGE, At, control, lines_of, market, write_part, zstd

HOUR = Hour(DAY, 13)
LATER = At(HOUR.end_ns + 10 * 60 * 10**9)
SYMBOL = "BTCUSDT"


@dataclass(frozen=True)
class Lake:
    layout: Layout
    files: tuple[str, ...]  # every file that is to be verified


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Of each kind of file one: sealed, part, control, healed, bars, ledger."""
    layout = Layout(tmp_path_factory.mktemp("lake"))
    for number in (1, 2):
        write_part(
            layout, SYMBOL, HOUR, number, market(SYMBOL, HOUR, 50 * number, 20, start=number / 3, end=0.9)
        )
    write_part(layout, CONTROL, HOUR, 1, [control(HOUR.start_ns)])
    healed = layout.raw_day(EXCHANGE, SYMBOL, DAY) / "healed_13_70-99.jsonl.zst"
    healed.write_bytes(FrameCompressor().frame(b"".join(market(SYMBOL, HOUR, 70, 30))))
    compact(layout, clock=LATER)
    write_part(layout, SYMBOL, HOUR.next(), 3, market(SYMBOL, HOUR.next(), 120, 5, end=0.1))
    assert not transform(layout, EXCHANGE, clock=LATER, workers=1).failed
    path = layout.ledger(EXCHANGE, SYMBOL)
    ledger, _ = LedgerFile.open(path, EXCHANGE, SYMBOL, "c")
    for first in (1, 11):
        seen = Seen(hour=str(HOUR), first_id=first, last_id=first + 9, first_time_us=1, last_time_us=2)
        ledger.append([seen])
    ledger.close()
    files = [
        p for folder in ("raw", "parquet", "ledger") for p in (layout.root / folder).rglob("*") if p.is_file()
    ]
    assert len(files) == 6
    return Lake(layout, tuple(str(p.relative_to(layout.root)) for p in files))


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def in_this_process() -> Iterator[None]:
    """Without the process that tells hours of damaged bars: it takes half a second, and is not what is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_files, "_rows_apart", lambda *_: iter(()))
        yield


def test_a_sound_lake_has_no_differences(lake: Lake) -> None:
    told: list[Progress] = []
    report = verify_disk(lake.layout, progress=told.append)
    assert report.differences == []
    assert report.by_kind == {"bars": 1, "healed": 1, "hour": 2, "ledger": 1, "part": 1}
    assert (report.files, report.without_manifest, report.open_parts, report.unknown) == (6, 1, 0, [])
    assert report.bytes == sum((lake.layout.root / name).stat().st_size for name in lake.files)
    assert (told[-1].files_done, told[-1].bytes_done) == (6, report.bytes)
    assert tasks.read(lake.layout)["verify"].ok
    assert verify_disk(lake.layout, quick=True).differences == []


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), quick=st.booleans())
def test_a_bit_changed_anywhere_is_found_and_its_frame_named(
    lake: Lake, data: st.DataObject, quick: bool
) -> None:
    name = data.draw(st.sampled_from(lake.files))
    path = lake.layout.root / name
    content = bytearray(path.read_bytes())
    # Nothing vouches for the last line of a ledger until the next one is written.
    end = content.rstrip(b"\n").rfind(b"\n") if name.startswith("ledger") else len(content)
    at = data.draw(st.integers(0, end - 1))
    frames = [item for item in read_frames(path) if isinstance(item, Frame)] if name.startswith("raw") else []
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    with changed(path, bytes(content)), in_this_process():
        report = verify(DiskSource(lake.layout.root), quick=quick, again_seconds=0)
        same_lines = bool(frames) and read_otherwise(path) == b"".join(frame.data for frame in frames)
    if same_lines and "part_" in name:
        return  # bits of a frame's head that mean nothing; the lines are what they were
    assert {difference.path for difference in report.differences} == {name}
    if frames and not same_lines:
        [frame] = [f for f in frames if f.offset <= at < f.offset + f.size]
        # Its bytes, or its end alone, where a head says now that no checksum follows.
        places = [d.offset for d in report.differences if d.offset is not None]
        assert any(frame.offset <= place < frame.offset + frame.size for place in places)


def read_otherwise(path: Path) -> bytes | None:
    """The file's lines by the library's own reader of many frames; None where it finds it damaged."""
    try:
        return b"".join(lines_of(path))
    except (AssertionError, zstd.ZstdError):
        return None


def test_parquet_that_ends_whoever_reads_it_is_told(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged bytes can abort the reader's process; that must not be ours."""
    path = lake.layout.bars(EXCHANGE, SYMBOL, DAY)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    monkeypatch.setattr(verify_files, "rows_of_damaged", abort)
    with changed(path, bytes(data)):
        report = verify(DiskSource(lake.layout.root))
    problems = [difference.problem for difference in report.differences]
    assert "sha256" in problems[0]
    assert "ends the program" in problems[1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_found(lake: Lake, data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from([n for n in lake.files if not n.startswith("ledger") and "part_" not in n])
    )
    content = (lake.layout.root / name).read_bytes()
    with (
        changed(lake.layout.root / name, content[: data.draw(st.integers(0, len(content) - 1))]),
        in_this_process(),
    ):
        report = verify(DiskSource(lake.layout.root), again_seconds=0)
    assert {difference.path for difference in report.differences} == {name}


def test_a_file_or_manifest_that_is_gone_is_told(lake: Lake) -> None:
    layout = lake.layout
    hour, bars = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1), layout.bars(EXCHANGE, SYMBOL, DAY)
    for path in (hour, bars, layout.manifest(hour), layout.manifest(bars)):
        aside = path.rename(layout.root / "aside")
        try:
            report = verify(DiskSource(layout.root))
            [difference] = report.differences
            assert difference.path == str((bars if "parquet" in str(path) else hour).relative_to(layout.root))
            elsewhere = verify(DiskSource(layout.root, frozenset([difference.path])))
            gone_on_purpose = "manifests" not in str(path)
            assert (elsewhere.absent, len(elsewhere.differences)) == ((1, 0) if gone_on_purpose else (0, 1))
        finally:
            aside.rename(path)


def test_a_manifest_that_says_something_else_is_told(lake: Lake) -> None:
    """The file is sound, and yet its lines are not what the manifest says: that is what reading them is for."""
    hour = lake.layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    path = lake.layout.manifest(hour)
    manifest = read_raw_manifest(lake.layout, hour)
    assert manifest is not None
    with changed(path, path.read_bytes()):
        write_raw_manifest(lake.layout, hour, msgspec.structs.replace(manifest, last_id=1, lines=7))
        problems = [d.problem for d in verify(DiskSource(lake.layout.root)).differences]
        assert problems == ["lines: 80, its manifest says 7", "last_id: 119, its manifest says 1"]
        assert not verify(DiskSource(lake.layout.root), quick=True).differences
    with changed(path, b"{"):
        [difference] = verify(DiskSource(lake.layout.root)).differences
        assert "its manifest can't be read" in difference.problem


def test_lines_of_a_part_are_read_one_by_one(lake: Lake) -> None:
    lines = market(SYMBOL, HOUR.next(), 130, 3)
    path = write_part(lake.layout, SYMBOL, HOUR.next(), 4, [*lines, b"garbage\n", *lines], frames=2)
    try:
        [difference] = verify(DiskSource(lake.layout.root)).differences
        assert (difference.path, difference.line) == (str(path.relative_to(lake.layout.root)), 7)
    finally:
        path.unlink()


def test_workers_find_the_same(lake: Lake) -> None:
    path = lake.layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    with changed(path, bytes(data)):
        alone, shared = (verify(DiskSource(lake.layout.root), workers=n) for n in (1, 2))
    assert alone.differences == shared.differences != []
    assert (alone.files, alone.lines, alone.by_kind) == (shared.files, shared.lines, shared.by_kind)


def test_what_was_deleted_is_asked_of_the_days_and_symbols_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, days = Layout(tmp_path), [f"2024-08-{n:02d}" for n in range(5, 9)]
    for day in days:
        for symbol in (SYMBOL, "ETHUSDT"):
            write_part(layout, symbol, Hour(day, 1), 1, market(symbol, Hour(day, 1), 1, 3))
    compact(layout, clock=LATER)
    for day in days:
        for symbol in (SYMBOL, "ETHUSDT"):
            path = layout.sealed(EXCHANGE, symbol, Hour(day, 1), 1)
            record = DeletionRecord(str(path.relative_to(tmp_path)), path.stat().st_size, "", "expired", 1)
            deletions.append(layout, EXCHANGE, symbol, day, [record])
            path.unlink()
    read: list[str] = []

    def told(path: Path, decode: Any) -> Any:
        read.append(f"{path.parent.name} {path.stem}")
        return read_lines(path, decode)

    monkeypatch.setattr(deletions, "read_lines", told)
    for symbols, chosen, count in (
        (None, None, 8),
        (None, days[1:2], 2),
        ([SYMBOL], None, 4),
        ([SYMBOL], days[:2], 2),
    ):
        read.clear()
        report = verify_disk(layout, symbols=symbols, days=chosen)
        assert (report.absent, report.differences, len(read)) == (count, [], count)


def test_a_part_that_is_sealed_while_it_is_read_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    write_part(layout, SYMBOL, HOUR, 1, market(SYMBOL, HOUR, 1, 5))
    check, sealed = verify_files.check, []

    def seal_first(*arguments: object) -> object:
        if not sealed:
            sealed.append(compact(layout, clock=LATER).hours_sealed)
        return check(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("crypto_lake.upkeep.verify.check", seal_first)
    report = verify(DiskSource(tmp_path))
    assert sealed == [1]
    assert report.differences == []
