"""Days of bars that are kept for good, and what a clean-up counts them under: of these it reads nothing.

There is one for each day of the lake, and none of them may go, so that nothing but a count hangs on what is recorded of
them. So of each day that was looked at the count's name is kept, in one file a symbol, with a digest: of when its file,
its manifest and the records of its uploads changed, how large they are, and which they are. What is lost, or is of
another time, is unlike what is there, and the day is looked at. That somebody takes away manifests of raw it does not
show: a day that is published in another version is then counted as before.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Final

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.signature import is_young, signature_of
from crypto_lake.upkeep.cleanup_plan import Blocker, Case, Code
from crypto_lake.upkeep.scan import SymbolDay

_log = logging.getLogger(__name__)

# By what they are kept as, "" where nothing but the policy keeps them. Others follow from more than these files.
_CODES: Final[dict[str, Code]] = {
    "bars_not_final": "bars_not_final",
    "local_changed": "local_changed",
    "not_published": "not_published",
}


class KeptBars:
    """Of one run. A digest is taken before anything of its day is read: what changes meanwhile is unlike it."""

    def __init__(
        self, layout: Layout, url: str, collector: str, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._layout, self._url, self._collector, self._wall_ns = layout, url, collector, wall_ns
        self._before: dict[tuple[str, str], dict[str, str]] = {}  # by symbol: day -> digest and code
        self._now: dict[tuple[str, str], dict[str, str]] = {}

    def known(self, at: SymbolDay) -> tuple[Case | None, str]:
        """The day's case where it is as it was when it was looked at; and its digest, "" where it may change and look the
        same. Raises OSError where it can't be looked at.
        """
        of = at.exchange, at.symbol
        if of not in self._before:
            self._before[of] = uploads.read_kept(self._layout, *of, self._url, self._collector)
            self._now[of] = {}
        path = self._layout.bars(*of, at.day)
        taken_ns = self._wall_ns()
        signature = signature_of(
            path, self._layout.manifest(path), uploads.path_of(self._layout, *of, at.day)
        )
        digest = hashlib.blake2b(repr(signature).encode(), digest_size=8).hexdigest()
        before, _, code = self._before[of].get(at.day, "").partition(" ")
        if before == digest and (not code or code in _CODES):
            self._now[of][at.day] = self._before[of][at.day]
            blockers = (Blocker(_CODES[code], ""),) if code else ()
            return Case(str(path.relative_to(self._layout.root)), "bars", signature[1], 0, blockers), digest
        return None, "" if is_young(signature, taken_ns) else digest

    def enter(self, at: SymbolDay, case: Case, digest: str) -> None:
        """The day was looked at. `digest`: as it was before."""
        code = case.blockers[0].code if case.blockers else ""
        if digest and (not code or code in _CODES):
            self._now[at.exchange, at.symbol][at.day] = f"{digest} {code}".rstrip()

    def keep(self) -> None:
        """For the runs to come. It is not worth an error."""
        for of, days in self._now.items():
            if days != self._before[of]:
                try:
                    uploads.write_kept(self._layout, *of, self._url, self._collector, days)
                except OSError as error:
                    _log.warning("what is kept of %s could not be noted: %s", of[1], error)
