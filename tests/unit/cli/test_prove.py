"""`crypto-lake prove` as a user meets it: on a disk, on a bucket, and where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.cli.common import ExitCode
from crypto_lake.cli.main import main
from crypto_lake.simulator.faults import Swallow
from crypto_lake.store import open_store
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.upload import upload
from support.lakes import At
from support.ledger_world import COLLECTOR, STREAM, SYMBOL, World

DAY_SECONDS = 24 * 3600.0
PIECE = f"ledger/binance/{SYMBOL}/2024-08-09/{COLLECTOR}.jsonl"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two days, and a loss in each."""
    world = World(tmp_path_factory.mktemp("prove") / "lake", 0)
    for _ in range(2):
        world.trades(5)
        world.faults.add(Swallow(STREAM, 2))
        world.trades(5)
        world.cut()
        world.passes(DAY_SECONDS)
    world.trades(3)
    world.stop()
    return world


def proof(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["prove", SYMBOL, *arguments, "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_data_directory_is_proven(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = proof(capsys, "--data", str(world.layout.root))
    assert (code, told["proven"], told["schema"]) == (ExitCode.OK, True, 1)
    [one] = told["proofs"]
    assert (one["holes"], one["ids_missed"], one["disagreements"]) == (2, 4, [])
    code, told = proof(capsys, "2024-08-09..2024-08-10", "--data", str(world.layout.root))
    assert (code, told["proofs"][0]["holes"]) == (ExitCode.OK, 1)


def test_it_is_told_in_words(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", SYMBOL, "2024-08-08", "--data", str(world.layout.root)]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "1 hole with 2 that did not come" in out
    assert "best quotes have no ids that follow each other" in out
    assert out.rstrip().endswith("proven")


def test_what_disagrees_is_named_and_is_exit_code_3(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = world.layout.ledger("binance", SYMBOL)
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"cause":"message_lost"', b'"cause":"disconnected"', 1))
    try:
        assert main(["prove", SYMBOL, "--data", str(world.layout.root)]) == ExitCode.GAPS
        out = capsys.readouterr().out
        assert f"ledger/binance/{SYMBOL}.jsonl, line 3: says the line before has the hash" in out
        assert "not as it should be: 1 problem" in out
    finally:
        path.write_bytes(kept)


@pytest.fixture(scope="module")
def bucket(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, uploaded."""
    root = tmp_path_factory.mktemp("bucket")
    clock = At(world.clock.at_ns + int(DAY_SECONDS) * 2 * 10**9)
    assert not compact(world.layout, clock=clock).failed
    store = open_store(f"file://{root}")
    report = upload(world.layout, store, clock=clock)
    assert not report.failed, report
    return root


def test_a_bucket_is_proven(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = proof(capsys, "2024-08-08..2024-08-09", "--bucket", f"file://{bucket}")
    assert (code, told["proven"], told["not_proven"]) == (ExitCode.OK, True, [])
    [one] = told["proofs"]
    assert (one["collector"], one["holes"], one["ids_missed"]) == (COLLECTOR, 2, 4)


def test_of_a_bucket_the_object_is_named(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = next((bucket / f"raw/binance/{SYMBOL}/2024-08-09").rglob("hour_*.zst"))
    for path, named in ((bucket / PIECE, PIECE), (raw, str(raw.relative_to(bucket)))):
        kept = path.read_bytes()
        changed = bytearray(kept)
        changed[len(kept) // 2] ^= 1
        path.write_bytes(bytes(changed))
        try:
            code = main(["prove", SYMBOL, "2024-08-08..2024-08-09", "--bucket", f"file://{bucket}"])
            captured = capsys.readouterr()
            assert code in (ExitCode.GAPS, ExitCode.FAILURE)
            assert named in captured.out + captured.err
        finally:
            path.write_bytes(kept)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("BTCUSDT", "2024-8-8"), "expected a day such as"),
        (("BTCUSDT", "2024-08-09..2024-08-08"), "the last day is before the first"),
        (("BTCUSDT", "--bucket", "file:///nowhere"), "say which days"),
        (("btc/usdt",), "btc/usdt"),
        (("BTCUSDT", "2024-08-08", "--bucket", "file:///x", "--data", "y"), "leave out --data"),
    ],
)
def test_what_can_not_be_meant(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    assert main(["prove", *arguments]) == ExitCode.USAGE
    assert problem in capsys.readouterr().err


def test_a_symbol_without_a_ledger(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "ETHUSDT", "--data", str(world.layout.root)]) == ExitCode.FAILURE
    assert "there are those of BTCUSDT" in capsys.readouterr().err
