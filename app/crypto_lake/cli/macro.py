"""`crypto-lake macro`: daily series beside the bars, asked of their provider and kept with what was known when."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import (
    existing_layout,
    exit_code_of,
    layout_if_there,
    log_to_file,
    open_configured,
    shown,
)
from crypto_lake.cli.common import CommandError, ExitCode, complain, lake_options, load_settings
from crypto_lake.cli.outcome import leave, outcome_option
from crypto_lake.cli.progress import counted
from crypto_lake.cli.selection import read_day
from crypto_lake.cli.upload import stopping

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.macro.plan import Span
    from crypto_lake.macro.report import MacroReport, SeriesReport
    from crypto_lake.macro.run import Progress, Task
    from crypto_lake.store import Store

_SHOWN = 20

series_option = click.option(
    "--series",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this series, such as ^GSPC. May be repeated.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Ask, tell what is new, and change nothing.")


@click.group()
def command() -> None:
    """Keep daily macro series (indices, futures, yields) beside the bars.

    What is told of a day is kept with the time at which it was first known. A revised value is a new version, beside
    the old one. Kept in the data directory, in the bucket where one is configured, or in both.
    """


@command.command()
@series_option
@click.option("--from", "first", metavar="YYYY-MM-DD", help="The first day.  [default: macro.start]")
@click.option("--to", "last", metavar="YYYY-MM-DD", help="The last day.  [default: today]")
@dry_run_option
@lake_options
def backfill(first: str | None, last: str | None, **options: Any) -> int:
    """Ask for the whole history, once or again: what is known stays, and what differs is a new version."""
    return _ask("backfill", first, last, options)


@command.command()
@series_option
@dry_run_option
@outcome_option
@lake_options
def update(outcome: Path | None, **options: Any) -> int:
    """Ask for the days since the latest known one, and the last days before it again, since they may be revised.

    A series of which nothing is known is asked for from macro.start on. Meant for a schedule, once or twice a day.
    """
    return _ask("update", None, None, options, outcome)


@command.command()
@series_option
@lake_options
def check(names: tuple[str, ...], output: str, **options: Any) -> int:
    """Read what is kept, and tell which days are absent and why. Exit code 3 where there are gaps."""
    from crypto_lake.macro.run import check

    config = load_settings(options).config
    series = _series(config, names)
    store = open_configured(config)
    layout = _layout(config, named=options["data"] is not None, needed=store is None, made=False)
    report = check(series, layout=layout, store=store)
    if store is not None:
        store.close()
    _tell(report, output)
    return _exit_code(report, gaps_count=True)


def _ask(
    task: Task, first: str | None, last: str | None, options: dict[str, Any], outcome: Path | None = None
) -> int:
    dry_run: bool = options["dry_run"]
    config = load_settings(options).config
    series = _series(config, options["names"])
    span = _span(config, first, last)
    _need_yfinance()
    store = open_configured(config)
    layout = _layout(config, named=options["data"] is not None, needed=store is None, made=not dry_run)
    if layout is not None and not dry_run:
        log_to_file(config, layout)
    report = _run(task, series, config, span, layout, store, dry_run=dry_run)
    if store is not None:
        store.close()
    if outcome is not None:
        _leave(outcome, report)
    _tell(report, options["output"])
    return _exit_code(report, gaps_count=False)


def _run(
    task: Task,
    series: tuple[str, ...],
    config: Config,
    span: Span | None,
    layout: Layout | None,
    store: Store | None,
    *,
    dry_run: bool,
) -> MacroReport:
    from crypto_lake.macro.run import Settings, run
    from crypto_lake.macro.yahoo import Yahoo

    macro = config.macro
    try:
        provider = Yahoo(proxy=macro.proxy, ca_file=macro.ca_file)
    except OSError as error:
        raise CommandError(f"macro.ca_file {macro.ca_file}: {error.strerror}", ExitCode.USAGE) from None
    settings = Settings(macro.start, macro.revisit_days, macro.patience_seconds)
    try:
        with stopping() as stop, _Shown(live=sys.stderr.isatty()) as bar:
            return run(
                task,
                series,
                provider,
                settings=settings,
                layout=layout,
                store=store,
                span=span,
                dry_run=dry_run,
                stop=stop,
                progress=bar.update if bar.live else None,
                say=bar.say,
            )
    finally:
        provider.close()


def _series(config: Config, names: tuple[str, ...]) -> tuple[str, ...]:
    from crypto_lake.model.series import InvalidSeriesError, validate_series

    try:
        found = tuple(dict.fromkeys(validate_series(name) for name in names)) or config.macro.series
    except InvalidSeriesError as error:
        raise CommandError(f"--series: {error}", ExitCode.USAGE) from None
    if not found:
        raise CommandError("macro.series is empty; name at least one, or --series", ExitCode.USAGE)
    return found


def _span(config: Config, first: str | None, last: str | None) -> Span | None:
    import time

    from crypto_lake.macro.plan import Span, today_of

    if first is None and last is None:
        return None
    today = today_of(time.time_ns() // 1000)
    begin = read_day("--from", first) if first else config.macro.start
    end = min(read_day("--to", last), today) if last else today
    if begin > end:
        raise CommandError(f"from {begin} to {end}: that is no day at all", ExitCode.USAGE)
    return Span(begin, end)


def _layout(config: Config, *, named: bool, needed: bool, made: bool) -> Layout | None:
    """The data directory; None where a bucket is configured and there is none. `made`: made where it is `needed`."""
    from crypto_lake.lake import durable

    if not needed:
        return layout_if_there(config, named=named)
    if made:
        durable.make_directory(Path(config.data))
    return existing_layout(config)


def _need_yfinance() -> None:
    import importlib.util

    if importlib.util.find_spec("yfinance") is None:
        raise CommandError(
            "yfinance is not installed, and series are asked for through it; pip install 'crypto-lake[macro]'",
            ExitCode.USAGE,
        )


class _Shown:
    """The series at hand on a terminal; in a pipe only what is said: waits."""

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self.say: Callable[[str], None] = complain

    def __enter__(self) -> _Shown:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            console = Console(stderr=True)
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f} series"),
                console=console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("asking", total=1)
            self.say = lambda text: console.print(text, markup=False, highlight=False)
        return self

    def update(self, progress: Progress) -> None:
        self._bar.update(
            self._task, total=progress.series, completed=progress.series_done, description=progress.at
        )

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._bar.stop()


def _leave(path: Path, report: MacroReport) -> None:
    from crypto_lake.model.task_outcome import TaskOutcome

    left = TaskOutcome(task="macro", ok=not report.problem, problem=report.problem)
    leave(path, left, stopped=report.stopped)


def _exit_code(report: MacroReport, *, gaps_count: bool) -> int:
    if report.error:
        complain(report.error)
        return exit_code_of(report.error_is_transient)
    for one in report.of("failed", "waits", "not_asked", "alert"):
        complain(one.text)
    if report.of("failed"):
        return ExitCode.FAILURE
    if report.of("alert") or (gaps_count and any(one.gaps for one in report.series)):
        return ExitCode.GAPS
    if report.of("waits", "not_asked"):
        return ExitCode.UNAVAILABLE
    return ExitCode.INTERRUPTED if report.stopped else ExitCode.OK


def _tell(report: MacroReport, output: str) -> None:
    import msgspec

    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
        return
    told = report.of("updated", "unchanged", "planned")
    for one in told:
        click.echo(_line(one))
        shown([f"    {absent.day} {absent.kind}: {absent.why}" for absent in one.absent], _SHOWN, str)
    for one in told:
        shown(
            [
                f"{one.series} {revision.day} revised: close {revision.close_before:g} -> {revision.close:g} "
                f"({', '.join(revision.fields)})"
                for revision in one.revised
            ],
            _SHOWN,
            str,
        )
    where = " and ".join(filter(None, (report.data, report.url)))
    waited = f", {report.waited_seconds:.0f} s of them waiting" if report.waited_seconds >= 1 else ""
    stopped = "stopped; " if report.stopped else ""
    click.echo(
        f"{stopped}{len(told)} of {len(report.series)} series in {where}; {report.seconds:.1f} s{waited}"
    )


def _line(one: SeriesReport) -> str:
    parts = [one.text, f"{counted(one.known_days, 'day')} from {one.first} to {one.last}"]
    parts += [f"latest {one.latest}"] if one.latest else []
    parts += [f"{counted(one.holidays, 'holiday')}"] if one.holidays else []
    parts += [f"{counted(one.gaps, 'gap')}"] if one.gaps else []
    parts += [f"{one.unconfirmed:,} unconfirmed"] if one.unconfirmed else []
    parts += [f"{counted(len(one.unfinished), 'day')} not over yet"] if one.unfinished else []
    return f"{one.series:<10} {', '.join(parts)}"
