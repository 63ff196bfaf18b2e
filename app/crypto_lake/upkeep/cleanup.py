"""`cleanup`: what is proven to be elsewhere, and older than it has to be, goes.

One run at a time per data directory (locks `cleanup` and `transform`: nothing is sealed or made into bars meanwhile).
A record of each deletion lasts before its file goes. Cut off anywhere, what is left is whole, and the next run goes on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from crypto_lake.lake import deletions, durable, locks, tasks, uploads
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock, Hour, SystemClock
from crypto_lake.store import Store
from crypto_lake.upkeep import disk_budget
from crypto_lake.upkeep.cleanup_cases import Candidate, candidates
from crypto_lake.upkeep.cleanup_kept import KeptBars
from crypto_lake.upkeep.cleanup_plan import Policy, Verdict, decide, stays
from crypto_lake.upkeep.cleanup_proof import Prover, signature_of
from crypto_lake.upkeep.cleanup_report import CleanupReport, Told
from crypto_lake.upkeep.disk_budget import Limits, Usage
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.upload_report import Sum

_log = logging.getLogger(__name__)
_BATCH: Final = 512  # files between whose proof and deletion no others are proven
_WORKERS: Final = 8
_TEMPORARY_SECONDS: Final = 24 * 3600.0
_FOLDER_KEPT_NS: Final = 24 * 3600 * 10**9  # its collector may still put something there


@dataclass(frozen=True, slots=True)
class Retention:
    """How long files are kept here after they are whole elsewhere, by the lake's clock. None: for good."""

    raw_ns: int | None
    bars_ns: int | None = None


def cleanup(
    layout: Layout,
    store: Store | None,
    *,
    retention: Retention,
    limits: Limits | None = None,
    clock: Clock | None = None,
    dry_run: bool = False,
    explain: bool = False,
    usage: Usage | None = None,
) -> CleanupReport:
    """Delete what may go. `store` None: there is no bucket. `explain`: the report has every verdict.

    A dry run proves and tells all the same, and deletes and changes nothing. `usage`: of the disk, where the caller
    knows it. Raises LockHeldError where another run has a lock; what the store refuses stands in the report.
    """
    limits = limits or Limits()
    usage = usage or disk_budget.look(layout.root, limits)
    now_ns = (clock or SystemClock()).now_ns()
    run = _Run(layout, store, retention, limits, usage, now_ns, dry_run=dry_run, explain=explain)
    if dry_run:
        return run.run()
    with ExitStack() as held:
        held.enter_context(locks.hold(layout.locks, "cleanup"))
        held.enter_context(locks.hold(layout.locks, "transform"))
        task = tasks.begin(layout, "cleanup", time.time_ns())
        try:
            report = run.run()
        except BaseException as error:
            tasks.end(layout, task, time.time_ns(), f"{type(error).__name__}: {error}", task.figures)
            raise
        tasks.end(layout, task, time.time_ns(), report.problem, report.figures())
        return report


@dataclass
class _Stays:
    """What stays in any case, by reason; no more of it is held than that."""

    kept: dict[str, Sum] = field(default_factory=dict[str, Sum])
    overdue: dict[str, Sum] = field(default_factory=dict[str, Sum])
    alarming: list[Verdict] = field(default_factory=list[Verdict])

    def add(self, verdict: Verdict) -> None:
        _add(self.kept, verdict)
        if verdict.overdue:
            _add(self.overdue, verdict)
        if verdict.is_alarming:
            self.alarming.append(verdict)


@dataclass
class _Run:
    layout: Layout
    store: Store | None
    retention: Retention
    limits: Limits
    usage: Usage
    now_ns: int
    dry_run: bool
    explain: bool
    gone: set[str] = field(default_factory=set[str])
    problems: dict[str, Told] = field(default_factory=dict[str, Told])  # what could not be deleted
    stays: _Stays = field(default_factory=_Stays)
    places: dict[str, int] = field(default_factory=dict[str, int])  # of what is told, in the order of looking

    def run(self) -> CleanupReport:
        started = time.monotonic()
        url = self.store.url if self.store is not None else ""
        prover = Prover(self.layout, self.store)
        policy = Policy(
            self.retention.raw_ns,
            self.retention.bars_ns if url else None,
            has_bucket=bool(url),
            need=disk_budget.need(self.usage, self.limits),
        )
        found = self._look(url, policy)
        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="prove") as pool:
            while True:
                verdicts = decide((c.case for c in found.values()), policy, self.now_ns)
                if not self.dry_run:
                    self._delete([v for v in verdicts if v.action == "delete"], found, prover)
                batch = [found[v.path] for v in verdicts if v.action == "prove"][:_BATCH]
                if not batch:
                    break
                for candidate, proof in zip(batch, pool.map(prover.prove, batch), strict=True):
                    case = replace(candidate.case, proof=proof)
                    found[case.path] = replace(candidate, case=case)
        temporaries = 0
        if not self.dry_run:
            if url:
                uploads.write_doubts(self.layout, url, prover.doubts)
            temporaries = self._delete_temporaries()
        report = self._report(url, verdicts, temporaries, time.monotonic() - started)
        if prover.failed is not None:
            report = _with_store_error(report, str(prover.failed), transient=prover.failed.transient)
        return report

    def _look(self, url: str, policy: Policy) -> dict[str, Candidate]:
        """What may go. What stays in any case is counted, and held only where it is to be told of each file: most of a lake
        that is old stays.
        """
        collector = self._collector(url)
        kept = KeptBars(self.layout, url, collector) if policy.bars_ns is None and not self.explain else None
        found: dict[str, Candidate] = {}
        for candidate in candidates(self.layout, url, collector, kept):
            verdict = None if self.explain else stays(candidate.case, policy, self.now_ns)
            if verdict is None:
                found[candidate.case.path] = candidate
            else:
                self.stays.add(verdict)
            if verdict is None or verdict.is_alarming:
                self.places[candidate.case.path] = len(self.places)
        if kept is not None and not self.dry_run:
            kept.keep()
        return found

    def _collector(self, url: str) -> str:
        return self.layout.collector_id() if url else ""

    # deeds
    def _delete(self, verdicts: Sequence[Verdict], found: dict[str, Candidate], prover: Prover) -> None:
        by_day: dict[SymbolDay, list[Verdict]] = {}
        for verdict in verdicts:
            if verdict.path not in self.gone and verdict.path not in self.problems:
                by_day.setdefault(found[verdict.path].of, []).append(verdict)
        for at, of_day in by_day.items():
            try:
                self._delete_day(at, of_day, found, prover)
            except OSError as error:
                for verdict in of_day:
                    if verdict.path not in self.gone:
                        self._problem(verdict, f"can't be deleted: {error}")

    def _delete_day(
        self, at: SymbolDay, verdicts: Sequence[Verdict], found: dict[str, Candidate], prover: Prover
    ) -> None:
        records: list[DeletionRecord] = []
        going: list[tuple[Verdict, Path]] = []
        for verdict in verdicts:
            path = self.layout.root / verdict.path
            if signature_of(path.stat()) != prover.signatures[verdict.path]:
                self._problem(verdict, "changed while it was looked at; it is left alone")
                continue
            proof = found[verdict.path].case.proof
            assert proof is not None
            assert proof.problem is None
            records.append(
                DeletionRecord(
                    verdict.path, verdict.bytes, proof.sha256, verdict.code, self.now_ns, proof.evidence
                )
            )
            going.append((verdict, path))
        deletions.append(self.layout, at.exchange, at.symbol, at.day, records)
        for verdict, path in going:
            path.unlink()
            self.gone.add(verdict.path)
            _log.info("deleted %s (%s)", verdict.path, verdict.code)
        for folder in sorted({path.parent for _, path in going}):
            durable.sync_directory(folder)
            if Hour(at.day, 23).end_ns + _FOLDER_KEPT_NS <= self.now_ns:
                _remove_empty(folder, self.layout.root)

    def _problem(self, verdict: Verdict, text: str) -> None:
        self.problems[verdict.path] = Told(verdict.path, verdict.bytes, "keep", "failed", text)
        _log.error("%s %s", verdict.path, text)

    def _delete_temporaries(self) -> int:
        """Files that a writer which was cut off left a day ago or longer, by the machine's clock."""
        deleted, before = 0, time.time() - _TEMPORARY_SECONDS
        for folder, _, files in os.walk(self.layout.root):
            for name in files:
                if not (name.startswith(".") and name.endswith(durable.TEMPORARY_SUFFIX)):
                    continue
                path = Path(folder) / name
                try:
                    if path.stat().st_mtime < before:
                        path.unlink()
                        deleted += 1
                except OSError:  # gone meanwhile, or not ours: it is no more than room
                    continue
        return deleted

    # what is told
    def _report(
        self, url: str, verdicts: Sequence[Verdict], temporaries: int, seconds: float
    ) -> CleanupReport:
        deleted = [v for v in verdicts if v.action == "delete" and (self.dry_run or v.path in self.gone)]
        kept = [v for v in verdicts if v.action != "delete"]
        alarming = [v for v in (*self.stays.alarming, *kept) if v.is_alarming and v.code != "store_failed"]
        alarming.sort(key=lambda verdict: self.places[verdict.path])
        problems = [*self.problems.values(), *map(_told, alarming)]
        return CleanupReport(
            url=url,
            dry_run=self.dry_run,
            seconds=round(seconds, 3),
            level=disk_budget.level(self.usage, self.limits),
            used_percent=round(disk_budget.used_percent(self.usage, self.limits), 1),
            deleted=_sums(deleted),
            kept=_sums(kept, self.stays.kept),
            overdue=_sums((v for v in kept if v.overdue), self.stays.overdue),
            temporaries_deleted=temporaries,
            problems=problems,
            files=[_told(v) for v in verdicts] if self.explain else [],
        )


def _with_store_error(report: CleanupReport, error: str, *, transient: bool) -> CleanupReport:
    return msgspec.structs.replace(report, store_error=error, store_error_is_transient=transient)


def _told(verdict: Verdict) -> Told:
    return Told(verdict.path, verdict.bytes, verdict.action, verdict.code, verdict.text)


def _sums(verdicts: Iterable[Verdict], others: Mapping[str, Sum] = MappingProxyType({})) -> dict[str, Sum]:
    """By reason; `others` are counted in."""
    found = dict(others)
    for verdict in verdicts:
        _add(found, verdict)
    return found


def _add(sums: dict[str, Sum], verdict: Verdict) -> None:
    before = sums.get(verdict.code, Sum())
    sums[verdict.code] = Sum(before.files + 1, before.bytes + verdict.bytes)


def _remove_empty(folder: Path, root: Path) -> None:
    """A day's folder that holds nothing any more, and those above it but for the symbol's."""
    while len(folder.relative_to(root).parts) > 3:
        try:
            folder.rmdir()
        except OSError:  # not empty, or something was put there again
            return
        durable.sync_directory(folder.parent)
        folder = folder.parent
