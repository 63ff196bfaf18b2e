"""`crypto-lake dashboard`: the lake in a browser."""

from __future__ import annotations

import socket
import sys

import click

from crypto_lake.cli.common import CommandError, DurationType, ExitCode
from crypto_lake.cli.rows_shown import lake_options, of_lake_error

_EXTRA = ("streamlit", "plotly")


@click.command()
@lake_options
@click.option(
    "--status",
    "statuses",
    multiple=True,
    envvar="CRYPTO_LAKE_DASHBOARD_STATUS",
    metavar="URL",
    help="A collector's /status, such as http://127.0.0.1:9464/status. May be repeated.  "
    "[default: the one that runs on --data here]",
)
@click.option(
    "--stale-after",
    type=DurationType(),
    help="Say that bars are stale when they are older.  [default: 2h; of a bucket 3d]",
)
@click.option(
    "--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to be reached."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--browser", is_flag=True, help="Open a browser, where this is a terminal.")
def command(
    data: str,
    exchange: str | None,
    statuses: tuple[str, ...],
    stale_after: float | None,
    listen: str,
    port: int,
    browser: bool,
) -> None:
    """Candles, volume, spread and data quality of the lake in a browser, until Ctrl-C.

    There is no login: whoever reaches the port sees the lake. It listens on this machine alone unless --listen says
    otherwise.
    """
    from crypto_lake.access.errors import LakeError
    from crypto_lake.access.lake import Lake
    from crypto_lake.dashboard.serve import Settings, serve

    for url in statuses:
        if not url.startswith(("http://", "https://")):
            raise CommandError(
                f"--status {url}: expected an address, such as http://127.0.0.1:9464/status", ExitCode.USAGE
            )
    try:
        Lake(data, exchange=exchange)
    except LakeError as error:
        raise of_lake_error(error) from None
    _ensure_free(listen, port)
    if sys.stdout.isatty():
        click.echo(
            f"crypto-lake: the dashboard of {data} is on http://{listen}:{port} (Ctrl-C ends it)", err=True
        )
    try:
        serve(
            Settings(data, exchange, statuses, stale_after or 0.0),
            listen,
            port,
            opens_browser=browser and sys.stdout.isatty(),
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise CommandError(
            f"{error.name} is not installed; run pip install 'crypto-lake[dashboard]'"
        ) from None


def _ensure_free(listen: str, port: int) -> None:
    """A port that is taken, or an address that is not this machine's, as one line."""
    try:
        found = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], found[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        raise CommandError(
            f"can't listen on {listen}:{port}: {error.strerror or error}; choose another by --listen or --port",
            ExitCode.UNAVAILABLE,
        ) from None
