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
    """Nothing more is asked in this run, or of this symbol; the text says why."""


class Asking:
    """One run's. patience_seconds: for all waits together. retry_seconds: between two tries of a request that failed."""

    def __init__(self, asker: Klines, patience_seconds: float, retry_seconds: float) -> None:
        self._asker = asker
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self._ended = ""  # why nothing more is asked
        self._refused: dict[str, str] = {}  # by symbol, why nothing more is asked of it

    @property
    def problem(self) -> str:
        """Why something could not be had, "" where all was."""
        refused = [f"{symbol}: {why}" for symbol, why in self._refused.items()]
        return "; ".join([*refused, *([self._ended] if self._ended else [])])

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
            if why := self._ended or self._refused.get(symbol, ""):
                raise _StoppedError(why)
            try:
                return await self._asker.klines(symbol, start * US_PER_SECOND, end * US_PER_SECOND)
            except AskError as error:
                if error.refused:
                    self._refused[symbol] = str(error)
                    raise _StoppedError(str(error)) from None
                wait = error.wait_seconds or self._retry_seconds
                if (attempt == _TRIES and not error.wait_seconds) or wait > self._patience_seconds:
                    self._ended = str(error)
                    break
                self._patience_seconds -= wait
                await asyncio.sleep(wait)
        self._ended = self._ended or f"klines of {symbol} could not be had in {_TRIES} tries"
        raise _StoppedError(self._ended)
