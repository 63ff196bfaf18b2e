"""The systemd unit and its environment file are well-formed and say what the program understands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crypto_lake.cli.common import ExitCode
from crypto_lake.cli.main import COMMANDS
from crypto_lake.config.load import merge
from crypto_lake.config.sources import read_environment

DEPLOY = Path(__file__).parents[3] / "deploy"


def settings() -> Iterator[tuple[str, str, str]]:
    """Section, name and value; systemd allows a name twice, configparser does not."""
    section = ""
    for line in (DEPLOY / "crypto-lake.service").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            yield section, name, value


def test_the_unit() -> None:
    unit = {(section, name): value for section, name, value in settings()}
    assert {section for section, _ in unit} == {"Unit", "Service", "Install"}
    program, command, *_ = unit["Service", "ExecStart"].split()
    assert program.endswith("/bin/crypto-lake")
    assert command in COMMANDS
    assert unit["Service", "KillSignal"] == "SIGTERM"
    assert unit["Service", "ProtectSystem"] == "strict"
    assert int(unit["Service", "RestartPreventExitStatus"]) == ExitCode.USAGE


def test_the_environment_file_holds_known_variables() -> None:
    lines = (DEPLOY / "crypto-lake.env").read_text().splitlines()
    # The suggestions in comments as well: whoever takes the # away must get what he expects.
    pairs = [line.removeprefix("# ").partition("=") for line in lines]
    variables = {name: value for name, equals, value in pairs if equals and " " not in name}
    assert len(variables) >= 5
    config, origins = merge([read_environment(variables)])
    assert config.data == "/var/lib/crypto-lake"
    assert sum(origin.kind == "environment" for origin in origins.values()) == len(variables)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    # Where the unit is checked, the program is elsewhere.
    text = (DEPLOY / "crypto-lake.service").read_text()
    unit = tmp_path / "crypto-lake.service"
    unit.write_text(text.replace("/opt/crypto-lake/bin/crypto-lake", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "crypto-lake.service:" not in done.stderr
