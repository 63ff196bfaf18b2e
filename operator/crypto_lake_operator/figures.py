"""What the collectors' figures are, one by one and together, rounded to steps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from crypto_lake_operator import steps
from crypto_lake_operator.api_status import Figures, ShardStatus, Status
from crypto_lake_operator.collectors import Seen, runs
from crypto_lake_operator.conditions import why_not_collecting
from crypto_lake_operator.report import Report


def shard(seen: Seen, suspended: bool, previous: Status) -> ShardStatus:
    before = next((shard for shard in previous.shards if shard.name == str(seen.slot)), None)
    state = _state(seen, suspended)
    since = seen.silent_since.strftime("%Y-%m-%dT%H:%M:%SZ") if seen.silent_since else None
    if seen.report is None:
        if before is None:
            return ShardStatus(name=str(seen.slot), pod=seen.name, state=state, silent_since=since)
        return msgspec.structs.replace(
            before, pod=seen.name, state=state, symbols=0, lag_seconds=None, silent_since=since
        )
    report, old = seen.report, before or Figures()
    lag, pending, soon = report.lag_seconds, report.pending, report.disk_full_in_seconds
    return ShardStatus(
        name=str(seen.slot),
        pod=seen.name,
        state=state,
        symbols=len(report.live_symbols),
        lag_seconds=None if lag is None else steps.up(lag, steps.LAG_SECONDS, old.lag_seconds),
        gaps_open=sum(symbol.holes_open for symbol in report.symbols),
        gaps_healed=_healed(report),
        trades_missing=sum(symbol.ids_missing for symbol in report.symbols if symbol.holes_open),
        not_uploaded_bytes=None
        if pending is None
        else steps.up(pending, steps.BYTES, old.not_uploaded_bytes),
        last_verified_upload=_to_the_minute(report.uploaded_ns),
        disk_used_percent=None
        if report.disk is None
        else steps.up(report.disk.used_percent, steps.DISK_PERCENT, old.disk_used_percent),
        disk_full_in_seconds=None
        if soon is None
        else steps.down(soon, steps.DISK_FULL_SECONDS, old.disk_full_in_seconds),
    )


def _healed(report: Report) -> int:
    if report.gaps_healed is not None:
        return report.gaps_healed
    return sum(max(0, symbol.holes_total - symbol.holes_open) for symbol in report.symbols)


def _to_the_minute(time_ns: int) -> str | None:
    if not time_ns:
        return None
    minute = time_ns // (60 * 10**9) * 60
    return datetime.fromtimestamp(minute, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


State = Literal["Live", "Degraded", "Starting", "Draining", "Unreachable", "Suspended", "Missing"]


def _state(seen: Seen, suspended: bool) -> State:
    if suspended:
        return "Suspended"
    if not seen.wanted:
        return "Draining"
    if seen.report is not None:
        return "Live" if why_not_collecting(seen) is None else "Degraded"
    if seen.pod is None:
        return "Missing"
    return "Unreachable" if seen.silence is not None and runs(seen.pod) else "Starting"


def gaps(slots: list[Seen]) -> tuple[int, int]:
    """Gaps open and trades missing, over all shards. Of a shard's copies the better one counts: what one of them has is
    not missing. Whether neither has what the other lacks is not known here; the published day tells.
    """
    best: dict[int, tuple[int, int]] = {}
    for seen in slots:
        if seen.report is not None:
            open_ = [symbol for symbol in seen.report.symbols if symbol.holes_open]
            own = (sum(s.holes_open for s in open_), sum(s.ids_missing for s in open_))
            best[seen.slot.shard] = min(own, best.get(seen.slot.shard, own))
    return sum(holes for holes, _ in best.values()), sum(missing for _, missing in best.values())


def last_known_gaps(slots: list[Seen], shards: Sequence[ShardStatus]) -> tuple[int, int]:
    """The same with what a shard last said, where none of its copies can be asked now: a gap is not gone with a pod."""
    found: list[tuple[int, int]] = []
    for number in {seen.slot.shard for seen in slots}:
        copies = [
            (seen, shard) for seen, shard in zip(slots, shards, strict=True) if seen.slot.shard == number
        ]
        asked = [shard for seen, shard in copies if seen.report is not None] or [shard for _, shard in copies]
        found.append(min((shard.gaps_open, shard.trades_missing) for shard in asked))
    return sum(holes for holes, _ in found), sum(missing for _, missing in found)
