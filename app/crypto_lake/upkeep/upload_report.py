"""What a run of `upload` did: returned, printed, and in figures in `state/tasks/upload.json`."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int


class Refused(msgspec.Struct, frozen=True):
    """A file that was not uploaded, or not found as it should be. `name`: of the object, where it came so far."""

    path: str
    name: str
    problem: str


class Sum(msgspec.Struct, frozen=True):
    files: int = 0
    bytes: int = 0


class UploadReport(msgspec.Struct, frozen=True, kw_only=True):
    """`created`: objects that this run made. `found`: that were there already, with the same bytes.

    `pending`: what could be uploaded and is not, when the run ended; `waiting`: raw that is not sealed yet, by reason.
    conflicts: another object is under the name; it was not overwritten. changed: local files that are not what their
    manifests say. failed: what the store or the disk refused, one by one. error: what ended the run before its end.
    """

    schema: int = 1
    url: str
    dry_run: bool
    seconds: float
    created: Sum
    found: Sum
    done: Sum  # recorded by runs before
    ledger_pieces: int
    pending: Sum
    oldest_pending_ns: int | None  # end of the hour
    waiting: dict[str, Sum]
    planned: list[str]  # of a dry run: names of objects in their order
    conflicts: list[Refused]
    changed: list[Refused]
    failed: list[Refused]
    error: str = ""
    error_is_transient: bool = False
    stopped: bool = False

    @property
    def problem(self) -> str:
        """For a person, empty where all went well. A run that was told to stop has no problem."""
        told = [self.error] if self.error else []
        for what, items in (
            ("conflicts", self.conflicts),
            ("changed here", self.changed),
            ("failed", self.failed),
        ):
            if items:
                told.append(f"{len(items)} {what}, the first is {items[0].path}: {items[0].problem}")
        return "; ".join(told)

    def figures(self, before: dict[str, object], last_verified_ns: int) -> dict[str, object]:
        """`before`: those of the last run. `last_verified_ns`: real time of the last read-back, 0 for none now."""
        return {
            "url": self.url,
            "seconds": self.seconds,
            "files_uploaded": self.created.files,
            "bytes_uploaded": self.created.bytes,
            "files_found": self.found.files,
            "files_pending": self.pending.files,
            "bytes_pending": self.pending.bytes,
            "oldest_pending_ns": self.oldest_pending_ns,
            "bytes_waiting": sum(one.bytes for one in self.waiting.values()),
            "conflicts": len(self.conflicts),
            "changed": len(self.changed),
            "failed": len(self.failed),
            "last_verified_ns": last_verified_ns or before.get("last_verified_ns", 0),
        }
