"""`crypto-lake prove`: a ledger derived anew from raw, and compared line by line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.bucket import TransferShown, exit_code_of, shown
from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, existing_lake

if TYPE_CHECKING:
    from crypto_lake.completeness.prove_report import Disagreement, Proof
    from crypto_lake.upkeep.prove import ProveReport
    from crypto_lake.upkeep.verify import Progress

_SHOWN = 100


@click.command()
@click.argument("symbol")
@click.argument("days", required=False, metavar="[DAY[..DAY]]")
@data_option
@click.option(
    "--bucket", metavar="URL", help="Prove what a bucket has: gs://bucket/prefix or file:///folder."
)
@output_option
def command(symbol: str, days: str | None, data: Path | None, bucket: str | None, output: str) -> int:
    """Derive a symbol's ledger from raw once more, and compare it with the one that is there.

    Every file that it rests on is read whole and compared with its manifest, as by verify; then trades, control records,
    healed files and kept answers of the exchange must give each line of the ledger, and no other. The first line that
    disagrees is named, and all others. Exit code 3 where there is one. Nothing is changed.

    Days are those of receipt: 2026-11-20, or 2026-11-20..2026-11-22. Without them, all whose raw is here. With --bucket
    the ledger of each collector is proven, and days must be given.
    """
    import msgspec

    check_selection((symbol,), ())
    span = _span(days)
    if bucket is not None and data is not None:
        raise CommandError("--bucket looks at no data directory; leave out --data", ExitCode.USAGE)
    if bucket is not None and span is None:
        raise CommandError(
            "with --bucket, say which days: 2026-11-20 or 2026-11-20..2026-11-22", ExitCode.USAGE
        )
    started = time.monotonic()
    with TransferShown("proving", live=sys.stderr.isatty()) as bar:

        def show(at: Progress) -> None:
            if bar.live:
                bar.update(
                    files_done=at.files_done,
                    files=at.files,
                    bytes_done=at.bytes_done,
                    bytes_total=at.bytes,
                    differences=at.differences,
                )

        report = _prove(symbol, span, data, bucket, show)
    report = msgspec.structs.replace(report, seconds=round(time.monotonic() - started, 3))
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    return ExitCode.OK if report.proven else ExitCode.GAPS


def _span(days: str | None) -> tuple[str, str] | None:
    if days is None:
        return None
    first, dots, last = days.partition("..")
    check_selection((), (first, last) if dots else (first,))
    if dots and last < first:
        raise CommandError(f"{days}: the last day is before the first", ExitCode.USAGE)
    return first, last or first


def _prove(
    symbol: str,
    span: tuple[str, str] | None,
    data: Path | None,
    bucket: str | None,
    show: Callable[[Progress], None],
) -> ProveReport:
    from crypto_lake.completeness.prove_range import ProveError
    from crypto_lake.store import StoreError, open_store
    from crypto_lake.upkeep.prove import prove_in_bucket, prove_lake

    try:
        if bucket is None or span is None:
            return prove_lake(existing_lake(data), symbol, span, show)
        store = open_store(bucket)
        try:
            return prove_in_bucket(store, symbol, span, on_progress=show)
        finally:
            store.close()
    except ProveError as error:
        raise CommandError(str(error)) from None
    except StoreError as error:
        raise CommandError(str(error), exit_code_of(error.transient)) from None


def _print(report: ProveReport) -> None:
    problems = [f"{one.path}: {one.problem}" for one in report.differences]
    for proof in report.proofs:
        problems += [_disagreement(one) for one in proof.disagreements]
    shown(problems, _SHOWN, str)
    for proof in report.proofs:
        _print_proof(proof)
    for why in report.not_proven:
        click.echo(f"not proven: {why}")
    verdict = "proven" if report.proven else f"not as it should be: {counted(len(problems), 'problem')}"
    click.echo(
        f"{report.symbol} in {report.source}: {counted(report.files, 'file')}, {size(report.bytes)} in "
        f"{report.seconds:.1f} s: {verdict}"
    )


def _disagreement(one: Disagreement) -> str:
    return f"{one.path}, line {one.line:,}: {one.problem}" if one.line else f"{one.path}: {one.problem}"


def _print_proof(proof: Proof) -> None:
    missed = proof.ids_missed - proof.ids_received_late
    click.echo(
        f"{proof.ledger}: {counted(proof.lines, 'line')} of {proof.first_hour} to {proof.last_hour} (received, UTC); "
        f"{counted(proof.trades_seen, 'trade')} seen, {counted(proof.holes, 'hole')} with {missed:,} that did not come: "
        f"{proof.ids_healed:,} healed, {proof.ids_never_existed:,} never existed, {proof.ids_unavailable:,} can't be had"
    )
    notes = [
        text
        for count, text in (
            (proof.to_come, f"{counted(proof.to_come, 'line')} that the collector has yet to write"),
            (proof.later_lines, f"{counted(proof.later_lines, 'line')} of a later version, not looked at"),
            (
                proof.causes_not_compared,
                f"{counted(proof.causes_not_compared, 'hole')} whose cause is not compared: the trade before came in an hour "
                "whose raw is not here",
            ),
            (
                proof.healed_files_gone,
                f"{counted(proof.healed_files_gone, 'healed file')} deleted here since: what was in it its manifest says",
            ),
            (proof.set_back, "the clock was set back, so causes and lateness are compared less strictly"),
        )
        if count
    ]
    if notes:
        click.echo(f"  {'; '.join(notes)}")
    if proof.quotes is not None:
        quotes = proof.quotes
        click.echo(
            f"  best quotes have no ids that follow each other, so of them no more is known than that {quotes.stream} was "
            f"carried by a live connection for {quotes.watched_seconds:,.0f} of {quotes.of_seconds:,.0f} s "
            f"({counted(quotes.breaks, 'break')})"
        )
