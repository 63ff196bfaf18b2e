"""Logging: one line a record, rotation that several processes share, and a file that can't be opened."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.watch import logs


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logs.shut_down()
    logging.getLogger().setLevel(level)
    logging.getLogger("crypto_lake").setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def set_up(
    path: Path | None, stream: io.StringIO, console: str = "WARNING", file: str = "DEBUG"
) -> str | None:
    return logs.set_up(console=console, file=file, path=path, stream=stream)


def test_the_console_shows_warnings_and_the_file_all_of_ours(tmp_path: Path) -> None:
    console, path = io.StringIO(), tmp_path / "logs" / "qa" / "crypto-lake.log"
    assert set_up(path, console) is None
    logging.getLogger("crypto_lake.x").debug("quiet %d", 1, extra={"symbol": "BTCUSDT"})
    logging.getLogger("crypto_lake.x").warning("loud")
    logging.getLogger("a_library.client").debug("a frame")
    logging.getLogger("a_library.client").error("theirs")
    assert console.getvalue() == "crypto-lake: warning: loud\ncrypto-lake: error: theirs\n"
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert re.fullmatch(
        r'time=\d{4}-\d\d-\d\dT[\d:.]+Z level=DEBUG logger=crypto_lake.x pid=\d+ message="quiet 1" symbol=BTCUSDT',
        lines[0],
    )


def test_the_level_of_the_console_can_be_lowered(tmp_path: Path) -> None:
    console = io.StringIO()
    set_up(tmp_path / "log", console, console="DEBUG", file="ERROR")
    logging.getLogger("crypto_lake.x").debug("told")
    assert console.getvalue() == "crypto-lake: debug: told\n"
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_only_on_a_terminal_without_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    console = Terminal()
    set_up(None, console)
    logging.getLogger("crypto_lake").error("x")
    assert ("\x1b[" in console.getvalue()) == coloured


def test_a_log_that_can_not_be_opened_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    console = io.StringIO()
    problem = set_up(tmp_path / "file" / "log", console)
    assert problem is not None
    assert console.getvalue() == f"crypto-lake: warning: {problem}\n"
    assert "Logging to the console alone" in problem


def test_a_traceback_is_in_the_file_and_one_line_on_the_console(tmp_path: Path) -> None:
    console = io.StringIO()
    set_up(tmp_path / "log", console)
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("crypto_lake").exception("outer")
    assert console.getvalue() == "crypto-lake: error: outer (ValueError: inner; the log has the traceback)\n"
    assert "Traceback" in (tmp_path / "log").read_text()
    assert len((tmp_path / "log").read_text().splitlines()) == 1


@given(st.text(max_size=40))
def test_a_record_is_one_line_and_its_message_comes_back(message: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, "%s", (message,), None)
    line = logs.KeyValueFormatter().format(record)
    assert len(line.splitlines()) == 1
    written = line.partition(" message=")[2]
    assert (json.loads(written) if written.startswith('"') else written) == message


WRITER = """
import logging, sys
from pathlib import Path
from crypto_lake.watch import logs
logs.set_up(console="ERROR", file="DEBUG", path=Path(sys.argv[1]), file_bytes=4000, file_count=200)
for number in range(400):
    logging.getLogger("crypto_lake").debug("%s-%d", sys.argv[2], number)
"""


def test_processes_rotate_one_file_together_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = [file for file in tmp_path.iterdir() if file.suffix != ".lock"]
    assert len(files) > 10  # it did rotate
    found = [match for file in files for match in re.findall(r"message=(\w-\d+)", file.read_text())]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "abc" for number in range(400))


def test_old_files_go(tmp_path: Path) -> None:
    logs.set_up(console="ERROR", file="DEBUG", path=tmp_path / "log", file_bytes=500, file_count=2)
    for number in range(100):
        logging.getLogger("crypto_lake").debug("%d", number)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["log", "log.1", "log.2", "log.lock"]
