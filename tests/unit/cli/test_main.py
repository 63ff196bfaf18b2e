"""The frame of the command line: help, exit codes, one line per error."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import click
import pytest
from google.api_core import check_python_version

from crypto_lake import __version__
from crypto_lake.cli import common, main
from crypto_lake.cli.common import CommandError, ExitCode
from crypto_lake.lake.locks import LockHeldError
from crypto_lake.watch import logs


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CRYPTO_LAKE_") or name == "LOG_LEVEL"]:
        monkeypatch.delenv(name)
    yield
    logs.shut_down()


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


def call(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: failing(error))
    return main.main(["run"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("told"), 1),
        (CommandError("told", ExitCode.GAPS), 3),
        (LockHeldError("told"), 4),
        (click.UsageError("told"), 2),
        (click.ClickException("told"), 1),
        (OSError("told"), 1),
        (RuntimeError("told"), 1),
    ],
)
def test_an_error_is_one_line_and_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    assert call(monkeypatch, error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("crypto-lake: ")
    assert "told" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    assert call(monkeypatch, error) == 130
    out, err = capsys.readouterr()
    assert out + err.strip() == ""


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: failing(RuntimeError("told")))
    assert main.main(["--debug", "run"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["colect"], "did you mean 'collect'?"),
        (["xyzzy"], "see 'crypto-lake --help'"),
        (["run", "--for", "soon"], "is not a duration"),
        (["run", "--for", "0s"], "more than nothing"),
        (["config", "show", "--bogus"], "--bogus"),
        (["config", "check", "--set", "data"], "expected KEY=VALUE"),
        (["config", "check", "--set", "x=1"], "unknown key x"),
        (["config", "check", "--config", "none.yml"], "there is no configuration file none.yml"),
        (["config", "check", "--port", "x"], "collector.port: expected int"),
        (["collect", "--exchange", "bogus"], "bogus is not known; known are binance"),
        (["collect", "--report-durable", "99"], "no open descriptor"),
    ],
)
def test_wrong_use_is_two_and_says_what_is_right(
    capsys: pytest.CaptureFixture[str], line: list[str], expected: str
) -> None:
    assert main.main(line) == 2
    assert expected in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"crypto-lake {__version__}\n"
    assert main.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in main.COMMANDS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(main.COMMANDS[name].module)
    assert isinstance(module.command, click.Command)
    assert main.main([name, "--help"]) == 0
    assert f"Usage: crypto-lake {name}" in capsys.readouterr().out


def test_help_imports_nothing_of_weight() -> None:
    text = (
        "import sys; from crypto_lake.cli.main import main; main(['--help']);"
        "heavy = {'polars', 'aiohttp', 'pyarrow', 'rich', 'msgspec', 'yaml', 'prometheus_client', 'asyncio'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    # More than a pipe holds, so that writing must fail once the reader is gone.
    symbols = [f"S{number}" for number in range(30_000)]
    Path("config.yml").write_text(json.dumps({"collector": {"symbols": symbols}}))
    done = subprocess.run(
        f"'{sys.executable}' -m crypto_lake.cli.main config show -o json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "{"
    assert done.stderr == ""


def test_config_show_tells_origins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config.yml").write_text(
        "collector:\n  rotate_seconds: 30\nalerting: {webhook_url: 'https://x/canary'}\n"
    )
    monkeypatch.setenv("CRYPTO_LAKE_COLLECTOR_SYMBOLS", "BTCUSDT,ETHUSDT")
    assert main.main(["config", "show", "-o", "json", "--port", "0"]) == 0
    out = capsys.readouterr().out
    assert "canary" not in out
    shown = json.loads(out)
    assert shown["schema"] == 1
    assert shown["file"] == "config.yml"
    assert shown["values"]["collector.rotate_seconds"] == {
        "value": 30.0,
        "origin": "file",
        "where": "config.yml:2",
    }
    assert shown["values"]["collector.symbols"] == {
        "value": ["BTCUSDT", "ETHUSDT"],
        "origin": "environment",
        "where": "CRYPTO_LAKE_COLLECTOR_SYMBOLS",
    }
    assert shown["values"]["collector.port"] == {"value": 0, "origin": "flag", "where": "--port"}
    assert main.main(["config", "show", "--port", "0"]) == 0
    text = capsys.readouterr().out
    assert "# file config.yml:2" in text
    assert "canary" not in text
    assert main.main(["config", "check"]) == 0


def test_the_setting_flags_name_real_keys() -> None:
    from crypto_lake.config.tree import leaves

    assert {path for _, path, _ in common.SETTING_FLAGS} <= set(leaves())


def test_what_a_library_says_of_this_python_by_the_calendar_is_not_told(tmp_path: Path) -> None:
    long_after = date(2040, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match="Python version"):
            check_python_version(today=long_after)
        main.main(["config", "show", "--set", f"data={tmp_path}"])
        check_python_version(today=long_after)
