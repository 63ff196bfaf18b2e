"""Asks the exchange for klines, for as long as a run may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from crypto_lake.completeness import klines
from crypto_lake.completeness.asking import AskError
from crypto_lake.model.market import US_PER_SECOND

ROWS: Final = 1000  # of one answer
_TRIES: Final = 3


class Klines(Protocol):
    """As completeness.asking has it."""

    requests: int
    weight: int

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[klines.KlineRow]: ...


class _StoppedError(Exception):
    """Nothing more is asked in this run; the text says why."""


class Asking:
    """One run's. problem: why something could not be had, "" where all was; nothing more is asked then.

    patience_seconds: for all waits together. retry_seconds: between two tries of a request that failed.
    """

    def __init__(self, asker: Klines, patience_seconds: float, retry_seconds: float) -> None:
        self._asker = asker
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self.problem = ""

    async def klines(
        self, symbol: str, spans: Sequence[tuple[int, int]]
    ) -> tuple[list[klines.KlineRow], list[tuple[int, int]]]:
        """The exchange's klines of these spans of Unix seconds, of ROWS each at most; and the spans that it answered."""
        found: list[klines.KlineRow] = []
        answered: list[tuple[int, int]] = []
        for start, end in spans:
            try:
                found += await self._ask(symbol, start, end)
            except _StoppedError:
                continue
            answered.append((start, end))
        return found, answered

    async def _ask(self, symbol: str, start: int, end: int) -> list[klines.KlineRow]:
        """Raises _StoppedError where it can't be had in this run."""
        for attempt in range(1, _TRIES + 1):
            if self.problem:
                raise _StoppedError(self.problem)
            try:
                return await self._asker.klines(symbol, start * US_PER_SECOND, end * US_PER_SECOND)
            except AskError as error:
                wait = error.wait_seconds or self._retry_seconds
                if (attempt == _TRIES and not error.wait_seconds) or wait > self._patience_seconds:
                    self.problem = str(error)
                    break
                self._patience_seconds -= wait
                await asyncio.sleep(wait)
        self.problem = self.problem or f"klines of {symbol} could not be had in {_TRIES} tries"
        raise _StoppedError(self.problem)
