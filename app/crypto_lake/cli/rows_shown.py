"""Rows of a query on a terminal, in a pipe, or in a file. What commands that read the lake share."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from crypto_lake.access.errors import (
    DamagedError,
    InvalidArgumentError,
    LakeError,
    NoDataError,
    QueryError,
    UnknownSymbolError,
)
from crypto_lake.cli.common import CommandError, ExitCode

FORMATS: Final = ("table", "csv", "json", "parquet")
SCHEMA: Final = 1
_HEAD: Final = 30
_TAIL: Final = 10
_WIDTH_IN_A_PIPE: Final = 10_000

Row = Sequence[Any]
T = TypeVar("T")
_unfinished: set[Path] = set()


def lake_options(command: Any) -> Any:
    """Where the lake is, and which exchange's."""
    command = click.option("--exchange", help="Whose bars, where the lake has those of several exchanges.")(
        command
    )
    return click.option(
        "--data",
        envvar="CRYPTO_LAKE_DATA",
        default="data",
        show_default=True,
        metavar="LAKE",
        help="A data directory, file:///folder, or gs://bucket/prefix.",
    )(command)


def output_options(command: Any) -> Any:
    command = click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to this file, whole or not at all.",
    )(command)
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        help="How to print.  [default: by the ending of --out; else table on a terminal, csv in a pipe]",
    )(command)


def format_of(output: str | None, out: Path | None) -> str:
    if output is None and out is not None:
        output = out.suffix.removeprefix(".")
        if output not in FORMATS:
            raise CommandError(
                f"--out {out}: say with -o what to write, or end the name in .csv, .json or .parquet",
                ExitCode.USAGE,
            )
    if output is None:
        return "table" if sys.stdout.isatty() else "csv"
    if output == "parquet" and out is None and sys.stdout.isatty():
        raise CommandError("parquet is nothing for a terminal; give --out FILE", ExitCode.USAGE)
    return output


@contextmanager
def target(out: Path | None, *, binary: bool) -> Iterator[IO[Any]]:
    """Standard output, or a file that gets its name when it is whole."""
    if out is None:
        yield sys.stdout.buffer if binary else sys.stdout
        sys.stdout.flush()
        return
    temporary = out.with_name(f".{out.name}.tmp")
    _unfinished.add(temporary)
    try:
        try:
            opened: IO[Any] = (
                temporary.open("wb") if binary else temporary.open("w", encoding="utf-8", newline="")
            )
        except OSError as error:
            raise CommandError(
                f"--out {out}: {error.strerror}; name a file in a folder that is there and may be written to",
                ExitCode.USAGE,
            ) from None
        with opened as file:
            yield file
        temporary.replace(out)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


def stoppable(
    work: Callable[[], T], on_stop: Callable[[], None] | None = None, patience_seconds: float = 0.0
) -> T:
    """What `work` gives, run in a thread of its own, so that Ctrl-C is heard while DuckDB counts.

    Some queries hear no interrupt for minutes. So at Ctrl-C, after `on_stop` and as long as patience lasts, the program
    ends where it stands: it has written nothing but its output, and a file that is not whole goes.
    """
    found: list[T] = []
    failed: list[BaseException] = []
    # Not by the thread itself: before Python 3.13 a `join` that Ctrl-C interrupts takes a running thread for ended.
    ended = threading.Event()

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(0.1):  # without a limit the wait goes on where another thread took the signal
            pass
    except KeyboardInterrupt:
        if on_stop is not None:
            on_stop()
        if not ended.wait(patience_seconds):
            for temporary in list(_unfinished):
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            os._exit(ExitCode.INTERRUPTED)
        # The error's frames hold the query's result: while they are there, the connection takes no other query.
        failed.clear()
        raise
    if failed:
        raise failed.pop()
    return found[0]


def of_lake_error(error: LakeError) -> CommandError:
    match error:
        case InvalidArgumentError() | UnknownSymbolError() | QueryError():
            code = ExitCode.USAGE
        case NoDataError():
            code = ExitCode.FAILURE
        case DamagedError():
            code = ExitCode.GAPS
        case _:
            code = ExitCode.UNAVAILABLE
    return CommandError(str(error), code)


def text_of(value: Any) -> str:
    """Exact and plain: no exponent, no rounding; times in UTC."""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:f}"
        case datetime():
            zone = "" if value.tzinfo is None else "Z"
            return f"{value.replace(tzinfo=None).isoformat(sep=' ')}{zone}"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _short(value: Any) -> str:
    """For a table: without zeros at the end."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.6g}" if isinstance(value, float) else text_of(value)


def write_table(file: IO[str], names: Sequence[str], rows: Iterable[Row]) -> None:
    """As many columns as fit, and of many rows the first and the last ones; says what it leaves out."""
    head: list[list[str]] = []
    tail: list[list[str]] = []
    numeric = [True] * len(names)
    count = 0
    for row in rows:
        count += 1
        texts = [_short(value) for value in row]
        numeric = [
            so_far and (value is None or isinstance(value, int | float | Decimal))
            for so_far, value in zip(numeric, row, strict=True)
        ]
        if len(head) < _HEAD:
            head.append(texts)
        else:
            tail = [*tail[-_TAIL + 1 :], texts]
    left_out = count - len(head) - len(tail)
    widths = [max(map(len, (name, *(row[at] for row in (*head, *tail))))) for at, name in enumerate(names)]
    width = shutil.get_terminal_size().columns if file.isatty() else _WIDTH_IN_A_PIPE
    fitting, used = 0, 0
    for column in widths:
        used += column + (2 if fitting else 0)
        if used > width and fitting:
            break
        fitting += 1

    def line(texts: Sequence[str]) -> str:
        cells = [
            text.rjust(widths[at]) if numeric[at] else text.ljust(widths[at])
            for at, text in enumerate(texts[:fitting])
        ]
        return "  ".join(cells).rstrip()[:width]

    print(line(list(names)), file=file)
    for row in head:
        print(line(row), file=file)
    if left_out:
        print(f"… {left_out:,} more rows; -o csv or --out FILE has all", file=file)
    for row in tail:
        print(line(row), file=file)
    if fitting < len(names):
        print(f"… and the columns {', '.join(names[fitting:])}", file=file)
    print(f"{count:,} row{'' if count == 1 else 's'}", file=file)


def write_csv(file: IO[str], names: Sequence[str], rows: Iterable[Row]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([text_of(value) for value in row] for row in rows)


def write_json(file: IO[str], names: Sequence[str], rows: Iterable[Row]) -> None:
    """One document. Decimals are texts, so that no reader rounds them."""
    file.write(f'{{"schema":{SCHEMA},"columns":{json.dumps(list(names))},"rows":[')
    for number, row in enumerate(rows):
        file.write(",\n" if number else "\n")
        named = dict(zip(names, map(_json_value, row), strict=True))
        file.write(json.dumps(named, ensure_ascii=False, default=text_of))
    file.write("\n]}\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return text_of(value).replace(" ", "T")
    if isinstance(value, float) and value != value:
        return None
    return value if isinstance(value, bool | int | float | str | list | dict | None) else text_of(value)


WRITERS: Final[dict[str, Callable[[IO[str], Sequence[str], Iterable[Row]], None]]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
}
