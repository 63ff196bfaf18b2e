"""A machine whose clock is set while a program runs: libfaketime, with a file that says how far it is off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class FakeClock:
    """`environment` is for the program; timers and file times stay real, only the time of day is off."""

    def __init__(self, folder: Path) -> None:
        found = [path for place in _PLACES for path in Path("/").glob(place[1:])]
        if not found:
            pytest.skip("libfaketime is not installed (package faketime)")
        self._file = folder / "faketime"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        """The clock is so far off from now on."""
        temporary = self._file.with_name("faketime.new")
        temporary.write_text(f"{seconds:+d}\n")
        os.replace(temporary, self._file)  # noqa: PTH105
