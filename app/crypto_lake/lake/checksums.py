"""What a file of the lake is: see `model.checksums`."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.model.checksums import Checksums, measure_stream


def measure(path: Path) -> Checksums:
    """Read a file whole. Memory is that of a block."""
    with path.open("rb", buffering=0) as file:
        return measure_stream(file)
