"""`crypto-lake`: the group of commands, loaded one by one when they are asked for."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import click

from crypto_lake import __version__
from crypto_lake.cli.common import DEBUG_VARIABLE, PROGRAM, ExitCode, complain, die_with_parent


class Entry(NamedTuple):
    """A command's module, which has a click command named `command`, and its line in `--help`."""

    module: str
    summary: str


# The line is here, and not read from the command, so that --help imports none of them.
COMMANDS: dict[str, Entry] = {
    "run": Entry("crypto_lake.cli.run", "Collect and transform, supervised, on one machine."),
    "collect": Entry("crypto_lake.cli.collect", "Collect an exchange's streams into raw parts."),
    "transform": Entry("crypto_lake.cli.transform", "Turn raw parts into one-second bars."),
    "backfill": Entry("crypto_lake.cli.backfill", "Fetch trades of past days into raw."),
    "compact": Entry("crypto_lake.cli.compact", "Seal finished hours: one file, one manifest, parts gone."),
    "verify": Entry("crypto_lake.cli.verify", "Read files again and compare them with their manifests."),
    "prove": Entry("crypto_lake.cli.prove", "Derive a ledger anew from raw, and compare."),
    "check": Entry("crypto_lake.cli.check", "Hold bars against the exchange's own klines."),
    "explain": Entry("crypto_lake.cli.explain", "Show what a bar was made of, and add it up again."),
    "report": Entry("crypto_lake.cli.report", "Tell how a day of a symbol was: coverage, gaps, verdicts."),
    "upload": Entry("crypto_lake.cli.upload", "Put what is sealed into the bucket, read back and recorded."),
    "publish": Entry("crypto_lake.cli.publish", "Put final days of all collectors' bars into the bucket."),
    "cleanup": Entry("crypto_lake.cli.cleanup", "Delete here what is old and proven to be elsewhere."),
    "macro": Entry("crypto_lake.cli.macro", "Keep daily macro series beside the bars."),
    "query": Entry("crypto_lake.cli.query", "Bars of any interval, printed or written to a file."),
    "sql": Entry("crypto_lake.cli.sql", "SQL over the lake: a statement, a shell, or a view's own text."),
    "dashboard": Entry(
        "crypto_lake.cli.dashboard", "The lake in a browser: candles, volume, spread, quality."
    ),
    "notebook": Entry("crypto_lake.cli.notebook", "Copy the analysis notebook and open it in Jupyter."),
    "bigquery": Entry("crypto_lake.cli.bigquery", "The bucket's bars as tables and views of BigQuery."),
    "simulate": Entry("crypto_lake.cli.simulate", "Be an exchange on loopback, to test against."),
    "status": Entry("crypto_lake.cli.status", "Tell how a lake is, from outside."),
    "alerts": Entry("crypto_lake.cli.alerts", "Show what fires, and test the webhook."),
    "doctor": Entry("crypto_lake.cli.doctor", "Check what a lake needs, and say what to do."),
    "config": Entry("crypto_lake.cli.config_cmd", "Show and check the configuration."),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        return importlib.import_module(entry.module).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from crypto_lake.model.symbols import nearest

            near = nearest(args[0], COMMANDS)
            hint = f"did you mean '{near}'?" if near else f"see '{PROGRAM} --help'"
            raise click.UsageError(f"no such command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 gaps found or verification failed, "
    "4 unavailable or locked, 130 interrupted.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar=DEBUG_VARIABLE, help="Show a traceback where a command fails.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """A crypto market-data lake that proves, by trade id, what it has and what it misses."""
    ctx.obj = {"debug": debug}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Errors are one line on stderr, never a bare traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0", "false")
    try:
        die_with_parent()
        # google-api-core tells by the calendar how long it supports this Python; nobody who runs a command can act on it.
        warnings.filterwarnings("ignore", "You are using a .*Python version", FutureWarning)
        returned = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        return int(returned) if isinstance(returned, int) else ExitCode.OK
    except BaseException as error:
        if debug and not isinstance(error, SystemExit | click.exceptions.NoArgsIsHelpError):
            traceback.print_exc()
        return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    """Tell the error on stderr and return the exit code for it; SystemExit is handed on."""
    match error:
        case SystemExit():
            raise error
        case KeyboardInterrupt() | click.Abort():
            return ExitCode.INTERRUPTED
        case click.exceptions.NoArgsIsHelpError():
            print(error.format_message(), file=sys.stderr)
            return ExitCode.USAGE
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else PROGRAM
            complain(f"{error.format_message()} (see '{where} --help')")
            return ExitCode.USAGE
        case click.ClickException():
            complain(error.format_message())
            return error.exit_code
        case BrokenPipeError():
            # The reader of our output has gone (`crypto-lake … | head`). Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.FAILURE
        case _:
            return _exit_code_of_ours(error)


def _exit_code_of_ours(error: BaseException) -> int:
    from crypto_lake.config.load import ConfigError
    from crypto_lake.lake.locks import LockHeldError

    match error:
        case ConfigError():
            complain(str(error))
            return ExitCode.USAGE
        case LockHeldError():
            complain(str(error))
            return ExitCode.UNAVAILABLE
        case ModuleNotFoundError() if error.name in {entry.module for entry in COMMANDS.values()}:
            complain(f"this build has no {error.name}; install {PROGRAM} anew")
            return ExitCode.FAILURE
        case OSError():
            if error.filename is not None and error.strerror:
                complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
            else:
                complain(str(error))
            return ExitCode.FAILURE
        case _:
            complain(
                f"unexpected {type(error).__name__}: {error}. This is a fault of the program; "
                f"'{PROGRAM} --debug …' shows where"
            )
            return ExitCode.FAILURE


if __name__ == "__main__":
    sys.exit(main())
