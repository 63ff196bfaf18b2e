"""A stream of klines speaks once a second, whether its market moves or not. What it missed, trade ids tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness.liveness import Answer, Heard, Liveness, Memory, Outside, Rules, look
from crypto_lake.exchanges.base import BestQuote
from crypto_lake.model.market import Stream

RULES = Rules()
NAME = "btcusdt@kline_1s"


@dataclass
class World:
    """A market that trades in some seconds, its klines, and a watch that looks each second and asks every other."""

    trades: list[bool]
    mute_from: int
    now: float = 0.0
    newest: int = 100
    told: int = 0
    fresh_at: float | None = None
    memory: dict[str, Memory] = field(default_factory=dict[str, Memory])
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    trading: dict[str, bool] = field(default_factory=dict[str, bool])
    halted: bool = False
    kinds: list[Liveness] = field(default_factory=list[Liveness])

    def run(self) -> None:
        for second, traded in enumerate(self.trades):
            self.now += 1
            self.newest += traded
            if second < self.mute_from:
                self.fresh_at = self.now
                self.told = max(self.told, self.newest if traded else -1)
            heard = Heard(NAME, "BTCUSDT", Stream.KLINE, "c-1", 0.0, self.fresh_at, 0, 1.0, self.told)
            # An answer tells a quote, too, and it moves: of klines it says nothing.
            found = look([heard], self.memory, Outside(self.answers, self.trading), self.now, RULES)
            self.memory = dict(found.memory)
            self.kinds.append(self.memory[NAME].judgement.kind)
            if found.ask and second % 2:
                self.answers["BTCUSDT"] = Answer(self.now, self.newest, BestQuote(second, 1, second + 1, 1))
            if found.ask_trading:
                self.trading["BTCUSDT"] = not self.halted


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=30, max_size=200))
def test_while_it_speaks_it_lives_however_quiet_the_market(trades: list[bool]) -> None:
    world = World(trades, len(trades))
    world.run()
    assert set(world.kinds) == {Liveness.LIVE}


@settings(max_examples=60)
@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.lists(st.booleans(), min_size=60, max_size=200),
)
def test_mute_it_is_dead_once_a_trade_proves_it_and_never_before(
    before: list[bool], after: list[bool]
) -> None:
    world = World([True, *before, *after], len(before) + 1)
    world.run()
    dead = [second for second, kind in enumerate(world.kinds) if kind.dead]
    missed = [len(before) + 1 + n for n, traded in enumerate(after) if traded]
    if not missed:
        assert dead == []
        assert world.kinds[-1] is Liveness.QUIET
        return
    assert not dead or dead[0] > missed[0]
    # It alone is looked at here, so it is its connection that is silent. A quiet one is asked about ever less often.
    if len(after) - (missed[0] - len(before)) > 125 + RULES.patience_first + 8:
        assert world.kinds[-1] is Liveness.CONNECTION_SILENT


def test_a_busy_one_that_goes_mute_is_dead_within_its_patience() -> None:
    world = World([True] * 70, 30)
    world.run()
    dead = [second for second, kind in enumerate(world.kinds) if kind.dead]
    assert 30 + RULES.patience_least < dead[0] <= 30 + RULES.patience_first + 8
    assert "trade 130" in world.memory[NAME].judgement.evidence


def test_of_a_halted_symbol_none_come_and_none_are_missed() -> None:
    world = World([True] * 30 + [False] * 150, 30, halted=True)
    world.run()
    assert not any(kind.dead for kind in world.kinds)
    assert world.kinds[-1] is Liveness.HALTED


def test_one_that_never_spoke_is_held_against_what_the_exchange_said_first() -> None:
    world = World([True] * 60, 0)
    world.run()
    assert world.kinds[-1] is Liveness.NEVER_SPOKE
    quiet = World([False] * 60, 0)
    quiet.run()
    assert quiet.kinds[-1] is Liveness.QUIET
