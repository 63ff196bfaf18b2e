"""Dead and quiet feeds told apart, in a world of streams whose truth is known. Time is made up; nothing waits."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness.liveness import (
    DEAD,
    Answer,
    Heard,
    Judgement,
    Liveness,
    Looked,
    Memory,
    Outside,
    Rules,
    look,
)
from crypto_lake.exchanges.base import BestQuote
from crypto_lake.model.market import Stream
from support.shares import share

RULES = Rules()
BUSY, QUIET, RARE = "BTCUSDT", "DOTUSDT", "OGNUSDT"


@dataclass
class Fed:
    """A stream as the exchange has it, and as it arrives."""

    name: str
    symbol: str
    kind: Stream
    pause: float  # mean, of the market
    connection: str = "c-1"
    mute: bool = False
    stuck: bool = False
    delay: float = 0.0
    since: float = 0.0
    number: int = 1000  # of the newest trade or quote that the market had
    heard: int = 0
    fresh_at: float | None = None
    first_at: float = 0.0
    fresh: int = 0
    repeats: int = 0
    next_at: float = 0.0

    @property
    def seen(self) -> Heard:
        return Heard(
            self.name,
            self.symbol,
            self.kind,
            self.connection,
            self.since,
            self.fresh_at,
            self.repeats,
            (self.fresh_at - self.first_at) / (self.fresh - 1) if self.fresh_at and self.fresh > 1 else None,
            self.heard if self.kind is Stream.TRADE else 0,
            quote(self.heard) if self.kind is not Stream.TRADE and self.heard else None,
            self.delay if self.fresh_at is not None and self.kind is Stream.TRADE else None,
        )


def quote(number: int) -> BestQuote:
    return BestQuote(number, 1, number + 1, 1)


@dataclass
class World:
    """An exchange, what arrives of it, and a watch that looks at it once a second."""

    feds: list[Fed]
    seed: int = 1
    rules: Rules = RULES
    rest_down: bool = False
    halted: frozenset[str] = frozenset()
    now: float = 0.0
    memory: dict[str, Memory] = field(default_factory=dict[str, Memory])
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    trading: dict[str, bool] = field(default_factory=dict[str, bool])
    problem: str = ""
    asked: int = 0
    asked_at: float = float("-inf")
    history: list[tuple[float, str, Judgement]] = field(default_factory=list[tuple[float, str, Judgement]])

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        for fed in self.feds:
            self._plan(fed)

    def _plan(self, fed: Fed) -> None:
        fed.next_at = self.now + self.chance.expovariate(1 / fed.pause)

    def _market(self) -> None:
        for fed in self.feds:
            if fed.symbol in self.halted:
                continue
            while fed.next_at <= self.now:
                fed.number += 1
                if fed.stuck:
                    fed.repeats += 1
                elif not fed.mute and fed.connection:
                    fed.heard, fed.fresh_at, fed.repeats = fed.number, fed.next_at, 0
                    fed.first_at = fed.first_at or fed.next_at
                    fed.fresh += 1
                fed.next_at += self.chance.expovariate(1 / fed.pause)

    def look(self) -> Looked:
        self._market()
        outside = Outside(self.answers, self.trading, self.problem)
        found = look([fed.seen for fed in self.feds], self.memory, outside, self.now, self.rules)
        self.memory = dict(found.memory)
        self.history += [(self.now, name, memory.judgement) for name, memory in self.memory.items()]
        if found.ask and self.now - self.asked_at >= 2:
            self.asked_at = self.now
            self.asked += 1
            self.problem = "connection refused" if self.rest_down else ""
            for symbol in found.ask[:20] if not self.rest_down else ():
                self.answers[symbol] = self._answer(symbol)
        for symbol in found.ask_trading:
            self.trading[symbol] = symbol not in self.halted
        return found

    def _answer(self, symbol: str) -> Answer:
        of = {fed.kind: fed.number for fed in self.feds if fed.symbol == symbol}
        return Answer(self.now, of.get(Stream.TRADE, -1), quote(of.get(Stream.BOOK_TICKER, 1)))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            self.look()

    def until(self, name: str, kinds: frozenset[Liveness], most: float) -> float:
        """How long until the stream is one of these; fails where that takes longer than `most`."""
        began = self.now
        while self.memory[name].judgement.kind not in kinds:
            assert self.now - began < most, f"{name} is {self.memory[name].judgement} after {most} s"
            self.now += 1
            self.look()
        return self.now - began

    def kind(self, name: str) -> Liveness:
        return self.memory[name].judgement.kind

    def alarms(self) -> set[tuple[str, Liveness]]:
        return {(name, judged.kind) for _, name, judged in self.history if judged.kind in DEAD}

    def fed(self, name: str) -> Fed:
        return next(fed for fed in self.feds if fed.name == name)


def market(connection_of: Callable[[str], str] = lambda _: "c-1") -> list[Fed]:
    pauses = {BUSY: (0.4, 0.3), "ETHUSDT": (0.5, 0.4), QUIET: (20.0, 4.0), RARE: (900.0, 90.0)}
    return [
        Fed(f"{symbol.lower()}@{kind.value}", symbol, kind, pause, connection_of(symbol))
        for symbol, both in pauses.items()
        for kind, pause in zip((Stream.TRADE, Stream.BOOK_TICKER), both, strict=True)
    ]


def busy(kind: Stream = Stream.TRADE) -> str:
    return f"{BUSY.lower()}@{kind.value}"


# What befalls, which stream is looked at, what it is to be called, and within how many seconds (docs/liveness.md).
def stream_dies(world: World) -> None:
    world.fed(busy()).mute = True


def quotes_die(world: World) -> None:
    world.fed(busy(Stream.BOOK_TICKER)).mute = True


def symbol_dies(world: World) -> None:
    for fed in world.feds:
        fed.mute = fed.mute or fed.symbol == BUSY


def connection_dies(world: World) -> None:
    for fed in world.feds:
        fed.mute = True


def never_speaks(world: World) -> None:
    for fed in world.feds:
        fed.mute, fed.since = True, world.now


def one_never_speaks(world: World) -> None:
    fed = world.fed(busy())
    fed.mute, fed.since, fed.connection = True, world.now, "c-9"


def repeats(world: World) -> None:
    world.fed(busy()).stuck = True


def quotes_repeat(world: World) -> None:
    world.fed(busy(Stream.BOOK_TICKER)).stuck = True


def falls_behind(world: World) -> None:
    world.fed(busy()).delay = 45.0


def goes_quiet(world: World) -> None:
    for fed in world.feds:
        if fed.symbol == BUSY:
            fed.next_at = float("inf")


def everything_quiet(world: World) -> None:
    for fed in world.feds:
        fed.next_at = float("inf")


def halts(world: World) -> None:
    world.halted = frozenset({BUSY})


def dies_without_rest(world: World) -> None:
    world.rest_down = True
    world.fed(busy()).mute = True


def rare_one_dies(world: World) -> None:
    fed = world.fed(f"{QUIET.lower()}@trade")
    fed.mute = True
    fed.next_at = world.now + 1  # there is something to miss


CASES = [
    (stream_dies, busy(), Liveness.STREAM_SILENT, 18),
    (quotes_die, busy(Stream.BOOK_TICKER), Liveness.STREAM_SILENT, 18),
    (symbol_dies, busy(), Liveness.SYMBOL_SILENT, 18),
    (connection_dies, busy(), Liveness.CONNECTION_SILENT, 18),
    (never_speaks, busy(), Liveness.NEVER_SPOKE, 28),
    (one_never_speaks, busy(), Liveness.NEVER_SPOKE, 28),
    (repeats, busy(), Liveness.REPEATING, 18),
    (quotes_repeat, busy(Stream.BOOK_TICKER), Liveness.REPEATING, 18),
    (falls_behind, busy(), Liveness.BEHIND, 10),
    (goes_quiet, busy(), Liveness.QUIET, 18),
    (everything_quiet, busy(), Liveness.QUIET, 18),
    (halts, busy(), Liveness.HALTED, 150),
    (dies_without_rest, busy(), Liveness.STREAM_SILENT, 45),
    (rare_one_dies, f"{QUIET.lower()}@trade", Liveness.STREAM_SILENT, 190),
]


@pytest.mark.parametrize(
    ("befalls", "name", "kind", "within"), CASES, ids=lambda v: getattr(v, "__name__", None)
)
def test_each_is_named_right_within_its_time(
    befalls: Callable[[World], None], name: str, kind: Liveness, within: float
) -> None:
    for seed in (1, 2):
        world = World(market(), seed)
        world.run(120)
        assert not world.alarms()
        assert world.kind(name).at_rest or world.kind(name) in (Liveness.LIVE, Liveness.SUSPECT)
        befalls(world)
        world.until(name, frozenset({kind}), within)
        assert world.memory[name].judgement.evidence
        # No other name that would have had something replaced came before it, nor comes while it lasts.
        world.run(60)
        assert {found for of, found in world.alarms() if of == name} <= {kind}
        assert world.kind(name) is kind


@pytest.mark.parametrize("seed", share(range(20), 1))
def test_an_hour_of_a_quiet_market_raises_no_alarm_and_costs_little(seed: int) -> None:
    quiet = [dataclasses.replace(fed, pause=fed.pause * 10) for fed in market()]
    world = World(quiet, seed)
    world.run(3600)
    assert not world.alarms()
    kinds = {judged.kind for _, _, judged in world.history}
    assert Liveness.QUIET in kinds
    assert world.asked * 2 <= 60 * 60  # weight: at most 60 a minute, a hundredth of what the exchange allows


def test_without_rest_a_quiet_market_is_unknown_and_never_dead() -> None:
    world = World([dataclasses.replace(fed, pause=fed.pause * 30) for fed in market()], rest_down=True)
    world.run(1800)
    assert not world.alarms()
    assert Liveness.UNKNOWN in {judged.kind for _, _, judged in world.history}


def test_a_stream_that_speaks_again_is_live() -> None:
    world = World(market())
    world.run(60)
    stream_dies(world)
    world.until(busy(), frozenset({Liveness.STREAM_SILENT}), 18)
    world.fed(busy()).mute = False
    world.run(2)
    assert world.kind(busy()) is Liveness.LIVE


def test_what_two_connections_bring_twice_is_no_repetition() -> None:
    """Copies that came right behind the last new one are not counted by who hears them; see `Hearing` in capture."""
    fed = Fed("x@trade", "X", Stream.TRADE, 1e9)
    fed.heard, fed.fresh_at, fed.first_at, fed.fresh, fed.number = 7, 1.0, 0.5, 3, 7
    world = World([fed])
    world.run(60)
    assert world.kind("x@trade") is Liveness.QUIET


def test_a_stream_without_a_connection_is_not_judged() -> None:
    world = World(market(lambda symbol: "" if symbol == BUSY else "c-1"))
    world.run(100)
    assert world.kind(busy()) is Liveness.NOT_SUBSCRIBED
    assert not world.alarms()


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.floats(0.4, 400), min_size=1, max_size=3),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=3),
)
def test_dead_is_never_said_of_what_misses_nothing_and_always_of_what_does(
    pauses: list[float], seed: int, deaths: list[tuple[int, bool]]
) -> None:
    """Whatever the rates: no alarm while everything arrives; each that is muted is found once it misses something."""
    feds = [
        Fed(f"s{i}@{kind.value}", f"S{i}", kind, pause)
        for i, pause in enumerate(pauses)
        for kind in (Stream.TRADE, Stream.BOOK_TICKER)
    ]
    world = World(feds, seed)
    world.run(200)
    assert not world.alarms()
    dying = {feds[(2 * i + quotes) % len(feds)].name for i, quotes in deaths}
    for name in dying:
        world.fed(name).mute = True
        world.fed(name).next_at = world.now + 0.5
    # Patience, a look at most every two minutes, the grace between two answers, and the seconds between looks.
    world.run(RULES.patience_most + RULES.again_most + RULES.grace + 10)
    named = {name for name, _ in world.alarms()}
    assert named == dying
