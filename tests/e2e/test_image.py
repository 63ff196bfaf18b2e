"""The image, as it is meant to be run: another user, a read-only root, no capability, no network.

`CRYPTO_LAKE_E2E_SECONDS` shortens the two minutes of the long run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

SECONDS = int(os.environ.get("CRYPTO_LAKE_E2E_SECONDS", "120"))
# A container has a loopback of its own, which is all that a simulated exchange needs.
CONFINED = (
    *("--read-only", "--user", "10001", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp", "--network", "none"),
)

COUNT_BARS = """
import json, pathlib, polars as pl
root = pathlib.Path("/data")
bars = {p.parts[4]: pl.read_parquet(p) for p in sorted(root.glob("parquet/binance/*/*/*/*/bars.parquet"))}
print(json.dumps({
    "open": [str(p) for p in root.rglob("*.open")],
    "parts": len(list(root.glob("raw/binance/*/*/part_*.jsonl.zst"))),
    "bars": {symbol: len(table) for symbol, table in bars.items()},
    "trades": sum(int(table["trade_count"].sum()) for table in bars.values()),
}))
"""


def why_not() -> str | None:
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True)
    return None if asked.returncode == 0 else "no Docker engine answers"


REASON = why_not()
pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=REASON or "there is one"),
]


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"crypto-lake-e2e-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


Start = Callable[..., str]


@pytest.fixture
def start(image: str, volume: str) -> Iterator[Start]:
    """Starts confined containers on the volume, and removes them in the end."""
    started: list[str] = []

    def run(*command: str) -> str:
        container = docker(
            "run", "--detach", *CONFINED, "-v", f"{volume}:/data", image, *command
        ).stdout.strip()
        started.append(container)
        return container

    yield run
    for container in started:
        docker("rm", "--force", container)


def logs(container: str) -> str:
    done = docker("logs", "--tail", "100", container)
    return done.stdout + done.stderr


def wait_until(container: str, what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        state = docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container).stdout.strip()
        assert state.startswith("running"), f"{what} never came; {state}:\n{logs(container)}"
        assert time.monotonic() < deadline, f"{what} did not come in {seconds} s:\n{logs(container)}"
        time.sleep(0.5)


def stop(container: str) -> tuple[int, float]:
    """SIGTERM, then what a supervisor allows: exit code and how long it took."""
    began = time.monotonic()
    docker("kill", "--signal", "TERM", container)
    code = int(
        subprocess.run(
            ["docker", "wait", container], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    )
    return code, time.monotonic() - began


def look_into(image: str, volume: str) -> dict[str, object]:
    done = docker(
        "run",
        "--rm",
        *CONFINED,
        "-v",
        f"{volume}:/data:ro",
        "--entrypoint",
        "python",
        image,
        "-c",
        COUNT_BARS,
    )
    return json.loads(done.stdout)


def test_it_says_what_it_is(image: str) -> None:
    version = docker("run", "--rm", *CONFINED, image, "--version").stdout
    (inspected,) = json.loads(docker("image", "inspect", image).stdout)
    config = inspected["Config"]
    assert version.split()[-1] == config["Labels"]["org.opencontainers.image.version"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["crypto-lake"]
    assert config["Cmd"] == ["run"]
    # Where its packages came from is nobody's business.
    told = docker("history", "--no-trunc", image).stdout + json.dumps(config)
    assert not re.findall(r"PIP_\w*(?:INDEX|HOST)\w*", told)


def test_two_minutes_make_bars(image: str, volume: str, start: Start) -> None:
    container = start("run", "--simulate", "--for", f"{SECONDS}s")
    ended = subprocess.run(
        ["docker", "wait", container], capture_output=True, text=True, timeout=SECONDS + 120, check=True
    )
    assert int(ended.stdout) == 0, logs(container)

    found = look_into(image, volume)
    assert found["open"] == []
    bars = found["bars"]
    assert isinstance(bars, dict)
    assert "BTCUSDT" in bars, logs(container)
    # Seconds of one symbol, but for start and end; a busy machine may be slow to start.
    assert bars["BTCUSDT"] >= SECONDS // 4
    assert isinstance(found["trades"], int)
    assert found["trades"] > 0


def test_a_stop_in_the_middle_leaves_nothing_open(image: str, volume: str, start: Start) -> None:
    container = start("run", "--simulate")

    def writes() -> bool:
        return (
            ".open" in docker("exec", container, "find", "/data/raw", "-name", "*.open", check=False).stdout
        )

    wait_until(container, "an open part", writes, 60)
    code, seconds = stop(container)
    assert code == 0, logs(container)
    assert seconds < 15
    found = look_into(image, volume)
    assert found["open"] == []
    assert found["parts"]


def test_without_arguments_it_runs_a_lake_and_survives_that_no_exchange_answers(start: Start) -> None:
    container = start()
    locked = ("exec", container, "test", "-s", "/data/state/locks/capture")
    wait_until(container, "the collector's lock", lambda: docker(*locked, check=False).returncode == 0, 60)
    code, seconds = stop(container)
    assert code == 0, logs(container)
    assert seconds < 15
