"""Days of which the bucket has all verdicts and reports as they are here: an upload reads nothing of them.

There are as many as there are days of bars. So of each day that was found recorded a digest is kept, in one file a
symbol: of when its files and the records of its uploads changed, how large they are, and which they are. As long as that
stays, the day is not looked at. What is kept saves work and nothing hangs on it: a digest that is lost, or is of another
time, is unlike what is there, and the day's records are read.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.signature import Signature, is_young, signature_of
from crypto_lake.upkeep import names
from crypto_lake.upkeep.names import ReportObject, VerdictsObject
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_judged import judged_days, judged_paths

_log = logging.getLogger(__name__)


class SettledDays:
    """Of one run. A digest is taken before anything of its day is read: what changes meanwhile is unlike it."""

    def __init__(
        self,
        layout: Layout,
        url: str,
        collector: str,
        doubted: frozenset[str],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._layout, self._url, self._collector, self._wall_ns = layout, url, collector, wall_ns
        self._doubted = _days_of(doubted)
        self._before: dict[tuple[str, str], dict[str, str]] = {}  # by symbol: day -> digest
        self._now: dict[tuple[str, str], dict[str, str]] = {}
        self._seen: dict[SymbolDay, str] = {}

    def left(self) -> list[SymbolDay]:
        """The days that are to be looked at, the oldest first; among them those of which a file can't be looked at."""
        found: list[SymbolDay] = []
        for at in judged_days(self._layout):
            of = at.exchange, at.symbol
            if of not in self._before:
                self._before[of] = uploads.read_settled(self._layout, *of, self._url, self._collector)
                self._now[of] = {}
            taken_ns = self._wall_ns()
            try:
                signature = self._signature(at)
            except OSError:  # whoever looks at the day meets it too, and tells it
                found.append(at)
                continue
            digest = _digest(signature)
            if self._before[of].get(at.day) == digest and at not in self._doubted:
                self._now[of][at.day] = digest
                continue
            found.append(at)
            if not is_young(signature, taken_ns):
                self._seen[at] = digest
        return found

    def settle(self, at: SymbolDay) -> None:
        """All that is here of a day that was left was found recorded. (May be called from several threads.)"""
        if at in self._seen:
            self._now[at.exchange, at.symbol][at.day] = self._seen[at]

    def keep(self) -> None:
        """For the runs to come. It is not worth an error."""
        for of, days in self._now.items():
            if days != self._before[of]:
                try:
                    uploads.write_settled(self._layout, *of, self._url, self._collector, days)
                except OSError as error:
                    _log.warning("which days of %s are uploaded could not be kept: %s", of[1], error)

    def _signature(self, at: SymbolDay) -> Signature:
        records = uploads.path_of(self._layout, at.exchange, at.symbol, at.day)
        return signature_of(*judged_paths(self._layout, at), records)


def _digest(signature: Signature) -> str:
    return hashlib.blake2b(repr(signature).encode(), digest_size=8).hexdigest()


def _days_of(doubted: frozenset[str]) -> frozenset[SymbolDay]:
    """The days whose verdicts or reports are among these objects."""
    parsed = (names.parse(name) for name in doubted)
    return frozenset(
        SymbolDay(of.exchange, of.symbol, of.day)
        for of in parsed
        if isinstance(of, VerdictsObject | ReportObject)
    )
