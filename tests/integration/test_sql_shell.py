"""The shell of `crypto-lake sql` on a terminal of its own, as a person types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from crypto_lake.cli.main import main
from crypto_lake.cli.sql_shell import is_whole
from support.bar_rows import Second, write_days

START = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())
PROMPT, GOES_ON = "lake> ", "  ... "
CTRL_C, CTRL_D, EARLIER = "\x03", "\x04", "\x10"
# A terminal's Ctrl-C reaches those whose controlling terminal it is, and who did not inherit that it is ignored, as
# what a script starts in the background does.
BEGIN = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, "
    "[sys.executable, '-m', 'crypto_lake.cli.main', *sys.argv[1:]])"
)


class Terminal:
    """A program on a pseudo-terminal: what is typed, and what is shown then."""

    def __init__(self, *arguments: str, history: Path) -> None:
        self._primary, secondary = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, *arguments],
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,
            env=os.environ
            | {"TERM": "dumb", "COLUMNS": "200", "LINES": "24", "CRYPTO_LAKE_SQL_HISTORY": str(history)},
        )
        os.close(secondary)

    def until(self, text: str, seconds: float = 60.0) -> str:
        """What is shown up to this text, and with it; AssertionError where it does not come."""
        shown, end = b"", time.monotonic() + seconds
        while not shown.endswith(text.encode()):
            ready, _, _ = select.select([self._primary], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; there is {shown!r}"
            shown += os.read(self._primary, 1)
        return shown.decode().replace("\r\n", "\n")

    def typed(self, text: str) -> None:
        os.write(self._primary, text.encode())

    def __call__(self, line: str, then: str = PROMPT) -> str:
        """Type a line; what is shown between it and the next prompt."""
        self.typed(f"{line}\n")
        shown = self.until(then)
        return shown.partition("\n")[2].removesuffix(then)

    def ends(self) -> int:
        return self.process.wait(60)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._primary)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lake")
    write_days(
        folder, "BTCUSDT", [Second(START + n, 100 + n, ((n, 100 + n, 10**6, True),)) for n in range(120)]
    )
    return str(folder)


@pytest.fixture
def terminal(data: str, tmp_path: Path) -> Iterator[Terminal]:
    with Terminal("sql", "--data", data, history=tmp_path / "kept" / "history") as shell:
        assert "bars_1s" in shell.until(PROMPT)
        yield shell


def test_statements_are_run_one_after_the_other(terminal: Terminal, data: str, tmp_path: Path) -> None:
    assert terminal("SELECT 1 AS a; SELECT 'ü;' AS b;") == "a\n1\n1 row\nb\nü;\n1 row\n"
    # Over several lines, with a ; in a text and a comment behind the end.
    assert terminal("SELECT symbol, count(*) AS n, ';", GOES_ON) == ""
    assert terminal("' AS c FROM bars_1m", GOES_ON) == ""
    assert terminal("GROUP BY symbol; -- two minutes").splitlines()[1].startswith("BTCUSDT  2")
    # An error ends the statement, not the shell; of what can't be read nothing is run.
    assert terminal("SELECT nothing FROM bars_1m;").startswith("crypto-lake: Binder Error")
    assert terminal("CREATE TABLE one AS SELECT 1; SELEC 2;").startswith("crypto-lake: Parser Error")
    assert "one" in terminal("FROM one;").splitlines()[0]
    assert "Permission Error" in terminal("COPY (SELECT 1) TO 'x.csv';")
    assert terminal("SET threads = 1;").startswith("crypto-lake: ")
    assert terminal("") == ""
    assert terminal(";") == ""
    # Ctrl-C takes back what was entered.
    assert terminal("SELECT 1,", GOES_ON) == ""
    terminal.typed(CTRL_C)
    terminal.until(PROMPT)
    assert terminal("SELECT 3 AS d;") == "d\n3\n1 row\n"
    # What begins with a dot.
    for name in ("bars_1s", "macro_known", "coverage(symbols, since, until)"):
        assert name in terminal(".views")
    assert terminal(".tables") == terminal(".views")
    assert "FROM read_parquet" in terminal(".show bars_5m")
    assert "did you mean bars_5m?" in terminal(".show bars_9m")
    assert "say which view or macro" in terminal(".show")
    assert "there is no .tabels; .help tells" in terminal(".tabels")
    assert ".quit" in terminal(".help")
    terminal.typed(CTRL_D)
    assert terminal.ends() == 0
    assert not Path("x.csv").exists()
    # The next shell calls them back.
    history = tmp_path / "kept" / "history"
    assert history.read_text().splitlines()[:2] == [
        "SELECT 1 AS a; SELECT 'ü;' AS b;",
        "SELECT symbol, count(*) AS n, ';",
    ]
    assert history.stat().st_mode & 0o777 == 0o600
    with Terminal("sql", "--data", data, "-o", "csv", history=history) as another:
        another.until(PROMPT)
        assert another("SELECT 4 AS e, 5 AS f;") == "e,f\n4,5\n"
        another.typed(f"{EARLIER * 2}\n")
        another.until("\r\n.quit\r\n")  # what .help tells last
        another.typed(".quit\n")
        assert another.ends() == 0
    assert history.read_text().splitlines()[-4:] == [".help", "SELECT 4 AS e, 5 AS f;", ".help", ".quit"]


def test_ctrl_c_ends_a_query_and_not_the_shell(terminal: Terminal) -> None:
    before = cpu_ticks(terminal.process.pid)
    terminal.typed(
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE (a.range + b.range) % 7 = 3;\n"
    )
    while cpu_ticks(terminal.process.pid) < before + os.sysconf("SC_CLK_TCK") // 2:  # it counts
        assert terminal.process.poll() is None
        time.sleep(0.05)
    terminal.typed(CTRL_C)
    assert "stopped\n" in terminal.until(PROMPT)
    assert terminal("SELECT 1 AS a;") == "a\n1\n1 row\n"
    terminal.typed(CTRL_D)
    assert terminal.ends() == 0


@pytest.mark.parametrize("given", [("--out", "x.csv"), ("-o", "parquet")])
def test_a_shell_writes_no_file(
    data: str, given: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert main(["sql", "--data", data, *given]) == 2
    assert "for a file give a statement with --out" in capsys.readouterr().err


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@given_(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), st.sampled_from("'\""))
def test_a_statement_ends_outside_of_texts_names_and_comments(text: str, quote: str) -> None:
    statement = f"SELECT {quote}x{text.replace(quote, quote * 2)}{quote}"
    comment = text.replace("\n", " ").replace("\r", " ")
    assert not is_whole(statement)
    assert is_whole(f"{statement};")
    assert is_whole(f"{statement}; -- {comment}")
    assert not is_whole(f"{statement} -- {comment};")
    assert not is_whole(f"{statement[:-1]};")
