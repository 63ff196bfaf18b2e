"""The engine of healing on a scripted exchange: what it asks, what it writes, what it tells the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from crypto_lake.completeness import heal, heal_patience, heal_run
from crypto_lake.completeness.entries import Hole, Outcome
from crypto_lake.completeness.heal import Road
from crypto_lake.completeness.heal_files import Origin, write_healed
from crypto_lake.completeness.heal_rest import (
    FailedError,
    MustWaitError,
    RefusedError,
    Reply,
    RestError,
    RoadClosedError,
)
from crypto_lake.completeness.heal_run import Healer
from crypto_lake.completeness.ledger import LedgerFile
from crypto_lake.exchanges import BINANCE, PastRow
from crypto_lake.lake.control import RestAnswer
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour, SystemClock
from crypto_lake.model.intervals import Interval, IntervalSet

PAST = BINANCE.past
BASE_US = 1_723_161_600 * 10**6
EXACT, SUMS = Road("http://x", PAST.trades), Road("http://x", PAST.aggregates)


def message(id_: int) -> bytes:
    text = '{"id":%d,"price":"1.0","qty":"2.0","quoteQty":"2.0","time":%d,"isBuyerMaker":true,"isBestMatch":true}'
    return (text % (id_, BASE_US + id_)).encode()


def aggregate(first: int, last: int) -> bytes:
    return b'{"a":%d,"p":"1.0","q":"2.0","f":%d,"l":%d,"T":%d,"m":true,"M":true}' % (
        first,
        first,
        last,
        BASE_US + first,
    )


class Exchange:
    """Has the trades `ids`, in pages of ten; raises what is set for a road. Aggregates are of three trades each."""

    def __init__(self, ids: Sequence[int], page: int = 10) -> None:
        self.ids, self.page = ids, page
        self.requests: dict[int, int] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.fails: dict[str, RestError] = {}

    async def ask(self, road: Road, query: Mapping[str, str]) -> Reply:
        self.asked.append((road.call.source, dict(query)))
        if road.call.source in self.fails:
            raise self.fails[road.call.source]
        if road.call is PAST.trades:
            limit = min(int(query["limit"]), self.page)
            found = [message(id_) for id_ in self.ids if id_ >= int(query["fromId"])][:limit]
        else:
            groups = [self.ids[at : at + 3] for at in range(0, len(self.ids), 3)]
            start = int(query.get("fromId", 0))
            found = [aggregate(group[0], group[-1]) for group in groups if group[0] >= start][: self.page]
        body = b"[" + b",".join(found) + b"]"
        return Reply(road.call.read(body), 200, body)


class Bench:
    def __init__(self, root: Path, exchange: Exchange, roads: Sequence[Road] = (EXACT, SUMS)) -> None:
        self.layout, self.exchange = Layout(root), exchange
        path = self.layout.ledger("binance", "BTCUSDT")
        self.ledger, _ = LedgerFile.open(path, "binance", "BTCUSDT", "c")
        self.answers: list[RestAnswer] = []
        self.outcomes: list[Outcome] = []
        self.healer = Healer(
            self.layout,
            BINANCE,
            SystemClock(),
            exchange,  # pyright: ignore[reportArgumentType]
            roads,
            "rest-1",
            settle=self._settle,
            keep_answer=self._keep,
        )

    def hole(self, first: int, last: int, after: int = 0, before: int = 10**6) -> None:
        line = Hole(
            first_id=first,
            last_id=last,
            after_time_us=BASE_US + after,
            before_time_us=BASE_US + before,
            found_ns=1,
            cause="disconnect",
        )
        self.ledger.append([line])

    def _settle(self, symbol: str, outcomes: Sequence[Outcome]) -> None:
        assert symbol == "BTCUSDT"
        self.outcomes += outcomes
        self.ledger.append(list(outcomes))

    def _keep(self, answer: RestAnswer) -> int:
        self.answers.append(answer)
        return 77

    def steps(self, count: int, pause: float = 0.0) -> None:
        async def run() -> None:
            for _ in range(count):
                await self.healer.step()
                await asyncio.sleep(pause)

        asyncio.run(run())

    def told(self) -> list[tuple[int, int, str, str]]:
        return [(o.first_id, o.last_id, o.action, o.outcome) for o in self.outcomes]

    def files(self) -> list[str]:
        return [f.path.name for f in self.layout.raw_files("binance", "BTCUSDT", "2024-08-09")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setattr(heal, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(heal_patience, "FAILED_PAUSES_SECONDS", (0.01,))
    return lambda *arguments, **more: Bench(tmp_path, *arguments, **more)


def test_holes_are_fetched_page_by_page_the_most_recent_first(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 100)))
    b.hole(5, 9, before=100)
    b.hole(20, 49, before=200)
    b.steps(3)
    assert b.told() == [
        (20, 49, "historicalTrades", "healed"),
        (5, 9, "historicalTrades", "healed"),
    ]
    assert [int(query["fromId"]) for _, query in b.exchange.asked] == [19, 28, 37, 46, 4]
    assert b.files() == ["healed_00_5-9.jsonl.zst", "healed_00_20-49.jsonl.zst"]
    assert b.healer.figures.state == "idle"
    assert b.healer.figures.trades_healed == 35


def test_the_oldest_hole_is_told_until_it_is_filled(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 100)))
    b.hole(5, 9, before=100)
    b.hole(20, 49, before=200)
    b.steps(1)
    assert (b.healer.figures.holes, b.healer.figures.oldest_us) == (2, BASE_US + 100)
    b.steps(3)
    assert (b.healer.figures.holes, b.healer.figures.oldest_us) == (0, 0)


def test_what_is_held_in_memory_is_bounded(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heal_run, "_PAGES", 2)
    b = bench(Exchange(range(1, 100)))
    b.hole(5, 40)
    b.steps(3)
    assert b.files() == ["healed_00_5-22.jsonl.zst", "healed_00_23-40.jsonl.zst"]
    assert list(IntervalSet(Interval(f, last) for f, last, _, _ in b.told())) == [Interval(5, 40)]


def test_what_the_exchange_skips_never_existed_once_it_said_so_twice(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange([*range(1, 8), *range(10, 30)]))
    b.hole(5, 12)
    b.steps(1)
    assert b.told() == [(5, 7, "historicalTrades", "healed"), (10, 12, "historicalTrades", "healed")]
    b.steps(2)
    assert len(b.told()) == 2, "once is not enough"
    b.steps(2, pause=0.06)
    assert b.told()[2:] == [(8, 9, "historicalTrades", "never_existed")]
    assert b.outcomes[-1].answer_ns == 77
    [answer] = b.answers
    assert (answer.first_id, answer.last_id, answer.status) == (8, 9, 200)
    assert answer.body.encode() == b"[" + message(7) + b"," + message(10) + b"]"


def test_what_is_older_than_the_exchanges_memory_is_unavailable(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(8, 30)))
    b.hole(5, 12)
    b.steps(3, pause=0.06)
    assert sorted(b.told()) == [
        (5, 7, "historicalTrades", "unavailable"),
        (8, 12, "historicalTrades", "healed"),
    ]
    assert "begins at id 8" in next(o.reason for o in b.outcomes if o.reason)


def test_a_symbol_that_is_unknown_is_unavailable(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange([]))
    b.exchange.fails["historicalTrades"] = RefusedError("Invalid symbol.", 400, b'{"code":-1121}')
    b.hole(5, 12)
    b.steps(3, pause=0.06)
    assert b.told() == [(5, 12, "historicalTrades", "unavailable")]
    assert [answer.body for answer in b.answers] == ['{"code":-1121}']


def test_an_exchange_that_is_behind_is_asked_again_and_nothing_is_given_up(
    bench: Callable[..., Bench],
) -> None:
    b = bench(Exchange(range(1, 5)))
    b.hole(5, 12)
    b.steps(2)
    assert b.told() == []
    assert len(b.exchange.asked) == 1, "and not at once"
    assert "nothing of BTCUSDT" in b.healer.figures.problem


def test_trades_of_another_market_are_not_taken(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 30)))
    b.hole(5, 12, after=10**12, before=10**12)
    b.steps(1)
    assert b.told() == []
    assert b.files() == []
    assert "another market" in b.healer.figures.problem


def test_sums_are_taken_where_single_trades_are_not_served(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 60)))
    b.exchange.fails["historicalTrades"] = RoadClosedError("404")
    b.hole(5, 50)
    b.steps(2)
    assert b.told() == [(5, 50, "aggTrades", "healed")]
    assert b.healer.figures.aggregated == 46
    assert [source for source, _ in b.exchange.asked] == ["historicalTrades", *["aggTrades"] * 2]


def test_a_long_hole_is_had_by_sums_turn_by_turn_and_each_page_once(bench: Callable[..., Bench]) -> None:
    """3 trades a row, 4 rows a page of which the first is known: 9 trades a page, and 20 pages a turn."""
    b = bench(Exchange(range(1, 1000), page=4), roads=(SUMS,))
    b.hole(10, 900)
    b.hole(3, 4, before=1)
    b.steps(7)
    *long, short = [(first, last) for first, last, _, outcome in b.told() if outcome == "healed"]
    assert short == (3, 4)
    assert [first for first, _ in long] == [10, *(last + 1 for _, last in long[:-1])]
    assert (len(long), long[-1][1]) == (5, 900)
    assert len(b.exchange.asked) < 105


def test_the_budget_may_end_anywhere_in_a_long_hole_of_sums(bench: Callable[..., Bench]) -> None:
    """Three pages a minute: each turn begins where the one before had to wait."""
    b = bench(Exchange(range(1, 400), page=4), roads=(SUMS,))
    ask, left = b.exchange.ask, 3

    async def rationed(road: Road, query: Mapping[str, str]) -> Reply:
        nonlocal left
        if not left:
            left = 3
            raise MustWaitError(0.0, 0, "this lake's share of the weight is used")
        left -= 1
        return await ask(road, query)

    b.exchange.ask = rationed
    b.hole(10, 300)
    b.steps(30)
    assert max(last for _, last, _, _ in b.told()) == 300
    assert b.healer.figures.holes == 0
    assert len(b.exchange.asked) < 40


def test_sums_of_another_market_end_with_the_holes_time_and_let_others_go_on(
    bench: Callable[..., Bench],
) -> None:
    """Its ids are smaller for as long as it goes on; a row of this exchange is a microsecond an id."""
    b = bench(Exchange(range(1, 4_000_000_000, 30_000_000), page=2), roads=(SUMS,))
    b.hole(5 * 10**9, 5 * 10**9 + 3)
    b.hole(30_000_001, 30_000_001, before=1)
    b.steps(4)
    assert len(b.exchange.asked) < 8
    assert "has nothing of BTCUSDT from id 5000000000 on" in b.healer.figures.problem
    assert b.told() == [(30_000_001, 30_000_001, "aggTrades", "healed")]


def test_a_page_of_sums_that_ends_before_the_hole_is_read_on(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 60), page=4), roads=(SUMS,))
    b.hole(20, 24)
    b.steps(1)
    assert b.told() == [(20, 24, "aggTrades", "healed")]
    assert b.exchange.asked[1][1]["fromId"] == "10"


def test_sums_that_end_before_the_hole_are_asked_for_twice_and_not_for_ever(
    bench: Callable[..., Bench],
) -> None:
    b = bench(Exchange(range(1, 13)), roads=(SUMS,))
    b.hole(20, 24)
    b.steps(3)
    assert b.told() == []
    assert len(b.exchange.asked) == 2
    assert "has nothing of BTCUSDT from id 20 on" in b.healer.figures.problem


def test_a_failure_is_no_reason_to_take_sums(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(Exchange(range(1, 60)))
    b.exchange.fails["historicalTrades"] = FailedError("503")
    b.hole(5, 12)
    b.steps(4, pause=0.02)
    assert b.told() == []
    assert {source for source, _ in b.exchange.asked} == {"historicalTrades"}
    monkeypatch.setattr(heal_patience, "PATIENCE_SECONDS", 0.0)  # ten minutes later
    b.steps(1)
    assert b.told() == []
    b.exchange.fails.clear()
    b.steps(2, pause=0.02)
    assert [action for _, _, action, _ in b.told()] in (["historicalTrades"], ["aggTrades"])


def test_a_wait_in_between_keeps_what_was_had(bench: Callable[..., Bench]) -> None:
    b = bench(Exchange(range(1, 60)))

    ask = b.exchange.ask

    async def once(road: Road, query: Mapping[str, str]) -> Reply:
        if len(b.exchange.asked) == 2:
            raise MustWaitError(30.0, 418, "HTTP 418")
        return await ask(road, query)

    b.exchange.ask = once  # pyright: ignore[reportAttributeAccessIssue]
    b.hole(5, 50)
    b.steps(1)
    assert b.told() == [(5, 22, "historicalTrades", "healed")]
    assert b.healer.figures.state == "blocked"


def test_a_file_without_its_line_is_entered_and_nothing_is_asked(bench: Callable[..., Bench]) -> None:
    """A crash came between the two; or a backfill has brought it."""
    b = bench(Exchange(range(1, 60)))
    rows: list[PastRow] = PAST.trades.read(b"[" + b",".join(message(i) for i in range(5, 9)) + b"]")
    origin = Origin("rest-0", "historicalTrades", BASE_US * 1000)
    write_healed(b.layout, "binance", "BTCUSDT", Hour.of_ns(BASE_US * 1000), rows, Interval(5, 8), origin)
    b.hole(5, 8)
    b.steps(1)
    assert b.told() == [(5, 8, "historicalTrades", "healed")]
    assert b.exchange.asked == []
