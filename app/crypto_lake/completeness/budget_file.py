"""The one account of REST weight that all processes of a lake share: `state/weight/<exchange>.json`.

Each change is made under a lock on the file. It is not fsynced: after a power loss it may be gone or torn, and then a
minute's whole share counts as spent.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.completeness import budget
from crypto_lake.completeness.budget import Allowance, Spent
from crypto_lake.lake.layout import Layout

# The file keeps its size, so that a full disk has room for what changes in it.
_FILE_BYTES: Final = 8192
# Made here: msgspec looks at a type when it first meets it, and several threads must not do so at once.
_decode_spent = msgspec.json.Decoder(Spent).decode

_decode_spent = msgspec.json.Decoder(Spent).decode


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that may be sent now; hand it back with the answer."""

    weight: int
    until: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What the account says. `blocked_seconds`: so long nothing is asked, for `blocked_by` (429, 418, or 0)."""

    used: int
    share: int
    blocked_seconds: float
    blocked_by: int
    refusals: int


class WeightBudget:
    """Its calls take a lock and touch a file: not for an event loop's thread. Any thread may call.

    `share` may be changed at any time. `now` is the machine's clock, whatever the lake's is: the exchange's counts are
    of real time.
    """

    def __init__(self, path: Path, share: int, limit: int, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.share = share
        self.limit = limit
        self._now = now

    @property
    def _allowance(self) -> Allowance:
        return Allowance(min(self.share, self.limit), self.limit)

    def take(self, weight: int) -> Grant | float:
        """A grant, or how many seconds to wait before asking again (inf: it is more than the share)."""
        with self._account() as account:
            wait = budget.wait_seconds(account.spent, account.now, weight, self._allowance)
            if wait > 0:
                return wait
            account.spent, until = budget.sent(account.spent, account.now, weight)
            return Grant(weight, until)

    def answered(
        self,
        grant: Grant,
        status: int,
        *,
        reported: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """What came of a granted request; status 0: no answer came."""
        with self._account() as account:
            account.spent = budget.answered(
                account.spent,
                account.now,
                grant.weight,
                grant.until,
                self._allowance,
                status=status,
                reported=reported,
                retry_after_seconds=retry_after_seconds,
            )

    def usage(self) -> Usage:
        """Raises OSError where the file can't be read."""
        now = self._now()
        try:
            spent = budget.at_time(_decode(self.path.read_bytes()) or Spent(), now)
        except FileNotFoundError:
            spent = Spent()
        return Usage(
            budget.used(spent, now),
            self._allowance.share,
            max(0.0, spent.blocked_until - now),
            spent.blocked_by,
            spent.refusals,
        )

    @contextmanager
    def _account(self) -> Generator[_Account]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            data = os.pread(descriptor, _FILE_BYTES, 0)
            now = self._now()  # after the wait for the lock
            spent = _decode(data) if data else Spent()
            account = _Account(
                now,
                budget.at_time(
                    spent if spent is not None else budget.unknown(now, self._allowance.share), now
                ),
            )
            yield account
            os.pwrite(descriptor, msgspec.json.encode(account.spent).ljust(_FILE_BYTES), 0)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class _Account:
    now: float
    spent: Spent


def _decode(data: bytes) -> Spent | None:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _decode_spent(data.rstrip(b" \0"))
    return None


def open_budget(layout: Layout, exchange: str, share: int, limit: int) -> WeightBudget:
    return WeightBudget(layout.state / "weight" / f"{exchange}.json", share, limit)


def retry_after_of(text: str | None) -> float | None:
    """The header's seconds; None where there is none, or a date (which the exchange does not send)."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
