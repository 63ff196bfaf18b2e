"""`gs://bucket/prefix`: Cloud Storage through its client library, with retries and proofs of our own.

Every request is sent once by the library and tried again here, so that what a retry means is decided in one place: a
precondition that fails is compared and never overridden, and nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crypto_lake.store.access import bucket_access
from crypto_lake.store.answers import Answer, names_bucket
from crypto_lake.store.base import AccessReport, Declared, Progress, PutResult, Stored, StoreSettings
from crypto_lake.store.gcs_put import Upload
from crypto_lake.store.gcs_read import Reader
from crypto_lake.store.gcs_road import Road, Stale
from crypto_lake.store.limiter import Limiter
from crypto_lake.store.names import GcsAddress
from crypto_lake.store.patience import Patience
from crypto_lake.store.session import Passing, Refusal

T = TypeVar("T")


class GcsStore:
    """A prefix of a bucket. `credentials` are for tests; by default Application Default Credentials."""

    def __init__(
        self, address: GcsAddress, settings: StoreSettings, *, credentials: Any | None = None
    ) -> None:
        self._road = Road(address, settings, credentials)
        self._reader = Reader(self._road)

    @property
    def url(self) -> str:
        return self._road.address.url

    def close(self) -> None:
        self._road.client.close()

    def put(
        self,
        path: Path,
        name: str,
        declared: Declared,
        *,
        replaces: int | None = None,
        metadata: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        limiter: Limiter | None = None,
    ) -> PutResult:
        return Upload(
            self._road, path, name, declared, replaces or 0, metadata or {}, progress, limiter
        ).run()

    def stat(self, name: str) -> Stored | None:
        return self._reader.stat(name)

    def fetch(self, name: str, target: Path, *, generation: int | None = None) -> Stored:
        return self._reader.fetch(name, target, generation=generation)

    def read(self, name: str, *, limit_bytes: int = 64 * 2**20) -> tuple[Stored, bytes]:
        return self._reader.read(name, limit_bytes=limit_bytes)

    def list(self, prefix: str = "", *, measured: bool = True) -> Iterator[Stored]:
        return self._reader.list(prefix)

    def check_access(self, prefixes: Sequence[str] = ("",)) -> AccessReport:
        return bucket_access(self, prefixes)

    def probe(
        self, needed: str, request: Callable[[Any, Any, tuple[float, float]], T], name: str
    ) -> T | Answer:
        """For `access`: what `request(bucket, blob, timeout)` gives, or the answer that refused it."""
        road = self._road
        blob = road.bucket.blob(road.folder + name)
        patience = Patience(road.settings, self.url)
        while True:
            try:
                return road.once(self.url, lambda: request(road.bucket, blob, road.timeout))
            except Stale:
                return Answer(412, "the precondition does not hold")
            except Passing as error:
                patience.pause(str(error), error)
            except Refusal as refusal:
                answer = refusal.answer
                if answer.status == 401 or names_bucket(answer):
                    raise road.error(answer, self.url, needed) from refusal
                return answer
