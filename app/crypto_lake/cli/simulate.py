"""`crypto-lake simulate`: an exchange on loopback, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from crypto_lake.model.symbols import DEFAULT_SYMBOLS, InvalidSymbolError
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.recording import RecordedMarket, RecordingError
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings, StartWhen


class _Speed(click.ParamType):
    name = "speed"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).lower().removeprefix("x")
        if text == "max":
            return 0.0
        try:
            speed = float(text)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is no speed; give a number above 0 such as 10, or max", param, ctx)
        return speed


class _Start(click.ParamType):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        if text == "now":
            return time.time_ns() // 1000
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{value!r} is no time; give now, or one such as 2024-08-08T23:50:00", param, ctx)
        since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        if since < timedelta(0):
            self.fail(f"{value!r} is before 1970", param, ctx)
        return since // timedelta(microseconds=1)


_SECONDS = click.FloatRange(min=0, min_open=True)


def _split(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Symbols given by several options, or by one with commas or spaces."""
    return tuple(name for text in texts for name in text.replace(",", " ").upper().split())


@click.command("simulate", context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port for WebSocket and REST; 0: any free one."
)
@click.option("--seed", default=1, help="The market that is generated follows from it.")
@click.option(
    "--symbols", multiple=True, help="Symbols to generate; repeat it or separate by commas. [default: 13]"
)
@click.option(
    "--activity", default=1.0, help="How busy the generated market is; 1: about 1,500 messages a second."
)
@click.option("--start", type=_Start(), default="now", help="When the generated market starts, UTC.")
@click.option(
    "--speed", type=_Speed(), default="1", help="Market seconds a second, or max: as fast as it is read."
)
@click.option(
    "--recording",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Play this recording instead; repeat it for several files in order.",
)
@click.option("--tls", is_flag=True, help="Serve wss and https, with a certificate made on the spot.")
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the authority's certificate (PEM) here; clients trust it.",
)
@click.option(
    "--lifetime", type=_SECONDS, default=24 * 3600.0, help="Seconds after which a connection is cut."
)
@click.option(
    "--shutdown-lead", type=_SECONDS, help="Say serverShutdown so many seconds before. [default: never]"
)
@click.option("--ping-every", type=_SECONDS, default=20.0, help="Seconds between the server's pings.")
@click.option("--weight-limit", default=6000, help="REST weight a minute.")
@click.option(
    "--without",
    multiple=True,
    metavar="CALL",
    help="A REST call that it does not serve, such as historicalTrades. May be repeated.",
)
@click.option("--connection-attempts", default=300, help="WebSocket connections in five minutes.")
@click.option(
    "--wait-for-client",
    is_flag=True,
    help="Start when a stream is subscribed (recordings and max always do).",
)
@click.option("--wait-for-streams", default=1, help="How many streams must be subscribed for that.")
@click.option("--hold", is_flag=True, help="Start only at POST /control/start.")
@click.option(
    "--one-message-per-write", is_flag=True, help="Do not gather what is due; under TLS one record a message."
)
@click.option("--exit-when-done", is_flag=True, help="End a second after the recording's last message.")
@click.option("--duration", type=_SECONDS, help="End after so many seconds. [default: never]")
def command(
    host: str,
    port: int,
    seed: int,
    symbols: tuple[str, ...],
    activity: float,
    start: int,
    speed: float,
    recording: tuple[Path, ...],
    tls: bool,
    ca_file: Path | None,
    lifetime: float,
    shutdown_lead: float | None,
    ping_every: float,
    weight_limit: int,
    without: tuple[str, ...],
    connection_attempts: int,
    wait_for_client: bool,
    wait_for_streams: int,
    hold: bool,
    one_message_per_write: bool,
    exit_when_done: bool,
    duration: float | None,
) -> None:
    """Run an exchange on loopback: Binance's streams and REST, from a seed or a recording.

    When it is ready it prints one line of JSON: where it listens and what it plays. Faults are ordered by POST to
    /control/faults. It ends at SIGTERM or Ctrl-C.
    """
    if ca_file is not None and not tls:
        raise click.UsageError("--ca-file is written with --tls only; give both")
    if ca_file is not None and not ca_file.parent.is_dir():
        raise click.UsageError(f"folder {ca_file.parent} of --ca-file is not there; make it, or give another")
    if exit_when_done and not recording:
        raise click.UsageError("a generated market never ends; give --duration, or --recording")
    try:
        market: Market = (
            RecordedMarket(recording)
            if recording
            else GeneratedMarket(seed, _split(symbols) or DEFAULT_SYMBOLS, start_us=start, activity=activity)
        )
    except (RecordingError, InvalidSymbolError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    start_when = StartWhen.COMMAND if hold else None
    if start_when is None and (wait_for_client or wait_for_streams > 1):
        start_when = StartWhen.SUBSCRIBED
    settings = Settings(
        host=host,
        port=port,
        speed=speed,
        start_when=start_when,
        wait_for_streams=wait_for_streams,
        tls=tls,
        ca_file=ca_file,
        coalesce=not one_message_per_write,
        ping_seconds=ping_every,
        lifetime_seconds=lifetime,
        shutdown_lead_seconds=shutdown_lead,
        weight_limit=weight_limit,
        without=frozenset(without),
        connection_attempts=connection_attempts,
    )
    try:
        asyncio.run(_run(market, settings, exit_when_done, duration))
    except OSError as error:
        raise click.ClickException(
            f"can't listen on {host}:{port}: {error.strerror or error}; choose another --port (0: any free one)"
        ) from None


async def _run(market: Market, settings: Settings, exit_when_done: bool, duration: float | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(market, settings) as simulator:
        ready = {
            "websocket": simulator.websocket_url,
            "rest": simulator.rest_url,
            "ca_file": str(simulator.ca_file.absolute()) if simulator.ca_file is not None else None,
            "symbols": list(market.symbols),
            "start": datetime.fromtimestamp(market.start_us / 1_000_000, UTC).isoformat(),
            "speed": settings.speed or "max",
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        done = asyncio.create_task(simulator.wait_done())
        stopped = asyncio.create_task(stop.wait())
        waiting = {done, stopped} if exit_when_done else {stopped}
        await asyncio.wait(waiting, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
        if done.done() and not stopped.done():
            with contextlib.suppress(TimeoutError):  # what is on the way arrives
                await asyncio.wait_for(stop.wait(), 1.0)
        for task in (done, stopped):
            task.cancel()
        await asyncio.gather(done, stopped, return_exceptions=True)


if __name__ == "__main__":
    command()
