"""Manifests: what a file is proven to hold. Beside the lake under `manifests/`, at the file's own path."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from crypto_lake.lake.layout import Layout, parse_raw_name


class Input(msgspec.Struct, frozen=True):
    """A file that another was made of."""

    path: str  # relative to the data directory
    bytes: int
    sha256: str


def parts_named(layout: Layout, exchange: str, symbol: str, day: str) -> Iterator[int]:
    """Numbers of the parts that the day's manifests name as inputs, whether they are still there or not."""
    folder = layout.manifest(layout.raw_day(exchange, symbol, day) / "x").parent
    if not folder.is_dir():
        return
    for path in folder.glob("hour_*.json"):
        for entry in msgspec.json.decode(path.read_bytes(), type=_Inputs).inputs:
            parsed = parse_raw_name(day, layout.root / entry.path)
            if parsed is not None and parsed.kind == "part":
                yield parsed.number


class _Inputs(msgspec.Struct):
    inputs: list[Input] = []
