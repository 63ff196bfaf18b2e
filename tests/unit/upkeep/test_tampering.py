"""A byte changed anywhere in raw, manifests, ledger or Parquet is found, and its file is named."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.lake.layout import Layout
from crypto_lake.simulator.faults import Swallow
from crypto_lake.upkeep.prove import ProveReport, prove_lake
from crypto_lake.upkeep.seal import compact
from support.lakes import At
from support.ledger_world import STREAM, SYMBOL, World

KINDS = ("raw", "manifests", "ledger", "parquet")
FLIPS = 200


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two sealed hours with a hole in each, their control records, bars and ledger, after a clean stop."""
    world = World(tmp_path_factory.mktemp("lake"), 0)
    for _ in range(2):
        world.trades(40)
        world.faults.add(Swallow(STREAM, 2))
        world.trades(20)
        world.cut()
        world.passes(3600.0)
    world.trades(3)
    world.stop()
    clock = At(world.clock.at_ns + 3 * 3600 * 10**9)
    assert not compact(world.layout, clock=clock).failed
    assert not transform(world.layout, "binance", clock=clock, workers=1).failed
    assert prove_lake(world.layout, SYMBOL, None).proven
    return world.layout


def files_of(layout: Layout, kind: str) -> list[Path]:
    return sorted(path for path in (layout.root / kind).rglob("*") if path.is_file())


def named(report: ProveReport, name: str) -> bool:
    """Whether the report names the file; of a manifest that can't be read any more, the file that it is of."""
    found = [(one.path, one.problem) for one in report.differences]
    found += [(one.path, one.problem) for proof in report.proofs for one in proof.disagreements]
    of = name.removeprefix("manifests/").removesuffix(".json")
    return any(path == name or (path == of and "manifest" in problem) for path, problem in found)


def flip(layout: Layout, seed: int, kind: str) -> None:
    """Change one byte to another one, prove, and change it back."""
    rng = Random(seed)
    files = files_of(layout, kind)
    path = rng.choices(files, [file.stat().st_size for file in files])[0]
    kept = path.read_bytes()
    changed = bytearray(kept)
    place = rng.randrange(len(kept))
    changed[place] ^= rng.randrange(1, 256)
    name = str(path.relative_to(layout.root))
    path.write_bytes(bytes(changed))
    try:
        report = prove_lake(layout, SYMBOL, None)
    finally:
        path.write_bytes(kept)
    assert not report.proven, f"byte {place} of {name}"
    assert named(report, name), f"byte {place} of {name}: {report}"


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works on this lake, for whom `verify` waits before it looks again."""
    monkeypatch.setattr("crypto_lake.upkeep.verify.time.sleep", lambda _: None)


@pytest.mark.parametrize(("kind", "count"), [("raw", 6), ("manifests", 6), ("ledger", 8), ("parquet", 1)])
def test_a_changed_byte_is_found(lake: Layout, no_pause: None, kind: str, count: int) -> None:
    for seed in range(count):
        flip(lake, seed, kind)
    assert prove_lake(lake, SYMBOL, None).proven


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_changed_bytes_are_found(lake: Layout, no_pause: None, kind: str) -> None:
    for seed in range(100, 100 + FLIPS // len(KINDS)):
        flip(lake, seed, kind)


def test_a_line_cut_off_the_end_is_found(lake: Layout, no_pause: None) -> None:
    """The chain can't know it, the raw does."""
    path = lake.ledger("binance", SYMBOL)
    kept = path.read_bytes()
    lines = kept.splitlines(keepends=True)
    try:
        path.write_bytes(
            b"".join(lines[:-2])
        )  # the end that the collector wrote, and what was seen before it
        assert named(prove_lake(lake, SYMBOL, None), f"ledger/binance/{SYMBOL}.jsonl")
    finally:
        path.write_bytes(kept)
