"""The watch over streams, with a feed, an intake and an exchange in memory, and a time that is made up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from crypto_lake.capture.liveness import LivenessWatch
from crypto_lake.capture.routes import Buffer, Route
from crypto_lake.capture.slot import Carried
from crypto_lake.completeness.asking import AskError
from crypto_lake.completeness.entries import Quiet
from crypto_lake.completeness.liveness import Liveness
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import BestQuote, Newest
from crypto_lake.lake import control
from crypto_lake.model.market import Stream

NAME = "btcusdt@trade"
QUOTE = BestQuote(1, 2, 3, 4)


class World:
    """A feed of one stream, an intake that keeps, an exchange that has `newest`; `now` is monotonic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("crypto_lake.capture.liveness.time.monotonic", lambda: self.now)
        self.at_rest: frozenset[str] = frozenset()
        self.paused = False
        self.route = Route(NAME, Stream.TRADE, Buffer("BTCUSDT"))
        self.routes = {NAME: self.route}
        self.since = self.now
        self.replaced: list[tuple[float, str]] = []
        self.newest_id = 0
        self.asked: list[float] = []
        self.fails = False
        self.answers: list[control.AnyEvent] = []
        self.settled: list[Any] = []
        self.watch = LivenessWatch(BINANCE, self, self, self, self, lambda: [NAME])

    # as a clock
    speed = 1.0

    def now_ns(self) -> int:
        return int((1_700_000_000 + self.now) * 10**9)

    def observe(self, exchange_ns: int) -> None:
        pass

    # as a feed
    def carried(self) -> dict[str, Carried]:
        return {NAME: Carried("c-1", self.since, False)}

    def replace(self, connection: str, why: str) -> bool:
        self.replaced.append((self.now, why))
        self.since = self.now
        return True

    # as an intake
    def answer(self, event: control.AnyEvent) -> int:
        self.answers.append(event)
        return 77

    def settle(self, symbol: str, outcomes: list[Quiet]) -> None:
        self.settled += outcomes

    # as what asks
    most_symbols = 20
    source = "ticker/24hr"

    async def newest(self, symbols: list[str]) -> dict[str, Newest]:
        self.asked.append(self.now)
        if self.fails:
            raise AskError("no answer")
        return {symbol: Newest(self.newest_id, QUOTE, b'{"lastId":1}') for symbol in symbols}

    async def trading(self, symbols: list[str]) -> dict[str, bool]:
        return dict.fromkeys(symbols, True)

    # time
    def trade(self) -> None:
        self.newest_id += 1
        self.route.greatest_id = self.newest_id
        self.route.messages += 1

    def run(self, seconds: int, each: Callable[[], None] = lambda: None) -> None:
        async def steps() -> None:
            for _ in range(seconds):
                self.now += 1
                each()
                await self.watch.step()

        asyncio.run(steps())

    @property
    def kind(self) -> Liveness:
        return self.watch.judgements[NAME].kind


def test_a_long_silence_that_the_exchange_confirms_is_told_to_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.run(30, world.trade)
    last = world.newest_id
    world.run(200)
    assert world.kind is Liveness.QUIET
    assert world.at_rest == {NAME}
    world.run(1, world.trade)
    assert world.settled == []  # not long enough for a line
    world.run(700)
    assert world.settled == []
    world.run(1, world.trade)
    (line,) = world.settled
    assert isinstance(line, Quiet)
    assert (line.last_id, line.answer_ns) == (last + 1, 77)
    assert 500 * 10**9 < line.until_ns - line.from_ns <= 700 * 10**9
    (answer,) = world.answers
    assert isinstance(answer, control.RestAnswer)
    assert (answer.source, answer.body) == ("ticker/24hr", '{"lastId":1}')
    # One that lasts is told once an hour, each time for the time since.
    world.run(3 * 3600)
    assert 2 <= len(world.settled) - 1 <= 3
    spans = [(line.from_ns, line.until_ns) for line in world.settled]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert not world.replaced


def test_what_stays_dead_is_replaced_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.run(30, world.trade)

    def missed() -> None:
        world.newest_id += 1

    world.run(2 * 3600, missed)
    at = [when for when, _ in world.replaced]
    assert 6 <= len(at) <= 12
    waits = [after - before for before, after in itertools.pairwise(at)]
    assert waits == sorted(waits)
    assert waits[0] >= 60
    assert world.watch.replacements["stream_silent"] + world.watch.replacements["connection_silent"] == 1
    assert world.watch.replacements["never_spoke"] == len(at) - 1
    # It speaks again: the next death is acted upon at once.
    world.run(120, world.trade)
    assert world.kind is Liveness.LIVE
    before = len(world.replaced)
    world.run(60, missed)
    assert len(world.replaced) == before + 1


def test_nothing_is_said_while_reading_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.run(30, world.trade)
    world.paused = True
    world.run(300)
    world.newest_id += 5
    world.paused = False
    world.run(15)
    assert not world.replaced
    assert world.kind in (Liveness.LIVE, Liveness.SUSPECT)


def test_it_asks_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.fails = True
    world.run(30, world.trade)
    world.run(600)
    assert world.kind is Liveness.UNKNOWN
    assert all(after - before >= 2 for before, after in itertools.pairwise(world.asked))
    assert "no answer" in world.watch.judgements[NAME].evidence
    assert not world.replaced  # nobody else speaks: that nothing comes proves nothing


def test_a_symbol_that_the_exchange_has_no_more_keeps_no_other_from_being_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It refuses all that are asked for together with one that it does not know."""
    world = World(monkeypatch)
    symbols = [f"{letter}USDT" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    names = [f"{symbol.lower()}@trade" for symbol in symbols]
    gone = "KUSDT"
    world.routes = {
        name: Route(name, Stream.TRADE, Buffer(symbol)) for name, symbol in zip(names, symbols, strict=True)
    }
    requests: list[list[str]] = []

    async def newest(asked: list[str]) -> dict[str, Newest]:
        requests.append(asked)
        if gone in asked:
            raise AskError("HTTP 400", refused=True)
        return {symbol: Newest(7, QUOTE, b"{}") for symbol in asked}

    monkeypatch.setattr(world, "newest", newest)
    monkeypatch.setattr(world, "carried", lambda: dict.fromkeys(names, Carried("c-1", world.since, False)))
    world.watch = LivenessWatch(BINANCE, world, world, world, world, lambda: names)

    def trade() -> None:
        for route in world.routes.values():
            route.greatest_id = 7
            route.messages += 1

    world.run(2, trade)
    world.run(120)
    kinds = {name: judgement.kind for name, judgement in world.watch.judgements.items()}
    assert {name for name, kind in kinds.items() if kind is not Liveness.QUIET} == {f"{gone.lower()}@trade"}
    assert not kinds[f"{gone.lower()}@trade"].dead
    assert world.replaced == []
    refused = [asked for asked in requests if gone in asked]
    assert refused[-1] == [gone], "found by halves"
    assert 1 < len(refused) < 12
