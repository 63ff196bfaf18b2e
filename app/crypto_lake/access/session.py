"""A DuckDB connection on a lake: its files as `lake://`, the views and macros over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import duckdb

from crypto_lake.access import macro
from crypto_lake.access.columns import STORED
from crypto_lake.access.errors import QueryError
from crypto_lake.access.files import EVERYTHING, PROTOCOL, LakeFiles
from crypto_lake.access.macro_queries import EVERY
from crypto_lake.access.macros import MACROS
from crypto_lake.access.statements import VIEWS, Asked, rollup

_PARTITIONS: Final = (
    "hive_partitioning = true, hive_types = {'exchange': VARCHAR, 'symbol': VARCHAR, 'day': DATE}"
)
# A bucket's answers are waited for: more threads than cores.
_REMOTE_THREADS: Final = 8


def source(path: str) -> str:
    """The rows under a path of `lake://`, as a FROM."""
    return f"read_parquet('{path}', {_PARTITIONS})"


def open_session(
    files: LakeFiles, *, views: bool = True, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """A connection of its own, in memory. `read_only`: it reaches nothing but the lake, and its settings are fixed."""
    connection = duckdb.connect(":memory:")
    connection.register_filesystem(files)
    connection.execute("SET TimeZone = 'UTC'")
    if files.place.is_remote:
        connection.execute(f"SET threads = {max(_REMOTE_THREADS, os.cpu_count() or 1)}")
    else:
        # The system has what was read of a disk; a copy of it would be found again by no later query.
        connection.execute("SET enable_external_file_cache = false")
    if views:
        with files.unread():
            create_views(connection)
            for name, body in macro.views(
                f"read_parquet('{PROTOCOL}://{EVERY}', hive_partitioning = false)"
            ).items():
                connection.execute(f"CREATE OR REPLACE VIEW {name} AS {body}")
    if read_only:
        connection.execute(f"SET allowed_directories = ['{PROTOCOL}://']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    return connection


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    # By name: a later version of the files may have columns more, and a view stands by the columns it was made with.
    columns = ", ".join((*STORED, "day"))
    connection.execute(f"CREATE OR REPLACE VIEW bars_1s AS SELECT {columns} FROM {source(EVERYTHING)}")
    for name, seconds in VIEWS.items():
        if seconds > 1:
            body = rollup("bars_1s", Asked((), str(seconds)), by_day=True)
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS\n{body}")
    for one in MACROS.values():
        connection.execute(one.create("bars_1s"))


@contextmanager
def asking(files: LakeFiles) -> Iterator[None]:
    """Around a query: what the lake could not do, and a file that can't be read, as the LakeError that it is; all else as
    QueryError; Ctrl-C as itself.
    """
    files.take_problem()
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        text = str(error).strip()
        raise (files.take_problem() or files.damage_in(text) or QueryError(text)) from error
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from None
