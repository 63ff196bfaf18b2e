"""The oldest days of a symbol, as far as nothing can make them anew: a run reads none of their manifests.

A lake keeps its bars for good, and nearly all days stay as they are. So what stands at the end of the oldest ones is kept
in one file, as if it were the record of their last hour, with a digest: of when their manifests and files changed, how
large they are, and which they are. They are passed over as long as that holds, no raw is near them, and the trade that
follows them is the same; else they are looked at like the others. What is kept saves work and nothing hangs on it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from crypto_lake.bars import hours as pure
from crypto_lake.bars.raw import HOUR_NS, unix_hour
from crypto_lake.lake import deletions
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import (
    BarsHour,
    BarsManifest,
    SettledBars,
    read_settled_bars,
    write_settled_bars,
)
from crypto_lake.lake.signature import Signature, is_young, signature_of
from crypto_lake.model.clock import Hour

_log = logging.getLogger(__name__)
_APART_HOURS: Final = 48  # raw so near may yet say something of an hour


class Days:
    """One symbol's days as they lie there, oldest first; looked at before anything of them is read."""

    def __init__(self, layout: Layout, exchange: str, symbol: str) -> None:
        self._layout, self._of = layout, (exchange, symbol)
        self._taken_ns = time.time_ns()
        self.all = layout.bar_days(exchange, symbol)
        self._seen = {day: self._signature(day) for day in self.all}
        self._before: SettledBars | None = None

    def settled(self) -> SettledBars | None:
        """The days that were settled, where they are as they were."""
        kept = read_settled_bars(self._layout, *self._of)
        if kept is None or kept.digest != self._digest(kept.last_day):
            return None
        self._before = kept
        return kept

    def settle(
        self,
        manifests: Mapping[str, BarsManifest],
        records: Mapping[int, BarsHour],
        away: set[str],
        first_raw_hour: int | None,
    ) -> None:
        """Keep which days can't be made anew, now that none is to be made. `away`: days that were deleted here; of the
        others with rows the file is here. It is not worth an error.
        """
        latest = max(records, default=0)
        end = (latest if first_raw_hour is None else min(latest, first_raw_hour)) - _APART_HOURS
        last = self._before.last_day if self._before is not None else ""
        for day in self.all:
            if last and day <= last:
                continue
            manifest = manifests.get(day)
            if (
                manifest is None
                or not manifest.final
                or unix_hour(Hour(day, 23)) >= end
                or not _is_whole(day, manifest, begins=not last)
                or (last and unix_hour(Hour(last, 23)) + 1 != unix_hour(Hour(day, 0)))
                or (manifest.rows and not _has_file(self._seen[day]) and day not in away)
                or is_young(self._seen[day], self._taken_ns)
                or self._signature(day) != self._seen[day]
            ):
                break
            last = day
        if last and (kept := self._kept(last, records)) is not None and kept != self._before:
            try:
                write_settled_bars(self._layout, *self._of, kept)
            except OSError as error:
                _log.warning("which bars of %s are settled could not be kept: %s", self._of[1], error)

    def _kept(self, last: str, records: Mapping[int, BarsHour]) -> SettledBars | None:
        boundary = unix_hour(Hour(last, 23)) + 1
        following = pure.following(records, boundary)
        if following is None:
            return None  # the end of a day reaches as far as it is known to
        around = pure.surroundings([boundary], records, 0)[boundary]
        near, after = around.surroundings, records[following].first
        ids = [record.last[0] for hour, record in records.items() if hour < boundary and record.last]
        if near.before is None or after is None or not near.before.id == max(ids) < after[0]:
            return None
        edge = BarsHour(
            key="",
            digest="",
            rows=0,
            trades=0,
            quotes=0,
            last=(near.before.id, near.before.time_us),
            close=near.close,
            quote=None
            if near.quote is None
            else (near.quote.bid, near.quote.bid_size, near.quote.ask, near.quote.ask_size),
            max_u=around.max_u,
        )
        return SettledBars(pure.KEY_VERSION, last, self._digest(last), edge, after)

    def _signature(self, day: str) -> Signature:
        path = self._layout.bars(*self._of, day)
        found = signature_of(path, self._layout.manifest(path))
        if _has_file(found):
            return found
        return (*found, *signature_of(deletions.path_of(self._layout, *self._of, day)))  # was it deleted?

    def _digest(self, last: str) -> str:
        seen = [(day, self._seen[day]) for day in self.all if day <= last]
        return hashlib.sha256(repr(seen).encode()).hexdigest()


def stands(settled: SettledBars, records: Mapping[int, BarsHour], raw_hours: Sequence[int]) -> bool:
    """Whether the days that were settled can be passed over, by what is known of all that came after them. Pure."""
    boundary = hour_behind(settled)
    following = pure.following(records, boundary)
    return (
        settled.key_version == pure.KEY_VERSION
        and following is not None
        and records[following].first == settled.after
        and all(hour > boundary for hour in raw_hours)
    )


def hour_behind(settled: SettledBars) -> int:
    """The Unix hour that follows the days that were settled."""
    return Hour(settled.last_day, 23).end_ns // HOUR_NS


def _has_file(signature: Signature) -> bool:
    return signature[:3] != (0, 0, 0)


def _is_whole(day: str, manifest: BarsManifest, *, begins: bool) -> bool:
    """Whether the manifest tells of every hour of the day; a symbol's first day may `begin` late."""
    first, hours = unix_hour(Hour(day, 0)), sorted(manifest.hours)
    return bool(hours) and hours == list(range(hours[0] if begins else first, first + 24))
