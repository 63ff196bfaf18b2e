"""What became of a task that has no volume, left where whoever started it reads it (`--outcome`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import complain

if TYPE_CHECKING:
    from crypto_lake.model.task_outcome import TaskOutcome

outcome_option = click.option(
    "--outcome",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TASK_OUTCOME",
    help="Write what became of it into this file, too, as a line of JSON: a container's /dev/termination-log.",
)


def leave(path: Path, outcome: TaskOutcome, *, stopped: bool = False) -> None:
    """Write the line. Where that can't be, it is told and no more: what the task did is done."""
    from crypto_lake.model.task_outcome import encode

    if stopped and outcome.ok:  # it neither failed nor came to an end: the next run goes on
        return
    try:
        path.write_bytes(encode(outcome))
    except OSError as error:
        complain(f"--outcome {path}: {error.strerror}")
