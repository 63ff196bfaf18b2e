"""What all commands share: exit codes, errors, output, and the options that lead to the configuration.

Imports of weight (polars, aiohttp, rich) belong into the commands that need them, not here: `crypto-lake --help`
imports this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from crypto_lake.config.load import Loaded

PROGRAM = "crypto-lake"
# Set by `crypto-lake run` for its children, so that none outlives it: see `die_with_parent`.
PARENT_VARIABLE = "CRYPTO_LAKE_PARENT_PID"
DEBUG_VARIABLE = "CRYPTO_LAKE_DEBUG"


class ExitCode(IntEnum):
    """What a command's exit code says. Documented in docs/cli.md; scripts may rely on it."""

    OK = 0
    FAILURE = 1  # it was tried and did not work
    USAGE = 2  # the command line or the configuration is wrong; the same call will fail again
    GAPS = 3  # a verification failed, or gaps were found
    UNAVAILABLE = 4  # not running, not reachable, or locked by another process
    INTERRUPTED = 130  # Ctrl-C


class CommandError(click.ClickException):
    """An end of a command that the user should read: what happened, to what, what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # pyright: ignore[reportAttributeAccessIssue]  # click reads the instance's


def complain(message: str) -> None:
    """Each line of the message on stderr, with the program's name before it."""
    for line in message.splitlines() or [""]:
        print(f"{PROGRAM}: {line}", file=sys.stderr)


Command = TypeVar("Command", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CRYPTO_LAKE_DATA",
    help="The data directory.  [default: data]",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print.",
)

# Flags that stand for one value of the configuration: flag, the value's path, help.
SETTING_FLAGS: tuple[tuple[str, str, str], ...] = (
    ("--data", "data", "The data directory."),
    ("--exchange", "collector.exchange", "The exchange."),
    ("--symbols", "collector.symbols", "Symbols, separated by commas."),
    ("--websocket", "collector.endpoint.websocket", "The exchange's WebSocket address, wss://host[:port]."),
    ("--rest", "collector.endpoint.rest", "The exchange's REST address, https://host[:port]."),
    ("--ca-file", "collector.endpoint.ca_file", "Certificates (PEM) to trust beside the system's."),
    ("--clock", "collector.clock", "system, or exchange to follow a simulator's time."),
    ("--port", "collector.port", "Port of /metrics and /status; 0: any free one, -1: none."),
    ("--log-level", "logging.console", "What the console shows: DEBUG, INFO, WARNING or ERROR."),
)


class DurationType(click.ParamType):
    """Durations as people write them, in seconds; more than nothing."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from crypto_lake.config.durations import InvalidDurationError, parse_duration

        try:
            seconds = parse_duration(str(value))
        except InvalidDurationError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("expected more than nothing", param, ctx)
        return seconds


def setting_options(command: Command) -> Command:
    """Adds --config, --set and the flags of SETTING_FLAGS; the command gets them all as keywords.

    Hand them on to `load_settings`.
    """
    for flag, _, text in reversed(SETTING_FLAGS):
        command = click.option(flag, default=None, help=text)(command)
    return config_options(command)


def config_options(command: Command) -> Command:
    """Adds --config and --set; hand the keywords on to `load_settings`."""
    command = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any value of the configuration, such as collector.rotate_seconds=30. May be repeated.",
    )(command)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="CRYPTO_LAKE_CONFIG",
        help="Configuration file.  [default: config.yml where it exists]",
    )(command)


def lake_options(command: Command) -> Command:
    """Adds --data, --config, --set and --output, for a task on the configured lake.

    Hand all keywords but `output` on to `load_settings`.
    """
    return data_option(config_options(output_option(command)))


def flag_values(options: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Of the keywords that `setting_options` gives: path -> (text, the flag as the user wrote it)."""
    given: dict[str, tuple[str, str]] = {}
    for flag, path, _ in SETTING_FLAGS:
        text = options.get(flag.removeprefix("--").replace("-", "_"))
        if text is not None:
            given[path] = (str(text), flag)
    for assignment in options.get("assignments", ()):
        path, equals, text = assignment.partition("=")
        if not equals:
            raise CommandError(
                f"--set {assignment}: expected KEY=VALUE, such as collector.rotate_seconds=30", ExitCode.USAGE
            )
        given[path.strip()] = (text, f"--set {path.strip()}")
    return given


def load_settings(options: dict[str, Any]) -> Loaded:
    """The configuration for these options: defaults, file, environment, flags. Raises config's ConfigError."""
    from crypto_lake.config.load import load

    return load(options.get("config_file"), os.environ, flag_values(options))


def die_with_parent() -> None:
    """Where `run` started this process: ask the kernel for SIGTERM when `run` is gone, however it went.

    Linux only; elsewhere a killed `run` leaves its children, which the next `run` then finds by their lock.
    """
    expected = os.environ.pop(PARENT_VARIABLE, None)
    if expected is None or not sys.platform.startswith("linux"):
        return
    import ctypes
    import signal

    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0)
    if str(os.getppid()) != expected:  # it died before we asked
        raise CommandError("the supervisor that started this process is gone", ExitCode.UNAVAILABLE)
