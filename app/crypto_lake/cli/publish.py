"""`crypto-lake publish`: final days of bars, made from all collectors' raw, into the bucket."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import (
    NO_BUCKET,
    exit_code_of,
    layout_if_there,
    log_to_file,
    open_configured,
    shown,
)
from crypto_lake.cli.common import CommandError, ExitCode, complain, lake_options, load_settings
from crypto_lake.cli.outcome import leave, outcome_option
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, clock_of, day_option, symbol_option
from crypto_lake.cli.upload import stopping

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock
    from crypto_lake.store import Store
    from crypto_lake.upkeep.publish import Progress, Selection
    from crypto_lake.upkeep.publish_report import DayOutcome, PublishReport

_SHOWN = 30
# What is printed of a run, in this order: first what was done, last what a person must look at.
_ORDER = ("completed", "published", "planned", "noted", "waits", "raced", "failed", "alert")


@click.command()
@symbol_option
@day_option
@click.option("--rebuild", is_flag=True, help="Make days again even where nothing is new.")
@click.option("--dry-run", is_flag=True, help="Tell what would be published, and change nothing.")
@click.option(
    "--staging",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a day is put together; room for its raw.  [default: state/publishing, else a temporary folder]",
)
@outcome_option
@lake_options
def command(
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    rebuild: bool,
    dry_run: bool,
    staging: Path | None,
    outcome: Path | None,
    output: str,
    **options: Any,
) -> int:
    """Publish final days of bars, the oldest first: made from all collectors' raw in the bucket.

    It needs no data directory; where there is one, raw that is there is not fetched. A day is final when it is over,
    all its raw is in the bucket and every missing trade has an outcome, and 48 hours after its end at the latest.
    What comes later makes a new version. A file in the bucket that this program did not write is never overwritten
    (exit code 3, as where two copies of a trade differ). Any number of these may run, and be interrupted anywhere.
    """
    import msgspec

    from crypto_lake.upkeep.publish import Selection

    check_selection(symbols, days)
    config = load_settings(options).config
    layout = layout_if_there(config, named=options["data"] is not None)
    store = open_configured(config)
    if store is None:
        raise CommandError(NO_BUCKET, ExitCode.USAGE)
    if layout is not None and not dry_run:
        log_to_file(config, layout)
    with stopping() as stop:
        report = _publish(
            store,
            layout,
            clock_of(config, layout),
            staging,
            Selection(symbols or None, days or None, rebuild),
            dry_run,
            stop,
        )
        store.close()
    if outcome is not None:
        _leave(outcome, report)
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    return _exit_code(report)


def _publish(
    store: Store,
    layout: Layout | None,
    clock: Clock,
    staging: Path | None,
    selection: Selection,
    dry_run: bool,
    stop: threading.Event,
) -> PublishReport:
    from crypto_lake.upkeep.publish import publish

    with _Shown(live=sys.stderr.isatty()) as bar:
        return publish(
            store,
            layout=layout,
            staging=staging,
            clock=clock,
            selection=selection,
            dry_run=dry_run,
            stop=stop,
            progress=bar.update if bar.live else None,
        )


def _leave(path: Path, report: PublishReport) -> None:
    from crypto_lake.model.task_outcome import TaskOutcome

    problem = report.problem
    left = TaskOutcome(
        task="publish",
        ok=not problem,
        problem=problem,
        last_published_day=report.last_published_day,
        copies=report.copies,
    )
    leave(path, left, stopped=report.stopped)


class _Shown:
    """Days, the raw of the day at hand and the time left on a terminal; nothing in a pipe."""

    def __init__(self, *, live: bool) -> None:
        self.live = live

    def __enter__(self) -> _Shown:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[raw]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("publishing", total=None, raw="")
        return self

    def update(self, progress: Progress) -> None:
        # A day counts as far as its raw is here, so that the time left moves within it.
        part = progress.bytes_done / progress.bytes if progress.bytes else 0.0
        raw = f"{size(progress.bytes_done)} of {size(progress.bytes)}" if progress.bytes else ""
        self._bar.update(
            self._task,
            total=progress.days,
            completed=progress.days_done + part,
            description=f"{progress.at}, {progress.days_done:,} of {progress.days:,} days",
            raw=raw,
        )

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._bar.stop()


def _exit_code(report: PublishReport) -> int:
    if report.error:
        complain(report.error)
        return exit_code_of(report.error_is_transient)
    if report.of("failed"):
        return ExitCode.FAILURE
    if report.of("alert") or report.differing:
        return ExitCode.GAPS
    return ExitCode.INTERRUPTED if report.stopped else ExitCode.OK


def _print(report: PublishReport) -> None:
    for outcome in _ORDER:
        shown([day for day in report.days if day.outcome == outcome], _SHOWN, _line)
    told = [f"{number:,} {name}" for name, number in report.counts.items()]
    stopped = "stopped; " if report.stopped else ""
    click.echo(
        f"{stopped}{', '.join([*told, f'{report.up_to_date:,} up to date'])} in {report.url}; "
        f"{size(report.bytes_read)} fetched in {report.seconds:.1f} s"
    )


def _line(day: DayOutcome) -> str:
    made = ""
    if day.outcome in ("published", "completed", "noted"):
        notes = [f"{day.missing_ids:,} ids missing"] if day.missing_ids else []
        notes += [day.differ] if day.differ else []
        notes += [f"{counted(day.carried_hours, 'hour')} carried over"] if day.carried_hours else []
        made = (
            f"version {day.version}, {day.rows:,} bars of {day.trades:,} trades, "
            f"{counted(day.collectors, 'collector')}, {counted(day.objects, 'object')}"
            f"{''.join(f', {note}' for note in notes)}: "
        )
    return f"{day.symbol:<12} {day.day}  {day.outcome}: {made}{day.text}"
