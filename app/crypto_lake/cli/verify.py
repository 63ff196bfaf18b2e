"""`crypto-lake verify`: every file read again and compared with its manifest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.bucket import TransferShown, exit_code_of, shown
from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, day_option, existing_lake, symbol_option

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.bucket_verify_report import BucketReport
    from crypto_lake.upkeep.verify import Progress
    from crypto_lake.upkeep.verify_report import Difference, VerifyReport

_SHOWN = 100


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@data_option
@symbol_option
@day_option
@click.option("--quick", is_flag=True, help="Sizes and checksums alone, where there is a manifest.")
@click.option(
    "--bucket", metavar="URL", help="Compare a bucket instead: gs://bucket/prefix or file:///folder."
)
@click.option("--deep", is_flag=True, help="With --bucket: fetch raw and bars too, and read them whole.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes.  [default: the cores]")
@output_option
def command(
    paths: tuple[Path, ...],
    data: Path | None,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    quick: bool,
    bucket: str | None,
    deep: bool,
    workers: int | None,
    output: str,
) -> int:
    """Read the lake's files again and compare them with their manifests.

    PATHS are files or folders of the lake; without any, everything is read. Each difference is told with the file and,
    as far as it can be known, the byte, line or hour. Exit code 3 where there is one. It changes nothing, and may
    run beside everything else.

    With --bucket every object is compared with its manifest, published days with the raw that they name, and ledgers
    with their own chain, from day to day.
    """
    import msgspec

    from crypto_lake.upkeep.verify import verify_disk

    check_selection(symbols, days)
    if bucket is not None:
        given = [
            name for name, is_given in (("PATHS", paths), ("--data", data), ("--quick", quick)) if is_given
        ]
        if given:
            raise CommandError(
                f"--bucket looks at no data directory; leave out {', '.join(given)}", ExitCode.USAGE
            )
        return _verify_bucket(bucket, symbols, days, deep=deep, output=output)
    if deep:
        raise CommandError("--deep goes with --bucket; without it everything is read anyway", ExitCode.USAGE)
    layout = existing_lake(data)
    only = _named(layout, paths)
    with TransferShown("verifying", live=sys.stderr.isatty()) as bar:

        def show(progress: Progress) -> None:
            bar.update(
                files_done=progress.files_done,
                files=progress.files,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes,
                differences=progress.differences,
            )

        report = verify_disk(
            layout,
            symbols=symbols or None,
            days=days or None,
            only=only,
            quick=quick,
            workers=workers,
            progress=show if bar.live else None,
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


def _verify_bucket(
    url: str, symbols: tuple[str, ...], days: tuple[str, ...], *, deep: bool, output: str
) -> int:
    import msgspec

    from crypto_lake.store import StoreError, open_store
    from crypto_lake.upkeep.bucket_verify import verify_bucket
    from crypto_lake.upkeep.bucket_verify_report import BucketProgress

    with TransferShown("verifying", live=sys.stderr.isatty()) as bar:

        def show(progress: BucketProgress) -> None:
            bar.update(
                files_done=progress.objects_done,
                files=progress.objects,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes,
                differences=progress.differences,
            )

        try:
            store = open_store(url)
            try:
                report = verify_bucket(
                    store,
                    symbols=symbols or None,
                    days=days or None,
                    deep=deep,
                    progress=show if bar.live else None,
                )
            finally:
                store.close()
        except StoreError as error:
            raise CommandError(str(error), exit_code_of(error.transient)) from None
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print_bucket(report)
    return ExitCode.GAPS if report.differences else ExitCode.OK


def _print_bucket(report: BucketReport) -> None:
    _print_differences(report.differences, report.unknown)
    notes = [
        text
        for count, text in (
            (len(report.without_manifest), f"{len(report.without_manifest):,} without a manifest yet"),
            (report.gone_inputs, f"{report.gone_inputs:,} of raw known to be gone"),
        )
        if count
    ]
    click.echo(
        f"{report.url}: {counted(report.objects, 'object')}, {size(report.bytes)} ({size(report.bytes_read)} read) in "
        f"{report.seconds:.1f} s: {_verdict(report.differences)}{''.join(f'; {note}' for note in notes)}"
    )


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


def _print(report: VerifyReport) -> None:
    _print_differences(report.differences, report.unknown)
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
    click.echo(
        f"{counted(report.files, 'file')}, {size(report.bytes)} in {report.seconds:.1f} s: {_verdict(report.differences)}"
        f"{''.join(f'; {note}' for note in notes)}"
    )


def _print_differences(differences: Sequence[Difference], unknown: Sequence[str]) -> None:
    shown(list(differences), _SHOWN, lambda one: f"{one.path}{_place(one)}: {one.problem}")
    for name in unknown[:_SHOWN]:
        click.echo(f"{name}: not a file of the lake; not looked at")


def _verdict(differences: Sequence[Difference]) -> str:
    files = len({difference.path for difference in differences})
    return f"{counted(files, 'file')} with differences" if files else "all as they should be"


def _place(difference: Difference) -> str:
    if difference.offset is not None:
        return f", {difference.size:,} bytes from byte {difference.offset:,}"
    if difference.line is not None:
        return f", line {difference.line:,}"
    return f", hour {difference.hour:02d}" if difference.hour is not None else ""
