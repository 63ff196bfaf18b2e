"""What an upload has come to, counted alike for raw, ledgers, verdicts and reports; and whether it goes on."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from crypto_lake.store import (
    Corrupted,
    LocalFileChanged,
    Refused,
    RetentionPolicyBlocks,
    StoreError,
)
from crypto_lake.upkeep import upload_report
from crypto_lake.upkeep.upload_report import Sum

_log = logging.getLogger(__name__)
# Of one object alone; any other error of the store would meet the next one too, and ends the run.
_OF_ONE_OBJECT: Final = (LocalFileChanged, Corrupted, Refused, RetentionPolicyBlocks)


class Stopped(StoreError):  # noqa: N818
    """The run was told to stop; raised within a put, so that it ends there."""

    transient = True

    def __init__(self, url: str) -> None:
        super().__init__("the upload was told to stop", at=url, hint="The next run goes on.")


@dataclass
class Puts:
    """What came of files that were put one after the other: of a symbol's ledger, or of a day's verdicts and report.

    `pending`: names of objects that are still to be put. `error`: what ended it, at the file `error_of`.
    """

    created: int = 0
    created_bytes: int = 0
    found: int = 0
    pending: list[str] = field(default_factory=list[str])
    conflicts: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    changed: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    error: StoreError | OSError | None = None
    error_of: str = ""


@dataclass
class Tally:
    """Of one run. `pending`: of what went by `add`. `error`: what ended the run. `last_verified_ns`: real time."""

    stop: threading.Event
    created: Sum = field(default_factory=Sum)
    found: Sum = field(default_factory=Sum)
    pending: int = 0
    conflicts: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    changed: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    failed: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    error: StoreError | None = None
    last_verified_ns: int = 0

    def ended(self) -> bool:
        """Whether no other object is to be begun."""
        return self.stop.is_set() or self.error is not None

    def add(self, puts: Puts) -> None:
        self.pending += len(puts.pending)
        self.conflicts += puts.conflicts
        self.changed += puts.changed
        self.count(puts.created, puts.created_bytes, puts.found)
        if puts.error is not None:
            self.fail(puts.error_of, "", puts.error)

    def count(self, created: int, created_bytes: int, found: int, found_bytes: int = 0) -> None:
        self.created = Sum(self.created.files + created, self.created.bytes + created_bytes)
        self.found = Sum(self.found.files + found, self.found.bytes + found_bytes)
        if created or found:
            self.last_verified_ns = time.time_ns()

    def fail(self, path: str, name: str, error: StoreError | OSError) -> None:
        match error:
            case Stopped():
                return
            case LocalFileChanged():
                self.changed.append(upload_report.Refused(path, name, str(error)))
            case StoreError() if not isinstance(error, _OF_ONE_OBJECT):
                self.error = self.error or error
            case _:
                self.failed.append(upload_report.Refused(path, name, str(error)))
        _log.error("%s could not be uploaded: %s", path, error)
