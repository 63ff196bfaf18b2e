"""What the conditions must remember: counters of an hour, when a stream was first seen, how the disk filled. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.model.market import NS_PER_SECOND
from crypto_lake.watch.conditions_look import Look

HOUR_NS = 3600 * NS_PER_SECOND
_MINUTE_NS = 60 * NS_PER_SECOND
DISK_SAMPLE_NS = 5 * _MINUTE_NS
DISK_WINDOW_NS = 6 * HOUR_NS
RESUMED_AFTER_NS = 10 * _MINUTE_NS
DISK_LEAST_NS = HOUR_NS // 2  # less than that tells a burst, not a rate


class Increase(msgspec.Struct, frozen=True, array_like=True):
    """By how much a counter grew, to the minute."""

    minute_ns: int
    name: str
    by: int


class DiskSample(msgspec.Struct, frozen=True, array_like=True):
    at_ns: int
    used_bytes: int


class Memory(msgspec.Struct, frozen=True):
    """All times are real but `first_seen`, which is by the lake's clock: when a stream of this collector's appeared.

    ids_missing: what each symbol missed at the last look; increases in it, in the quarantine (`quarantine`) and in
    failed writes (`write_errors`) are kept for an hour.
    looked_ns: the last look. resumed_ns: the first one after nobody had looked for a while, 0 where that never was: a
    lake that was off, or suspended, is not late with what it could not do.
    """

    watching_since_ns: int = 0
    looked_ns: int = 0
    resumed_ns: int = 0
    collector_started_ns: int = 0
    first_seen: dict[str, int] = {}
    ids_missing: dict[str, int] = {}
    write_errors: int = 0
    increases: tuple[Increase, ...] = ()
    disk: tuple[DiskSample, ...] = ()

    def grown(self, name: str, within_ns: int, now_ns: int) -> int:
        """By how much a counter grew in the last `within_ns` (an hour at most)."""
        return sum(
            one.by for one in self.increases if one.name == name and one.minute_ns > now_ns - within_ns
        )


HOLES = "holes "  # and the symbol
QUARANTINE = "quarantine"
WRITE_ERRORS = "write_errors"


def remember(memory: Memory, look: Look) -> Memory:
    """The memory with this look in it."""
    now_ns = look.now_ns
    increases = [one for one in memory.increases if now_ns - HOUR_NS < one.minute_ns <= now_ns]
    grown = {QUARANTINE: look.quarantined}
    snapshot = look.running
    if snapshot is not None:
        grown |= _holes_grown(memory, snapshot)
        # After a new start the counter begins at zero: all it has is new.
        same = memory.collector_started_ns == snapshot.started_ns
        errors_before = memory.write_errors if same else 0
        grown[WRITE_ERRORS] = snapshot.writer.write_errors - errors_before
        memory = msgspec.structs.replace(
            memory,
            collector_started_ns=snapshot.started_ns,
            first_seen=_first_seen(memory.first_seen if same else {}, snapshot),
            ids_missing=memory.ids_missing | {s.symbol: s.ids_missing for s in snapshot.symbols},
            write_errors=snapshot.writer.write_errors,
        )
    return msgspec.structs.replace(
        memory,
        watching_since_ns=memory.watching_since_ns or now_ns,
        looked_ns=now_ns,
        resumed_ns=now_ns
        if memory.looked_ns and now_ns - memory.looked_ns > RESUMED_AFTER_NS
        else min(memory.resumed_ns, now_ns),
        increases=_merged(increases, grown, now_ns),
        disk=_disk_samples(memory.disk, look),
    )


def _first_seen(before: dict[str, int], snapshot: CollectorSnapshot) -> dict[str, int]:
    """Streams that are gone are forgotten; one that comes back begins anew."""
    return {stream.name: before.get(stream.name, snapshot.taken_ns) for stream in snapshot.streams}


def _holes_grown(memory: Memory, snapshot: CollectorSnapshot) -> dict[str, int]:
    """A symbol that was never seen before brings what it missed long ago: that is not new."""
    return {
        HOLES + symbol.symbol: symbol.ids_missing - memory.ids_missing[symbol.symbol]
        for symbol in snapshot.symbols
        if symbol.symbol in memory.ids_missing
    }


def _merged(increases: list[Increase], grown: dict[str, int], now_ns: int) -> tuple[Increase, ...]:
    minute_ns = now_ns - now_ns % _MINUTE_NS
    in_minute = {one.name: one.by for one in increases if one.minute_ns == minute_ns}
    for name, by in grown.items():
        if by > 0:
            in_minute[name] = in_minute.get(name, 0) + by
    older = (one for one in increases if one.minute_ns != minute_ns)
    return (*older, *(Increase(minute_ns, name, by) for name, by in in_minute.items()))


def _disk_samples(samples: Sequence[DiskSample], look: Look) -> tuple[DiskSample, ...]:
    disk = look.seen.disk
    # After a clock that was set back what lies ahead is of no use.
    kept = [one for one in samples if look.now_ns - DISK_WINDOW_NS <= one.at_ns <= look.now_ns]
    if disk.total_bytes and (not kept or look.now_ns - kept[-1].at_ns >= DISK_SAMPLE_NS):
        kept.append(DiskSample(look.now_ns, disk.filled_bytes))
    return tuple(kept)


def disk_full_in_seconds(samples: Sequence[DiskSample], room_bytes: int) -> float | None:
    """When the room that is left is used up at the rate of the last six hours; None: never at that rate, or too soon to say.

    The rate is the slope of a line through the samples (least squares), so that what is deleted now and then counts
    by what it frees, not by when.
    """
    if len(samples) < 3 or samples[-1].at_ns - samples[0].at_ns < DISK_LEAST_NS:
        return None
    bytes_per_second = _slope([((s.at_ns - samples[0].at_ns) / 1e9, s.used_bytes) for s in samples])
    return room_bytes / bytes_per_second if bytes_per_second > 0 else None


def _slope(points: Iterable[tuple[float, float]]) -> float:
    points = list(points)
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
