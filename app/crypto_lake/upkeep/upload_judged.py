"""Verdicts and reports of finished days into the bucket. They are files that are written anew when their bars, or what is
known of them, change: then their objects are replaced, each under the generation that was recorded.

That a file is the one that was recorded is told by its time and size. What was young when it was measured may be written
anew within the same tick of the file system's clock, and not look so: its time is recorded as 0, and the next run reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from crypto_lake.lake import uploads
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.signature import is_young
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.clock import Hour
from crypto_lake.store import (
    AlreadyThere,
    Conflict,
    Created,
    Declared,
    Limiter,
    LocalFileChanged,
    Store,
    Stored,
    StoreError,
)
from crypto_lake.upkeep.recording import record_of
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_judged import JudgedFact, is_finished, judged_facts, judged_paths
from crypto_lake.upkeep.upload_report import Refused
from crypto_lake.upkeep.upload_settled import SettledDays
from crypto_lake.upkeep.upload_tally import Puts

_TRIES = 3  # for a file that a check writes anew meanwhile, and for an object that is not the recorded one


def planned(layout: Layout, url: str, collector: str, now_ns: int, doubted: frozenset[str]) -> Iterator[Puts]:
    """What the next upload puts, a day after the other: the names of objects are in `pending`."""
    for at in SettledDays(layout, url, collector, doubted).left():
        result = _nothing_yet(layout, at)
        try:
            records = _trusted(uploads.read(layout, at.exchange, at.symbol, at.day, url), doubted)
            todo = _unrecorded(layout, at, records, collector)
            if todo and _is_due(layout, at, now_ns):
                names = [(fact, fact.name(collector)) for fact in todo]
                result.pending = [
                    name for fact, name in names if not _is_same(layout, fact, records.get(name))
                ]
        except OSError as error:
            result.error = error
        yield result


def _nothing_yet(layout: Layout, at: SymbolDay) -> Puts:
    """Of a day. What can't be read of it is told under its first file, until it is known which file it is."""
    return Puts(error_of=str(judged_paths(layout, at)[0].relative_to(layout.root)))


def _unrecorded(
    layout: Layout, at: SymbolDay, records: Mapping[str, UploadRecord], collector: str
) -> list[JudgedFact]:
    """Files of a day of which the bucket does not have what is here."""
    return [
        fact for fact in judged_facts(layout, at) if not fact.is_recorded(records.get(fact.name(collector)))
    ]


def _is_due(layout: Layout, at: SymbolDay, now_ns: int) -> bool:
    """Whether a day is finished. Raises OSError."""
    if now_ns < Hour(at.day, 23).end_ns:  # as most of the time: those of today
        return False
    from crypto_lake.completeness import verdict_table

    # No more of it is read than that: damaged rows must not end an upload. `check` makes them anew.
    hours = verdict_table.read_hours(layout.verdicts(at.exchange, at.symbol, at.day))
    return is_finished(at.day, hours, now_ns)


def _trusted(records: Mapping[str, UploadRecord], doubted: frozenset[str]) -> dict[str, UploadRecord]:
    """Without those that a clean-up did not find as they are recorded: these are put again."""
    return {name: record for name, record in records.items() if name not in doubted}


def upload_judged_of(
    layout: Layout,
    at: SymbolDay,
    store: Store,
    *,
    collector: str,
    now_ns: int,
    doubted: frozenset[str],
    settled: SettledDays,
    limiter: Limiter | None,
    stopped: Callable[[], bool],
) -> Puts:
    """Put what is due of a day, one after the other, each recorded before the next. A day that was recorded before is
    settled; one that is now, by the next run.
    """
    result = _nothing_yet(layout, at)
    try:
        records = uploads.read(layout, at.exchange, at.symbol, at.day, store.url)
        todo = _unrecorded(layout, at, _trusted(records, doubted), collector)
        if not todo:
            settled.settle(at)
        if not todo or not _is_due(layout, at, now_ns):
            return result
        result.pending = [fact.name(collector) for fact in todo]
        for fact in todo:
            if stopped():
                break
            result.error_of = fact.path
            record = records.get(fact.name(collector))
            measured_ns = time.time_ns()
            if record is not None and record.name not in doubted and _is_same(layout, fact, record):
                _recall(layout, fact, record, measured_ns)
                result.pending.remove(record.name)
                continue
            _put(layout, fact, record, store, collector, now_ns, limiter, result)
    except (StoreError, OSError) as error:
        result.error = error
    return result


def _is_same(layout: Layout, fact: JudgedFact, record: UploadRecord | None) -> bool:
    """Whether its bytes are those that were recorded, as after a volume was copied."""
    if record is None or fact.bytes != record.bytes:
        return False
    return measure(layout.root / fact.path).sha256 == record.sha256


def _recall(layout: Layout, fact: JudgedFact, record: UploadRecord, measured_ns: int) -> None:
    """Record a file's time, so that it need not be read again."""
    same = msgspec.structs.replace(record, modified_ns=_time_to_record(fact.modified_ns, measured_ns))
    if same != record:
        uploads.append(layout, fact.of.exchange, fact.of.symbol, fact.of.day, [same])


def _time_to_record(modified_ns: int, measured_ns: int) -> int:
    """A file's time, 0 where a change may have left it as it is. `measured_ns`: real time, before the file was read."""
    return 0 if is_young((modified_ns,), measured_ns) else modified_ns


def _put(
    layout: Layout,
    fact: JudgedFact,
    record: UploadRecord | None,
    store: Store,
    collector: str,
    now_ns: int,
    limiter: Limiter | None,
    result: Puts,
) -> None:
    path, name = layout.root / fact.path, fact.name(collector)
    generation = record.generation if record is not None else None
    metadata = {"kind": fact.kind, "collector": collector}
    told: tuple[str, ...] = ()
    for _ in range(_TRIES):
        try:
            written_ns = path.stat().st_mtime_ns  # before it is read: what comes later is another file
            modified_ns = _time_to_record(written_ns, time.time_ns())
            sums = measure(path)
        except FileNotFoundError:  # a clean-up runs beside
            result.pending.remove(name)
            return
        declared = Declared(sums.bytes, sums.crc32c, sums.md5, sums.sha256)
        try:
            outcome = store.put(path, name, declared, replaces=generation, metadata=metadata, limiter=limiter)
        except LocalFileChanged:
            continue
        match outcome:
            case Created(stored):
                result.created += 1
                result.created_bytes += stored.bytes
            case AlreadyThere(stored):
                result.found += 1
            case Conflict(stored, told):
                if stored is not None and not _is_ours(stored, collector):
                    break
                generation = stored.generation if stored is not None else None
                continue
        made = record_of(store.url, stored, sums.sha256, fact.path, now_ns, modified_ns=modified_ns)
        uploads.append(layout, fact.of.exchange, fact.of.symbol, fact.of.day, [made])
        result.pending.remove(name)
        return
    if told:
        problem = f"another object is under its name ({'; '.join(told)}); it was left as it is"
        result.conflicts.append(Refused(fact.path, name, problem))


def _is_ours(stored: Stored, collector: str) -> bool:
    """Whether this volume put it, though its record was lost: nobody else bears the collector's name."""
    return stored.metadata.get("collector") == collector
