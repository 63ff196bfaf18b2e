"""`crypto-lake compact` and `verify` as a user calls them; and bars, which sealing must not change."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import next_part_number
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.seal import compact
from support.lakes import DAY, EXCHANGE, At, command, market, write_part

HOURS = [Hour(DAY, 22), Hour(DAY, 23), Hour("2024-08-09", 0)]
SYMBOL = "BTCUSDT"


def store(layout: Layout) -> None:
    """Three hours over midnight in parts of some minutes, trades of the next hour among the last of each."""
    id_ = 1
    for hour in HOURS:
        for share in range(5):
            lines = market(SYMBOL, hour, id_, 40, start=share / 5, end=(share + 1) / 5)
            id_ += 40 + (share == 2)  # one id is missing in each hour
            write_part(layout, SYMBOL, hour, next_part_number(layout, EXCHANGE, SYMBOL, hour.day), lines)


def bars(layout: Layout) -> dict[str, bytes]:
    root = layout.root / "parquet"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.parquet"))}


def test_sealing_changes_no_bar_file(tmp_path: Path) -> None:
    """Before, after, and with parts that a run which was cut off has left beside the hour they are in."""
    never, sealed = Layout(tmp_path / "never"), Layout(tmp_path / "sealed")
    chance = random.Random(4)
    for layout in (never, sealed):
        store(layout)
    transform(never, EXCHANGE, clock=At(HOURS[2].end_ns), workers=1)
    wanted = bars(never)
    assert len(wanted) == 2
    kept = {p: p.read_bytes() for p in sealed.raw_root().rglob("part_*") if chance.random() < 0.5}
    made = [transform(sealed, EXCHANGE, clock=At(HOURS[0].end_ns), workers=1)]
    for hour in HOURS:
        assert compact(sealed, clock=At(hour.end_ns + 10**11)).hours_sealed == 1
        for path, data in kept.items():
            path.write_bytes(data)  # as it was before the deletion
        made.append(transform(sealed, EXCHANGE, clock=At(hour.end_ns), workers=1))
        assert bars(sealed) == wanted
    assert all(not report.failed for report in made)
    # From sealed hours alone, and nothing known.
    compact(sealed, clock=At(HOURS[2].end_ns + 10**11))
    assert not list(sealed.raw_root().rglob("part_*"))
    fresh = Layout(tmp_path / "fresh")
    fresh.root.mkdir()
    sealed.raw_root().rename(fresh.raw_root())
    transform(fresh, EXCHANGE, clock=At(HOURS[2].end_ns), workers=1)
    assert bars(fresh) == wanted


def test_seal_and_verify_as_a_user_does(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    store(layout)
    data = ("--data", str(layout.root))
    done = command("compact", *data, "--day", "2024-08-09")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 hour sealed from 5 parts" in done.stdout
    done = command("compact", *data, "-o", "json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["schema"], report["hours_sealed"], report["parts_deleted"]) == (1, 2, 10)
    done = command("verify", *data)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 files" in done.stdout
    assert "all as they should be" in done.stdout

    path = layout.sealed(EXCHANGE, SYMBOL, HOURS[1], 1)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    done = command("verify", *data, "-o", "json")
    assert done.returncode == 3
    found = json.loads(done.stdout)["differences"]
    name = f"raw/binance/{SYMBOL}/{DAY}/hour_23.jsonl.zst"
    assert {difference["path"] for difference in found} == {name}
    place = next(d for d in found if d["offset"] is not None)
    assert place["offset"] <= len(damaged) // 2 < place["offset"] + place["size"]
    for arguments, code in (
        ((name,), 3),
        ((str(path.parent),), 3),
        ((f"manifests/{name}.json",), 3),
        (("raw/binance/BTCUSDT/2024-08-09",), 0),
        (("--day", "2024-08-09"), 0),
        (("--symbol", "ETHUSDT"), 0),
        (("--quick", name), 3),
    ):
        done = command("verify", *data, *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert (f"{name}, " in done.stdout) == (code == 3)


@pytest.mark.parametrize("name", ["compact", "verify"])
def test_errors_say_what_to_do(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path)
    store(layout)
    errors: list[tuple[tuple[str, ...], str]] = [
        (("--data", str(tmp_path / "none")), "--data names the lake's directory"),
        (("--data", str(tmp_path), "--day", "9.8.2024"), "2024-08-08"),
        (("--data", str(tmp_path), "--symbol", "btcusdt"), "BTCUSDT"),
    ]
    if name == "verify":
        errors.append((("--data", str(tmp_path), "raw/binance/XRPUSDT"), "not there"))
        errors.append((("--data", str(tmp_path), str(tmp_path.parent)), "not in"))
    for arguments, text in errors:
        done = command(name, *arguments)
        assert done.returncode == 2
        assert text in done.stderr


def test_a_failure_and_a_lock_are_told_by_the_exit_code(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    store(layout)
    with locks.hold(layout.locks, "transform"):
        done = command("compact", "--data", str(tmp_path))
    assert done.returncode == 4
    assert "transform" in done.stderr
    (tmp_path / "manifests").write_text("a file where a folder should be")
    before: dict[str, Any] = {str(p): p.stat().st_size for p in layout.raw_root().rglob("part_*")}
    done = command("compact", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "hour 23" in done.stderr
    assert {str(p): p.stat().st_size for p in layout.raw_root().rglob("part_*")} == before
