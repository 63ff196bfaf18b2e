"""Reading from Cloud Storage: what is there, and its bytes, verified."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from crypto_lake.store.base import Stored
from crypto_lake.store.checksums import measure_stream
from crypto_lake.store.errors import Corrupted, NoSuchObject, Refused
from crypto_lake.store.gcs_road import Road
from crypto_lake.store.local_files import Arriving
from crypto_lake.store.patience import Patience
from crypto_lake.store.session import Passing, Refusal

READINGS = 3
"""Of an answer that is not as expected, before it is believed."""

_LIST_FIELDS = "items(id,name,size,crc32c,md5Hash,generation,metadata,updated),nextPageToken"


class Reader:
    def __init__(self, road: Road) -> None:
        self._road = road

    def stat(self, name: str, generation: int | None = None) -> Stored | None:
        road = self._road
        blob = road.blob(name, generation)

        def reload() -> Stored:
            blob.reload(retry=None, timeout=road.timeout)
            return road.stored(blob)

        try:
            return road.trying(road.at(name), "storage.objects.get", reload)
        except NoSuchObject:
            return None

    def fetch(self, name: str, target: Path, *, generation: int | None = None) -> Stored:
        at = self._road.at(name)
        stored = self._existing(name, generation)
        found = (0, "")
        for _ in range(READINGS):
            with Arriving(target) as arriving:
                if self._downloaded(stored, arriving.file, generation is None):
                    found = arriving.finish()
                    if found == (stored.bytes, stored.crc32c):
                        arriving.accept()
                        return stored
            # Replaced meanwhile; or what is garbled is not the bytes but what was told of them.
            stored = self._existing(name, generation)
        raise Corrupted(
            f"{found[0]} bytes with CRC32C {found[1]} arrived, and the store tells {stored.bytes} with "
            f"{stored.crc32c}",
            at=at,
            hint="Nothing was written to the target. Look at the network between, proxies first, and at this disk.",
        )

    def read(self, name: str, *, limit_bytes: int = 64 * 2**20) -> tuple[Stored, bytes]:
        at = self._road.at(name)
        stored = self._existing(name, None)
        for _ in range(READINGS):
            if stored.bytes > limit_bytes:
                raise Refused(
                    f"the object has {stored.bytes} bytes, more than the {limit_bytes} to be read into memory",
                    at=at,
                    hint="Fetch it into a file.",
                    status=0,
                )
            buffer = BytesIO()
            if self._downloaded(stored, buffer, replaceable=True):
                buffer.seek(0)
                found = measure_stream(buffer)
                if (found.bytes, found.crc32c) == (stored.bytes, stored.crc32c):
                    return stored, buffer.getvalue()
            stored = self._existing(name, None)
        raise Corrupted(
            "the bytes that arrived do not have the checksum that the store tells",
            at=at,
            hint="Look at the network between, proxies first.",
        )

    def _existing(self, name: str, generation: int | None) -> Stored:
        stored = self.stat(name, generation)
        if stored is None:
            of = "" if generation is None else f" of generation {generation}"
            raise NoSuchObject(
                f"there is no object{of}", at=self._road.at(name), hint="List the prefix to see what is."
            )
        return stored

    def _downloaded(self, stored: Stored, sink: Any, replaceable: bool) -> bool:
        """Whether the bytes arrived; False where the generation is gone, and any would do."""
        try:
            self._download(stored, sink)
        except NoSuchObject:
            if not replaceable:
                raise
            return False
        return True

    def _download(self, stored: Stored, sink: Any) -> None:
        """Write one generation's bytes to `sink` (write, tell), going on where a broken answer ended."""
        at = self._road.at(stored.name)
        patience = Patience(self._road.settings, at)
        while (begun := sink.tell()) < stored.bytes:
            blob = self._road.blob(stored.name, stored.generation)
            try:
                self._road.once(
                    at,
                    lambda blob=blob, begun=begun: blob.download_to_file(
                        sink,
                        start=begun or None,
                        raw_download=True,
                        checksum=None,
                        retry=None,
                        timeout=self._road.timeout,
                    ),
                )
                if sink.tell() == begun:
                    raise Passing("the answer held no bytes")
            except Passing as error:
                if sink.tell() > begun:
                    patience.progressed()
                patience.pause(str(error), error)
            except Refusal as refusal:
                raise self._road.error(refusal.answer, at, "storage.objects.get") from refusal

    def list(self, prefix: str = "") -> Iterator[Stored]:
        whole = self._road.folder + prefix
        token: str | None = None
        while True:
            page, token = self._road.trying(
                self._road.address.url, "storage.objects.list", functools.partial(self._page, whole, token)
            )
            yield from page
            if not token:
                return

    def _page(self, prefix: str, token: str | None) -> tuple[Sequence[Stored], str | None]:
        found = self._road.client.list_blobs(
            self._road.bucket,
            prefix=prefix or None,
            page_token=token,
            page_size=1000,
            fields=_LIST_FIELDS,
            retry=None,
            timeout=self._road.timeout,
        )
        page = next(iter(found.pages), ())
        return tuple(self._road.stored(blob) for blob in page), found.next_page_token

    def sha256_of(self, stored: Stored) -> str:
        """The SHA-256 of an object's bytes, read whole and kept nowhere."""
        sink = _Hashed()
        self._download(stored, sink)
        return sink.sha256()


class _Hashed:
    """A sink that keeps only the SHA-256 of what is written."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._bytes

    def sha256(self) -> str:
        return self._digest.hexdigest()
