"""What a store is: an object has a name, bytes, a generation and metadata, and is there whole or not at all.

A store creates and replaces under a precondition and reads back what it stored. It knows nothing of a lake's paths:
it takes a local file and an object's name, and names are relative to the prefix of the store's URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from crypto_lake.store.limiter import Limiter

SHA256_KEY = "sha256"
"""Key of an object's metadata that holds the SHA-256 of its bytes, in hex. `put` adds it."""

Progress = Callable[[int], None]
"""Takes how many bytes of this object the store holds so far. It may fall where an upload has to start anew."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a local file was measured to be: see `measure`.

    Checksums as the JSON API of Cloud Storage writes them (base64, CRC32C big-endian), `sha256` in hex.
    """

    bytes: int
    crc32c: str
    md5: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store tells it. `md5` is None where the store has none (composite objects, `file://`)."""

    name: str  # relative to the store's prefix
    bytes: int
    crc32c: str
    md5: str | None
    generation: int
    metadata: Mapping[str, str]
    updated: datetime | None

    @property
    def sha256(self) -> str | None:
        """The SHA-256 that was declared when the object was put; not measured by the server."""
        return self.metadata.get(SHA256_KEY)


@dataclass(frozen=True, slots=True)
class Created:
    """The object was made (or replaced) by this call, and read back as declared."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class AlreadyThere:
    """The object was there with these bytes: another call made it, or an earlier one whose answer was lost."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another object is under the name (or none, where one was to be replaced). Nothing was overwritten."""

    stored: Stored | None
    differences: tuple[str, ...]  # e.g. "bytes: 10 here, 12 stored"


PutResult = Created | AlreadyThere | Conflict


@dataclass(frozen=True, slots=True)
class PrefixAccess:
    """What may be done below a prefix. None: could not be told without writing, see `notes`."""

    prefix: str
    create: bool | None
    get: bool | None
    list: bool | None
    delete: bool | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What was found without storing anything. Bucket fields are None where the caller may not read them."""

    url: str
    prefixes: tuple[PrefixAccess, ...]
    retention_seconds: int | None = None  # of the bucket's retention policy; 0: there is none
    retention_locked: bool | None = None
    soft_delete_seconds: int | None = None  # 0: off
    versioning: bool | None = None
    location: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How patient a store is, and how much it takes at once.

    `deadline_seconds` is the longest time that a call goes on retrying without progress, so a long upload is not cut
    short by it. `credentials_wait_seconds` is how long a pod waits for its metadata server. `billed_project` is the
    project that pays the requests to a bucket of "requester pays". Memory of an upload is about two chunks a worker.
    """

    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 60.0
    deadline_seconds: float = 300.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 20.0
    credentials_wait_seconds: float = 60.0
    chunk_bytes: int = 8 * 2**20
    connections: int = 8
    billed_project: str | None = None


class Store(Protocol):
    """An object store: `gs://bucket/prefix` or `file:///folder`. Every method may raise `StoreError`.

    Safe to use from several threads at once.
    """

    @property
    def url(self) -> str: ...

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
        """Store a local file's bytes under `name`.

        `replaces` None or 0: only where there is no object; else only where the object has that generation. Before
        `Created` is returned, size and checksums were read back from the store in a request of their own and agree
        with `declared`. Interrupted anywhere, the object is there whole or not at all, and the same call again ends
        in `Created` or `AlreadyThere`.
        """
        ...

    def stat(self, name: str) -> Stored | None:
        """What is under the name now; None where nothing is."""
        ...

    def fetch(self, name: str, target: Path, *, generation: int | None = None) -> Stored:
        """Copy an object into a local file, which then is whole, verified and fsynced, or absent.

        It is written to a temporary file beside the target, read back, compared, and renamed; a file that was at the
        target is replaced then. `generation`: only that one (`NoSuchObject` where it is gone).
        """
        ...

    def read(self, name: str, *, limit_bytes: int = 64 * 2**20) -> tuple[Stored, bytes]:
        """A small object whole, checksum verified. `Refused` above the limit."""
        ...

    def list(self, prefix: str = "", *, measured: bool = True) -> Iterator[Stored]:
        """Objects whose names begin with `prefix` (any string, no folder), in order of their names.

        `measured` False, for those who look for names and generations: a store of files then believes what it knows of a
        file whose size and time are what they were, and reads no bytes of it; that is no proof of them.
        """
        ...

    def check_access(self, prefixes: Sequence[str] = ("",)) -> AccessReport:
        """What may be done below each prefix, found out without storing or deleting anything.

        Raises only where nothing can be said: no bucket, no credentials, no answer.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One `put` of `put_many`."""

    path: Path
    name: str
    declared: Declared
    replaces: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
