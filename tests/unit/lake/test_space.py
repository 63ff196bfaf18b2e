"""Room on a file system, against `df`, which everybody compares it with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crypto_lake.lake.space import file_system_space, space_told


@pytest.mark.parametrize("path", ["/", "/tmp/no/such/folder", "/dev/shm"])
def test_the_share_that_is_used_is_what_df_prints(path: str) -> None:
    there = Path(path) if Path(path).exists() else Path("/tmp")
    space = file_system_space(Path(path))
    fields = ["--output=used,avail,iused,iavail", "--block-size=1"]
    told = subprocess.run(["df", *fields, str(there)], capture_output=True, text=True, check=True)
    used, free, used_inodes, free_inodes = (
        int(n) if n.isdigit() else 0 for n in told.stdout.split("\n")[1].split()
    )
    room = 64 * 2**20  # others write meanwhile
    assert space.free_bytes == pytest.approx(free, abs=room)
    assert space.total_bytes == pytest.approx(used + free, abs=room)
    assert space.total_inodes == pytest.approx(used_inodes + free_inodes, abs=10_000)


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_file_system_is_full_when_only_root_may_still_write(blocks: int, used: int, kept_back: int) -> None:
    assume(used + kept_back <= blocks)
    free = blocks - used
    told = os.statvfs_result(
        (4096, 4096, blocks, free, free - kept_back, blocks, free, free - kept_back, 0, 255)
    )
    space = space_told(told)
    assert (space.total_bytes - space.free_bytes, space.total_inodes - space.free_inodes) == (
        used * 4096,
        used,
    )
    full = space_told(os.statvfs_result((4096, 4096, blocks, kept_back, 0, 0, 0, 0, 0, 255)))
    assert (full.free_bytes, full.total_bytes) == (0, 4096 * (blocks - kept_back))
