"""What the API server's answers mean: errors, and the lines of a watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import msgspec

from crypto_lake_operator.client import ApiError, UnavailableError, WatchEvent, error_of


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_decode_line = msgspec.json.Decoder(_Line).decode


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[WatchEvent]:
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line:
                    continue
                read = _decode_line(line)
                body = bytes(read.object)
                if read.type == "ERROR":
                    raise _error_of_status(body, 500)
                yield WatchEvent(read.type, body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise no_answer(error) from error
    except msgspec.DecodeError as error:
        raise UnavailableError(f"the watch sent what is no event: {error}") from error


def no_answer(error: BaseException) -> UnavailableError:
    return UnavailableError(f"the API server can't be reached: {error or type(error).__name__}")


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


def _error_of_status(body: bytes, code: int, retry_after_seconds: float | None = None) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        status = _Status(body[:500].decode(errors="replace").strip())
    return error_of(status.code or code, status.message or f"HTTP {code}", retry_after_seconds)


def error_of_answer(response: aiohttp.ClientResponse, text: bytes) -> ApiError:
    """By the HTTP code, whatever a body says."""
    seconds: float | None = None
    with contextlib.suppress(ValueError):
        seconds = float(response.headers.get("Retry-After", ""))
    try:
        message = msgspec.json.decode(text, type=_Status).message
    except msgspec.MsgspecError:
        message = text[:500].decode(errors="replace").strip()
    return error_of(response.status, message or f"HTTP {response.status}", seconds)
