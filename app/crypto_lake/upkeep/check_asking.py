"""Asks the exchange for klines, for as long as a run may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from crypto_lake.completeness import klines
from crypto_lake.completeness.asking import AskError
from crypto_lake.completeness.gone import Standing
from crypto_lake.model.market import US_PER_SECOND

T = TypeVar("T")
ROWS: Final = 1000  # of one answer
_TRIES: Final = 3


class Klines(Protocol):
    """As completeness.asking has it."""

    requests: int
    weight: int

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[klines.KlineRow]: ...

    async def trading(self, symbols: Sequence[str]) -> Mapping[str, bool]: ...


class _StoppedError(Exception):
    """Nothing more is asked in this run, or of this symbol; the text says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Klines of a symbol were refused. why: in the words of the request. unknown: as of a symbol that there is not."""

    why: str
    unknown: bool
    standing: Standing = Standing.UNTOLD


class Asking:
    """One run's. patience_seconds: for all waits together. retry_seconds: between two tries of a request that failed."""

    def __init__(self, asker: Klines, patience_seconds: float, retry_seconds: float) -> None:
        self._asker = asker
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self._ended = ""  # why nothing more is asked
        self._refused: dict[str, Refusal] = {}  # by symbol, why nothing more is asked of it

    @property
    def ended(self) -> str:
        """Why nothing more was asked for, "" where all was."""
        return self._ended

    async def refusals(self) -> dict[str, Refusal]:
        """By symbol, where klines were refused; with what the exchange says of it otherwise, which is asked now."""
        found: dict[str, Refusal] = {}
        for symbol, refusal in self._refused.items():
            standing = await self._standing(symbol) if refusal.unknown else Standing.UNTOLD
            found[symbol] = replace(refusal, standing=standing)
        return found

    async def _standing(self, symbol: str) -> Standing:
        async def ask() -> bool | None:
            return (await self._asker.trading([symbol])).get(symbol)

        try:
            trades = await self._patiently(ask, f"whether {symbol} trades")
        except AskError as error:
            return Standing.UNKNOWN if error.unknown_symbol else Standing.UNTOLD
        except _StoppedError:
            return Standing.UNTOLD
        return Standing.UNTOLD if trades is None else Standing.TRADING if trades else Standing.CLOSED

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
        if refusal := self._refused.get(symbol):
            raise _StoppedError(refusal.why)

        async def ask() -> list[klines.KlineRow]:
            return await self._asker.klines(symbol, start * US_PER_SECOND, end * US_PER_SECOND)

        try:
            return await self._patiently(ask, f"klines of {symbol}")
        except AskError as error:
            self._refused[symbol] = Refusal(str(error), error.unknown_symbol)
            raise _StoppedError(str(error)) from None

    async def _patiently(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """Raises AskError where it was refused, _StoppedError where it can't be had in this run."""
        for attempt in range(1, _TRIES + 1):
            if self._ended:
                raise _StoppedError(self._ended)
            try:
                return await ask()
            except AskError as error:
                if error.refused:
                    raise
                wait = error.wait_seconds or self._retry_seconds
                if (attempt == _TRIES and not error.wait_seconds) or wait > self._patience_seconds:
                    self._ended = str(error)
                    break
                self._patience_seconds -= wait
                await asyncio.sleep(wait)
        self._ended = self._ended or f"{what} could not be had in {_TRIES} tries"
        raise _StoppedError(self._ended)
