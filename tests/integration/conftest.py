"""Real processes for the tests: a simulator, collectors on it, and what they left on the disk."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "crypto_lake.cli.main"]
# The least that is waited for anything: how fast a busy machine is, is not what tests show.
PATIENCE_SECONDS = 90.0


@dataclass
class SimulatorProcess:
    """A running `crypto-lake simulate`, with what it said when it was ready."""

    process: subprocess.Popen[bytes]
    websocket: str
    rest: str
    ready: dict[str, Any]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.rest + path, timeout=90) as response:
            return json.load(response)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.rest + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=90) as response:
            return json.load(response)

    def wait_until_done(self, timeout_seconds: float) -> None:
        """Until a recording has been played, or the market's duration is over."""
        wait_for(lambda: self.get("/control/state")["state"] == "done", timeout_seconds, "the market's end")


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., Any]:
    return wait_for


def wait_for(condition: Callable[[], Any], timeout_seconds: float, what: str) -> Any:
    """Poll until the condition holds; fail, saying what was waited for, when it never does."""
    timeout_seconds = max(timeout_seconds, PATIENCE_SECONDS)
    end = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {timeout_seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return value


def stop(process: subprocess.Popen[bytes], timeout_seconds: float = 60) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@pytest.fixture
def simulate() -> Iterator[Callable[..., SimulatorProcess]]:
    """Start `crypto-lake simulate` with these arguments; ended with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> SimulatorProcess:
        process = subprocess.Popen(
            [*COMMAND, "simulate", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        running.append(process)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
        line = process.stdout.readline() if readable else b""
        assert line, f"the simulator did not get ready (exit code {process.poll()})"
        ready = json.loads(line)
        return SimulatorProcess(process, ready["websocket"], ready["rest"], ready)

    yield start
    for process in running:
        stop(process)
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class LakeCommands:
    """`crypto-lake …` on one data directory and one simulator, configured by environment variables."""

    data: Path
    environment: dict[str, str]

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stdin=subprocess.DEVNULL, **options
        )

    def run(self, *arguments: str, timeout_seconds: float = 120) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
        )
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done


@pytest.fixture
def lake_on(tmp_path: Path) -> Iterator[Callable[..., LakeCommands]]:
    """Commands on a data directory of the test's own, pointed at a simulator."""

    def make(simulator: SimulatorProcess, name: str = "data", **settings: str) -> LakeCommands:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_") and k != "LOG_LEVEL"}
        environment = clean | {
            "CRYPTO_LAKE_DATA": str(tmp_path / name),
            "CRYPTO_LAKE_COLLECTOR_ENDPOINT_WEBSOCKET": simulator.websocket,
            "CRYPTO_LAKE_COLLECTOR_ENDPOINT_REST": simulator.rest,
            "CRYPTO_LAKE_COLLECTOR_PORT": "-1",
            # Most tests look at the holes that faults leave; those of healing turn it on.
            "CRYPTO_LAKE_COLLECTOR_HEAL": "false",
        }
        environment |= {f"CRYPTO_LAKE_{name.upper()}": value for name, value in settings.items()}
        return LakeCommands(tmp_path / name, environment)

    return make


@pytest.fixture
def recorded() -> Path:
    """The folder of recorded market data; the test is skipped where there is none."""
    folder = os.environ.get("CRYPTO_LAKE_RECORDED_DATA")
    if not folder:
        pytest.skip("CRYPTO_LAKE_RECORDED_DATA names no folder of recorded data")
    return Path(folder)
