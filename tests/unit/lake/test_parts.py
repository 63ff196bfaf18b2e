from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.lake import durable, locks
from crypto_lake.lake.frames import Frame, FrameCompressor, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter, next_part_number, salvage
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour

HOUR = Hour("2024-08-08", 13)


def test_a_part_takes_its_name_when_it_is_closed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    writer = PartWriter(layout.part("binance", "BTCUSDT", HOUR, 42))
    writer.append(b"one\n", FrameCompressor())
    writer.sync()
    [file] = layout.raw_files("binance", "BTCUSDT", "2024-08-08")
    assert (file.is_open, file.number, file.path.name) == (True, 42, "part_13_0042.jsonl.zst.open")
    writer.close()
    [file] = layout.raw_files("binance", "BTCUSDT", "2024-08-08")
    assert (file.is_open, file.path.name) == (False, "part_13_0042.jsonl.zst")


def test_a_number_is_never_used_again_in_its_day(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert next_part_number(layout, "binance", "BTCUSDT", HOUR.day) == 1
    PartWriter(layout.part("binance", "BTCUSDT", HOUR, 4)).abandon()
    assert next_part_number(layout, "binance", "BTCUSDT", HOUR.day) == 5
    # Sealed: the part is gone, its name stands in the manifest of its hour.
    inputs = [{"path": "raw/binance/BTCUSDT/2024-08-08/part_12_0041.jsonl.zst", "bytes": 1, "sha256": ""}]
    sealed = layout.raw_day("binance", "BTCUSDT", HOUR.day) / "hour_12.jsonl.zst"
    durable.write(layout.manifest(sealed), msgspec.json.encode({"inputs": inputs, "later_field": 1}))
    assert next_part_number(layout, "binance", "BTCUSDT", HOUR.day) == 42


def test_an_open_part_is_not_opened_twice(tmp_path: Path) -> None:
    path = Layout(tmp_path).part("binance", "BTCUSDT", HOUR, 1)
    PartWriter(path).abandon()
    with pytest.raises(FileExistsError):
        PartWriter(path)


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=5), data=st.data())
def test_salvage_keeps_whole_frames_and_the_cut_bytes(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("lake")
    layout, quarantine = Layout(root), Quarantine(root / "quarantine")
    writer = PartWriter(layout.part("binance", "BTCUSDT", HOUR, 1))
    compressor = FrameCompressor()
    sizes = [writer.append(content, compressor) for content in contents]
    writer.abandon()
    whole = writer.open_path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    writer.open_path.write_bytes(whole[:cut])

    [result] = salvage(layout, quarantine)

    kept = sum(sum(sizes[: i + 1]) <= cut for i in range(len(sizes)))
    assert result.kept_bytes == sum(sizes[:kept])
    assert result.kept_bytes + result.cut_bytes == cut
    assert list(layout.open_parts()) == []
    if kept:
        read = [item.data for item in read_frames(writer.path) if isinstance(item, Frame)]
        assert read == contents[:kept]
    else:
        assert not writer.path.exists()
    put_aside = b"".join(p.read_bytes() for p in (root / "quarantine").glob("*.cut"))
    assert put_aside == whole[result.kept_bytes : cut]
    assert salvage(layout, quarantine) == []


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "locks"
    assert not locks.is_held(folder, "capture")
    with locks.hold(folder, "capture"):
        assert locks.is_held(folder, "capture")
        with (
            pytest.raises(locks.LockHeldError, match=r"process \d+ holds the lock 'capture'"),
            locks.hold(folder, "capture"),
        ):
            pass
        with locks.hold(folder, "transform"):
            pass
    assert not locks.is_held(folder, "capture")


def test_a_durable_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    durable.write(path, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        durable.write_with(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_quarantine_keeps_to_its_limit_and_counts_on(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", limit_bytes=10)
    quarantine.add("messages", b"12345678", "bad", "test")
    quarantine.add("messages", b"12345678", "bad", "test")
    assert quarantine.counts == {"bad": 2}
    assert (tmp_path / "q" / "messages").read_bytes() == b"12345678\n"
    entries = [
        msgspec.json.decode(line) for line in (tmp_path / "q" / "index.jsonl").read_bytes().splitlines()
    ]
    assert [entry["kept"] for entry in entries] == [True, False]


def test_salvage_keeps_what_lies_behind_damage_and_overwrites_nothing(tmp_path: Path) -> None:
    layout, compressor = Layout(tmp_path), FrameCompressor()
    writer = PartWriter(layout.part("binance", "BTCUSDT", HOUR, 1))
    sizes = [writer.append(b"%d\n" % number, compressor) for number in range(3)]
    writer.abandon()
    damaged = bytearray(writer.open_path.read_bytes())
    damaged[sizes[0] : sizes[0] + sizes[1]] = bytes(sizes[1])  # a page that never reached the disk
    writer.open_path.write_bytes(damaged)
    writer.path.write_bytes(b"somebody's")

    [result] = salvage(layout, Quarantine(layout.quarantine))

    assert (result.path.name, result.kept_bytes, result.cut_bytes) == (
        "part_13_0002.jsonl.zst",
        sum(sizes),
        0,
    )
    assert [i.data for i in read_frames(result.path) if isinstance(i, Frame)] == [b"0\n", b"2\n"]
    assert writer.path.read_bytes() == b"somebody's"


def test_bytes_that_go_next_are_put_aside_once_and_whole(tmp_path: Path) -> None:
    """Whatever a run before this one left: nothing, half an entry, all of it."""
    folder = tmp_path / "q"
    for _ in range(2):
        Quarantine(folder, limit_bytes=1).add_lasting("a.cut", b"damaged", "torn", "raw/part")
    index = folder / "index.jsonl"
    [line] = index.read_bytes().splitlines()
    index.write_bytes(line[:20])
    Quarantine(folder).add_lasting("a.cut", b"damaged", "torn", "raw/part")
    assert (folder / "a.cut").read_bytes() == b"damaged"
    assert [msgspec.json.decode(text)["bytes"] for text in index.read_bytes().splitlines()[1:]] == [7]
