"""Files of one hour put together by the time of their frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake import envelope
from crypto_lake.lake.frames import BadBytes, FrameCompressor, read_frames
from crypto_lake.upkeep.publish_merge import merge_frames

frame = st.one_of(
    st.lists(st.integers(0, 50), min_size=1, max_size=4),  # times of lines
    st.just("damaged"),
    st.just("no line"),
)


def encoded(given_: list[int] | str, tag: str) -> bytes:
    if given_ == "damaged":
        return f"bytes that are no frame {tag}".encode()
    compressor = FrameCompressor()
    if isinstance(given_, str):
        return compressor.frame(f"no line {tag}\n".encode())
    return compressor.frame(b"".join(envelope.encode(at, tag, b"{}") for at in given_))


@given(st.lists(st.lists(frame, max_size=6), min_size=1, max_size=4))
def test_nothing_is_lost_and_frames_that_rise_are_in_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[list[int] | str]]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    paths: list[Path] = []
    pieces: list[bytes] = []
    for number, frames in enumerate(files):
        own = [encoded(one, f"{number}-{at}") for at, one in enumerate(frames)]
        path = folder / str(number)
        path.write_bytes(b"".join(own))
        paths.append(path)
        pieces += own
    merge_frames(paths, folder / "merged")
    found = list(read_frames(folder / "merged"))
    assert (folder / "merged").stat().st_size == sum(len(piece) for piece in pieces)
    # Two stretches of damage that come to lie beside each other are one.
    whole = [item.data for item in found if not isinstance(item, BadBytes)]
    wanted = Counter(p for p in pieces if not p.startswith(b"bytes"))
    assert Counter(FrameCompressor().frame(data) for data in whole) == wanted
    if all(isinstance(one, list) for frames in files for one in frames) and all(
        [one[0] for one in frames] == sorted(one[0] for one in frames) for frames in files
    ):
        first = [envelope.decode(data.split(b"\n")[0]).received_ns for data in whole]
        assert first == sorted(first)
