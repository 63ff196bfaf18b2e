"""What commands on a bucket share: which one is configured, and what its errors mean for the exit code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import CommandError, ExitCode

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.store import Store
    from crypto_lake.upkeep.disk_budget import Limits

NO_BUCKET = "no bucket is configured; set gcs.bucket_name or gcs.url, for instance --set gcs.url=gs://my-bucket/my-lake"


def existing_layout(config: Config) -> Layout:
    """The configured lake. Raises CommandError where its directory is not there."""
    from crypto_lake.cli.selection import existing_lake

    return existing_lake(Path(config.data))


def layout_if_there(config: Config, *, named: bool) -> Layout | None:
    """The data directory beside a bucket: None where there is none. Raises CommandError where it was `named` all the same."""
    from crypto_lake.lake.layout import Layout

    root = Path(config.data)
    if root.is_dir():
        return Layout(root)
    if named:
        raise CommandError(
            f"--data {root}: there is no such directory; leave it out to do without", ExitCode.USAGE
        )
    return None


def open_configured(config: Config) -> Store | None:
    """The configured bucket, None where there is none. Raises CommandError where it can't be opened."""
    from crypto_lake.store import StoreError, open_store

    if not config.gcs.store_url:
        return None
    try:
        return open_store(config.gcs.store_url)
    except StoreError as error:
        raise CommandError(str(error), exit_code_of(error.transient)) from None


def exit_code_of(transient: bool) -> ExitCode:
    """Of an error of the store: whether the same call may succeed later, with nothing changed by a person."""
    return ExitCode.UNAVAILABLE if transient else ExitCode.FAILURE


def disk_limits(config: Config) -> Limits:
    from crypto_lake.upkeep.disk_budget import Limits

    disk = config.disk
    return Limits(disk.shed_percent, disk.stop_derived_percent, int(disk.limit_gb * 1e9))


def log_to_file(config: Config, layout: Layout) -> None:
    """Records of this command in the lake's log; on the console only what the command itself tells."""
    from crypto_lake.watch import logs

    with suppress(OSError):
        logs.set_up(
            console="CRITICAL",
            file=config.logging.file,
            path=layout.log,
            file_bytes=config.logging.file_bytes,
            file_count=config.logging.file_count,
        )


class TransferShown:
    """Bytes of total, files, rate and time left on a terminal; nothing in a pipe."""

    def __init__(self, what: str, *, live: bool) -> None:
        self.live = live
        self._what = what

    def __enter__(self) -> TransferShown:
        if self.live:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def update(
        self, *, files_done: int, files: int, bytes_done: int, bytes_total: int, differences: int = 0
    ) -> None:
        differ = f", {differences:,} differ" if differences else ""
        self._bar.update(
            self._task,
            total=bytes_total,
            completed=bytes_done,
            description=f"{self._what}: {files_done:,} of {files:,} files{differ}",
        )

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._bar.stop()


def shown(problems: list[Any], most: int, line: Callable[[Any], str]) -> None:
    """The first of them on stdout, a line each, and how many more there are."""
    for one in problems[:most]:
        click.echo(line(one))
    if len(problems) > most:
        click.echo(f"and {len(problems) - most:,} more; -o json has all")
