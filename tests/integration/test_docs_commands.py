"""Every command that the documents show is run.

In README.md and docs/*.md a fenced block that is opened by ```console holds lines that start with `$ `: those are
run, each block in a shell of its own, all blocks of one document in one folder, in order. A line that ends in a
backslash goes on in the next. Other lines of a block are what the command prints, and are not compared. A block
opened by ```console no-test is not run; an HTML comment right before it says why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(
    r"^(?P<indent> *)```console(?P<mark>[^\n]*)\n(?P<body>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
# Settings for all documents: ports that are free, and nothing of the machine's own lake.
ENVIRONMENT = {"CRYPTO_LAKE_COLLECTOR_PORT": "0", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Block:
    line: int
    mark: str
    commands: tuple[str, ...]
    reason: str  # the comment right before it, or nothing


def blocks_of(text: str) -> list[Block]:
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        comment = re.search(r"<!--(?P<reason>(?:(?!-->).)*)-->\s*\Z", text[: match.start()], re.DOTALL)
        body = match["body"].replace("\\\n", "")
        commands = [line.strip()[2:] for line in body.splitlines() if line.strip().startswith("$ ")]
        found.append(
            Block(
                text.count("\n", 0, match.start()) + 1,
                match["mark"].strip(),
                tuple(commands),
                comment["reason"].strip() if comment else "",
            )
        )
    return found


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def needs_bars(text: str) -> bool:
    """Whether a command reads what `make run` leaves, which is made for it beforehand."""
    return any(
        "data/parquet" in command for block in blocks_of(text) if not block.mark for command in block.commands
    )


def run(command: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"$ {command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_the_commands_of_a_document(document: Path, tmp_path: Path) -> None:
    text = document.read_text(encoding="utf-8")
    blocks = [block for block in blocks_of(text) if not block.mark]
    if not blocks:
        return
    # As the reader has it: a clone with .venv made, though what is made lies elsewhere.
    binaries = Path(sys.executable).parent
    (tmp_path / ".venv").symlink_to(binaries.parent, target_is_directory=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_") and k != "LOG_LEVEL"}
    environment = clean | ENVIRONMENT | {"PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    if needs_bars(text):
        run("crypto-lake run --simulate --for 8s --data data", tmp_path, environment)
    for block in blocks:
        assert block.commands, f"{name(document)}:{block.line}: a console block without a `$ ` line"
        run("\n".join(block.commands), tmp_path, environment)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_marks_are_known_and_have_their_reason(document: Path) -> None:
    for block in blocks_of(document.read_text(encoding="utf-8")):
        place = f"{name(document)}:{block.line}"
        assert block.mark in ("", "no-test"), f"{place}: unknown mark {block.mark!r}"
        assert not block.mark or block.reason, (
            f"{place}: a comment before the block must say why it is not run"
        )


def test_blocks_are_found_as_described() -> None:
    text = """
```console
$ echo one
one
$ echo two \\
  three
```
<!-- because -->

```console no-test
$ false
```
<!-- not for this one --> text between
```console no-test
$ false
```
  ```console
  $ indented
  ```
```sh
$ not ours
```
"""
    assert [(block.mark, block.commands, block.reason) for block in blocks_of(text)] == [
        ("", ("echo one", "echo two   three"), ""),
        ("no-test", ("false",), "because"),
        ("no-test", ("false",), ""),
        ("", ("indented",), ""),
    ]


def test_a_command_that_fails_fails_the_document(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 3"):
        run("true\n(exit 3)\ntrue", tmp_path, dict(os.environ))
