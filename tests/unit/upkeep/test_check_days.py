"""A check of several days: what is a year long is read once for all of them, and again when it has grown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.completeness import ledger
from crypto_lake.completeness.entries import Hole
from crypto_lake.completeness.klines import KlineRow
from crypto_lake.completeness.ledger import LedgerFile
from crypto_lake.completeness.ledger import read as read_ledger
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.check import check
from support.kept_lakes import enter_ledgers
from support.lakes import EXCHANGE, At, market, write_part

SYMBOL = "BTCUSDT"
DAYS = ["2024-08-07", "2024-08-08", "2024-08-09"]
NOW = Hour(DAYS[-1], 23).end_ns + 3600 * 10**9


class NoKlines:
    def __init__(self, on_asked: Callable[[], None]) -> None:
        self.requests = self.weight = 0
        self._on_asked = on_asked

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[KlineRow]:
        self._on_asked()
        return []

    async def trading(self, symbols: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(symbols, True)


@pytest.mark.parametrize("grows", [False, True])
def test_the_ledger_is_read_once_unless_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grows: bool
) -> None:
    layout = Layout(tmp_path)
    for n, day in enumerate(DAYS):
        hour = Hour(day, 12)
        write_part(layout, SYMBOL, hour, 1, market(SYMBOL, hour, 1000 + 10 * n, 3, end=0.0003))
    enter_ledgers(layout)
    assert not transform(layout, EXCHANGE, clock=At(NOW), workers=1).failed
    read: list[int] = []

    def told(path: Path) -> Any:
        contents = read_ledger(path)
        read.append(len(contents.lines))
        return contents

    monkeypatch.setattr(ledger, "read", told)
    path = layout.ledger(EXCHANGE, SYMBOL)

    def grow() -> None:
        if grows and len(read) == 1:
            file, _ = LedgerFile.open(path, EXCHANGE, SYMBOL, "c-test")
            file.append(
                [Hole(first_id=1, last_id=2, after_time_us=1, before_time_us=2, found_ns=3, cause="restart")]
            )
            file.close()
            read.clear()  # LedgerFile reads it, too
            read.append(0)

    report = asyncio.run(check(layout, EXCHANGE, NoKlines(grow), clock=At(NOW)))
    assert not report.failed
    assert [day.day for day in report.days] == DAYS
    assert len(read) == 1 + grows
    assert not grows or read[-1] == len(read_ledger(path).lines)
