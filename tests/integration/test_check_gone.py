"""What `check` does of what is no longer there: a symbol that the exchange has taken away, and bars that a clean-up took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
import pytest

from crypto_lake.bars.day_file import read_day
from crypto_lake.cli.main import main
from crypto_lake.completeness.asking import Asker, AskError
from crypto_lake.completeness.budget_file import open_budget
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.lake import deletions, tasks
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.check import check
from crypto_lake.upkeep.check_asking import Klines
from crypto_lake.upkeep.check_report import CheckReport, figures
from support.kept_lakes import DAY_NS, NEXT_DAY, NOW, make_kept_lake, settle
from support.klines import MarketKlines
from support.lakes import DAY, EXCHANGE, At, market, write_part

THIRD_DAY = "2024-08-10"
KEPT = "BTCUSDT"
GONE = "AAAUSDT"  # before the other, in the order in which they are asked for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_kept_lake(tmp_path / "data", symbols=(GONE, KEPT), trades=10)


def the_market() -> GeneratedMarket:
    """Of one of the two symbols."""
    return GeneratedMarket(5, [KEPT], start_us=Hour(DAY, 0).start_ns // 1000, activity=0.001)


def checked(layout: Layout, *, again: bool = False) -> tuple[CheckReport, dict[str, int]]:
    """Against an exchange that has one of the two symbols; and how many requests it answered with what."""

    async def ask() -> tuple[CheckReport, dict[str, int]]:
        async with asyncio.timeout(60), Simulator(the_market(), Settings(speed=1)) as simulator:
            asker = Asker(BINANCE, simulator.rest_url, open_budget(layout, EXCHANGE, 6000, 6000))
            try:
                report = await check(layout, EXCHANGE, asker, clock=At(NOW), again=again)
                return report, simulator.state()["rest_requests"]
            finally:
                await asker.close()

    return asyncio.run(ask())


def test_a_symbol_that_the_exchange_has_no_more_keeps_no_other_from_being_checked(layout: Layout) -> None:
    report, answers = checked(layout)
    of = {symbol: [day for day in report.days if day.symbol == symbol] for symbol in (GONE, KEPT)}
    assert [day.unverifiable for day in of[GONE]] == [day.seconds for day in of[GONE]]
    assert [day.unverifiable for day in of[KEPT]] == [0, 0]
    assert min(day.asked for day in of[KEPT]) > 3600
    # It is told, and is no problem: the exchange was asked for its klines once, and once whether it has the symbol.
    assert list(report.gone) == [GONE]
    assert report.gone[GONE].startswith("the exchange has no such symbol (")
    assert report.note == f"{GONE}: {report.gone[GONE]}"
    assert report.problem == ""
    assert figures([report])["symbols_gone"] == 1
    assert answers["400"] == 2


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A lake of the lost symbol alone. What a check leaves of it changes nothing: it is asked for each time."""
    return make_kept_lake(tmp_path_factory.mktemp("lost") / "data", symbols=(GONE,), trades=10)


class Answering(MarketKlines):
    """An exchange that refuses klines of GONE. trades: what it says of the symbol otherwise."""

    def __init__(self, trades: bool | AskError | None, *, code_is_known: bool = True) -> None:
        super().__init__(the_market())
        self.trades, self.code_is_known = trades, code_is_known

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[KlineRow]:
        if symbol == GONE:
            raise AskError("klines: HTTP 400", refused=True, unknown_symbol=self.code_is_known)
        return await super().klines(symbol, start_us, end_us)

    async def trading(self, symbols: Sequence[str]) -> dict[str, bool]:
        if isinstance(self.trades, AskError):
            raise self.trades
        return {} if self.trades is None else dict.fromkeys(symbols, self.trades)


def told(layout: Layout, asker: Klines, at_ns: int = NOW) -> tuple[list[str], str]:
    """Symbols that are gone, and the problem."""
    report = asyncio.run(check(layout, EXCHANGE, asker, clock=At(at_ns), retry_seconds=0.0))
    return list(report.gone), report.problem


def test_one_that_is_still_listed_and_does_not_trade_is_gone_too(lost: Layout) -> None:
    assert told(lost, Answering(False)) == ([GONE], "")


@pytest.mark.parametrize(
    ("asker", "why"),
    [
        (Answering(True), "says that it trades"),
        (Answering(None), "whether it trades is not known"),
        (Answering(AskError("exchangeInfo: HTTP 503")), "whether it trades is not known"),
        (Answering(AskError("exchangeInfo: HTTP 400", refused=True)), "whether it trades is not known"),
        # A refusal that does not speak of the symbol may be a fault of the question.
        (Answering(False, code_is_known=False), f"{GONE}: klines: HTTP 400"),
    ],
    ids=["trades", "not-listed", "no-answer", "refused", "another-refusal"],
)
def test_an_answer_that_is_really_missing_is_a_problem(lost: Layout, asker: Answering, why: str) -> None:
    gone, problem = told(lost, asker)
    assert gone == []
    assert problem.startswith(f"{GONE}: ")
    assert why in problem


def test_a_symbol_that_traded_a_moment_ago_is_not_gone_whatever_rest_says(lost: Layout) -> None:
    """As where REST and the streams are of two exchanges."""
    last = read_day(lost, EXCHANGE, GONE, NEXT_DAY)
    assert last is not None
    last_ns = int(last[0].filter(pl.col("trade_count") > 0)["window_start"].dt.epoch("ns")[-1])
    gone, problem = told(lost, Answering(False), last_ns + 3599 * 10**9)
    assert gone == []
    assert "its last trade here is 3599 s old" in problem
    assert told(lost, Answering(False), last_ns + 3600 * 10**9) == ([GONE], "")


def test_one_whose_bars_can_not_be_read_is_not_called_gone(layout: Layout) -> None:
    layout.bars(EXCHANGE, GONE, NEXT_DAY).write_bytes(b"no bars")
    gone, problem = told(layout, Answering(False))
    assert gone == []
    assert "when it last traded can't be read here: " in problem


def test_the_command_ends_well_and_names_it(lost: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    done: dict[str, int] = {}

    async def run() -> None:
        later = GeneratedMarket(5, [KEPT], start_us=Hour(NEXT_DAY, 10).start_ns // 1000, activity=0.001)
        async with asyncio.timeout(60), Simulator(later, Settings(speed=1)) as simulator:
            at = (f"collector.endpoint.rest={simulator.rest_url}", "collector.clock=exchange")
            rest = [part for setting in at for part in ("--set", setting)]
            for form in ("json", "text"):
                call = ["check", "--data", str(lost.root), "--no-archives", *rest, "-o", form]
                done[form] = await asyncio.to_thread(main, call)

    asyncio.run(run())
    assert done == {"json": 0, "text": 0}
    told, _, text = capsys.readouterr().out.partition("\n")
    (what,) = msgspec.json.decode(told)["gone"].values()
    assert f"{GONE:<12} is gone: {what}" in text
    task = tasks.read(lost)["check"]
    assert (task.ok, task.problem, task.note) == (True, "", f"{GONE}: {what}")
    assert task.figures["symbols_gone"] == 1
    assert main(["status", "--data", str(lost.root)]) == 4  # no collector runs here
    shown = capsys.readouterr().out
    assert "task        check ok; last ok " in shown
    assert f"; {GONE}: the exchange has no such symbol" in shown


def test_verdicts_of_bars_that_a_clean_up_took_stand(layout: Layout) -> None:
    """The day before stays here for longer, as one that was published anew since."""
    hour = Hour(THIRD_DAY, 0)
    write_part(layout, KEPT, hour, 1, market(KEPT, hour, 9000, 10))
    settle(layout, NOW + DAY_NS)
    checked(layout)
    path, bars = layout.verdicts(EXCHANGE, KEPT, NEXT_DAY), layout.bars(EXCHANGE, KEPT, NEXT_DAY)
    before = path.read_bytes()
    name = str(bars.relative_to(layout.root))
    record = DeletionRecord(name, bars.stat().st_size, "", "expired", NOW)
    deletions.append(layout, EXCHANGE, KEPT, NEXT_DAY, [record])
    bars.unlink()
    for again in (False, True):
        days = [day.day for day in checked(layout, again=again)[0].days if day.symbol == KEPT]
        assert days == [DAY, THIRD_DAY]
        assert path.read_bytes() == before
    # Without the record nobody knows why they are not here: then it is a day without a bar.
    deletions.path_of(layout, EXCHANGE, KEPT, NEXT_DAY).unlink()
    assert NEXT_DAY in [day.day for day in checked(layout)[0].days if day.symbol == KEPT]
