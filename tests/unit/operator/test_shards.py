"""Symbols and the collectors that have them: nothing is ever without one that had one."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake_operator.naming import Slot
from crypto_lake_operator.shards import NONE, Seen, assign, owner, spread

symbols = st.frozensets(st.from_regex(r"[A-Z0-9]{2,6}", fullmatch=True), min_size=1, max_size=30)


@given(symbols, st.integers(1, 15))
def test_one_more_shard_moves_only_what_it_gets(names: frozenset[str], shards: int) -> None:
    for name in names:
        assert owner(name, shards + 1) in (owner(name, shards), shards)


def test_where_symbols_are_does_not_change_between_versions() -> None:
    assert [owner(s, 4) for s in ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")] == [2, 2, 0, 1, 0]


def test_many_symbols_are_spread_evenly() -> None:
    names = [f"{a}{b}USDT" for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    sizes = [len(each) for each in spread(names, 4)]
    assert sum(sizes) == len(names)
    assert min(sizes) > 0.8 * len(names) / 4


class Fleet:
    """Collectors that follow their files, each in its own time; some can't be asked."""

    def __init__(self) -> None:
        self.seen: dict[Slot, Seen] = {}

    def apply(self, collects: dict[Slot, frozenset[str]]) -> None:
        self.seen = {slot: self._with(slot, names) for slot, names in collects.items()}

    def _with(self, slot: Slot, names: frozenset[str]) -> Seen:
        before = self.seen.get(slot, Seen(live=NONE))
        return Seen(exists=True, configured=names, live=before.live)

    def turn(self, chance: random.Random) -> None:
        """Some of them read their file; some of the empty ones have then uploaded all."""
        for slot, state in self.seen.items():
            if chance.random() < 0.5:
                done = not state.configured
                self.seen[slot] = Seen(True, state.configured, state.configured, drained=done)

    @property
    def live(self) -> frozenset[str]:
        """That are collected, and are to go on being so."""
        return frozenset[str]().union(
            *((state.live or NONE) & state.configured for state in self.seen.values())
        )


@given(
    st.lists(st.tuples(symbols, st.integers(1, 5), st.integers(1, 2)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_symbol_that_stays_wanted_never_stops_being_collected(
    wanted: list[tuple[frozenset[str], int, int]], chance: random.Random
) -> None:
    fleet = Fleet()
    for names, shards, replicas in wanted:
        for _ in range(chance.randrange(1, 8)):
            live_before = fleet.live
            assignment = assign(names, shards, replicas, fleet.seen)
            fleet.apply(dict(assignment.collects))
            for symbol in live_before & names:  # dropping takes effect only where another has it live
                assert any(state.has(symbol) for state in fleet.seen.values())
            for replica in assignment.replicas():  # a StatefulSet has its first pods, without a hole
                numbers = sorted(slot.shard for slot in assignment.collects if slot.replica == replica)
                assert numbers == list(range(assignment.pods(replica)))
            fleet.turn(chance)
    names, shards, replicas = wanted[-1]
    for _ in range(60):
        assignment = assign(names, shards, replicas, fleet.seen)
        fleet.apply(dict(assignment.collects))
        fleet.turn(chance)
    assert set(assignment.collects) == assignment.wanted
    assert not assignment.moving
    assert [assignment.collects[Slot("a", shard)] for shard in range(shards)] == spread(names, shards)


def test_a_shard_that_goes_waits_for_its_heirs_then_for_its_uploads() -> None:
    old = Slot("a", 1)
    first = assign(["SOLUSDT"], 1, 1, {old: Seen(True, frozenset({"SOLUSDT"}), frozenset({"SOLUSDT"}))})
    assert first.collects[old] == {"SOLUSDT"}
    assert first.moving == {"SOLUSDT"}
    heir = {Slot("a", 0): Seen(True, frozenset({"SOLUSDT"}), frozenset({"SOLUSDT"}))}
    second = assign(["SOLUSDT"], 1, 1, heir | {old: Seen(True, frozenset({"SOLUSDT"}), None)})
    assert second.collects[old] == NONE
    assert second.draining == (old,)
    third = assign(["SOLUSDT"], 1, 1, heir | {old: Seen(True, NONE, NONE, drained=True)})
    assert third.pods("a") == 1
    assert assign(["SOLUSDT"], 1, 1, heir | {old: Seen(True)}, abandon=True).draining == ()


def test_nothing_is_dropped_while_the_lake_is_suspended() -> None:
    seen = {
        Slot("a", 1): Seen(True, frozenset({"SOLUSDT"}), None),
        Slot("a", 0): Seen(True, NONE, frozenset({"SOLUSDT"})),
    }
    assert assign(["SOLUSDT"], 1, 1, seen, suspended=True).collects[Slot("a", 1)] == {"SOLUSDT"}
