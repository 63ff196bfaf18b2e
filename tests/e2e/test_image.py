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
bars = {}
for path in sorted(root.glob("parquet/binance/*/*/*/*/bars.parquet")):
    bars.setdefault(path.parts[4], []).append(pl.read_parquet(path))
bars = {symbol: pl.concat(days) for symbol, days in bars.items()}
print(json.dumps({
    "open": [str(p) for p in root.rglob("*.open")],
    "parts": len(list(root.glob("raw/binance/*/*/part_*.jsonl.zst"))),
    "bars": {symbol: len(table) for symbol, table in bars.items()},
    "trades": sum(int(table["trade_count"].sum()) for table in bars.values()),
}))
"""

# Every module of ours, and what those of a dashboard, a notebook or BigQuery import only when they are used.
IMPORT_ALL = """
import importlib, json, pkgutil
names = ["duckdb", "google.cloud.bigquery", "google.cloud.storage", "kopf", "kubernetes.aio.client", "pandas",
         "plotly.express", "pyarrow.dataset", "pyarrow.fs", "pyarrow.parquet", "streamlit.web.cli", "yfinance"]
for ours in ("crypto_lake", "crypto_lake_operator"):
    for found in pkgutil.walk_packages(importlib.import_module(ours).__path__, ours + "."):
        if not found.name.endswith("__main__"):
            names.append(found.name)
for name in names:
    importlib.import_module(name)

import io, duckdb, pandas, plotly.express, polars, pyarrow.parquet
file = io.BytesIO()
polars.DataFrame({"a": [1, 2]}).write_parquet(file)
table = pyarrow.parquet.read_table(io.BytesIO(file.getvalue()))
plotly.express.line(pandas.DataFrame({"a": [1, 2]}), y="a").to_json()
print(json.dumps({"modules": len(names), "sum": duckdb.sql('SELECT sum(a) FROM "table"').fetchall()}))
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


def test_it_is_whole(image: str) -> None:
    """What the build takes away of the dependencies is missed by nothing."""
    told = docker("run", "--rm", *CONFINED, "--entrypoint", "python", image, "-c", IMPORT_ALL).stdout
    found = json.loads(told)
    assert found["modules"] > 100
    assert found["sum"] == [[3]]


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
