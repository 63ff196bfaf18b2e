"""What a collector's pages tell beside its own snapshot: what the other processes of the lake left, and the disk.

All of it is read from files, in a thread: the event loop, which receives, never waits for a disk. A page asked while
the disk hangs shows what was seen last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.tasks import TaskReport
from crypto_lake.watch.alerts import AlertsState
from crypto_lake.watch.alerts_file import read_alerts
from crypto_lake.watch.disk import NOTHING, DiskFigures, Seldom, lake_bytes_of, usage_of
from crypto_lake.watch.read import read_transform

log = logging.getLogger(__name__)

# How old what is told may be. Of a large lake the look at what is pending takes some tenths of a second.
FILES_SECONDS = 1.0
DISK_SECONDS = 10.0
PENDING_SECONDS = 10.0
WAIT_SECONDS = 2.0  # for a look; then the last one is told

_Seen = TypeVar("_Seen")


class PendingFigures(Protocol):
    """As upkeep.pending has them."""

    @property
    def bytes(self) -> int: ...
    @property
    def files(self) -> int: ...


class Watched(msgspec.Struct, frozen=True):
    """What of the configuration a look needs. `bucket`: its URL, "" for none."""

    bucket: str = ""
    disk_limit_bytes: int = 0


class Files(msgspec.Struct, frozen=True):
    """What lies in `state/`."""

    tasks: dict[str, TaskReport] = {}
    alerts: AlertsState = AlertsState()
    transform: dict[str, Any] | None = None
    transform_age_seconds: float | None = None


class Uploads(msgspec.Struct, frozen=True):
    """What the bucket does not have yet, as of a moment. `bucket`: which one.

    written_bytes: what the writer had written when the look began, healed_files: what healing had; what came since is not
    in the bucket either.
    """

    bucket: str
    bytes: int
    files: int
    written_bytes: int
    healed_files: int = 0


class Around(msgspec.Struct, frozen=True):
    """`disk`: figures of the disk and of the lake's limit alone; those of files are 0.
    `uploads` None: there is no bucket, or it could not be looked at yet.
    """

    watched: Watched = Watched()
    files: Files = Files()
    disk: DiskFigures = NOTHING
    uploads: Uploads | None = None

    def pending_bytes(self, snapshot: CollectorSnapshot) -> int | None:
        """What the bucket does not have: as it was seen, and what the collector took in since. None: not known.

        0 only where there was nothing and nothing has come.
        """
        seen = self.uploads
        if seen is None or seen.bucket != self.watched.bucket:
            return None
        since = max(0, snapshot.writer.bytes_written - seen.written_bytes)
        # How large they are the next look tells; that they are there must be known at once.
        since += max(0, _healed_files(snapshot) - seen.healed_files)
        return seen.bytes + since + snapshot.writer.queue_bytes

    @property
    def last_verified_upload_ns(self) -> int | None:
        """Real time of the last object that was read back, 0: never. None: no bucket."""
        if not self.watched.bucket:
            return None
        upload = self.files.tasks.get("upload")
        at = upload.figures.get("last_verified_ns") if upload else 0
        return at if isinstance(at, int) else 0


def _healed_files(snapshot: CollectorSnapshot) -> int:
    return snapshot.healing.files if snapshot.healing else 0


class Cached(Generic[_Seen]):
    """The latest of a look that blocks: at most so old, but for one that hangs or fails, which leaves the one before.

    `look` runs in a thread, one at a time.
    """

    def __init__(self, look: Callable[[], _Seen], first: _Seen, max_age_seconds: float, what: str) -> None:
        self._look = look
        self._seen = first
        self._max_age_seconds = max_age_seconds
        self._what = what
        self._at = float("-inf")
        self._running: asyncio.Task[None] | None = None
        self._stale = False  # what is under way began before it was asked for
        self._complaint = ""

    async def get(self) -> _Seen:
        """On the event loop that it is always used on."""
        if self._running is None and time.monotonic() - self._at >= self._max_age_seconds:
            self._running = asyncio.create_task(self._run())
        if self._running is not None:
            await asyncio.wait([self._running], timeout=WAIT_SECONDS)
        return self._seen

    def forget(self) -> None:
        """The next `get` looks again, whatever the age."""
        self._at = float("-inf")
        self._stale = self._running is not None

    async def _run(self) -> None:
        began = time.monotonic()
        try:
            self._seen = await asyncio.to_thread(self._look)
            self._complaint = ""
        except Exception as error:  # a page must not fail by it; it is told once
            if self._complaint != str(error):
                self._complaint = str(error)
                log.warning("%s: %s", self._what, error, exc_info=not isinstance(error, OSError | ValueError))
        finally:
            self._running = None
        if not self._stale:
            self._at = began
        self._stale = False

    async def close(self) -> None:
        """Do not wait for a look that hangs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


class Lookout:
    """Looks around a data directory for one collector.

    take: the collector's snapshot, on the event loop. pending: what the bucket of this URL does not have; it blocks.
    """

    def __init__(
        self,
        layout: Layout,
        take: Callable[[], CollectorSnapshot],
        watched: Watched | None = None,
        pending: Callable[[str], PendingFigures] | None = None,
    ) -> None:
        self._layout = layout
        self._take = take
        self._watched = watched or Watched()
        self._pending = pending
        self._lake_bytes = Seldom(lambda: lake_bytes_of(layout.root))
        self._written_bytes = self._healed_files = 0
        self._upload_ns = 0
        self._files = Cached(self._look_at_files, Files(), FILES_SECONDS, "looking at state/")
        self._disk = Cached(self._look_at_disk, NOTHING, DISK_SECONDS, "looking at the disk")
        self._uploads = Cached[Uploads | None](
            self._look_at_uploads, None, PENDING_SECONDS, "looking at what is to be uploaded"
        )

    def follow(self, watched: Watched) -> None:
        """The configuration has changed: from now on nothing is told that was seen before."""
        self._watched = watched
        for cached in (self._files, self._disk, self._uploads):
            cached.forget()

    async def look(self) -> Around:
        """All there is to see, not older than some seconds unless the disk hangs."""
        files, disk = await asyncio.gather(self._files.get(), self._disk.get())
        watched, seen = self._watched, None
        if watched.bucket and self._pending is not None:
            upload = files.tasks.get("upload")
            ended_ns = upload.ended_ns if upload else 0
            if ended_ns != self._upload_ns:  # one has just ended: what it took away is no longer pending
                self._upload_ns = ended_ns
                self._uploads.forget()
            snapshot = self._take()
            self._written_bytes = snapshot.writer.bytes_written
            self._healed_files = _healed_files(snapshot)
            seen = await self._uploads.get()
        return Around(watched, files, disk, seen)

    async def close(self) -> None:
        for cached in (self._files, self._disk, self._uploads):
            await cached.close()

    def _look_at_files(self) -> Files:
        transform, transform_age = read_transform(self._layout)
        return Files(
            tasks=tasks.read(self._layout),
            alerts=read_alerts(self._layout)[0],
            transform=transform,
            transform_age_seconds=transform_age,
        )

    def _look_at_disk(self) -> DiskFigures:
        return usage_of(self._layout.root, self._watched.disk_limit_bytes, self._lake_bytes)

    def _look_at_uploads(self) -> Uploads | None:
        bucket = self._watched.bucket
        written_bytes, healed_files = self._written_bytes, self._healed_files
        assert self._pending is not None
        seen = self._pending(bucket)
        return Uploads(bucket, seen.bytes, seen.files, written_bytes, healed_files)
