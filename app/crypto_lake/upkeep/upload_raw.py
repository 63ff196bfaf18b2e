"""Raw into the bucket, each file before the manifest that vouches for it. What goes, and in which order, stands in `upload_plan`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from crypto_lake.lake import uploads
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import RAW_MANIFEST_SCHEMA
from crypto_lake.store import (
    AlreadyThere,
    Conflict,
    Created,
    Declared,
    Failed,
    Job,
    Limiter,
    Outcome,
    Store,
    put_many,
)
from crypto_lake.upkeep.recording import record_of
from crypto_lake.upkeep.upload_look import same_raw
from crypto_lake.upkeep.upload_plan import Upload, UploadPlan
from crypto_lake.upkeep.upload_report import Progress, Refused
from crypto_lake.upkeep.upload_tally import Stopped, Tally

_log = logging.getLogger(__name__)


@dataclass
class RawUpload:
    """Of one run. `pending`: what is still to be put, by its object's name. `progress` is called from several threads."""

    layout: Layout
    store: Store
    plan: UploadPlan
    collector: str
    now_ns: int
    tally: Tally
    progress: Callable[[Progress], None] | None
    pending: dict[str, Upload] = field(init=False)
    _held: dict[str, int] = field(default_factory=dict[str, int])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bytes_done: int = 0

    def __post_init__(self) -> None:
        self.pending = {one.name: one for one in self.plan.uploads}
        self._files, self._bytes = len(self.pending), sum(one.bytes for one in self.plan.uploads)
        for item in self.plan.changed:
            self.tally.changed.append(Refused(item.path, "", item.problem))

    def put_all(self, workers: int, limiter: Limiter | None) -> None:
        raws = deque(one for one in self.plan.uploads if one.kind != "manifest")
        ready = deque(one for one in self.plan.uploads if one.kind == "manifest" and one.proven)
        after = {
            one.path.removeprefix("manifests/").removesuffix(".json"): one
            for one in self.plan.uploads
            if one.kind == "manifest" and not one.proven
        }

        def jobs() -> Iterator[Job]:
            while (ready or raws) and not self.tally.ended():
                one = ready.popleft() if ready else raws.popleft()
                job = self._measured(one)
                if job is not None:
                    yield job

        # A manifest becomes ready only when its raw is in the bucket, so the last ones take another round.
        while (ready or raws) and not self.tally.ended():
            outcomes = put_many(
                self.store, jobs(), workers=workers, progress=self._on_progress, limiter=limiter
            )
            with closing(outcomes) as each:
                for job, outcome in each:
                    one = self.pending[job.name]
                    if self._take(one, job, outcome) and one.kind != "manifest" and one.path in after:
                        ready.append(after.pop(one.path))
                    if self.tally.ended():
                        break

    def _measured(self, one: Upload) -> Job | None:
        """The job of a file that is what it should be; what is not is told."""
        path = self.layout.root / one.path
        try:
            sums = measure(path)
        except FileNotFoundError:
            del self.pending[one.name]  # gone meanwhile: a clean-up runs beside
            return None
        except OSError as error:
            self.tally.fail(one.path, one.name, error)
            return None
        seal = one.seal
        if seal is not None and (sums.bytes, sums.sha256) != (seal.bytes, seal.sha256):
            problem = (
                f"has sha256 {sums.sha256}, its manifest says {seal.sha256}; "
                f"`crypto-lake verify {one.path}` tells where it differs"
            )
            self.tally.changed.append(Refused(one.path, one.name, problem))
            return None
        metadata = {"collector": self.collector, "kind": one.kind, "schema": str(RAW_MANIFEST_SCHEMA)}
        return Job(
            path, one.name, Declared(sums.bytes, sums.crc32c, sums.md5, sums.sha256), metadata=metadata
        )

    def _take(self, one: Upload, job: Job, outcome: Outcome) -> bool:
        """Whether the object is there now, and recorded."""
        sha256 = job.declared.sha256
        match outcome:
            case Created(stored):
                self.tally.count(1, stored.bytes, 0)
            case AlreadyThere(stored):
                self.tally.count(0, 0, 1, stored.bytes)
            case Conflict(stored, differences):
                same = None if stored is None else same_raw(self.layout, self.store, one, stored)
                if stored is None or same is None:
                    problem = (
                        f"another object is under its name ({'; '.join(differences)}); it was left as it is"
                    )
                    self.tally.conflicts.append(Refused(one.path, one.name, problem))
                    _log.error("%s: %s/%s: %s", one.path, self.store.url, one.name, problem)
                    return False
                sha256 = same
                self.tally.count(0, 0, 1, stored.bytes)
            case Failed(error):
                self.tally.fail(one.path, one.name, error)
                return False
        record = record_of(self.store.url, stored, sha256, one.path, self.now_ns)
        uploads.append(self.layout, one.of.exchange, one.of.symbol, one.of.day, [record])
        del self.pending[one.name]
        self._on_progress(job, job.declared.bytes)
        return True

    def _on_progress(self, job: Job, held_bytes: int) -> None:
        if self.tally.stop.is_set() and held_bytes < job.declared.bytes:
            raise Stopped(self.store.url)
        with self._lock:
            self._bytes_done += held_bytes - self._held.get(job.name, 0)
            self._held[job.name] = held_bytes
            if self.progress is not None:
                done = self._files - len(self.pending)
                self.progress(Progress(done, self._files, self._bytes_done, self._bytes))
