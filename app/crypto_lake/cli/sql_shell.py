"""The shell of `crypto-lake sql`: statements from a terminal until Ctrl-D."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from crypto_lake.cli.common import CommandError, complain
from crypto_lake.cli.rows_shown import stoppable

if TYPE_CHECKING:
    import duckdb

    from crypto_lake.access.lake import Lake

HISTORY_VARIABLE: Final = "CRYPTO_LAKE_SQL_HISTORY"
_HISTORY_LINES: Final = 2000
_PATIENCE_SECONDS: Final = 5.0
_HELP: Final = """End a statement with ; and Enter. Ctrl-C stops a query, Ctrl-D ends. A query that does not hear it ends the shell.
.views    views and macros (.tables is the same)
.show X   the SQL of view or macro X, to take elsewhere
.quit"""


def is_whole(text: str) -> bool:
    """Whether what was entered ends with a statement's end: a ; that is in no text, name or comment. Pure."""
    import duckdb

    tokens = [kind for kind in duckdb.tokenize(text) if kind[1] != duckdb.token_type.comment]
    return (
        bool(tokens) and tokens[-1][1] == duckdb.token_type.operator and text[_at(text, tokens[-1][0])] == ";"
    )


def _at(text: str, byte: int) -> int:
    """Where in the text a byte of it is: DuckDB counts bytes."""
    return len(text.encode()[:byte].decode())


def shell(connection: duckdb.DuckDBPyConnection, lake: Lake, run: Callable[[duckdb.Statement], None]) -> None:
    """Statements from a terminal until Ctrl-D. An error or Ctrl-C ends the statement, not the shell."""
    from crypto_lake.access.errors import LakeError

    click.echo(f"{lake.url}: {', '.join(_names())}\n.help for help", err=True)
    keep = _history()
    entered: list[str] = []
    while True:
        try:
            line = input("  ... " if entered else "lake> ")
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            entered = []
            continue
        except UnicodeDecodeError:
            complain("that line is no UTF-8 text; nothing of it was run")
            continue
        keep()
        try:
            if not entered and line.strip().startswith("."):
                if not _command(line.strip(), lake):
                    return
                continue
            entered.append(line)
            text = "\n".join(entered)
            if not text.strip():
                entered = []
            elif is_whole(text):
                entered = []
                for statement in _statements(connection, text):
                    stoppable(partial(run, statement), connection.interrupt, _PATIENCE_SECONDS)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
        except (CommandError, LakeError) as error:
            complain(str(error))


def _statements(connection: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.Statement]:
    """Each of them is run and shown; none where one of them can't be read."""
    import duckdb

    from crypto_lake.access.errors import QueryError

    try:
        return connection.extract_statements(text)
    except duckdb.Error as error:
        raise QueryError(str(error).strip()) from error


def _names() -> list[str]:
    from crypto_lake.access.macro import VIEW_NAMES
    from crypto_lake.access.macros import MACROS
    from crypto_lake.access.statements import VIEWS

    return [*VIEWS, *VIEW_NAMES, *MACROS]


def _command(line: str, lake: Lake) -> bool:
    """A line that begins with a dot. False: it ends the shell."""
    word, _, rest = line.partition(" ")
    match word:
        case ".quit" | ".exit":
            return False
        case ".show" if rest.strip():
            click.echo(f"{lake.sql_for(rest.strip().rstrip(';'))};")
        case ".show":
            complain("say which view or macro: .show bars_5m")
        case ".views" | ".tables":
            _list_views()
        case ".help":
            click.echo(_HELP)
        case _:
            complain(f"there is no {word}; .help tells what there is")
    return True


def _list_views() -> None:
    from crypto_lake.access.macros import MACROS

    for name in _names():
        macro = MACROS.get(name)
        click.echo(name if macro is None else f"{name}({', '.join(macro.parameters)}): {macro.meaning}")


def _history() -> Callable[[], None]:
    """Lines of earlier shells can be called back, where the terminal's library is there; what it gives keeps the last line.

    Kept line by line: a shell that is killed has kept what was entered.
    """
    try:
        import readline
    except ImportError:
        return lambda: None
    # A tab in a pasted statement is a blank, and no wish for names.
    readline.parse_and_bind("tab: self-insert")
    path = _history_path()
    readline.set_history_length(_HISTORY_LINES)
    # A home that can't be written is no reason to have no shell.
    with contextlib.suppress(OSError):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.read_history_file(path)
    kept = readline.get_current_history_length()

    def keep() -> None:
        nonlocal kept
        there = readline.get_current_history_length()
        if path is not None and there > kept:
            with contextlib.suppress(OSError):
                readline.append_history_file(there - kept, path)
        kept = there

    return keep


def _history_path() -> Path | None:
    """By the variable; else where programs keep their state. None: nowhere."""
    named = os.environ.get(HISTORY_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    try:
        state: Any = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # nobody's home
        return None
    return Path(state) / "crypto-lake" / "sql_history"
