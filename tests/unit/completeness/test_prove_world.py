"""The ledger equals what truly came and did not, whatever befell; and it is proven from bytes.

Each scenario puts losses, duplicates, reorder, lateness, connections that come and go, restarts, kills and steps of the
clock between a market and the collector's own intake and writer.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from crypto_lake.completeness.ledger import Account, account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.prove_report import Proof
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep.seal import compact
from support.lakes import At
from support.ledger_world import SYMBOL, World

EVERY_FAULT = {
    "swallow",
    "duplicate",
    "reorder",
    "late",
    "disconnect",
    "unsubscribe",
    "left out",
    "stop",
    "kill",
}
SET = {"clock set back", "clock set forward"}
SCENARIOS = 2000


def told(world: World) -> Account:
    return account(read(world.layout.ledger("binance", SYMBOL)).lines)


def proven(world: World, *, whole: bool = True) -> Proof:
    """`whole`: the collector has nothing more to write."""
    proof = prove(world.layout, "binance", SYMBOL)
    assert not proof.disagreements
    assert not whole or proof.to_come == 0
    assert proof.set_back <= (world.fired["clock set back"] > 0)
    return proof


def is_true(world: World) -> None:
    """Missing is what was withheld and did not come otherwise; seen is what came. Nothing else is either."""
    account = told(world)
    came = IntervalSet(Interval(id_, id_) for id_ in world.durable)
    withheld = IntervalSet(world.withheld().shared_with(Interval(world.durable[0], max(world.durable))))
    for interval in came:
        withheld.remove(interval)
    assert account.seen == came
    assert account.open_holes == withheld
    assert account.open_holes == world.missing()


def scenario(root: Path, seed: int) -> Counter[str]:
    """One story: proven while it goes on, after its end, after a crash, derived anew, and sealed."""
    steps = seed % 3 == 0  # of the clock
    world = World(root, seed)
    world.run(40, clock_steps=steps, between=lambda: proven(world, whole=False))
    world.stop()
    is_true(world)
    proven(world)

    causes = {(hole.first_id, hole.last_id): hole.cause for hole in told(world).holes}
    shutil.rmtree(root / "ledger")
    shutil.rmtree(root / "state" / "ledger", ignore_errors=True)
    world.start()
    world.kill()
    proven(world, whole=False)
    world.start()
    world.stop()
    is_true(world)
    proven(world)
    if not steps:
        anew = {(hole.first_id, hole.last_id): hole.cause for hole in told(world).holes}
        assert anew == causes, "derived from raw alone, a hole has the cause that it had"

    assert not compact(world.layout, clock=At(world.clock.at_ns + 2 * 3600 * 10**9)).failed
    proven(world)
    shutil.rmtree(root)
    return world.fired + world.faults.log.fired


def test_a_ledger_is_true_and_proven(tmp_path: Path, no_fsync: Callable[[], None]) -> None:
    fired: Counter[str] = Counter()
    for seed in range(24):
        fired += scenario(tmp_path / str(seed), seed)
    assert fired.keys() >= (EVERY_FAULT | SET)


@pytest.mark.faults
@pytest.mark.parametrize("share", range(10))
def test_two_thousand_ledgers_are_true_and_proven(
    tmp_path: Path, share: int, no_fsync: Callable[[], None]
) -> None:
    fired: Counter[str] = Counter()
    each = SCENARIOS // 10
    for seed in range(100 + share * each, 100 + (share + 1) * each):
        fired += scenario(tmp_path / str(seed), seed)
    assert fired.keys() >= (EVERY_FAULT | SET)


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost here, and the disk need not be waited for."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None)
