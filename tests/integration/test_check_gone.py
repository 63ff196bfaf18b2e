"""What `check` does of what is no longer there: a symbol that the exchange has taken away, and bars that a clean-up took."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crypto_lake.completeness.asking import Asker
from crypto_lake.completeness.budget_file import open_budget
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import deletions
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.check import check
from crypto_lake.upkeep.check_report import CheckReport
from support.kept_lakes import DAY_NS, NEXT_DAY, NOW, make_kept_lake, settle
from support.lakes import DAY, EXCHANGE, At, market, write_part

THIRD_DAY = "2024-08-10"
KEPT = "BTCUSDT"
GONE = "AAAUSDT"  # before the other, in the order in which they are asked for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_kept_lake(tmp_path / "data", symbols=(GONE, KEPT), trades=10)


def checked(layout: Layout, *, again: bool = False) -> tuple[CheckReport, dict[str, int]]:
    """Against an exchange that has one of the two symbols; and how many requests it answered with what."""

    async def ask() -> tuple[CheckReport, dict[str, int]]:
        only = GeneratedMarket(5, [KEPT], start_us=Hour(DAY, 0).start_ns // 1000, activity=0.001)
        async with asyncio.timeout(60), Simulator(only, Settings(speed=1)) as simulator:
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
    # It is told, and was asked for once.
    assert report.problem.startswith(f"{GONE}: ")
    assert "HTTP 400" in report.problem
    assert answers["400"] == 1


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
