"""`crypto-lake upload`: what is sealed goes to the bucket."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import (
    NO_BUCKET,
    TransferShown,
    existing_layout,
    exit_code_of,
    log_to_file,
    open_configured,
    shown,
)
from crypto_lake.cli.common import (
    CommandError,
    ExitCode,
    complain,
    load_settings,
    output_option,
    setting_options,
)
from crypto_lake.cli.progress import counted, size

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock
    from crypto_lake.store import Store
    from crypto_lake.upkeep.upload import Settings
    from crypto_lake.upkeep.upload_report import Refused, UploadReport

_SHOWN = 20
# From SIGTERM until the process ends however far the requests under way are: what they leave, the next run completes.
STOP_SECONDS = 8.0


@click.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be uploaded, and change nothing.")
@click.option(
    "--bandwidth",
    "bandwidth_mb_per_s",
    type=click.FloatRange(min=0),
    help="At most so many MB (10^6 bytes) a second.  [default: gcs.bandwidth_mb_per_s]",
)
@setting_options
@output_option
def command(dry_run: bool, bandwidth_mb_per_s: float | None, output: str, **options: Any) -> int:
    """Put sealed raw, its manifests and closed days of the ledgers into the bucket, the oldest first; then verdicts and
    reports of finished days.

    Each object is made once (verdicts and reports: replaced, when they were made anew), read back, and recorded; what is
    recorded is not asked for again. It may run beside
    everything else, and be interrupted anywhere: the next run goes on. A file that is not what its manifest says is
    told and not uploaded, and an object that is there already with other bytes is left as it is (exit code 3).
    """
    import msgspec

    from crypto_lake.cli.selection import clock_of
    from crypto_lake.upkeep.upload import Settings

    config = load_settings(options).config
    layout = existing_layout(config)
    store = open_configured(config)
    if store is None:
        raise CommandError(NO_BUCKET, ExitCode.USAGE)
    if not dry_run:
        log_to_file(config, layout)
    limit = config.gcs.bandwidth_mb_per_s if bandwidth_mb_per_s is None else bandwidth_mb_per_s
    with stopping() as stop:
        settings = Settings(config.gcs.workers, limit * 1e6)
        report = _upload(layout, store, clock_of(config, layout), settings, dry_run, stop)
        store.close()
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    return _exit_code(report)


@contextmanager
def stopping() -> Generator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set. A second signal, or requests that take too long, end the process."""
    stop = threading.Event()

    def end() -> None:
        os._exit(ExitCode.INTERRUPTED)

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            end()
        stop.set()
        timer = threading.Timer(STOP_SECONDS, end)
        timer.daemon = True
        timer.start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _upload(
    layout: Layout, store: Store, clock: Clock, settings: Settings, dry_run: bool, stop: threading.Event
) -> UploadReport:
    from crypto_lake.upkeep.upload import upload
    from crypto_lake.upkeep.upload_report import Progress

    with TransferShown("uploading", live=sys.stderr.isatty() and not dry_run) as bar:

        def show(progress: Progress) -> None:
            bar.update(
                files_done=progress.files_done,
                files=progress.files,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes,
            )

        try:
            return upload(
                layout,
                store,
                clock=clock,
                settings=settings,
                dry_run=dry_run,
                stop=stop,
                progress=show if bar.live else None,
            )
        except ValueError as error:
            raise CommandError(str(error)) from None


def _exit_code(report: UploadReport) -> int:
    if report.error:
        complain(report.error)
        return exit_code_of(report.error_is_transient)
    if report.failed:
        return ExitCode.FAILURE
    if report.conflicts or report.changed:
        return ExitCode.GAPS
    return ExitCode.INTERRUPTED if report.stopped and report.pending.files else ExitCode.OK


def _print(report: UploadReport) -> None:
    for items in (report.conflicts, report.changed, report.failed):
        shown(items, _SHOWN, _line)
    if report.dry_run:
        shown(report.planned, _SHOWN, str)
        click.echo(
            f"would upload {counted(report.pending.files, 'object')}, {size(report.pending.bytes)}, to {report.url}; "
            f"{counted(report.done.files, 'file')} there already{_waiting(report)}"
        )
        return
    found = f", {report.found.files:,} there already" if report.found.files else ""
    stopped = "stopped; " if report.stopped else ""
    left = ""
    if report.pending.files:
        since = ""
        if report.oldest_pending_ns is not None:
            oldest = datetime.fromtimestamp(report.oldest_pending_ns / 1e9, UTC)
            since = f", the oldest of {oldest:%Y-%m-%d %H:%M}"
        left = f"; {counted(report.pending.files, 'object')} left ({size(report.pending.bytes)}{since})"
    click.echo(
        f"{stopped}{counted(report.created.files, 'object')} uploaded ({size(report.created.bytes)}) to {report.url} in "
        f"{report.seconds:.1f} s{found}{left}{_waiting(report)}"
    )


def _line(refused: Refused) -> str:
    return f"{refused.path}: {refused.problem}"


def _waiting(report: UploadReport) -> str:
    from crypto_lake.upkeep.upload_plan import REASONS

    told = ""
    for why, text in REASONS.items():
        if why in report.waiting:
            told += f"\n{counted(report.waiting[why].files, 'file')} ({size(report.waiting[why].bytes)}) not yet: {text}"
    return told
