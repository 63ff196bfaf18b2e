"""`run` as a user starts it: real child processes on a simulated exchange."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = ["--port", "0", "--symbols", "BTCUSDT,ETHUSDT"]


def poll(condition: Callable[[], Any], seconds: float = 90.0, what: str = "it") -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return value


def read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_bytes())
    return {}


def pids_of(data: Path) -> list[int]:
    """Processes whose command line names the data directory."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(data).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


class RunProcess:
    """A `run` with its data directory and what it said."""

    def __init__(self, process: subprocess.Popen[bytes], data: Path) -> None:
        self.process = process
        self.data = data

    def snapshot(self) -> dict[str, Any]:
        return read(self.data / "state/collector.json")

    def collecting(self, not_pid: int = 0) -> dict[str, Any]:
        """Wait until a collector (another than not_pid) has something fsynced."""

        def ready() -> dict[str, Any] | None:
            told = self.snapshot()
            fresh = told and told["pid"] != not_pid
            return told if fresh and any(symbol["durable_id"] for symbol in told["symbols"]) else None

        return poll(ready, what="an fsynced trade")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def run_on(simulate: Any, lake_on: Any, tmp_path: Path) -> Iterator[Callable[..., RunProcess]]:
    """Start `run` on a simulator of its own."""
    started: list[RunProcess] = []

    def start(*arguments: str, **settings: str) -> RunProcess:
        simulator = simulate("--symbols", "BTCUSDT,ETHUSDT")
        lake = lake_on(simulator, collector_port="0", **settings)
        log = (tmp_path / f"run-{len(started)}.txt").open("wb")
        with log:
            process = lake.popen("run", "--data", str(lake.data), *arguments, stdout=log, stderr=log)
        started.append(RunProcess(process, lake.data))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        print((tmp_path / f"run-{started.index(run)}.txt").read_text())


def test_a_killed_collector_is_started_again_and_stop_loses_nothing(run_on: Any, lake_on: Any) -> None:
    run = run_on("--symbols", "BTCUSDT,ETHUSDT")
    first = run.collecting()
    os.kill(first["pid"], signal.SIGKILL)
    second = run.collecting(not_pid=first["pid"])
    assert second["pid"] != first["pid"]
    assert run.stop() == 0
    assert list(run.data.glob("raw/**/*.open")) == []
    last = run.snapshot()
    assert [symbol["durable_id"] for symbol in last["symbols"]] == [
        symbol["last_id"] for symbol in last["symbols"]
    ]
    assert pids_of(run.data) == []
    beat = read(run.data / "health/heartbeat.json")
    assert beat["status"] == "down"  # it says what is: nobody collects now
    assert beat["raw_files"] > 0


def test_the_lake_goes_on_when_nobody_reads_what_it_says(simulate: Any, lake_on: Any) -> None:
    lake = lake_on(simulate("--symbols", "BTCUSDT"), collector_port="0", collector_symbols="BTCUSDT")
    with lake.popen("run", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        run = RunProcess(process, lake.data)
        first = run.collecting()
        os.kill(first["pid"], signal.SIGKILL)  # there is something to say
        run.collecting(not_pid=first["pid"])
        assert run.stop() == 0
    assert list(run.data.glob("raw/**/*.open")) == []


def test_a_second_run_in_the_same_directory_says_so_and_touches_nothing(run_on: Any) -> None:
    run = run_on("--symbols", "BTCUSDT,ETHUSDT")
    first = run.collecting()
    done = subprocess.run(
        [*run.process.args[:3], "run", "--data", str(run.data), *COMMAND],  # type: ignore[index]
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"CRYPTO_LAKE_COLLECTOR_ENDPOINT_WEBSOCKET": "ws://127.0.0.1:1"},
    )
    assert done.returncode == 4, done.stderr
    assert f"process {first['pid']} holds the lock" in done.stderr
    assert run.process.poll() is None
    assert run.snapshot()["pid"] == first["pid"]
    assert run.stop() == 0


def test_symbols_change_without_a_restart(run_on: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("collector: {symbols: [BTCUSDT]}\n")
    run = run_on("--config", str(config))
    before = run.collecting()
    assert [symbol["symbol"] for symbol in before["symbols"]] == ["BTCUSDT"]
    config.write_text("collector: {symbols: [BTCUSDT, ETHUSDT]}\n")
    run.process.send_signal(signal.SIGHUP)

    def both() -> dict[str, Any] | None:
        told = run.snapshot()
        return (
            told
            if [s["symbol"] for s in told["symbols"] if s["durable_id"]] == ["BTCUSDT", "ETHUSDT"]
            else None
        )

    after = poll(both, what="the second symbol")
    assert after["pid"] == before["pid"]
    config.write_text("collector: {symbols: [ETHUSDT]}\n")
    run.process.send_signal(signal.SIGHUP)

    def ready_with_one() -> bool:
        told = run.snapshot()
        live = sum(c["streams"] for c in told["connections"] if c["state"] == "live")
        return {s["symbol"] for s in told["streams"]} == {"ETHUSDT"} and live == len(told["streams"]) == 2

    poll(ready_with_one, what="streams of the second symbol alone, all of them live")
    assert run.snapshot()["pid"] == before["pid"]
    assert run.stop() == 0


def test_status_tells_a_running_lake_and_a_stopped_one(run_on: Any, lake_on: Any) -> None:
    run = run_on("--symbols", "BTCUSDT,ETHUSDT")
    run.collecting()
    ask = [*run.process.args[:3], "status", "--data", str(run.data), "-o", "json"]  # type: ignore[index]

    told: dict[str, Any] = {}

    def healthy() -> bool:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
        told.clear()
        told.update(json.loads(done.stdout))
        assert (done.returncode == 0) == (told["health"] == "ok"), done.stderr
        return done.returncode == 0 and told["collector"]["streams_live"] == 4

    try:
        poll(healthy, what="four live streams, and nothing to complain of")
    except AssertionError as error:
        raise AssertionError(f"{error}: {told.get('health')}, {told.get('reasons')}") from None
    assert told["reasons"] == []
    assert told["schema"] == 1
    assert run.stop() == 0
    done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert json.loads(done.stdout)["reasons"][0]["code"] == "not_running"


def test_killed_itself_run_leaves_no_process_behind(run_on: Any) -> None:
    run = run_on("--symbols", "BTCUSDT,ETHUSDT")
    run.collecting()
    run.process.kill()
    run.process.wait()
    poll(lambda: pids_of(run.data) == [], what="the children's end")
    assert list(run.data.glob("raw/**/*.open")) == []  # they had SIGTERM, and ended in order


def test_a_second_signal_kills_what_does_not_stop(run_on: Any) -> None:
    run = run_on("--symbols", "BTCUSDT,ETHUSDT")
    collector = run.collecting()["pid"]
    os.kill(collector, signal.SIGSTOP)  # it will not heed SIGTERM
    run.process.send_signal(signal.SIGTERM)
    log = run.data / "logs/qa/crypto-lake.log"
    poll(lambda: "stopping: SIGTERM" in log.read_text(), what="the first signal")
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(20) == 130  # sooner than the 30 s after which it is killed anyway
    poll(lambda: pids_of(run.data) == [], what="the children's end")


@pytest.mark.slow
def test_a_simulated_run_shows_bars(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_") and k != "LOG_LEVEL"}
    data = tmp_path / "data"
    line = [
        sys.executable,
        "-m",
        "crypto_lake.cli.main",
        "run",
        "--simulate",
        "--for",
        "8s",
        "--data",
        str(data),
        *COMMAND,
    ]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=clean)
    assert done.returncode == 0, done.stderr
    assert f"symbols in {data}/parquet" in done.stdout
    assert "window_start" in done.stdout
    assert f"crypto-lake status --data {data}" in done.stdout
    assert len(list(data.glob("parquet/binance/*/year=*/month=*/day=*/bars.parquet"))) >= 2
    assert read(data / "health/heartbeat.json")["parquet_rows"] > 0
    assert list(data.glob("raw/**/*.open")) == []
    assert pids_of(data) == []
