"""`file:///folder`: a folder with the meaning of a bucket.

An object is the file at its name, to be read by any program. What a bucket would know of it stands in a record under
`.store/records/`; a generation there only ever grows. A change is made under a lock of the object's own, in an order
that a crash can't tear: the record to come is written, the file takes its name, the record takes effect. Who finds a
record to come sees from the bytes whether the file went with it.

For one machine and a file system that honours flock, fsync and rename (ext4, XFS, btrfs; not NFS).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from msgspec import structs

from crypto_lake.store.base import (
    SHA256_KEY,
    AccessReport,
    Created,
    Declared,
    PrefixAccess,
    Progress,
    PutResult,
    Stored,
)
from crypto_lake.store.checksums import compared, crc32c_of, differences, measure
from crypto_lake.store.errors import (
    BadAddress,
    Corrupted,
    Forbidden,
    NoSuchBucket,
    NoSuchObject,
    Refused,
    StoreError,
    Unavailable,
)
from crypto_lake.store.limiter import Limiter
from crypto_lake.store.local_files import Arriving, changed, check_size, make_folder, sync_file, sync_folder
from crypto_lake.store.local_records import Record, Records
from crypto_lake.store.names import RESERVED, full_name

_BLOCK_BYTES = 2**20


class LocalStore:
    """Objects below a folder, which must exist: it may be a volume that is not mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._own = root / RESERVED
        self._records = Records(self._own / "records")

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    def close(self) -> None:
        """Nothing is held open."""

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
        at, target = self._at(name), self._path(name)
        with path.open("rb") as source, self._failures(at), self._locked(name) as key:
            check_size(source, declared, at, path)
            match = replaces or 0
            temporary = self._own / "arriving" / key
            make_folder(temporary.parent)
            # What a crash left here may be linked to the object itself, and is never opened for writing.
            temporary.unlink(missing_ok=True)
            held = self._settled(key, name)
            if (0 if held is None else held.generation) != match:
                return compared(held, _differences(held, declared), match)
            try:
                self._copy(source, temporary, progress, limiter)
                found = measure(temporary)
                if found != declared:
                    raise self._copied_wrong(path, declared, at)
                record = Record(
                    name,
                    declared.bytes,
                    declared.crc32c,
                    self._records.next_generation(key),
                    {**(metadata or {}), SHA256_KEY: declared.sha256},
                    temporary.stat().st_mtime_ns,
                )
                self._records.announce(key, record)
                make_folder(target.parent)
                if match:
                    temporary.replace(target)
                else:
                    # link, unlike rename, does not overwrite a file that came from elsewhere meanwhile.
                    os.link(temporary, target)
                sync_folder(target.parent)
            except FileExistsError:
                self._records.drop_coming(key)
                held = self._settled(key, name)
                return compared(held, _differences(held, declared), match)
            finally:
                temporary.unlink(missing_ok=True)
            stored = self._settled(key, name)
            told = ("the file is gone",) if stored is None else differences(declared, stored)
            if stored is None or told:
                raise Corrupted(
                    f"what was read back is not what was written ({'; '.join(told)})",
                    at=at,
                    hint="Another program wrote there, or this disk is not to be trusted. Keep the local file.",
                )
            return Created(stored)

    def _copy(
        self, source: IO[bytes], temporary: Path, progress: Progress | None, limiter: Limiter | None
    ) -> None:
        with temporary.open("xb") as file:
            while block := source.read(_BLOCK_BYTES):
                if limiter is not None:
                    limiter.take(len(block))
                file.write(block)
                if progress is not None:
                    progress(file.tell())
            sync_file(file)

    def _copied_wrong(self, path: Path, declared: Declared, at: str) -> StoreError:
        if measure(path) != declared:
            return changed(path, at)
        return Corrupted(
            "the copy reads back other bytes than were written",
            at=at,
            hint="Nothing was stored. This disk, or the machine's memory, is not to be trusted.",
        )

    def stat(self, name: str) -> Stored | None:
        """As of every store, but the checksum is measured from the bytes: a second or so for a few GB."""
        return self._stat(name, measured=True)

    def _stat(self, name: str, *, measured: bool) -> Stored | None:
        self._path(name)
        with self._failures(self._at(name)):
            self._check_root()
            with self._locked(name) as key:
                return (None if measured else self._recorded(key, name)) or self._settled(key, name)

    def fetch(self, name: str, target: Path, *, generation: int | None = None) -> Stored:
        stored, source = self._open(name, generation)
        with source, self._failures(self._at(name)), Arriving(target) as arriving:
            while block := source.read(_BLOCK_BYTES):
                arriving.file.write(block)
            if arriving.finish() != (stored.bytes, stored.crc32c):
                raise Corrupted(
                    "the copy reads back other bytes than the object has",
                    at=self._at(name),
                    hint="Nothing was written to the target. One of the two disks is not to be trusted.",
                )
            arriving.accept()
        return stored

    def read(self, name: str, *, limit_bytes: int = 64 * 2**20) -> tuple[Stored, bytes]:
        stored, source = self._open(name, None)
        with source, self._failures(self._at(name)):
            if stored.bytes > limit_bytes:
                raise Refused(
                    f"the object has {stored.bytes} bytes, more than the {limit_bytes} to be read into memory",
                    at=self._at(name),
                    hint="Fetch it into a file.",
                    status=0,
                )
            return stored, source.read()

    def _open(self, name: str, generation: int | None) -> tuple[Stored, IO[bytes]]:
        """The object and its bytes, which stay what they are when it is replaced."""
        path = self._path(name)
        with self._failures(self._at(name)):
            self._check_root()
            with self._locked(name) as key:
                stored = self._settled(key, name)
                if stored is None or generation not in (None, stored.generation):
                    of = "" if generation is None else f" of generation {generation}"
                    raise NoSuchObject(
                        f"there is no object{of}", at=self._at(name), hint="List the prefix to see what is."
                    )
                recorded = stored.sha256
                source = path.open("rb")
        if recorded is not None and (record := self._records.read(key)) and record.crc32c != stored.crc32c:
            source.close()
            raise Corrupted(
                f"the file has CRC32C {stored.crc32c} and was written with {record.crc32c}",
                at=self._at(name),
                hint="It was changed outside of this program, or its disk lost bits: take it from a copy.",
            )
        return stored, source

    def list(self, prefix: str = "", *, measured: bool = True) -> Iterator[Stored]:
        """As of every store, each object measured as `stat` does, or told as its record does where that is believed."""
        self._check_root()
        folder = self._root / prefix.rpartition("/")[0]
        for path in _files(folder):
            name = path.relative_to(self._root).as_posix()
            if name.startswith(prefix) and not name.startswith(f"{RESERVED}/"):
                try:
                    stored = self._stat(name, measured=measured)
                except BadAddress:
                    continue  # a foreign file whose name is no object's
                if stored is not None:
                    yield stored

    def check_access(self, prefixes: Sequence[str] = ("",)) -> AccessReport:
        """By the permissions of the nearest folder that exists, as the system tells them."""
        self._check_root()
        found: list[PrefixAccess] = []
        for prefix in prefixes:
            folder = self._root / prefix
            while not folder.is_dir():
                folder = folder.parent
            read, write = os.access(folder, os.R_OK | os.X_OK), os.access(folder, os.W_OK | os.X_OK)
            own = self._own if self._own.is_dir() else self._root
            write = write and os.access(own, os.W_OK | os.X_OK)
            found.append(PrefixAccess(prefix, create=write, get=read, list=read, delete=write))
        return AccessReport(self.url, tuple(found), 0, False, 0, False, None)

    # Records

    def _recorded(self, key: str, name: str) -> Stored | None:
        """What is under the name by its record; None where the file looks like another one, or none could tell."""
        record = self._records.read(key)
        if record is None or self._records.coming(key) is not None:
            return None
        try:
            seen = self._path(name).stat()
        except FileNotFoundError:
            return None
        if (record.bytes, record.changed_ns) != (seen.st_size, seen.st_mtime_ns):
            return None
        return _stored(record, seen.st_mtime_ns)

    def _settled(self, key: str, name: str) -> Stored | None:
        """What is under the name now, measured; a change that a crash left half done is finished or dropped."""
        path = self._path(name)
        try:
            changed_ns = path.stat().st_mtime_ns
            size, crc32c = crc32c_of(path)
        except FileNotFoundError:
            self._records.drop_coming(key)
            return None
        except IsADirectoryError as error:
            raise BadAddress(
                "a folder is there", at=self._at(name), hint="An object can't have the name of a folder."
            ) from error
        coming = self._records.coming(key)
        if coming is not None:
            if (coming.bytes, coming.crc32c) == (size, crc32c):
                self._records.take_effect(key)
            else:
                self._records.drop_coming(key)
        record = self._records.read(key)
        if record is None:
            # A file that came from elsewhere, e.g. a copied tree: it gets a generation when it is first seen.
            record = Record(name, size, crc32c, self._records.next_generation(key), {}, changed_ns)
            self._records.write(key, record)
        elif (record.bytes, record.crc32c) == (size, crc32c) and record.changed_ns != changed_ns:
            record = structs.replace(record, changed_ns=changed_ns)
            self._records.write(key, record)
        return _stored(structs.replace(record, bytes=size, crc32c=crc32c), changed_ns)

    @contextmanager
    def _locked(self, name: str) -> Generator[str, None, None]:
        """The object's key, while nobody else changes it: threads and processes alike."""
        self._check_root()
        key = hashlib.sha256(name.encode()).hexdigest()
        path = self._own / "locks" / key[:2]
        make_folder(path.parent)
        # 256 locks for all names, so that their files do not pile up; no call holds two.
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield key

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise NoSuchBucket(
                "there is no such folder", at=self.url, hint="Make it, or mount the volume that holds it."
            )

    def _path(self, name: str) -> Path:
        return self._root / full_name("", name, self.url)

    def _at(self, name: str) -> str:
        return f"{self.url}/{name}"

    @contextmanager
    def _failures(self, at: str) -> Generator[None, None, None]:
        """The system's errors as those of a store."""
        try:
            yield
        except PermissionError as error:
            raise Forbidden(
                f"the system forbids it ({error})",
                at=at,
                hint="Give the user that runs this the right to read and write there.",
                permission="write" if error.filename is None else str(error.filename),
            ) from error
        except NotADirectoryError as error:
            raise BadAddress(
                f"a file is where a folder is needed ({error})",
                at=at,
                hint="Choose another name or move that file.",
            ) from error
        except OSError as error:
            raise Unavailable(
                f"the disk refused ({error})",
                at=at,
                hint="Make room, or look at the disk; nothing is stored by halves, so the same call may go on.",
            ) from error


def _stored(record: Record, changed_ns: int) -> Stored:
    updated = datetime.fromtimestamp(changed_ns / 1e9, UTC)
    return Stored(record.name, record.bytes, record.crc32c, None, record.generation, record.metadata, updated)


def _differences(held: Stored | None, declared: Declared) -> tuple[str, ...]:
    return () if held is None else differences(declared, held)


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder, in the order of their whole names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name + ("/" if entry.is_dir() else ""))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)
