"""`crypto-lake verify`: every file read again and compared with its manifest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, day_option, existing_lake, symbol_option

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.verify import Progress
    from crypto_lake.upkeep.verify_report import Difference, VerifyReport

_SHOWN = 100


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@data_option
@symbol_option
@day_option
@click.option("--quick", is_flag=True, help="Sizes and checksums alone, where there is a manifest.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes.  [default: the cores]")
@output_option
def command(
    paths: tuple[Path, ...],
    data: Path | None,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    quick: bool,
    workers: int | None,
    output: str,
) -> int:
    """Read the lake's files again and compare them with their manifests.

    PATHS are files or folders of the lake; without any, everything is read. Each difference is told with the file and,
    as far as it can be known, the byte, line or hour. Exit code 3 where there is one. It changes nothing, and may
    run beside everything else.
    """
    import msgspec

    from crypto_lake.upkeep.verify import verify_disk

    check_selection(symbols, days)
    layout = existing_lake(data)
    only = _named(layout, paths)
    with _Shown() as shown:
        report = verify_disk(
            layout,
            symbols=symbols or None,
            days=days or None,
            only=only,
            quick=quick,
            workers=workers,
            progress=shown.update if shown.live else None,
        )
    if paths and not report.files and not report.differences and not report.unknown:
        raise CommandError(
            f"{' '.join(map(str, paths))}: no file of {layout.root} that can be verified", ExitCode.USAGE
        )
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    return ExitCode.GAPS if report.differences else ExitCode.OK


def _named(layout: Layout, paths: Sequence[Path]) -> Callable[[str], bool] | None:
    """Which names the paths mean: given as they are, or below the data directory. None: all."""
    if not paths:
        return None
    root = layout.root.resolve()
    names: list[str] = []
    for path in paths:
        for candidate in (path.resolve(), (root / path).resolve()):
            if candidate.is_relative_to(root) and (candidate.exists() or path.is_absolute()):
                names.append(candidate.relative_to(root).as_posix())
                break
        else:
            raise CommandError(f"{path}: not there, or not in {layout.root}", ExitCode.USAGE)
    # A manifest stands for its file.
    names = [
        name.removeprefix("manifests/").removesuffix(".json") if name.startswith("manifests/") else name
        for name in names
    ]
    return lambda name: any(start in (".", name) or name.startswith(f"{start}/") for start in names)


class _Shown:
    """Bytes of total on a terminal; nothing in a pipe."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def __enter__(self) -> _Shown:
        if self.live:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("verifying", total=None)
        return self

    def update(self, progress: Progress) -> None:
        differ = f", {progress.differences:,} differ" if progress.differences else ""
        self._bar.update(
            self._task,
            total=progress.bytes,
            completed=progress.bytes_done,
            description=f"{progress.files_done:,} of {progress.files:,} files{differ}",
        )

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._bar.stop()


def _print(report: VerifyReport) -> None:
    for difference in report.differences[:_SHOWN]:
        click.echo(f"{difference.path}{_place(difference)}: {difference.problem}")
    if len(report.differences) > _SHOWN:
        click.echo(f"and {len(report.differences) - _SHOWN:,} more; -o json has all")
    for name in report.unknown[:_SHOWN]:
        click.echo(f"{name}: not a file of the lake; not looked at")
    notes = [
        text
        for count, text in (
            (report.without_manifest, f"{report.without_manifest:,} not sealed yet"),
            (report.open_parts, f"{counted(report.open_parts, 'part')} being written, not looked at"),
            (report.absent, f"{report.absent:,} in the bucket alone"),
            (
                report.unfinished,
                f"{counted(report.unfinished, 'hour')} that `crypto-lake compact` will complete",
            ),
        )
        if count
    ]
    files = len({difference.path for difference in report.differences})
    verdict = f"{counted(files, 'file')} with differences" if files else "all as they should be"
    click.echo(
        f"{counted(report.files, 'file')}, {size(report.bytes)} in {report.seconds:.1f} s: {verdict}"
        f"{''.join(f'; {note}' for note in notes)}"
    )


def _place(difference: Difference) -> str:
    if difference.offset is not None:
        return f", {difference.size:,} bytes from byte {difference.offset:,}"
    if difference.line is not None:
        return f", line {difference.line:,}"
    return f", hour {difference.hour:02d}" if difference.hour is not None else ""
