"""The exchange's REST, asked for past trades within the weight budget."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from crypto_lake.completeness.budget import REQUEST_SECONDS, STOPPING
from crypto_lake.completeness.budget_file import WeightBudget, retry_after_of
from crypto_lake.completeness.heal import Road
from crypto_lake.exchanges import Past, PastRow

log = logging.getLogger(__name__)

_MOST_BYTES: Final = 4 * 1024 * 1024  # of an answer; a thousand rows are a twentieth of it
# This host does not serve this call, or does not serve us: not there, forbidden, not from this country.
_CLOSED: Final = frozenset({403, 404, 405, 451})


@dataclass(frozen=True, slots=True)
class Reply:
    rows: list[PastRow]
    status: int
    body: bytes


class RestError(Exception):
    """A request that brought no rows; the text says where and why."""


class MustWaitError(RestError):
    """None is allowed for so long. `by`: the status (429, 418) by which the exchange has said so; 0: the budget."""

    def __init__(self, seconds: float, by: int, text: str) -> None:
        super().__init__(text)
        self.seconds, self.by = seconds, by


class RoadClosedError(RestError):
    """This host does not serve this call."""


class RefusedError(RestError):
    """The exchange says that the request is wrong: a symbol that it does not have."""

    def __init__(self, text: str, status: int, body: bytes) -> None:
        super().__init__(text)
        self.status, self.body = status, body


class FailedError(RestError):
    """No answer, or none that can be used. It may be otherwise next time."""


class PastRest:
    """One at a time; `close` it in the end. Made inside a running event loop."""

    def __init__(self, past: Past, budget: WeightBudget, tls: ssl.SSLContext | None = None) -> None:
        self.requests: dict[int, int] = {}  # by status; 0: no answer
        self._past = past
        self._budget = budget
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS - 1),
            headers=dict(past.headers),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, road: Road, query: Mapping[str, str]) -> Reply:
        """Raises RestError's children."""
        grant = await asyncio.to_thread(self._budget.take, road.call.weight)
        if isinstance(grant, float | int):
            by = (await asyncio.to_thread(self._budget.usage)).blocked_by
            said = f"the exchange said HTTP {by}" if by else "this lake's share of the weight is used"
            raise MustWaitError(grant, by, f"{said}; nothing is asked for {grant:.0f} s")
        status, reported, retry_after, body = 0, None, None, b""
        problem = ""
        try:
            async with self._session.get(road.name, params=query, allow_redirects=False) as response:
                status = response.status
                reported = _number(response.headers.get(self._past.used_weight_header))
                retry_after = retry_after_of(response.headers.get("Retry-After"))
                body = await _read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = f"{road.name}: {str(error) or type(error).__name__}"
        finally:
            # Also where it is cancelled: what was said about waiting is not lost.
            await asyncio.shield(
                asyncio.to_thread(
                    self._budget.answered, grant, status, reported=reported, retry_after_seconds=retry_after
                )
            )
            self.requests[status] = self.requests.get(status, 0) + 1
        if status in STOPPING:
            seconds = (await asyncio.to_thread(self._budget.usage)).blocked_seconds
            text = f"{road.name}: HTTP {status}; nothing is asked for {seconds:.0f} s: {_text(body)}"
            log.warning("%s", text)
            raise MustWaitError(seconds, status, text)
        if status in _CLOSED:
            raise RoadClosedError(f"{road.name}: HTTP {status}: {_text(body)}")
        if problem:
            raise FailedError(problem)
        if status == 400:
            raise RefusedError(f"{road.name}: HTTP 400: {_text(body)}", status, body)
        if status != 200:
            raise FailedError(f"{road.name}: HTTP {status}: {_text(body)}")
        try:
            return Reply(road.call.read(body), status, body)
        except ValueError as error:
            raise FailedError(f"{road.name}: not the answer that was expected: {error}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(64 * 1024):
        size += len(piece)
        if size > _MOST_BYTES:
            raise aiohttp.ClientPayloadError(f"an answer of more than {_MOST_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _text(body: bytes) -> str:
    return body[:200].decode(errors="replace")
