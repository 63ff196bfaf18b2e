"""One upload to Cloud Storage, from the first byte to the proof."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from crypto_lake.store import resumable
from crypto_lake.store.answers import Answer, is_checksum_mismatch
from crypto_lake.store.base import (
    SHA256_KEY,
    AlreadyThere,
    Conflict,
    Created,
    Declared,
    Progress,
    PutResult,
    Stored,
)
from crypto_lake.store.checksums import compared, differences, is_proven, measure
from crypto_lake.store.errors import Corrupted, StoreError
from crypto_lake.store.gcs_read import READINGS, Reader
from crypto_lake.store.gcs_road import Road, Stale, of_reply
from crypto_lake.store.limiter import Limiter
from crypto_lake.store.local_files import changed, check_size
from crypto_lake.store.patience import Patience
from crypto_lake.store.session import Passing, Refusal

_MULTIPART_BYTES = 8 * 2**20  # up to here one request carries the whole object


class Upload:
    """The put of one local file; made for one call and used once. `replaces`: 0 to create only."""

    def __init__(
        self,
        road: Road,
        path: Path,
        name: str,
        declared: Declared,
        replaces: int,
        metadata: Mapping[str, str],
        progress: Progress | None,
        limiter: Limiter | None,
    ) -> None:
        self._road = road
        self._reader = Reader(road)
        self._path = path
        self._name = name
        self._at = road.at(name)
        self._declared = declared
        self._replaces = replaces
        self._progress = progress
        self._limiter = limiter
        self._patience = Patience(road.settings, self._at)
        self._most_held = 0
        self._blob = road.blob(name)
        self._blob.metadata = {**metadata, SHA256_KEY: declared.sha256}
        # Declared as metadata, which the server checks for both kinds of upload. The library's own checking is off:
        # on a mismatch it deletes the object without asking for its generation.
        self._blob.crc32c = declared.crc32c
        self._blob.md5_hash = declared.md5

    def run(self) -> PutResult:
        refused = 0
        with self._path.open("rb") as file:
            check_size(file, self._declared, self._at, self._path)
            while True:
                try:
                    return self._proven(self._send(file))
                except Stale:
                    return self._compared()
                except resumable.Shrunk as error:
                    raise changed(self._path, self._at) from error
                except Passing as error:
                    self._patience.pause(str(error), error)
                except Refusal as refusal:
                    if refusal.answer.status != 400:
                        raise self._road.error(
                            refusal.answer, self._at, "storage.objects.create"
                        ) from refusal
                    # The bytes do not have their checksum, or the request was garbled on its way.
                    if measure(self._path) != self._declared:
                        raise changed(self._path, self._at) from refusal
                    refused += 1
                    if refused == READINGS:
                        raise self._garbled(refusal.answer) from refusal
                    self._patience.pause(str(refusal.answer), refusal)

    # Sending

    def _send(self, file: IO[bytes]) -> int | None:
        """One upload to its end: the generation that the server answered, or None where it can't be told."""
        limit = None if self._limiter is None else self._limiter.bytes_per_second
        chunk_bytes = resumable.chunk_size(self._road.settings.chunk_bytes, limit)
        if self._declared.bytes <= min(_MULTIPART_BYTES, chunk_bytes):
            return self._send_whole(file)
        return self._send_in_chunks(file, chunk_bytes)

    def _send_whole(self, file: IO[bytes]) -> int | None:
        size = self._declared.bytes
        file.seek(0)
        body = file.read(size + 1)
        if len(body) != size:
            raise resumable.Shrunk(f"{len(body)} bytes could be read of {size}")
        self._take(size)
        self._road.once(
            self._at,
            lambda: self._blob.upload_from_string(
                body,
                content_type="application/octet-stream",
                if_generation_match=self._replaces,
                checksum=None,
                retry=None,
                timeout=self._road.timeout,
            ),
        )
        self._held(size)
        return _generation(self._blob.generation)

    def _send_in_chunks(self, file: IO[bytes], chunk_bytes: int) -> int | None:
        session: str = self._road.once(
            self._at,
            lambda: self._blob.create_resumable_upload_session(
                content_type="application/octet-stream",
                size=self._declared.bytes,
                if_generation_match=self._replaces,
                checksum=None,
                retry=None,
                timeout=self._road.timeout,
            ),
        )
        ended = resumable.send(
            file,
            self._declared.bytes,
            request=lambda content_range, body: self._road.put_chunk(self._at, session, content_range, body),
            chunk_bytes=chunk_bytes,
            take=self._take,
            pause=lambda error: self._patience.pause(str(error), error),
            progressed=self._held,
            failure=of_reply,
            passing=(Passing, resumable.Garbled),
        )
        if isinstance(ended, resumable.Gone):
            raise Passing("the upload session is gone")
        self._held(self._declared.bytes)
        try:
            return _generation(msgspec.json.decode(ended.body, type=dict[str, Any]).get("generation"))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _take(self, amount_bytes: int) -> None:
        """Wait for the bandwidth. That is no time without progress."""
        if self._limiter is not None:
            begun = time.monotonic()
            self._limiter.take(amount_bytes)
            self._patience.excuse(time.monotonic() - begun)

    def _held(self, held_bytes: int) -> None:
        if self._progress is not None:
            self._progress(held_bytes)
        # An upload that starts anew and gets as far as before is none either, or it could go on for ever.
        if held_bytes > self._most_held:
            self._most_held = held_bytes
            self._patience.progressed()

    # Proving

    def _proven(self, made: int | None) -> PutResult:
        """Read back what was just made."""
        stored, told = self._read_back()
        if stored is None:
            return Conflict(None, ("the object was made, and is gone again",))
        if not told and stored.generation == made and stored.sha256 is None:
            told = (f"sha256: {self._declared.sha256} here, none stored",)
        if not told:
            return Created(stored) if stored.generation == made else AlreadyThere(stored)
        if made is not None and stored.generation != made:
            return Conflict(stored, told)  # somebody replaced it since
        raise Corrupted(
            f"what was read back is not what was sent ({'; '.join(told)})",
            at=self._at,
            hint="Keep the local file. Look at the object: it holds other bytes than were declared, which the server "
            "should have refused.",
        )

    def _compared(self) -> PutResult:
        """The precondition failed: perhaps our own upload made it fail, and its answer was lost."""
        stored, told = self._read_back()
        return compared(stored, told, self._replaces)

    def _read_back(self) -> tuple[Stored | None, tuple[str, ...]]:
        """The object and in what it differs; a difference (or an absence) is believed when it is read again."""
        stored: Stored | None = None
        told: tuple[str, ...] = ()
        for _ in range(READINGS):
            stored = self._reader.stat(self._name)
            told = () if stored is None else differences(self._declared, stored)
            if stored is not None and not told:
                break
        if stored is not None and not told and not is_proven(stored):
            # Only 32 bits of CRC to go by: an object composed by somebody else. Its bytes tell.
            found = self._reader.sha256_of(stored)
            if found != self._declared.sha256:
                told = (f"sha256: {self._declared.sha256} here, {found} stored",)
        return stored, told

    def _garbled(self, answer: Answer) -> StoreError:
        if not is_checksum_mismatch(answer):
            return self._road.error(answer, self._at, "storage.objects.create")
        return Corrupted(
            f"the bytes arrived garbled {READINGS} times ({answer.message})",
            at=self._at,
            hint="The server refused them and stored nothing, and the file reads as it was measured: look at the "
            "network between, proxies first, and at this machine's memory.",
        )


def _generation(value: object) -> int | None:
    try:
        return int(cast("Any", value))
    except (TypeError, ValueError):
        return None
