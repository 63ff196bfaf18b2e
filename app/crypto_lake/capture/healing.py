"""Healing in the collector's process: the engine of completeness.heal_run, put on this collector's intake and budget."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.snapshot import HealingSnapshot
from crypto_lake.completeness.budget_file import Usage, WeightBudget
from crypto_lake.completeness.heal import Road, roads
from crypto_lake.completeness.heal_rest import PastRest
from crypto_lake.completeness.heal_run import Healer, HealingFigures
from crypto_lake.exchanges import Exchange, PastHost
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock

_USAGE_SECONDS = 2.0  # between two looks at the account, for the status


@dataclass(frozen=True, slots=True)
class HealingSettings:
    """rest: the address that is configured; "": the exchange's own."""

    enabled: bool
    rest: str
    tls: ssl.SSLContext | None


def ways(exchange: Exchange, rest: str) -> list[Road]:
    """Where past trades are asked for. One that is configured is asked for all, unless it is known to serve less."""
    past = exchange.past
    calls = (past.trades, past.aggregates)
    if not rest:
        return roads(past.hosts, calls)
    url = rest.rstrip("/")
    known = [host for host in past.hosts if host.url == url]
    return roads(known or [PastHost(url, frozenset(call.source for call in calls))], calls)


class Healing:
    """`await run()` until cancelled; nothing in it ends the collector."""

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        clock: Clock,
        intake: StreamIntake,
        budget: WeightBudget,
        connection: str,
        settings: HealingSettings,
    ) -> None:
        self._layout, self._exchange, self._clock = layout, exchange, clock
        self._intake, self._budget = intake, budget
        self._connection = connection
        self._settings = settings
        self._healer: Healer | None = None
        self._usage: Usage | None = None

    async def run(self) -> None:
        if not (self._settings.enabled and self._exchange.contiguous_trade_ids):
            await self._watch_usage()
            return
        rest = PastRest(self._exchange.past, self._budget, self._settings.tls)
        try:
            self._healer = Healer(
                self._layout,
                self._exchange,
                self._clock,
                rest,
                ways(self._exchange, self._settings.rest),
                self._connection,
                settle=self._intake.settle,
                keep_answer=self._intake.answer,
            )
            await asyncio.gather(self._healer.run(), self._watch_usage())
        finally:
            await rest.close()

    async def _watch_usage(self) -> None:
        while True:
            try:
                self._usage = await asyncio.to_thread(self._budget.usage)
            except OSError:
                self._usage = None
            await asyncio.sleep(_USAGE_SECONDS)

    def snapshot(self) -> HealingSnapshot:
        healer, usage = self._healer, self._usage
        figures = healer.figures if healer is not None else HealingFigures()
        state = figures.state if healer is not None else "off"
        return HealingSnapshot(
            state=state,
            gaps_waiting=figures.holes,
            trades_healed=figures.trades_healed,
            trades_aggregated=figures.aggregated,
            files=figures.files,
            trades_never_existed=figures.never_existed,
            trades_unavailable=figures.unavailable,
            requests={str(status): count for status, count in sorted(figures.requests.items())},
            weight_used=usage.used if usage else 0,
            weight_share=self._budget.share,
            blocked_seconds=round(usage.blocked_seconds, 1) if usage else 0.0,
            blocked_by=usage.blocked_by if usage else 0,
            refusals=usage.refusals if usage else 0,
            problem=figures.problem,
            oldest_gap_seconds=self._age_seconds(figures.oldest_us),
        )

    def _age_seconds(self, at_us: int) -> float:
        return round(max(0.0, self._clock.now_ns() / 1e9 - at_us / 1e6), 1) if at_us else 0.0
