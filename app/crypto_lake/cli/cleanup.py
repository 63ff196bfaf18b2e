"""`crypto-lake cleanup`: what is proven to be elsewhere, and old enough, goes."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import (
    disk_limits,
    existing_layout,
    exit_code_of,
    log_to_file,
    open_configured,
    shown,
)
from crypto_lake.cli.common import ExitCode, complain, load_settings, output_option, setting_options
from crypto_lake.cli.progress import counted, size

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.upkeep.cleanup import Retention
    from crypto_lake.upkeep.cleanup_report import CleanupReport, Told
    from crypto_lake.upkeep.upload_report import Sum

_SHOWN = 20
_DAY_NS = 86400 * 10**9


@click.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be deleted, and change nothing.")
@click.option(
    "--explain", is_flag=True, help="Tell of every file whether it may go, and why not; deletes nothing."
)
@setting_options
@output_option
def command(dry_run: bool, explain: bool, output: str, **options: Any) -> int:
    """Delete here what is older than its retention and proven, now, to be whole elsewhere.

    With a bucket: raw that is sealed, made into bars, and in the bucket with its manifest and its day of the ledger;
    size, checksum and generation are looked at again. Without one: raw whose bars are final and whole. On a disk that
    is nearly full the oldest of it goes earlier. What is not as it is recorded stays, and is told (exit code 3).
    """
    import msgspec

    from crypto_lake.cli.selection import clock_of
    from crypto_lake.upkeep.cleanup import cleanup

    config = load_settings(options).config
    layout = existing_layout(config)
    store = open_configured(config)
    changes = not dry_run and not explain
    if changes:
        log_to_file(config, layout)
    with _status(live=sys.stderr.isatty()):
        report = cleanup(
            layout,
            store,
            retention=retention_of(config),
            limits=disk_limits(config),
            clock=clock_of(config, layout),
            dry_run=not changes,
            explain=explain,
        )
    if store is not None:
        store.close()
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report, explain=explain)
    if report.store_error:
        complain(report.store_error)
        return exit_code_of(report.store_error_is_transient)
    if any(told.code == "failed" for told in report.problems):
        return ExitCode.FAILURE
    return ExitCode.GAPS if report.problems else ExitCode.OK


def retention_of(config: Config) -> Retention:
    from crypto_lake.config.durations import parse_retention
    from crypto_lake.upkeep.cleanup import Retention

    raw_seconds = parse_retention(config.retention.raw)
    days = config.gcs.upload_retention_days
    return Retention(
        raw_ns=None if raw_seconds is None else int(raw_seconds * 1e9),
        bars_ns=days * _DAY_NS if days else None,
    )


def _status(*, live: bool) -> Any:
    if not live:
        return nullcontext()
    from rich.console import Console
    from rich.status import Status

    return Status("looking at what may go", console=Console(stderr=True))


def _print(report: CleanupReport, *, explain: bool) -> None:
    if explain:
        for told in sorted(report.files, key=lambda one: (one.action, one.code, one.path)):
            click.echo(f"{told.action:<6} {told.path}  ({told.code}) {told.text}")
    else:
        shown(report.problems, _SHOWN, _line)
    if report.level != "ok":
        click.echo(
            f"the disk is {report.used_percent:.1f}% full: what is proven to be elsewhere goes before its time"
        )
    verb = "would delete" if report.dry_run else "deleted"
    click.echo(f"{verb} {_sum(report.deleted)} in {report.seconds:.1f} s; {_sum(report.kept)} kept")
    for code, total in sorted(report.kept.items(), key=lambda one: -one[1].bytes):
        overdue = report.overdue.get(code)
        note = f", {overdue.files:,} of them older than they have to be" if overdue is not None else ""
        click.echo(f"  {code:<20} {counted(total.files, 'file'):>12}  {size(total.bytes):>9}{note}")
    if report.temporaries_deleted:
        click.echo(
            f"deleted {counted(report.temporaries_deleted, 'temporary file')} of runs that were cut off"
        )


def _line(told: Told) -> str:
    return f"{told.path} {told.text}"


def _sum(sums: dict[str, Sum]) -> str:
    files, total = sum(one.files for one in sums.values()), sum(one.bytes for one in sums.values())
    return f"{counted(files, 'file')} ({size(total)})"
