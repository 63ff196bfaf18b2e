"""Posts a message to a webhook: once, within bounds, and without ever telling its address.

The address is a secret, and so is its host (some services put the key there): no text made here holds any piece of
it. Errors are told by their kind. Redirects are not followed: they could lead a message, or the secret, elsewhere.
"""

from __future__ import annotations

import base64
import http.client
import math
import os
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from crypto_lake import __version__

STEP_SECONDS = 5.0  # to connect, and to wait for a byte
WHOLE_SECONDS = 15.0  # from the first step to the last byte of the answer
ANSWER_BYTES = 4096  # of an answer are read
MASK = "****"
_SHORTEST_SECRET = 4  # a shorter piece of the address is no secret, and masking it would hide half the text


class Address:
    """A webhook's address. Neither its text nor its repr shows it; only `reveal` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Address({MASK})"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("an address is not to be pickled: it is a secret")


class AddressError(ValueError):
    """There is no address that can be used; the text says why and holds nothing of it."""


class Answer(msgspec.Struct, frozen=True):
    """What came of a post. `code` 0: there was no answer, and `problem` says why.

    text: the beginning of the answer, with all pieces of the address masked.
    wait_seconds: how long the server asked to wait, 0 where it did not.
    """

    code: int
    problem: str = ""
    text: str = ""
    wait_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problem

    @property
    def channel(self) -> bool:
        """Whether the problem concerns the webhook as a whole, not this message."""
        return not self.ok and (self.code == 0 or self.code == 429 or self.code == 408 or self.code >= 500)


def read_address(url: str, file: str) -> Address | None:
    """The address as configured, None where there is none. A file is read anew, so that a secret may be changed.

    Raises AddressError.
    """
    if file:
        try:
            url = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AddressError(
                f"alerting.webhook_url_file {file} can't be read: {error.strerror or 'error'}"
            ) from None
        except UnicodeDecodeError:
            raise AddressError(f"alerting.webhook_url_file {file} holds no UTF-8 text") from None
        if not url:
            raise AddressError(f"alerting.webhook_url_file {file} is empty; it should hold the webhook's URL")
    if not url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
        well = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable()
        )
    except ValueError:
        well = False
    if not well or " " in url:
        where = f"alerting.webhook_url_file {file}" if file else "alerting.webhook_url"
        raise AddressError(f"{where} holds no http(s) address; expected the webhook's URL alone")
    return Address(url)


def post(
    address: Address,
    body: bytes,
    *,
    step_seconds: float = STEP_SECONDS,
    whole_seconds: float = WHOLE_SECONDS,
) -> Answer:
    """Post JSON. Raises nothing: what goes wrong is in the answer. It blocks for `whole_seconds` at most, but for
    the resolver of names, which takes the system's own time.
    """
    parts = urlsplit(address.reveal())
    cutter = _Cutter(whole_seconds)
    try:
        code, headers, text = _exchange(parts, body, step_seconds, cutter)
    except Exception as error:  # whatever it is: its text may hold the address, and is dropped here
        problem = f"no answer within {whole_seconds:g} s" if cutter.cut else _said(error)
    else:
        return _answer(code, headers, redact(text, parts))
    finally:
        cutter.close()
    return Answer(0, problem)


def _exchange(
    parts: SplitResult, body: bytes, step_seconds: float, cutter: _Cutter
) -> tuple[int, http.client.HTTPMessage, str]:
    """One request on a connection of its own: status, headers, the answer's beginning."""
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    raw = socket.create_connection((host, port), timeout=step_seconds)
    cutter.watch(raw)
    connection = http.client.HTTPConnection(host, port, timeout=step_seconds)
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(raw, server_hostname=host) if secure else raw
        )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"crypto-lake/{__version__}",
            "Connection": "close",
            "Host": parts.netloc.rpartition("@")[2],
        }
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        connection.request("POST", target, body, headers)
        with connection.getresponse() as response:
            if cutter.cut:  # headers that break off look like whole ones
                raise TimeoutError
            # The message is there with the status; a body that breaks off changes nothing.
            text = b""
            with suppress(OSError, http.client.HTTPException):
                text = response.read(ANSWER_BYTES)
            return response.status, response.headers, text.decode(errors="replace")
    finally:
        raw.close()
        connection.close()


class _Cutter:
    """Shuts a connection down when the time is over: to a server that sends a byte now and then no timeout comes."""

    def __init__(self, seconds: float) -> None:
        self.cut = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, raw: socket.socket) -> None:
        # A copy of the descriptor: TLS takes the original away.
        self._socket = raw.dup()
        if self.cut:
            self._shut()

    def _shut(self) -> None:
        self.cut = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._socket is not None:
            self._socket.close()


def _answer(code: int, headers: http.client.HTTPMessage, text: str) -> Answer:
    wait_seconds = retry_after_seconds(headers.get("Retry-After", ""), time.time())
    if 200 <= code < 300:
        return Answer(code, "", text)
    if 300 <= code < 400:
        problem = f"the webhook redirects ({code}), which is not followed; configure the address it leads to"
    elif code == 429:
        problem = f"the webhook asks to slow down (429), for {wait_seconds:g} s"
    elif code in (401, 403, 404, 410):
        problem = f"the webhook refuses ({code}): is the address right, and has it not been revoked?"
    elif code >= 500:
        problem = f"the webhook's server fails ({code})"
    else:
        problem = f"the webhook does not take the message ({code})"
    return Answer(code, problem, text, wait_seconds)


def retry_after_seconds(text: str, now_seconds: float) -> float:
    """Of a header Retry-After: seconds, or a date. 0 where it says nothing that is understood."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_seconds
        except (ValueError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _said(error: Exception) -> str:
    """The error by its kind. Its own text may hold the address."""
    if isinstance(error, ssl.SSLError):
        return f"TLS with the webhook failed: {error.reason or type(error).__name__}"
    if isinstance(error, socket.gaierror):
        return "the webhook's name can't be resolved"
    if isinstance(error, TimeoutError):
        return "the webhook does not answer in time"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the webhook can't be reached: {os.strerror(error.errno)}"
    return f"the webhook can't be used: {type(error).__name__}"


def redact(text: str, parts: SplitResult) -> str:
    """The text without any piece of the address: a server may give back what it was asked for."""
    pieces = {
        parts.geturl(),
        parts.netloc,
        parts.netloc.rpartition("@")[2],
        parts.hostname or "",
        parts.path,
        parts.query,
    }
    pieces |= {parts.username or "", parts.password or "", parts.fragment}
    pieces |= {*parts.path.split("/"), *parts.query.replace("=", "&").split("&")}
    pieces |= {unquote(piece) for piece in pieces}
    for piece in sorted((p for p in pieces if len(p) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = re.sub(re.escape(piece), MASK, text, flags=re.IGNORECASE)
    return "".join(c if c.isprintable() else " " for c in text).strip()
