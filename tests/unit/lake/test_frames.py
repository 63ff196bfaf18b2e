"""Whatever is cut or flipped costs what it touched, and nothing else."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.lake import frames
from crypto_lake.lake.frames import BadBytes, Frame, FrameCompressor, end_of_last_frame, read_frames, scan

CONTENTS = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=8)


def frames_of(contents: list[bytes]) -> list[bytes]:
    compressor = FrameCompressor()
    return [compressor.frame(content) for content in contents]


@given(CONTENTS)
def test_frames_read_back_in_order(contents: list[bytes]) -> None:
    items = list(scan(memoryview(b"".join(frames_of(contents)))))
    assert [item.data for item in items if isinstance(item, Frame)] == contents
    assert not any(isinstance(item, BadBytes) for item in items)


@given(CONTENTS, st.data())
def test_a_cut_costs_the_frame_it_cut(contents: list[bytes], data: st.DataObject) -> None:
    frames = frames_of(contents)
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    kept = sum(end <= cut for end in ends)
    items = list(scan(memoryview(whole[:cut])))
    assert [item.data for item in items if isinstance(item, Frame)] == contents[:kept]
    assert sum(item.size for item in items) == cut


@settings(max_examples=200)
@given(CONTENTS, st.data())
def test_a_flipped_bit_costs_one_frame(contents: list[bytes], data: st.DataObject) -> None:
    frames = frames_of(contents)
    whole = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = next(i for i in range(len(frames)) if at < sum(map(len, frames[: i + 1])))
    read = [item.data for item in scan(memoryview(bytes(whole))) if isinstance(item, Frame)]
    # A header bit may be one that decodes to the same content; then nothing is lost at all.
    assert read in (contents[:hit] + contents[hit + 1 :], contents)


@given(CONTENTS, st.binary(min_size=1, max_size=50).filter(lambda b: b"\x28\xb5\x2f\xfd" not in b))
def test_garbage_behind_is_told_with_its_place(contents: list[bytes], garbage: bytes) -> None:
    whole = b"".join(frames_of(contents))
    *good, bad = scan(memoryview(whole + garbage))
    assert [item.data for item in good if isinstance(item, Frame)] == contents
    assert isinstance(bad, BadBytes)
    assert (bad.offset, bad.size) == (len(whole), len(garbage))


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("frame"), st.binary(max_size=300)),
            st.tuples(st.just("garbage"), st.binary(min_size=1, max_size=40)),
            st.tuples(st.just("cut"), st.binary(min_size=30, max_size=300)),
        ),
        max_size=8,
    ),
    st.integers(1, 400),
    st.integers(1, 50),
)
def test_a_file_reads_the_same_whatever_its_reads_give(
    drawn: list[tuple[str, bytes]], block_bytes: int, most: int
) -> None:
    class Short(io.BytesIO):
        """Gives less than it is asked for, as a file may."""

        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size if size is None or size < 0 else min(size, most))

    compressor = FrameCompressor()
    pieces = {"frame": compressor.frame, "garbage": bytes, "cut": lambda data: compressor.frame(data)[:-7]}
    whole = b"".join(pieces[kind](data) for kind, data in drawn)
    assert list(frames._stream(Short(whole), block_bytes)) == list(scan(memoryview(whole)))


def test_a_disk_that_fails_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """A file that is cut while it is read, as one on a failing disk is."""
    path = tmp_path / "part"
    data = [bytes([n]) * 100_000 + random.Random(n).randbytes(200_000) for n in range(20)]
    path.write_bytes(b"".join(frames_of(data)))
    reading = read_frames(path)
    assert isinstance(next(reading), Frame)
    os.truncate(path, 1000)
    rest = list(reading)
    whole = [item.data for item in rest if isinstance(item, Frame)]
    assert whole == data[1 : 1 + len(whole)]
    assert len(whole) < len(data) - 1, "the cut came after the last read"
    assert not any(isinstance(item, BadBytes) for item in rest[:-1])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"")
    assert list(read_frames(path)) == []
    one, two = frames_of([b"one", b"two"])
    path.write_bytes(one + two + bytes(100))
    assert end_of_last_frame(path) == len(one) + len(two)
    assert [type(item) for item in read_frames(path)] == [Frame, Frame, BadBytes]
    # What lies behind damage counts: a flipped bit must not cost the frames after it.
    path.write_bytes(bytes(100) + one + bytes(100) + two + one[:-1])
    assert end_of_last_frame(path) == 200 + len(one) + len(two)
