"""Asks the exchange's REST interface what is newest, and for its own bars.

It goes by the one account of weight that all processes of the lake share (`completeness.budget_file`): none of it is
asked while the exchange has told to wait, or the share is spent.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence

import aiohttp

from crypto_lake.completeness.budget_file import Grant, WeightBudget, open_budget, retry_after_of
from crypto_lake.exchanges import Exchange
from crypto_lake.exchanges.base import KlineRow, Newest, PresentCall
from crypto_lake.lake.layout import Layout

_log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
_BAD_REQUEST = 400


class AskError(Exception):
    """The exchange could not be asked, or did not answer; the text says why.

    wait_seconds: how long to wait before asking again, as the account of weight says; 0: it says nothing. refused: the
    exchange did answer, and knows nothing of what was asked for, as of a symbol that is gone: of others it may.
    unknown_symbol: and it says in so many words that there is no such symbol.
    """

    def __init__(
        self, text: str, wait_seconds: float = 0.0, *, refused: bool = False, unknown_symbol: bool = False
    ) -> None:
        super().__init__(text)
        self.wait_seconds = wait_seconds
        self.refused = refused
        self.unknown_symbol = unknown_symbol


class Asker:
    """One session, opened when it is first needed."""

    def __init__(
        self, exchange: Exchange, rest: str, budget: WeightBudget, tls: ssl.SSLContext | None = None
    ) -> None:
        self._present = exchange.present
        self._used_weight_header = exchange.past.used_weight_header
        self._rest = rest.rstrip("/")
        self._budget = budget
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        self.weight = 0

    @property
    def most_symbols(self) -> int:
        return self._present.newest.most

    @property
    def source(self) -> str:
        """What the call for what is newest is named where its answer is kept."""
        return self._present.newest.source

    async def newest(self, symbols: Sequence[str]) -> dict[str, Newest]:
        """Of so many symbols at most (`most_symbols`). Raises AskError."""
        answer = await self._get(self._present.newest, self._present.symbols_query(symbols))
        try:
            return self._present.read_newest(answer)
        except ValueError as error:
            raise AskError(f"{self._rest}{self._present.newest.path}: {error}") from None

    async def trading(self, symbols: Sequence[str]) -> dict[str, bool]:
        """Whether they trade at all, of the first hundred of them. Raises AskError."""
        call = self._present.trading
        answer = await self._get(call, self._present.symbols_query(symbols[: call.most]))
        try:
            return self._present.read_trading(answer)
        except ValueError as error:
            raise AskError(f"{self._rest}{self._present.trading.path}: {error}") from None

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[KlineRow]:
        """One-second klines that open from start_us on and before end_us; a thousand at most. Raises AskError."""
        call = self._present.klines
        answer = await self._get(call, self._present.klines_query(symbol, start_us, end_us, call.most))
        try:
            return self._present.read_klines(answer)
        except ValueError as error:
            raise AskError(f"{self._rest}{call.path}: {error}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, call: PresentCall, query: Mapping[str, str]) -> bytes:
        url = f"{self._rest}{call.path}"
        try:
            grant = await asyncio.to_thread(self._budget.take, call.weight)
        except OSError as error:
            raise AskError(f"{url}: not asked, the account of weight can't be kept: {error}") from None
        if not isinstance(grant, Grant):
            raise AskError(
                f"{url}: not asked, the address's weight is spent or closed for {grant:.0f} s", grant
            )
        self.requests += 1
        self.weight += call.weight
        status, reported, retry_after = 0, None, None
        try:
            async with self._open().get(url, params=query, allow_redirects=False) as response:
                status = response.status
                used = response.headers.get(self._used_weight_header, "")
                reported = int(used) if used.isascii() and used.isdigit() else None
                retry_after = retry_after_of(response.headers.get("Retry-After"))
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AskError(f"{url}: {str(error) or type(error).__name__}") from None
        finally:
            await self._note(grant, status, reported, retry_after)
        if status != 200:
            refused = status == _BAD_REQUEST
            unknown = refused and self._present.says_unknown_symbol(answer)
            raise AskError(f"{url}: HTTP {status}", refused=refused, unknown_symbol=unknown)
        return answer

    async def _note(self, grant: Grant, status: int, reported: int | None, retry_after: float | None) -> None:
        def note() -> None:
            self._budget.answered(grant, status, reported=reported, retry_after_seconds=retry_after)

        try:
            await asyncio.to_thread(note)
        except OSError as error:  # it then counts for longer than it need
            _log.warning("the account of weight can't be kept: %s", error)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True),
                timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
            )
        return self._session


def open_asker(layout: Layout, exchange: Exchange, rest: str, tls: ssl.SSLContext | None) -> Asker:
    """One for what is newest. That is little and must not wait for healing: of the lake's account of weight its share is
    all that the exchange allows.
    """
    limit = exchange.limits.weight_per_minute
    return Asker(exchange, rest, open_budget(layout, exchange.name, limit, limit), tls)
