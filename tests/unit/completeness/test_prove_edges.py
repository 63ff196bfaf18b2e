"""`prove` at the edges: trades before the range that lie far back, raw and healed files that have gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from crypto_lake.completeness.entries import NO_PREVIOUS, AnyLine, Hole, Outcome, Seen
from crypto_lake.completeness.ledger import encode_chain, read
from crypto_lake.completeness.prove import leading_to
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.prove_range import ProveError, range_of
from crypto_lake.completeness.prove_report import Proof
from crypto_lake.lake import deletions, envelope, raw_manifests
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.simulator.faults import Swallow
from crypto_lake.upkeep.seal import compact
from support.lakes import At
from support.ledger_world import STREAM, SYMBOL, World

HOUR_SECONDS = 3600.0
DAY, NEXT_DAY = "2024-08-08", "2024-08-09"
STORIES = 120
QUOTE = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"1.00000000","B":"1.00000000",'
    b'"a":"2.00000000","A":"1.00000000"}}'
)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost here, and the disk need not be waited for."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None)


def holes(layout: Layout) -> list[Hole]:
    return [line for line in read(layout.ledger("binance", SYMBOL)).lines if isinstance(line, Hole)]


def sealed(world: World) -> World:
    assert not compact(world.layout, clock=At(world.clock.at_ns + 2 * 3600 * 10**9)).failed
    return world


# The trade before.
def seen(hour: str, first_id: int, last_id: int) -> Seen:
    return Seen(hour=hour, first_id=first_id, last_id=last_id, first_time_us=1, last_time_us=2)


def test_what_leads_to_an_hour_begins_with_the_greatest_id_before() -> None:
    lines = [
        seen(f"{DAY}T09", 1, 9),
        seen(f"{DAY}T10", 20, 29),
        seen(f"{DAY}T12", 10, 15),  # came late
        seen("no hour", 90, 99),
        seen(f"{DAY}T20", 30, 39),
    ]
    assert leading_to(lines, Hour(DAY, 20)) == {Hour(DAY, 10), Hour(DAY, 12)}
    assert leading_to(lines, Hour(DAY, 10)) == {Hour(DAY, 9)}
    assert leading_to(lines, Hour(DAY, 9)) == set()


def quiet_before_midnight(root: Path) -> World:
    """A trade at 13:30, then best quotes alone; at 00:30 three trades are lost, and the next ones come."""
    world = World(root, 1)
    world.trades(5)
    world.cut()
    for _ in range(11):
        world.passes(HOUR_SECONDS)
        world._alive()
        world.intake.drain(
            next(iter(world._connections)), world.clock.at_ns, [QUOTE % (world.clock.at_ns // 10**6)]
        )
        world.cut()
    world.faults.add(Swallow(STREAM, 3))
    world.trades(6)
    world.cut()
    world.passes(10.0)
    world._alive()
    world.trades(2)
    world.stop()
    return world


def test_a_day_is_proven_whose_last_trade_before_lies_hours_back(tmp_path: Path) -> None:
    """Between the trade before the hole and the hole nothing happened; before that trade the collector started."""
    world = quiet_before_midnight(tmp_path)
    [hole] = holes(world.layout)
    assert (hole.cause, Hour.of_ns(hole.found_ns)) == ("message_lost", Hour(NEXT_DAY, 0))
    for days in (None, (NEXT_DAY, NEXT_DAY)):
        proof = prove(world.layout, "binance", SYMBOL, days)
        assert (proof.disagreements, proof.holes, proof.causes_not_compared) == ([], 1, 0)
    assert proof.first_hour == f"{NEXT_DAY}T00"


# Days, and what has gone.
@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three days of an hour each that are sealed, with a loss in each, and a connection that lasts through all."""
    world = World(tmp_path_factory.mktemp("days"), 0)
    for _ in range(3):
        world.trades(3)
        world.faults.add(Swallow(STREAM, 2))
        world.trades(4)
        world.cut()
        world.passes(7.0)
        world.cut()
        world.passes(24 * HOUR_SECONDS)
    world.stop()
    assert not compact(world.layout, clock=At(world.clock.at_ns + 2 * 3600 * 10**9)).failed
    return world


@pytest.mark.parametrize("day", ["2024-08-08", "2024-08-09", "2024-08-10"])
def test_a_day_is_proven_by_itself(days: World, day: str) -> None:
    proof = prove(days.layout, "binance", SYMBOL, (day, day))
    assert not proof.disagreements
    assert (proof.first_hour[:10], proof.last_hour[:10]) == (day, day)
    assert (proof.holes, proof.ids_missed, proof.trades_seen) == (1, 2, 5)


def test_an_hour_whose_raw_has_gone_is_said_to_be(days: World) -> None:
    gone = days.layout.raw_day("binance", SYMBOL, "2024-08-09")
    aside = gone.with_name("aside")
    gone.rename(aside)
    try:
        with pytest.raises(
            ProveError, match=r"1 hours of raw .* the first is 2024-08-09T13: prove these days from"
        ):
            prove(days.layout, "binance", SYMBOL, ("2024-08-08", "2024-08-10"))
        assert not prove(days.layout, "binance", SYMBOL).disagreements, "from the next day on all is here"
        manifests = days.layout.manifest(gone / "x").parent
        hidden = manifests.rename(manifests.with_name("hidden"))
        try:
            found = [one.problem for one in prove(days.layout, "binance", SYMBOL).disagreements]
            assert any("came in 2024-08-09T13; raw of that hour does not have them" in text for text in found)
        finally:
            hidden.rename(manifests)
    finally:
        aside.rename(gone)


# Raw that has gone.
def take_away(layout: Layout, symbol: str, gone: Callable[[Hour], bool]) -> int:
    """Sealed hours go as `cleanup` takes them: their manifests stay, and a record says so."""
    taken = 0
    for day in layout.raw_days("binance", symbol):
        for file in layout.raw_files("binance", symbol, day):
            if gone(file.hour):
                manifest = raw_manifests.read_raw_manifest(layout, file.path)
                assert manifest is not None
                record = DeletionRecord(manifest.path, manifest.bytes, manifest.sha256, "expired", 1)
                deletions.append(layout, "binance", symbol, day, [record])
                file.path.unlink()
                taken += 1
    return taken


def hours_here(layout: Layout) -> list[Hour]:
    days = layout.raw_days("binance", SYMBOL)
    return sorted({file.hour for day in days for file in layout.raw_files("binance", SYMBOL, day)})


def day_before(day: str) -> str:
    return Hour.of_ns(Hour(day, 0).start_ns - 1).day


def long_story(root: Path, seed: int) -> World:
    """From half past one in the afternoon into the next day, with quiet hours; no connection is older than a day."""
    world, rng = World(root, seed), Random(seed)
    world.trades(3)
    world.cut()
    left = 23 * HOUR_SECONDS
    while left > 0:
        for _ in range(rng.randint(1, 5)):
            world.one_step(clock_steps=False)
        seconds = rng.choice([600.0, HOUR_SECONDS, HOUR_SECONDS, 4 * HOUR_SECONDS])
        left -= seconds
        world.passes(seconds)
        world._alive()
        world.cut()
    world.stop()
    return sealed(world)


def proven_as_it_goes(root: Path, seed: int) -> tuple[int, int]:
    """A day by itself, and what is left after each hour that goes. How many holes were proven, and causes were not."""
    layout = long_story(root, seed).layout
    found: list[Proof] = [prove(layout, "binance", SYMBOL)]
    found += [prove(layout, "binance", SYMBOL, (day, day)) for day in layout.raw_days("binance", SYMBOL)]
    for hour in hours_here(layout)[:-1]:
        assert take_away(layout, SYMBOL, lambda at, last=hour: at <= last)
        kept_from = day_before(hours_here(layout)[0].day)
        take_away(layout, CONTROL, lambda at, day=kept_from: at.day < day)
        found.append(prove(layout, "binance", SYMBOL))
        assert found[-1].first_hour > str(hour)
    assert not [one for proof in found for one in proof.disagreements]
    return sum(proof.holes for proof in found), sum(proof.causes_not_compared for proof in found)


def test_what_is_left_of_a_ledger_is_proven_hour_by_hour(tmp_path: Path) -> None:
    found = [proven_as_it_goes(tmp_path / str(seed), seed) for seed in range(3)]
    proven, not_compared = (sum(each) for each in zip(*found, strict=True))
    assert 0 < not_compared < proven / 2


@pytest.mark.faults
def test_what_is_left_of_many_ledgers_is_proven_hour_by_hour(tmp_path: Path) -> None:
    found = [proven_as_it_goes(tmp_path / str(seed), seed) for seed in range(100, 100 + STORIES)]
    proven, not_compared = (sum(each) for each in zip(*found, strict=True))
    assert 0 < not_compared < proven / 2


@pytest.fixture
def hours(tmp_path: Path) -> tuple[Layout, list[Hour]]:
    """Trades of four hours, sealed; in the third some are lost."""
    world = World(tmp_path, 0)
    for lost in (0, 0, 2, 0):
        world.trades(1)
        world.faults.add(Swallow(STREAM, lost))
        world.trades(4)
        world.cut()
        world.passes(HOUR_SECONDS)
        world._alive()
    world.stop()
    layout = sealed(world).layout
    assert len(holes(layout)) == 1
    return layout, hours_here(layout)


def test_an_hour_is_gone_when_one_of_its_files_is(hours: tuple[Layout, list[Hour]]) -> None:
    """What came late for it lies in a file of its own, which may stay longer."""
    layout, (_, second, third, _) = hours
    take_away(layout, SYMBOL, lambda hour: hour <= second)
    late = layout.raw_day("binance", SYMBOL, second.day) / f"hour_{second.hour:02d}_2.jsonl.zst"
    late.write_bytes(FrameCompressor().frame(b""))
    proof = prove(layout, "binance", SYMBOL)
    assert (proof.first_hour, proof.holes, proof.disagreements) == (str(third), 1, [])
    assert hours_here(layout)[0] == second


def test_raw_that_is_older_than_what_has_gone_is_not_read(hours: tuple[Layout, list[Hour]]) -> None:
    layout, (first, second, third, fourth) = hours
    take_away(layout, SYMBOL, lambda hour: hour == second)
    proof = prove(layout, "binance", SYMBOL)
    assert (proof.first_hour, proof.holes, proof.disagreements) == (str(third), 1, [])
    # Also where all that came in the hour that has gone came late.
    lines = [seen(str(first), 1, 9), seen(str(second), 4, 5), seen(str(third), 10, 19)]
    assert range_of(layout, "binance", SYMBOL, None, lines).read == [third, fourth]


# Healed files that have gone.
@pytest.fixture
def healed(tmp_path: Path) -> tuple[Layout, Path]:
    """What was lost in one hour was healed under the hour before; all is sealed."""
    world = World(tmp_path, 0)
    world.trades(3)
    world.cut()
    world.passes(HOUR_SECONDS)
    world.faults.add(Swallow(STREAM, 2))
    world.trades(6)
    world.cut()
    world.passes(7.0)
    world.trades(1)
    world.stop()
    [hole] = holes(world.layout)
    path = world.layout.healed("binance", SYMBOL, Hour(DAY, 13), hole.first_id, hole.last_id, 1)
    rows = [
        envelope.encode(1, "rest-1", b'{"id":%d,"price":"1.00000000","qty":"1.00000000"}' % id_, "archive")
        for id_ in range(hole.first_id, hole.last_id + 1)
    ]
    path.write_bytes(FrameCompressor().frame(b"".join(rows)))
    outcome = Outcome(
        first_id=hole.first_id,
        last_id=hole.last_id,
        action="archive",
        outcome="healed",
        file=str(path.relative_to(tmp_path)),
    )
    ledger = world.layout.ledger("binance", SYMBOL)
    lines = [line for line in read(ledger).lines if isinstance(line, AnyLine)]
    at = lines.index(hole) + 1
    ledger.write_bytes(encode_chain([*lines[:at], outcome, *lines[at:]], NO_PREVIOUS)[0])
    layout = sealed(world).layout
    take_away(layout, SYMBOL, lambda hour: hour == Hour(DAY, 13))
    return layout, path


def told(layout: Layout) -> list[str]:
    return [one.problem for one in prove(layout, "binance", SYMBOL).disagreements]


def test_what_a_healed_file_held_its_manifest_says_when_it_has_gone(healed: tuple[Layout, Path]) -> None:
    layout, path = healed
    assert not path.exists()
    proof = prove(layout, "binance", SYMBOL)
    assert (proof.disagreements, proof.ids_healed, proof.healed_files_gone) == ([], 2, 1)


def test_a_healed_file_that_nobody_deleted_is_missed(healed: tuple[Layout, Path]) -> None:
    layout, path = healed
    deletions.path_of(layout, "binance", SYMBOL, DAY).unlink()
    [problem] = told(layout)
    assert problem.endswith(f"are in {path.relative_to(layout.root)}, which is not there")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("sha256", "0" * 64, "which is not there"),
        ("id_runs", (), "which does not have them"),
    ],
)
def test_the_manifest_of_a_healed_file_must_bear_the_ledger_out(
    healed: tuple[Layout, Path], field: str, value: object, problem: str
) -> None:
    layout, path = healed
    manifest = raw_manifests.read_raw_manifest(layout, path)
    assert manifest is not None
    raw_manifests.write_raw_manifest(layout, path, msgspec.structs.replace(manifest, **{field: value}))
    assert [text.rpartition(", ")[2] for text in told(layout)] == [problem]
