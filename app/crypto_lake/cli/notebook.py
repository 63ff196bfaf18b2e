"""`crypto-lake notebook`: a copy of the analysis notebook, opened in Jupyter."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from crypto_lake.cli.common import PROGRAM, CommandError, ExitCode

NAME = "analysis.ipynb"
_TEMPLATE = "analysis_template.ipynb"
_LAKE_LINE = 'LAKE = "data"'
_EXTRA = "pip install 'crypto-lake[notebook]'"


@click.command()
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    envvar="CRYPTO_LAKE_DATA",
    default="data",
    show_default=True,
    metavar="LAKE",
    help="What the copy reads: a data directory, or gs://bucket/prefix.",
)
@click.option("--open/--no-open", "opened", default=True, help="Open it in Jupyter, or copy it only.")
def command(folder: Path, data: str, opened: bool) -> None:
    """Copy the analysis notebook into FOLDER (here, by default) as analysis.ipynb, and open it in Jupyter.

    A file that is there is never overwritten: it is opened as it is. Jupyter and matplotlib come with the extra
    `notebook`.
    """
    target, text = folder / NAME, _copy(data)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # "x": it is made here or not at all, also where another process makes it at the same time.
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(f"{target} is there, on the lake {data}", err=True)
    except FileExistsError:
        told = f"{target} is there already and stays as it is"
        if not opened:
            raise CommandError(f"{told}; name another folder, or move it away", ExitCode.USAGE) from None
        click.echo(told, err=True)
    missing = [name for name in ("jupyterlab", "matplotlib") if not _installed(name)]
    if not opened:
        hint = f"; first {_EXTRA}" if missing else ""
        click.echo(f"open it with: {PROGRAM} notebook {folder}{hint}", err=True)
        return
    if missing:
        raise CommandError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; run {_EXTRA}",
            ExitCode.USAGE,
        )
    sys.stdout.flush()
    # In place of this process: Ctrl-C, the terminal and the exit code are Jupyter's own.
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(target)])  # noqa: S606


def _copy(data: str) -> str:
    """The notebook, with the lake's place in its settings: absolute, since Jupyter may run it elsewhere."""
    from importlib.resources import files

    text = files("crypto_lake.cli").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    place = data if "://" in data else str(Path(data).absolute())
    line = f"LAKE = {place!r}"
    before = json.dumps(_LAKE_LINE)[1:-1]
    assert text.count(before) == 1, f"{_TEMPLATE} has no {_LAKE_LINE}"
    return text.replace(before, json.dumps(line)[1:-1])


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
