"""`crypto-lake simulate` as a process: what it prints, what it plays, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crypto_lake.simulator.recording import RecordedMarket

COMMAND = [sys.executable, "-m", "crypto_lake.cli.main", "simulate"]


def start(*arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def end(process: subprocess.Popen[bytes], number: int | None = signal.SIGTERM) -> int:
    try:
        if number is not None:
            process.send_signal(number)
        return process.wait(90)
    finally:
        process.kill()
        process.communicate()


async def read_all(url: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(120), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        while len(found) < count:
            found.append((await ws.receive()).data.encode())
    return found


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    base = 1_723_161_255_000
    with path.open("w") as file:
        for i in range(3000):
            data: dict[str, Any] = {
                "e": "trade",
                "E": base + i,
                "s": "BTCUSDT",
                "t": i + 1,
                "p": "1.50000000",
            }
            data |= {"q": "0.10000000", "T": base + i, "m": False, "M": True}
            file.write(f"{(base + i) * 10**6} {json.dumps({'stream': 'btcusdt@trade', 'data': data})}\n")
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_when_told(tmp_path: Path, number: int) -> None:
    ca_file = tmp_path / "ca.pem"
    process, ready = start(
        "--tls",
        f"--ca-file={ca_file}",
        "--symbols",
        "btcusdt,ETHUSDT",
        "--start",
        "2024-08-08T23:50:00",
        "--hold",
    )
    try:
        assert ready["websocket"].startswith("wss://127.0.0.1:")
        assert ready["rest"] == ready["websocket"].replace("wss", "https")
        assert ready["symbols"] == ["BTCUSDT", "ETHUSDT"]
        assert ready["start"] == "2024-08-08T23:50:00+00:00"
        assert Path(ready["ca_file"]) == ca_file
        ssl.create_default_context(cafile=str(ca_file))
    finally:
        assert end(process, number) == 0


@pytest.mark.parametrize("speed", ["max", "x10"])
def test_a_recording_is_played_whole_and_then_it_exits(recording: Path, speed: str) -> None:
    process, ready = start(f"--recording={recording}", "--speed", speed, "--exit-when-done")
    try:
        found = asyncio.run(read_all(ready["websocket"] + "/stream?streams=btcusdt@trade", 3000))
    finally:
        status = end(process, None)
    assert status == 0
    assert found == [line.split(b" ", 1)[1] for line in recording.read_bytes().splitlines()]


def test_a_played_recording_is_served_to_its_end_and_stays_done(recording: Path) -> None:
    process, ready = start(f"--recording={recording}", "--speed", "max")

    async def ask() -> None:
        await read_all(ready["websocket"] + "/ws/btcusdt@trade", 3000)
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> Any:
                async with session.get(ready["rest"] + path) as response:
                    return await response.json()

            # The last message is on its way before it counts as done.
            while (state := await get("/control/state"))["state"] != "done":
                await asyncio.sleep(0.05)
            assert (state["state"], state["sent"]) == ("done", {"btcusdt@trade": 3000})
            assert state["end_us"] == state["now_us"]
            clock = await get("/control/clock")
            assert (clock["exchange_ns"], clock["speed"]) == (state["end_us"] * 1000, 0)
            rows = await get("/api/v3/klines?symbol=BTCUSDT&interval=1s")
            truth = RecordedMarket([recording]).klines("BTCUSDT", "1s", 0, state["end_us"] + 1)
            assert [row[8] for row in rows] == [kline.trade_count for kline in truth] == [1000] * 3

    try:
        asyncio.run(ask())
    finally:
        assert end(process) == 0


def test_it_ends_after_its_duration() -> None:
    process, _ = start("--symbols", "BTCUSDT", "--activity", "0.1", "--duration", "0.2")
    assert end(process, None) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--speed", "fast"], 2, "'fast' is no speed"),
        (["--start", "noon"], 2, "'noon' is no time"),
        (["--symbols", "BTC-USDT"], 1, "letters and digits"),
        (["--start", "1969-12-31"], 2, "before 1970"),
        (["--port", "70000"], 2, "70000"),
        (["--lifetime", "0"], 2, "--lifetime"),
        (["--exit-when-done"], 2, "never ends"),
        (["--ca-file", "ca.pem"], 2, "--tls only"),
        (["--tls", "--ca-file", "no/such/folder/ca.pem"], 2, "no/such/folder"),
        (["--activity", "0"], 1, "activity is 0"),
        (["--recording", os.devnull + "x"], 2, "does not exist"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: list[str], status: int, reason: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=90)
    assert done.returncode == status
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named() -> None:
    process, ready = start("--symbols", "BTCUSDT", "--hold")
    try:
        port = ready["rest"].rpartition(":")[2]
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=90)
        assert done.returncode == 1
        assert f"can't listen on 127.0.0.1:{port}" in done.stderr
    finally:
        assert end(process) == 0
