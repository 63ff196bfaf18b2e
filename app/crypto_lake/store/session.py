"""The road to Cloud Storage: credentials, one pool of connections, and what its failures mean.

Credentials are Application Default Credentials; nothing is written to disk, and no message holds a token or the URL of
an upload session (which is as good as a token).
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from typing import Any, cast

import google.api_core.exceptions as api
import google.auth
import google.auth.exceptions as auth
import requests
import requests.adapters
import urllib3.exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage  # pyright: ignore[reportMissingTypeStubs]  it has none
from google.cloud.storage.exceptions import InvalidResponse  # pyright: ignore[reportMissingTypeStubs]

from crypto_lake.store.answers import Answer, parse_answer
from crypto_lake.store.base import StoreSettings
from crypto_lake.store.errors import NotAuthenticated
from crypto_lake.store.resumable import Garbled

EMULATOR = "STORAGE_EMULATOR_HOST"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)


class Refusal(Exception):  # noqa: N818
    """An answer that is no success and will not pass by waiting."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class Passing(Exception):  # noqa: N818
    """A failure of the road or the server that may have passed in a moment. Its text is safe to show."""


def find_credentials(
    settings: StoreSettings,
    at: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Application Default Credentials; in a pod, where the metadata server comes up late, looked for again a while."""
    until = clock() + (settings.credentials_wait_seconds if "KUBERNETES_SERVICE_HOST" in os.environ else 0.0)
    while True:
        try:
            return cast("Any", google.auth).default(scopes=_SCOPES)[0]
        except auth.GoogleAuthError as error:
            if clock() >= until:
                raise NotAuthenticated(
                    f"no credentials were found ({type(error).__name__})",
                    at=at,
                    hint="On GKE bind the pod's service account (Workload Identity); elsewhere run "
                    "`gcloud auth application-default login` or set GOOGLE_APPLICATION_CREDENTIALS.",
                ) from error
            sleep(1.0)


def make_client(settings: StoreSettings, at: str, credentials: Any | None = None) -> Any:
    """A client on a session of its own. With STORAGE_EMULATOR_HOST: that server, and no credentials."""
    emulator = os.environ.get(EMULATOR)
    options: dict[str, Any] | None = None
    if emulator:
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        options = {"api_endpoint": endpoint.rstrip("/")}
        credentials = credentials or AnonymousCredentials()
    elif credentials is None:
        credentials = find_credentials(settings, at)
    # Anonymous credentials can't be refreshed: a 401 is then the answer.
    attempts = 0 if isinstance(credentials, AnonymousCredentials) else 2
    session: Any = AuthorizedSession(cast("Any", credentials), max_refresh_attempts=attempts)
    adapter = requests.adapters.HTTPAdapter(
        pool_connections=4, pool_maxsize=settings.connections, pool_block=False, max_retries=0
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # A project is needed for buckets only, and this client neither makes nor lists them.
    client = cast("Any", storage).Client(
        project=settings.billed_project or "unused",
        credentials=credentials,
        _http=session,
        client_options=options,
    )
    # The library's cache for tracing asks for the bucket in threads of its own, which takes a permission that a writer
    # has not, and sends requests after this client was closed.
    client._bucket_metadata_cache = None
    return client


def passing_or_refusal(error: Exception, at: str) -> Exception:
    """What a failure of one request is: Passing, Refusal, NotAuthenticated, or the error itself (a bug)."""
    if isinstance(error, (api.GoogleAPICallError, InvalidResponse)):
        response = cast("Any", error).response
        status = int(response.status_code if response is not None else cast("Any", error).code or 0)
        if status < 400:
            return Passing("the answer could not be understood")
        return Refusal(
            parse_answer(status, response.content if response is not None else str(error).encode())
        )
    if isinstance(error, auth.TransportError):
        return Passing("the server that gives tokens can't be reached")
    if isinstance(error, auth.GoogleAuthError):
        if cast("Any", error).retryable:
            return Passing("the server that gives tokens asks to wait")
        return NotAuthenticated(
            f"the credentials were refused, and no new ones could be got ({type(error).__name__})",
            at=at,
            hint="Check which identity runs this: on GKE the pod's service account and its Workload Identity, "
            "elsewhere `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS.",
        )
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return Passing("no answer in time")
    if isinstance(
        error, (json.JSONDecodeError, requests.exceptions.JSONDecodeError, UnicodeDecodeError, Garbled)
    ):
        return Passing("the answer could not be understood")
    if isinstance(
        error,
        (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ConnectionError),
    ):
        return Passing(_plainly(error))
    return error


def _plainly(error: BaseException) -> str:
    """What broke, without the URL that the libraries put into their messages."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(seen, urllib3.exceptions.NameResolutionError):
            return "the server's name could not be resolved"
        if isinstance(seen, urllib3.exceptions.SSLError):
            return "TLS failed"
        inner: object = seen.args[0] if seen.args else None
        reason: object = getattr(inner, "reason", inner)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    return f"the connection broke ({type(error).__name__})"
