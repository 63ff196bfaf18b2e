"""After `cleanup` what is left proves as before; and a bucket proves what it has, however far back the trade before lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.completeness import ledger
from crypto_lake.completeness.entries import Hole
from crypto_lake.completeness.heal import by_hour
from crypto_lake.completeness.heal_files import Origin, outcomes, write_healed
from crypto_lake.completeness.prove_report import Proof
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval
from crypto_lake.simulator.faults import Swallow
from crypto_lake.store import Store, open_store
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.prove import ProveReport, prove_in_bucket, prove_lake
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.upload import upload
from support.lakes import At
from support.ledger_world import STREAM, SYMBOL, World

DAY, NEXT_DAY = "2024-08-08", "2024-08-09"
HOUR_SECONDS = 3600.0
DAY_NS = 86400 * 10**9


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost here, and the disk need not be waited for."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(f"file://{tmp_path}/bucket")


def hours_pass(world: World, hours: int, *, trades: int) -> None:
    for _ in range(hours):
        world.passes(HOUR_SECONDS)
        world._alive()
        world.trades(trades)
        world.cut()


def ends(world: World) -> int:
    """The collector stops. When its days are long over."""
    world.passes(60.0)
    world._alive()
    world.trades(2)
    world.stop()
    return world.clock.at_ns + 3 * DAY_NS


def uploaded(layout: Layout, store: Store, now_ns: int) -> None:
    assert not compact(layout, clock=At(now_ns)).failed
    assert not transform(layout, "binance", clock=At(now_ns), workers=1).failed
    assert not upload(layout, store, clock=At(now_ns)).problem


def cleaned(layout: Layout, store: Store, last_gone: Hour, now_ns: int) -> None:
    """All that is of this hour or before may go. Control records wait for the rest: hence twice."""
    for _ in range(2):
        cleanup(layout, store, retention=Retention(now_ns - last_gone.end_ns), clock=At(now_ns))


def heard_again(world: World) -> None:
    """Trades come, and the grace of those that did not is over."""
    world.trades(5)
    world.cut()
    world.passes(60.0)
    world._alive()
    world.cut()


def the_hole(layout: Layout) -> Hole:
    [hole] = [line for line in ledger.read(layout.ledger("binance", SYMBOL)).lines if isinstance(line, Hole)]
    return hole


def proof_of(report: ProveReport) -> Proof:
    [proof] = report.proofs
    assert (proof.disagreements, report.differences) == ([], [])
    assert report.proven
    return proof


def healed(world: World, hole: Hole) -> None:
    """The exchange's trades were spread evenly over the hole: each hour of it gets a file."""
    ids = Interval(hole.first_id, hole.last_id)
    step_us = (hole.before_time_us - hole.after_time_us) // (len(ids) + 1)
    rows = [
        b'{"id":%d,"price":"1.00000000","qty":"1.00000000","quoteQty":"1.00000000","time":%d,'
        b'"isBuyerMaker":true,"isBestMatch":true}' % (ids.first + n, hole.after_time_us + step_us * (n + 1))
        for n in range(len(ids))
    ]
    for hour, found in by_hour(BINANCE.past.trades.read(b"[%s]" % b",".join(rows))):
        origin = Origin("rest-1", "historicalTrades", world.clock.at_ns)
        file = write_healed(world.layout, "binance", SYMBOL, hour, found, ids, origin)
        world.intake.settle(SYMBOL, outcomes(file, ids))
    world.cut()


def test_a_hole_is_proven_whose_first_hours_and_healed_files_went(tmp_path: Path, store: Store) -> None:
    world = World(tmp_path / "data", 1)
    hours_pass(world, 18, trades=5)
    world.disconnect()
    world.cut()
    for _ in range(3):
        world.passes(HOUR_SECONDS)
        world.trades(4)  # nobody hears them
    world.connect()
    heard_again(world)
    hole = the_hole(world.layout)
    healed(world, hole)
    hours_pass(world, 1, trades=5)
    now_ns = ends(world)
    uploaded(world.layout, store, now_ns)
    whole = proof_of(prove_lake(world.layout, SYMBOL, None))
    assert (whole.ids_healed, whole.healed_files_gone, whole.causes_not_compared) == (12, 0, 0)
    found = Hour.of_ns(hole.found_ns)
    cleaned(world.layout, store, found.previous(), now_ns)
    left = proof_of(prove_lake(world.layout, SYMBOL, None))
    assert (left.first_hour, left.holes, left.ids_healed) == (str(found), 1, 12)
    assert left.healed_files_gone >= 2
    assert left.causes_not_compared == 1
    # The bucket has all of it, and so it says the cause as well.
    there = proof_of(prove_in_bucket(store, SYMBOL, (NEXT_DAY, NEXT_DAY), folder=tmp_path))
    assert (there.ids_healed, there.healed_files_gone, there.causes_not_compared) == (12, 0, 0)


def test_a_connection_is_known_that_began_on_the_day_before_what_is_left(
    tmp_path: Path, store: Store
) -> None:
    world = World(tmp_path / "data", 1)
    hours_pass(world, 20, trades=5)
    world.passes(60.0)
    world.disconnect()
    world.trades(7)  # nobody hears them
    world.connect()
    heard_again(world)
    now_ns = ends(world)
    assert the_hole(world.layout).cause == "disconnect"
    uploaded(world.layout, store, now_ns)
    cleaned(world.layout, store, Hour(NEXT_DAY, 2), now_ns)
    layout = world.layout
    assert not layout.raw_files("binance", SYMBOL, DAY), "the fault fired: raw of the day before has gone"
    assert layout.raw_files("binance", CONTROL, DAY)
    proof = proof_of(prove_lake(layout, SYMBOL, None))
    assert (proof.first_hour, proof.holes, proof.causes_not_compared) == (f"{NEXT_DAY}T03", 1, 0)
    assert proof.quotes is not None
    assert proof.quotes.of_seconds - proof.quotes.watched_seconds < 60.0
    # With the last raw all goes.
    cleaned(layout, store, Hour.of_ns(world.clock.at_ns), now_ns)
    assert not list(layout.raw_root().rglob("*.zst"))


def test_a_bucket_proves_a_day_whose_last_trade_before_lies_days_back(tmp_path: Path, store: Store) -> None:
    """Right after that trade the collector was restarted; in the quiet days connections followed each other."""
    world = World(tmp_path / "data", 1)
    world.trades(5)
    world.cut()
    world.stop()
    world.passes(60.0)
    world.start()
    for _ in range(3):
        world.passes(22 * HOUR_SECONDS)
        world._alive()
        world._end(next(iter(world._connections)), "reset")
        world.connect()
        world.cut()
    world.faults.add(Swallow(STREAM, 3))
    world.trades(3)
    heard_again(world)
    hole = the_hole(world.layout)
    day = Hour.of_ns(hole.found_ns).day
    assert (hole.cause, day) == ("restart", "2024-08-11")
    now_ns = ends(world)
    assert not compact(world.layout, clock=At(now_ns)).failed
    assert not upload(world.layout, store, clock=At(now_ns)).problem
    for report in (
        prove_lake(world.layout, SYMBOL, (day, day)),
        prove_in_bucket(store, SYMBOL, (day, day), folder=tmp_path),
    ):
        proof = proof_of(report)
        assert (proof.first_hour[:10], proof.holes, proof.causes_not_compared) == (day, 1, 0)
