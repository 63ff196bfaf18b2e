"""A lake in a bucket of Cloud Storage, read with Application Default Credentials: listed, and read by generation.

With STORAGE_EMULATOR_HOST the server named there is asked, without credentials. Requests are tried again by the client
library. Nothing is written.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import google.auth
import google.auth.exceptions as auth
from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # pyright: ignore[reportMissingTypeStubs]  it has none

from crypto_lake.access.errors import InvalidArgumentError, ReplacedError, UnreachableError
from crypto_lake.access.macro import BucketFiles, Files
from crypto_lake.access.places import NOT_EXCHANGES, DayFile, Held, replaced
from crypto_lake.access.times import Span
from crypto_lake.lake.layout import bars_name, parse_bars_name

T = TypeVar("T")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SCOPES: Final = ("https://www.googleapis.com/auth/devstorage.read_only",)
LISTED_SECONDS: Final = 60.0
"""How long a listing is believed: days are published once an hour at most."""
_KEPT_BYTES: Final = 128 * 2**20


class BucketPlace:
    """`gs://bucket/prefix`."""

    is_remote = True

    def __init__(self, url: str) -> None:
        bucket, _, prefix = url.removeprefix("gs://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise InvalidArgumentError(
                f"{url}: {bucket!r} can't be a bucket's name; write gs://bucket/prefix"
            )
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.url = f"gs://{bucket}/{self._prefix}".rstrip("/")
        self._bucket: Any = _client(self.url).bucket(bucket)
        self._lock = threading.Lock()
        # What was read of generations, which never change: a query reads a footer several times, the next one the rest.
        self._read: OrderedDict[tuple[DayFile, int, int], bytes] = OrderedDict()
        self._read_bytes = 0
        self._listed: dict[tuple[str, ...], tuple[float, list[Any]]] = {}

    def exchanges(self) -> list[str]:
        return [name for name in self._folders("parquet/") if name not in NOT_EXCHANGES]

    def symbols(self, exchange: str) -> list[str]:
        return self._folders(f"parquet/{exchange}/")

    def days(self, exchange: str, symbol: str, span: Span) -> list[DayFile]:
        # Names sort as days do, so that a range of days is a range of names.
        start = bars_name(exchange, symbol, span.first_day) if span.start else ""
        end = bars_name(exchange, symbol, span.last_day) + "~" if span.end else ""
        found: list[DayFile] = []
        for name, generation, size in self._list(f"parquet/{exchange}/{symbol}/", start, end):
            parsed = parse_bars_name(name)
            if parsed and span.holds_day(parsed[2]):
                found.append(DayFile(*parsed, generation, size))
        return sorted(found)

    def hold(self, file: DayFile) -> Held:
        return _Object(self, file)

    def read(self, file: DayFile, offset: int, length: int) -> bytes:
        """Bytes of the generation that was listed; ReplacedError where it is gone."""
        if length <= 0:
            return b""
        key = (file, offset, length)
        with self._lock:
            if key in self._read:
                self._read.move_to_end(key)
                return self._read[key]
        data = self._fetch(file, offset, length)
        with self._lock:
            if self._read.setdefault(key, data) is data:
                self._read_bytes += len(data)
            while self._read_bytes > _KEPT_BYTES:
                self._read_bytes -= len(self._read.popitem(last=False)[1])
        return data

    def _fetch(self, file: DayFile, offset: int, length: int) -> bytes:
        name = bars_name(file.exchange, file.symbol, file.day)
        blob = self._bucket.blob(self._prefix + name, generation=file.generation)
        try:
            return self._asked(
                lambda: blob.download_as_bytes(
                    start=offset, end=offset + length - 1, raw_download=True, checksum=None
                ),
                f"{self.url}/{name}",
            )
        except FileNotFoundError:
            with self._lock:
                self._listed.clear()
            raise replaced(self.url, file) from None

    def macro(self) -> Files:
        def listed(below: str) -> dict[str, int]:
            return {name: generation for name, generation, _ in self._list(below, "", "")}

        def fetched(name: str, generation: int) -> bytes:
            blob = self._bucket.blob(self._prefix + name, generation=generation)
            try:
                return self._asked(lambda: blob.download_as_bytes(raw_download=True), f"{self.url}/{name}")
            except FileNotFoundError:
                with self._lock:
                    self._listed.clear()
                raise ReplacedError(
                    f"{self.url}/{name} was replaced while it was read; run the query again"
                ) from None

        return BucketFiles(self.url, listed, fetched)

    def _folders(self, below: str) -> list[str]:
        def ask() -> list[str]:
            pages = self._bucket.list_blobs(
                prefix=self._prefix + below, delimiter="/", fields="prefixes,nextPageToken"
            )
            for _ in pages:  # the folders come with the pages
                pass
            return sorted(name.rstrip("/").rpartition("/")[2] for name in pages.prefixes)

        return self._remembered(("folders", below), ask)

    def _list(self, below: str, start: str, end: str) -> list[tuple[str, int, int]]:
        def ask() -> list[tuple[str, int, int]]:
            blobs = self._bucket.list_blobs(
                prefix=self._prefix + below,
                start_offset=self._prefix + start if start else None,
                end_offset=self._prefix + end if end else None,
                fields="items(name,generation,size),nextPageToken",
            )
            return [
                (blob.name.removeprefix(self._prefix), int(blob.generation), int(blob.size)) for blob in blobs
            ]

        return self._remembered((below, start, end), ask)

    def _remembered(self, key: tuple[str, ...], ask: Callable[[], list[T]]) -> list[T]:
        now = time.monotonic()
        with self._lock:
            at, found = self._listed.get(key, (-LISTED_SECONDS, []))
            if now - at < LISTED_SECONDS:
                return cast("list[T]", found)
        try:
            asked = self._asked(ask, self.url)
        except FileNotFoundError:
            raise UnreachableError(f"{self.url}: there is no such bucket; check the name") from None
        with self._lock:
            self._listed[key] = (now, asked)
        return asked

    def _asked(self, ask: Callable[[], T], at: str) -> T:
        """FileNotFoundError for HTTP 404; every other failure as an UnreachableError."""
        try:
            return ask()
        except api.NotFound as error:
            raise FileNotFoundError(at) from error
        except (api.Forbidden, api.Unauthorized) as error:
            raise UnreachableError(
                f"{at}: reading is refused ({error.code}); the identity that runs this needs storage.objects.get and "
                "storage.objects.list, as in the role Storage Object Viewer"
            ) from error
        except (auth.GoogleAuthError, api.GoogleAPIError, OSError) as error:
            raise UnreachableError(
                f"{at}: the bucket does not answer ({type(error).__name__}); check the network and the credentials, and try "
                "again"
            ) from error


class _Object:
    """One generation of an object."""

    __slots__ = ("_file", "_place", "identity", "size")

    def __init__(self, place: BucketPlace, file: DayFile) -> None:
        self._place, self._file = place, file
        self.size = file.bytes
        self.identity: object = file.generation

    def read(self, offset: int, length: int) -> bytes:
        return self._place.read(self._file, offset, min(length, self.size - offset))


def _client(url: str) -> Any:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    try:
        if emulator:
            endpoint = emulator if "://" in emulator else f"http://{emulator}"
            client = cast("Any", storage).Client(
                project="unused",
                credentials=AnonymousCredentials(),
                client_options={"api_endpoint": endpoint.rstrip("/")},
            )
        else:
            credentials, project = cast("Any", google.auth).default(scopes=_SCOPES)
            client = cast("Any", storage).Client(project=project or "unused", credentials=credentials)
    except auth.GoogleAuthError as error:
        raise UnreachableError(
            f"{url}: no credentials were found ({type(error).__name__}); on GKE bind the pod's service account (Workload "
            "Identity), elsewhere run `gcloud auth application-default login` or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    # The library's cache for tracing asks for the bucket itself, which a reader of objects may not.
    client._bucket_metadata_cache = None
    return client
