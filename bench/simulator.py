"""How many messages a second the simulator pushes to one client on loopback, plain and over TLS.

    python bench/simulator.py [--seconds 5] [--repeat 3]

The simulator generates its default market of 13 symbols (all trade and bookTicker streams) at `--speed max`; the
client reads bytes and looks at nothing. Told are medians: messages a second, and microseconds of the simulator's CPU
a message (making the market, encoding, writing).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from crypto_lake.model.symbols import DEFAULT_SYMBOLS

FORMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "TLS": ("--tls",),
    "TLS, one record a message": ("--tls", "--one-message-per-write"),
}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(arguments: tuple[str, ...], seconds: float) -> tuple[float, float]:
    """Messages a second and CPU microseconds a message, from a second after the start."""
    command = [sys.executable, "-m", "crypto_lake.cli.main", "simulate", "--speed", "max", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        context = ssl.create_default_context(cafile=ready["ca_file"]) if ready["ca_file"] else None
        host, _, port = ready["rest"].rpartition("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, limit=1 << 20)
        streams = "/".join(f"{s.lower()}@{k}" for s in DEFAULT_SYMBOLS for k in ("trade", "bookTicker"))
        writer.write(
            f"GET /stream?streams={streams} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

        async def read() -> None:
            while await reader.read(1 << 20):
                pass

        def sent() -> tuple[int, float, float]:
            with urlopen(ready["rest"] + "/control/state", context=context) as response:
                state: Any = json.load(response)
            return (
                sum(c["messages"] for c in state["connections"]),
                time.monotonic(),
                cpu_seconds(process.pid),
            )

        reading = asyncio.create_task(read())
        await asyncio.sleep(1)
        before = await asyncio.to_thread(sent)
        await asyncio.sleep(seconds)
        after = await asyncio.to_thread(sent)
        reading.cancel()
        writer.transport.abort()
        messages = after[0] - before[0]
        return messages / (after[1] - before[1]), (after[2] - before[2]) / messages * 1e6
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMS}
    for _ in range(given.repeat):
        for name, arguments in FORMS.items():
            results[name].append(asyncio.run(measure(arguments, given.seconds)))
    print(f"{'':28}{'messages/s':>12}{'us CPU':>10}")
    for name, found in results.items():
        rate, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:28}{rate:12,.0f}{cpu:10.1f}")


if __name__ == "__main__":
    main()
