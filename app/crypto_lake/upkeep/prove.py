"""`prove`: the files that a symbol's ledgers rest on, and then the ledgers themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.prove_range import ProveError
from crypto_lake.completeness.prove_report import Disagreement, Proof
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.store import Store
from crypto_lake.upkeep import prove_bucket
from crypto_lake.upkeep.verify import Progress, verify
from crypto_lake.upkeep.verify_report import Difference
from crypto_lake.upkeep.verify_source import DiskSource

REPORT_SCHEMA: Final = 1
Span = tuple[str, str]
OnProgress = Callable[[Progress], None]


class ProveReport(msgspec.Struct, frozen=True, kw_only=True):
    """`differences`: of files and their manifests; disagreements of ledgers stand in their proofs.

    `source`: the data directory or the bucket. `files`, `bytes`: of those that were compared with their manifests.
    `not_proven`: collectors of a bucket whose ledger does not reach these days, and why.
    """

    schema: int = REPORT_SCHEMA
    source: str
    symbol: str
    seconds: float = 0.0
    proven: bool
    files: int
    bytes: int
    differences: list[Difference]
    proofs: list[Proof]
    not_proven: list[str]


@dataclass
class _Steps:
    """How far all of it is: each file is read twice, for its manifest and for the ledger."""

    tell: OnProgress
    now: Progress = field(default_factory=lambda: Progress(0, 0, 0, 0, 0))

    def verified(self, at: Progress) -> None:
        self.now = replace(at, files=2 * at.files, bytes=2 * at.bytes)
        self.tell(self.now)

    def read(self, _name: str, size: int) -> None:
        now = self.now
        files, done = now.files_done + 1, now.bytes_done + size
        self.now = replace(
            now, files_done=files, files=max(now.files, files), bytes_done=done, bytes=max(now.bytes, done)
        )
        self.tell(self.now)


def prove_lake(
    layout: Layout, symbol: str, span: Span | None, on_progress: OnProgress = lambda _: None
) -> ProveReport:
    """Of a data directory. `span`: first and last day of receipt; None: all whose raw is here. Raises ProveError."""
    exchanges = [name for name in layout.exchanges() if layout.ledger(name, symbol).exists()]
    if not exchanges:
        raise ProveError(f"there is no ledger of {symbol} in {layout.root}{_others(layout)}")
    steps = _Steps(on_progress)
    symbols, days = (symbol, CONTROL), list(_days(span)) if span else None
    verified = verify(
        DiskSource(layout.root, deleted_paths(layout, symbols, days)),
        symbols=symbols,
        days=days,
        progress=steps.verified,
    )
    proofs = [prove(layout, exchange, symbol, span, on_file=steps.read) for exchange in exchanges]
    # That a ledger's chain is broken its proof tells already.
    ledgers = {proof.ledger for proof in proofs}
    differences = [difference for difference in verified.differences if difference.path not in ledgers]
    return _report(str(layout.root), symbol, proofs, differences, verified.files, verified.bytes)


def prove_in_bucket(
    store: Store,
    symbol: str,
    span: Span,
    *,
    folder: Path | None = None,
    on_progress: OnProgress = lambda _: None,
) -> ProveReport:
    """Of each collector that left a ledger of the symbol. Raises ProveError, StoreError."""
    chains = [
        (exchange, pieces)
        for exchange in prove_bucket.exchanges(store, symbol)
        for pieces in prove_bucket.collectors(store, exchange, symbol).values()
    ]
    if not chains:
        raise ProveError(f"there is no ledger of {symbol} in {store.url}; `crypto-lake upload` puts it there")
    steps = _Steps(on_progress)
    proofs: list[Proof] = []
    differences: list[Difference] = []
    files = size = 0
    not_proven: list[str] = []
    for exchange, pieces in chains:
        try:
            with prove_bucket.staged(store, pieces, span, folder=folder, on_object=steps.read) as staged:
                verified = verify(DiskSource(staged.layout.root), symbols=(symbol, CONTROL))
                proof = prove(staged.layout, exchange, symbol, span, to_be_continued=True, on_file=steps.read)
        except ProveError as error:  # such as of a collector that is younger, or gone
            not_proven.append(str(error))
            continue
        files, size = files + verified.files, size + verified.bytes
        for one in verified.differences:
            if one.path != proof.ledger:
                name = staged.in_bucket(Disagreement(path=one.path, problem="")).path
                differences.append(msgspec.structs.replace(one, path=name))
        found = [staged.in_bucket(one) for one in proof.disagreements]
        proofs.append(msgspec.structs.replace(proof, ledger=pieces[-1].name, disagreements=found))
    if not proofs:
        raise ProveError("; ".join(not_proven))
    return _report(store.url, symbol, proofs, differences, files, size, not_proven)


def _report(
    source: str,
    symbol: str,
    proofs: list[Proof],
    differences: list[Difference],
    files: int,
    size: int,
    not_proven: list[str] | None = None,
) -> ProveReport:
    return ProveReport(
        source=source,
        symbol=symbol,
        proven=not differences and not any(proof.disagreements for proof in proofs),
        files=files,
        bytes=size,
        differences=differences,
        proofs=proofs,
        not_proven=not_proven or [],
    )


def _days(span: Span) -> Iterator[str]:
    day = date.fromisoformat(span[0])
    while day.isoformat() <= span[1]:
        yield day.isoformat()
        day += timedelta(1)


def _others(layout: Layout) -> str:
    found = sorted({path.stem for path in (layout.root / "ledger").glob("*/*.jsonl")})
    return f"; there are those of {', '.join(found[:10])}" if found else ""
