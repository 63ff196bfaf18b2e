"""Sealing on a real disk: what the file, its manifest and the reader hold, and what is left alone."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_lake.completeness.content import Content
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import envelope, locks, tasks
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import next_part_number
from crypto_lake.lake.raw_manifests import raw_inputs, read_raw_manifest, sealed_into
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep import seal_files
from crypto_lake.upkeep.seal import compact
from support.lakes import (
    DAY,
    EXCHANGE,
    At,
    control,
    leftovers,
    lines_of,
    market,
    raw_files,
    seen_by_readers,
    trade,
    write_part,
)

HOUR = Hour(DAY, 13)
LATER = At(HOUR.end_ns + 10 * 60 * 10**9)
SYMBOL = "BTCUSDT"


def store(layout: Layout, symbol: str = SYMBOL) -> list[bytes]:
    """An hour in three parts, ids 1..90 without 31..40, and the start of the next hour."""
    lines = [
        market(symbol, HOUR, 1, 30, end=0.3),
        market(symbol, HOUR, 41, 20, start=0.3, end=0.6),
        market(symbol, HOUR, 61, 30, start=0.6),
    ]
    for number, part in enumerate(lines, start=1):
        write_part(layout, symbol, HOUR, number, part)
    write_part(layout, symbol, HOUR.next(), 4, market(symbol, HOUR.next(), 91, 5, end=0.05))
    return [line for part in lines for line in part]


def test_a_sealed_hour_is_its_parts_one_after_the_other(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lines = store(layout)
    parts = raw_inputs(layout, EXCHANGE, SYMBOL, DAY)[:3]
    joined = b"".join(file.path.read_bytes() for file in parts)
    digests = [(f"raw/binance/{SYMBOL}/{DAY}/{f.path.name}", measure(f.path)) for f in parts]
    before = seen_by_readers(layout)

    report = compact(layout, clock=LATER)

    assert (report.hours_sealed, report.parts_sealed, report.parts_deleted, report.hours_waiting) == (
        1,
        3,
        3,
        1,
    )
    assert (report.left_alone, report.failed) == ([], {})
    hour = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    assert hour.name == "hour_13.jsonl.zst"
    assert hour.read_bytes() == joined
    assert lines_of(hour) == lines
    assert seen_by_readers(layout) == before
    manifest = read_raw_manifest(layout, hour)
    assert manifest is not None
    sums = measure(hour)
    assert (manifest.bytes, manifest.sha256, manifest.crc32c, manifest.md5) == (
        len(joined),
        hashlib.sha256(joined).hexdigest(),
        sums.crc32c,
        sums.md5,
    )
    assert manifest.content_sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    assert (manifest.lines, manifest.trades, manifest.quotes) == (160, 80, 80)
    assert (manifest.others, manifest.unreadable, manifest.damaged_bytes) == (0, 0, 0)
    assert (manifest.first_id, manifest.last_id) == (1, 90)
    assert (manifest.id_runs, manifest.holes) == (((1, 30), (41, 90)), ((31, 40),))
    first, *_, last = (envelope.decode(line).received_ns for line in lines)
    assert (manifest.first_received_ns, manifest.last_received_ns) == (first, last)
    assert [(i.path, i.bytes, i.sha256) for i in manifest.inputs] == [
        (p, d.bytes, d.sha256) for p, d in digests
    ]
    assert manifest.collector == layout.collector_id()
    # A name that was used is never used again, though its part is gone.
    assert next_part_number(layout, EXCHANGE, SYMBOL, DAY) == 5
    assert sealed_into(layout, parts[0].path) == hour
    # And a second run finds nothing to do.
    files = raw_files(layout)
    again = compact(layout, clock=LATER)
    assert (again.hours_sealed, again.parts_deleted, again.lines) == (0, 0, 0)
    assert raw_files(layout) == files
    task = tasks.read(layout)["compact"]
    assert (task.ok, task.problem, task.figures["hours_waiting"]) == (True, "", 1)


def test_late_parts_never_clash_with_what_is_sealed(tmp_path: Path) -> None:
    """The clock was set back by an hour after the hour was sealed; and again after its files went to a bucket."""
    layout = Layout(tmp_path)
    store(layout)
    compact(layout, clock=LATER)
    first = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1).read_bytes()
    for turn, expected in ((2, "hour_13_2.jsonl.zst"), (3, "hour_13_3.jsonl.zst")):
        number = next_part_number(layout, EXCHANGE, SYMBOL, DAY)
        late = market(SYMBOL, HOUR, 100 * turn, 5)
        write_part(layout, SYMBOL, HOUR, number, late)
        report = compact(layout, clock=LATER)
        assert [Path(s.path).name for s in report.sealed] == [expected]
        path = layout.sealed(EXCHANGE, SYMBOL, HOUR, turn)
        assert lines_of(path) == late
        path.unlink()
    assert layout.sealed(EXCHANGE, SYMBOL, HOUR, 1).read_bytes() == first


def test_an_hour_that_is_being_written_is_left_to_its_collector(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    store(layout)
    lines = market(SYMBOL, HOUR, 200, 4)
    path = write_part(layout, SYMBOL, HOUR, 9, lines, closed=False, tail=b"torn")
    with locks.hold(layout.locks, "capture"):
        report = compact(layout, clock=LATER)
        assert (report.salvaged_parts, report.hours_sealed, report.hours_waiting) == (0, 0, 2)
        assert path.read_bytes().endswith(b"torn")
    # No collector runs: its torn part is closed first, and is in the hour.
    report = compact(layout, clock=LATER)
    assert (report.salvaged_parts, report.salvaged_cut_bytes, report.hours_sealed) == (1, 4, 1)
    assert lines_of(layout.sealed(EXCHANGE, SYMBOL, HOUR, 1))[-8:] == lines


def test_damage_inside_a_part_costs_its_frame_and_is_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lines = store(layout)
    path = raw_inputs(layout, EXCHANGE, SYMBOL, DAY)[1].path
    data = bytearray(path.read_bytes())
    third = len(data) // 2
    data[third] ^= 0x10
    path.write_bytes(data)

    report = compact(layout, clock=LATER)

    hour = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    manifest = read_raw_manifest(layout, hour)
    assert manifest is not None
    assert manifest.damaged_bytes == report.damaged_bytes > 0
    assert manifest.bytes + manifest.damaged_bytes == sum(i.bytes for i in manifest.inputs)
    [kept] = layout.quarantine.glob("*.damaged")
    assert kept.read_bytes() in bytes(data)
    assert kept.stat().st_size == manifest.damaged_bytes
    left = lines_of(hour)
    assert set(left) < set(lines)
    assert len(left) >= len(lines) - 14  # a frame of the part
    assert not path.exists()


def test_what_is_not_a_part_of_the_hour_is_left_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lines = store(layout)
    folder = layout.raw_day(EXCHANGE, SYMBOL, DAY)
    other = write_part(layout, "ETHUSDT", HOUR, 1, market("ETHUSDT", HOUR, 5, 9))
    moved = other.rename(folder / "part_13_0050.jsonl.zst")
    strange = {
        moved: "BTCUSDT",
        folder / "part_13_0051.jsonl.zst": "no frame",
        folder / "part_13_0052.jsonl.zst": "no frame",
        folder / "part_12_0053.jsonl.zst": "received in 2024-08-08T12",
        folder / "notes.txt": "not a name",
        folder / "part_99_0001.jsonl.zst": "not a name",
    }
    (folder / "part_13_0051.jsonl.zst").write_bytes(bytes(1000))
    (folder / "part_13_0052.jsonl.zst").write_bytes(b"")
    (folder / "part_12_0053.jsonl.zst").write_bytes(FrameCompressor().frame(b"".join(lines)))
    (folder / "notes.txt").write_text("mine")
    (folder / "part_99_0001.jsonl.zst").write_bytes(b"x")
    (layout.raw_root() / "nyse" / "IBM" / DAY).mkdir(parents=True)
    before = {path: path.read_bytes() for path in strange}
    for _ in range(2):
        report = compact(layout, clock=LATER)
        told = {item.path: item.problem for item in report.left_alone}
        assert told.pop("raw/nyse")
        assert {str(path.relative_to(tmp_path)) for path in strange} == set(told)
        for path, words in strange.items():
            assert words in told[str(path.relative_to(tmp_path))]
            assert path.read_bytes() == before[path]
        assert not report.failed
    assert lines_of(layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)) == lines
    assert not leftovers(layout)


def test_lines_that_can_not_be_read_go_on_and_are_counted(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    good = market(SYMBOL, HOUR, 1, 3)
    odd = [
        b"garbage\n",
        b"\n",
        trade("ETHUSDT", 9, HOUR.start_ns),
        trade(SYMBOL, 9, HOUR.end_ns),
        envelope.encode(HOUR.start_ns, "c-1", b'{"result":null,"id":1}'),
        envelope.encode(HOUR.start_ns, "c-1", b"[1]"),
        b'{"received_ns":1,"connection":"\xff","message":1}\n',
    ]
    write_part(layout, SYMBOL, HOUR, 1, [*good, *odd], frames=1)
    compact(layout, clock=LATER)
    hour = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    manifest = read_raw_manifest(layout, hour)
    assert manifest is not None
    assert lines_of(hour) == [*good, *odd]
    counts = manifest.lines, manifest.trades, manifest.quotes, manifest.others, manifest.unreadable
    assert counts == (13, 3, 3, 1, 6)
    assert manifest.id_runs == ((1, 3),)


def test_control_records_and_healed_files(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    records = [control(HOUR.start_ns + n) for n in range(5)]
    write_part(layout, CONTROL, HOUR, 1, records)
    row = b'{"id":31,"price":"1.0","qty":"1.0","quoteQty":"1.0","time":1,"isBuyerMaker":true,"isBestMatch":true}'
    rows = [
        envelope.encode(LATER.now_ns(), "rest-1", row, "historicalTrades"),
        envelope.encode(LATER.now_ns(), "rest-1", b'{"a":1,"f":32,"l":40}', "aggTrades"),
    ]
    healed = layout.raw_day(EXCHANGE, SYMBOL, DAY) / "healed_13_31-40.jsonl.zst"
    healed.parent.mkdir(parents=True)
    healed.write_bytes(FrameCompressor().frame(b"".join(rows)))
    broken = healed.with_name("healed_13_50-51.jsonl.zst")
    broken.write_bytes(healed.read_bytes()[:-1])
    report = compact(layout, clock=LATER)
    assert (report.hours_sealed, report.files_attested) == (1, 1)
    assert [item.path for item in report.left_alone] == [str(broken.relative_to(tmp_path))]
    sealed = read_raw_manifest(layout, layout.sealed(EXCHANGE, CONTROL, HOUR, 1))
    assert sealed is not None
    assert (sealed.lines, sealed.others, sealed.unreadable, sealed.first_id) == (5, 5, 0, None)
    manifest = read_raw_manifest(layout, healed)
    assert manifest is not None
    assert (manifest.kind, manifest.inputs, manifest.trades, manifest.id_runs) == (
        "healed",
        (),
        2,
        ((31, 40),),
    )


def test_a_part_that_changed_since_it_was_sealed_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    store(layout)
    path = raw_inputs(layout, EXCHANGE, SYMBOL, DAY)[0].path
    write = seal_files.write_raw_manifest
    changed: list[bytes] = []

    def write_and_change(*arguments: object) -> None:
        write(*arguments)  # pyright: ignore[reportArgumentType]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        changed.append(bytes(data))

    monkeypatch.setattr(seal_files, "write_raw_manifest", write_and_change)
    report = compact(layout, clock=LATER)
    assert changed == [path.read_bytes()]
    assert [item.path for item in report.left_alone] == [str(path.relative_to(tmp_path))]
    assert report.parts_deleted == 2


def test_a_file_that_reads_back_otherwise_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    store(layout)
    before = raw_files(layout)
    read_whole, fired = seal_files.read_whole, []

    def bit_rot(work: object, path: Path, content: Content) -> object:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        fired.append(path)
        return read_whole(work, path, content)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(seal_files, "read_whole", bit_rot)
    report = compact(layout, clock=LATER)
    assert fired
    assert list(report.failed) == [f"raw/binance/{SYMBOL}/{DAY}/hour 13"]
    assert raw_files(layout) == before
    assert "hour 13" in tasks.read(layout)["compact"].problem
    monkeypatch.undo()
    assert compact(layout, clock=LATER).hours_sealed == 1


def test_a_lost_or_damaged_manifest_is_made_anew_and_a_later_one_is_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    store(layout)
    compact(layout, clock=LATER)
    hour = layout.sealed(EXCHANGE, SYMBOL, HOUR, 1)
    manifest = read_raw_manifest(layout, hour)
    assert manifest is not None
    path = layout.manifest(hour)
    for data in (None, path.read_bytes()[:-40]):
        path.unlink() if data is None else path.write_bytes(data)
        assert compact(layout, clock=LATER).files_attested == 1
        again = read_raw_manifest(layout, hour)
        assert again == msgspec.structs.replace(manifest, inputs=())
    later = path.read_bytes().replace(b'"schema": 1', b'"schema": 2')
    path.write_bytes(later)
    report = compact(layout, clock=LATER)
    assert "later version" in " ".join(report.failed.values())
    assert path.read_bytes() == later


def test_only_what_was_named_and_one_run_at_a_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for symbol in (SYMBOL, "ETHUSDT"):
        store(layout, symbol)
    write_part(layout, CONTROL, HOUR, 1, [control(HOUR.start_ns)])
    assert compact(layout, clock=LATER, days=["2024-08-09"]).hours_sealed == 0
    assert {s.path.split("/")[2] for s in compact(layout, clock=LATER, symbols=["ETHUSDT"]).sealed} == {
        "ETHUSDT"
    }
    with locks.hold(layout.locks, "transform"), pytest.raises(locks.LockHeldError):
        compact(layout, clock=LATER)
    assert compact(layout, clock=LATER).hours_sealed == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_rights_is_told(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    store(layout)
    folder = layout.raw_day(EXCHANGE, SYMBOL, DAY)
    before = raw_files(layout)
    folder.chmod(0o555)
    try:
        report = compact(layout, clock=LATER)
    finally:
        folder.chmod(0o755)
    assert "Permission denied" in " ".join(report.failed.values())
    assert raw_files(layout) == before


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    cuts=st.lists(st.integers(0, 50), max_size=5),
    again=st.integers(0, 50),
)
def test_the_content_is_the_same_however_it_is_cut_into_frames(
    ids: list[int], cuts: list[int], again: int
) -> None:
    lines = [trade(SYMBOL, id_, HOUR.start_ns + n) for n, id_ in enumerate(ids)]
    whole, pieces = (Content(EXCHANGE, SYMBOL, HOUR) for _ in range(2))
    whole.add(b"".join(lines))
    bounds = sorted({0, *(min(cut, len(lines)) for cut in cuts), len(lines)})
    for start, end in pairwise(bounds):
        before = pieces.summary()
        pieces.copy().add(b"".join(lines[:again]))  # a copy goes its own way
        assert pieces.summary() == before
        pieces.add(b"".join(lines[start:end]))
    told = whole.summary()
    assert pieces.summary() == told
    distinct = sorted(set(ids))
    assert [id_ for first, last in told.id_runs for id_ in range(first, last + 1)] == distinct
    missing = [id_ for first, last in told.holes for id_ in range(first, last + 1)]
    assert missing == [id_ for id_ in range(distinct[0], distinct[-1]) if id_ not in distinct]
    assert (told.trades, told.lines, told.first_id, told.last_id) == (
        len(ids),
        len(ids),
        distinct[0],
        distinct[-1],
    )


def test_whoever_lists_parts_and_reads_them_later_misses_nothing(tmp_path: Path) -> None:
    """A collector that starts takes up its ledger from raw while its parts are being sealed."""
    layout = Layout(tmp_path)
    store(layout)
    paths = [file.path for file in raw_inputs(layout, EXCHANGE, SYMBOL, DAY)]
    before = list(read_runs(paths, BINANCE))
    reading = read_runs(paths, BINANCE, partial(sealed_into, layout))
    first = next(reading)
    assert compact(layout, clock=LATER).parts_deleted == 3
    ids = IntervalSet(Interval(run.first_id, run.last_id) for run in [first, *reading])
    assert ids == IntervalSet(Interval(run.first_id, run.last_id) for run in before)
    with pytest.raises(FileNotFoundError):
        list(read_runs(paths, BINANCE))
