"""What the API server's answers mean: errors, and the lines of a watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import msgspec

from crypto_lake_operator.client import (
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
    WatchEvent,
)

# How the API server begins when a webhook of admission can't be reached, or does not answer in time.
_WEBHOOK: Final = "failed calling webhook"


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


def error_of(code: int, message: str, retry_after_seconds: float | None = None) -> ApiError:
    """The error of an answer from 400 on."""
    if code == 500 and _WEBHOOK in message:
        return InvalidError(message, code)
    match code:
        case 404:
            return NotFoundError(message, code)
        case 403:
            return ForbiddenError(message, code)
        case 409:
            return ConflictError(message, code)
        case 410:
            return GoneError(message, code)
        case 429:
            return ThrottledError(message, 1.0 if retry_after_seconds is None else retry_after_seconds)
        case _ if code == 401 or code >= 500:
            return UnavailableError(message, code)
        case _:
            return InvalidError(message, code)


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


_decode_status = msgspec.json.Decoder(_Status).decode


def _error_of_status(body: bytes, code: int) -> ApiError:
    try:
        status = _decode_status(body)
    except msgspec.MsgspecError:
        status = _Status(body[:500].decode(errors="replace").strip())
    return error_of(status.code or code, status.message or f"HTTP {code}")


def error_of_answer(response: aiohttp.ClientResponse, text: bytes) -> ApiError:
    """By the HTTP code, whatever a body says."""
    seconds: float | None = None
    with contextlib.suppress(ValueError):
        seconds = float(response.headers.get("Retry-After", ""))
    try:
        message = _decode_status(text).message
    except msgspec.MsgspecError:
        message = text[:500].decode(errors="replace").strip()
    return error_of(response.status, message or f"HTTP {response.status}", seconds)
