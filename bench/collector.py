"""Collector against others: CPU a message at a steady rate over TLS, one record a message.

    python bench/collector.py [--rate 20000] [--seconds 8] [--repeat 5] [--only ours,websockets]

Every client runs in a process of its own against a blaster of its own (bench/blaster.py), in turns, so that a busy
minute of the machine hits all of them; medians are told. CPU is the whole process's, threads included, from two
seconds after its start (imports, certificates and handshakes are paid once) to the end, over the messages received in
that time. "dropped" is what was sent and not received (for ours: not found in the parts on the disk).

Clients:
  ours        the whole collector as it runs: connections, intake, writer, fsync, ledger, parts
  picows      the same collector over picows (reads paused in the same way) in the place of our transport
  transport   our transport alone, handing its messages to nobody
  websockets  `async for _ in connect(...)`: the usual client of the websockets package, doing nothing
  cryptofeed  its FeedHandler with callbacks that do nothing; needs `pip install cryptofeed` (AGPL, run beside us)

Exit code 1 where a target is missed: ours at most a third of cryptofeed where it is installed, nothing dropped,
receive-to-durable p99 at most 1.1 s. The ratio to plain websockets is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.util
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from blaster import QUOTE, SYMBOLS

CLIENTS = ("ours", "picows", "transport", "websockets", "cryptofeed")
NAMES = tuple(base + QUOTE for base in SYMBOLS)
WARM_UP_SECONDS = 2.0
IDLE_SECONDS = 1.5  # after the last message, for what is still on its way
P99_TARGET_MS = 1100.0
RATIO_TARGET = 1 / 3


class Meter:
    """CPU over messages between two moments of this process."""

    def __init__(self) -> None:
        self._cpu: list[float] = []
        self._messages: list[int] = []

    def mark(self, messages: int) -> None:
        self._messages.append(messages)
        self._cpu.append(time.process_time())

    @property
    def result(self) -> dict[str, Any]:
        messages = self._messages[-1] - self._messages[0]
        return {"us": (self._cpu[-1] - self._cpu[0]) / max(1, messages) * 1e6, "messages": self._messages[-1]}


# Clients. Each returns the messages it took, and whatever else it has to tell.


def run_ours(options: argparse.Namespace, *, over_picows: bool = False) -> dict[str, Any]:
    from crypto_lake.capture import assembly
    from crypto_lake.capture.collector import Collector
    from crypto_lake.capture.collector_settings import CollectorSettings
    from crypto_lake.config.schema import Endpoint
    from crypto_lake.lake.frames import BadBytes, read_frames
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.market import Stream

    if over_picows:
        from over_picows import open_picows

        assembly.Feed = functools.partial(assembly.Feed, connect=open_picows)  # type: ignore[misc]
    layout = Layout(Path(options.folder) / "data")
    settings = CollectorSettings(
        exchange="binance",
        symbols=NAMES,
        streams=(Stream.TRADE, Stream.BOOK_TICKER),
        endpoint=Endpoint(
            websocket=f"wss://127.0.0.1:{options.websocket}",
            rest=f"http://127.0.0.1:{options.rest}",
            ca_file=str(Path(options.folder) / "certificate.pem"),
        ),
        coalesce_ms=options.coalesce_ms,
    )

    async def collect() -> dict[str, Any]:
        def received() -> int:
            return sum(stream.messages for stream in collector.snapshot().streams)

        meter = Meter()
        collector = Collector(settings, layout)
        running = asyncio.ensure_future(collector.run())
        await asyncio.wait({running}, timeout=WARM_UP_SECONDS)
        meter.mark(received())
        await asyncio.wait({running}, timeout=options.seconds - WARM_UP_SECONDS + IDLE_SECONDS)
        meter.mark(received())
        p99_ms = collector.snapshot().writer.receive_to_durable_p99_ms
        collector.stop("measured")
        await running
        return meter.result | {"p99_ms": p99_ms}

    result = asyncio.run(collect())
    on_disk = 0
    for path in (layout.root / "raw").rglob("part_*.jsonl.zst"):
        if "_control" in path.parts:
            continue
        for frame in read_frames(path):
            assert not isinstance(frame, BadBytes), frame
            on_disk += frame.data.count(b"\n")
    return result | {"messages": on_disk}


def run_transport(options: argparse.Namespace) -> dict[str, Any]:
    from crypto_lake.capture.opening import open_transport
    from crypto_lake.capture.tls import tls_context
    from crypto_lake.capture.transport import Target

    class Counting:
        messages = 0

        def received(self, messages: list[bytes]) -> None:
            self.messages += len(messages)

        def ended(self, ending: object) -> None:
            print(ending, file=sys.stderr)

        def may_read(self) -> bool:
            return True

    async def collect() -> dict[str, Any]:
        meter, counting = Meter(), Counting()
        tls = tls_context(str(Path(options.folder) / "certificate.pem"))
        target = Target(url(options), tls, coalesce_ms=options.coalesce_ms)
        transport = await open_transport(target, counting)
        await asyncio.sleep(WARM_UP_SECONDS)
        meter.mark(counting.messages)
        await asyncio.sleep(options.seconds - WARM_UP_SECONDS + IDLE_SECONDS)
        meter.mark(counting.messages)
        transport.close()
        return meter.result

    return asyncio.run(collect())


def run_websockets(options: argparse.Namespace) -> dict[str, Any]:
    from websockets.asyncio.client import connect

    async def collect() -> dict[str, Any]:
        meter, messages = Meter(), 0
        tls = ssl.create_default_context(cafile=Path(options.folder) / "certificate.pem")
        async with connect(url(options), ssl=tls, compression=None, ping_interval=None) as client:
            asyncio.get_running_loop().call_later(WARM_UP_SECONDS, lambda: meter.mark(messages))
            try:
                async with asyncio.timeout(options.seconds + IDLE_SECONDS):
                    async for _ in client:
                        messages += 1
            except TimeoutError:
                pass
            meter.mark(messages)
        return meter.result

    return asyncio.run(collect())


def run_cryptofeed(options: argparse.Namespace) -> dict[str, Any]:
    from cryptofeed import FeedHandler  # type: ignore[import-not-found]
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint  # type: ignore[import-not-found]
    from cryptofeed.defines import TICKER, TRADES  # type: ignore[import-not-found]
    from cryptofeed.exchanges import Binance  # type: ignore[import-not-found]

    class Local(Binance):
        websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{options.websocket}")]  # noqa: RUF012
        rest_endpoints = [  # noqa: RUF012
            RestEndpoint(f"http://127.0.0.1:{options.rest}", routes=Routes("/api/v3/exchangeInfo"))
        ]

    messages = 0

    async def nothing(_: object, __: float) -> None:
        nonlocal messages
        messages += 1

    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": True})
    symbols = [f"{base}-{QUOTE}" for base in SYMBOLS]
    handler.add_feed(
        Local(symbols=symbols, channels=[TRADES, TICKER], callbacks={TRADES: nothing, TICKER: nothing})
    )
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler.run(start_loop=False, install_signal_handlers=False)
    loop = asyncio.get_event_loop()
    meter = Meter()
    loop.call_later(WARM_UP_SECONDS, lambda: meter.mark(messages))
    loop.call_later(options.seconds + IDLE_SECONDS, loop.stop)
    loop.run_forever()
    meter.mark(messages)
    return meter.result


def url(options: argparse.Namespace) -> str:
    streams = "/".join(f"{name.lower()}@{kind}" for name in NAMES for kind in ("trade", "bookTicker"))
    return f"wss://127.0.0.1:{options.websocket}/stream?streams={streams}"


def client_main(options: argparse.Namespace) -> None:
    run = {
        "ours": run_ours,
        "picows": functools.partial(run_ours, over_picows=True),
        "transport": run_transport,
        "websockets": run_websockets,
        "cryptofeed": run_cryptofeed,
    }[options.client]
    print(json.dumps(run(options)))
    sys.stdout.flush()
    # Some of them leave tasks behind that would only be in the way of an end.
    os._exit(0)


# The measuring


def measure(client: str, options: argparse.Namespace) -> dict[str, Any]:
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        blaster = subprocess.Popen(
            [
                sys.executable,
                str(here / "blaster.py"),
                f"--folder={folder}",
                f"--rate={options.rate}",
                f"--seconds={options.seconds}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert blaster.stdout is not None
            ports = json.loads(blaster.stdout.readline())
            done = subprocess.run(
                [
                    sys.executable,
                    str(here / "collector.py"),
                    f"--client={client}",
                    f"--folder={folder}",
                    f"--websocket={ports['websocket']}",
                    f"--rest={ports['rest']}",
                    f"--seconds={options.seconds}",
                    f"--coalesce-ms={options.coalesce_ms}",
                ],
                stdout=subprocess.PIPE,
                text=True,
                timeout=options.seconds + 60,
                # cryptofeed takes no context: it finds the certificate by OpenSSL's own variable.
                env={**os.environ, "SSL_CERT_FILE": f"{folder}/certificate.pem"},
                check=True,
            )
            result = json.loads(done.stdout.splitlines()[-1])
            result |= json.loads(blaster.stdout.readline())
        finally:
            blaster.kill()
            blaster.wait()
    if "error" in result:
        raise RuntimeError(f"{client}: {result['error']}")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=20_000, help="messages a second")
    parser.add_argument("--seconds", type=float, default=8, help="of each run")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--coalesce-ms", type=float, default=5.0)
    parser.add_argument("--only", default=",".join(CLIENTS), help="which clients, separated by commas")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument(
        "--scratch", help="folder for the data; must be on a disk for fsync to mean something"
    )
    for inner in ("--client", "--folder"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    for inner in ("--websocket", "--rest"):
        parser.add_argument(inner, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client_main(options)
    needs = {"cryptofeed": "cryptofeed", "picows": "picows"}
    clients: list[str] = []
    for client in options.only.split(","):
        if client not in CLIENTS:
            parser.error(f"no client {client!r}; there are {', '.join(CLIENTS)}")
        if importlib.util.find_spec(needs.get(client, "sys")) is None:
            print(f"{client}: not installed, left out")
        else:
            clients.append(client)
    runs: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
    for turn in range(options.repeat):
        for client in clients:
            result = measure(client, options)
            runs[client].append(result)
            print(f"turn {turn + 1}: {client:<10} {result['us']:6.2f} us", file=sys.stderr)
    return report(runs, options)


def report(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> int:
    median = {client: statistics.median(r["us"] for r in results) for client, results in runs.items()}
    print(
        f"{options.rate:,.0f} messages/s over TLS, {options.seconds:g} s, coalesced over {options.coalesce_ms:g} ms,"
        f" {options.repeat} turns; CPU us a message"
    )
    print(f"{'client':<11}{'median':>8}{'least':>8}{'most':>8}{'ours /':>9}{'dropped':>9}{'behind s':>10}")
    ours = median.get("ours")
    failures: list[str] = []
    for client, results in runs.items():
        us = [r["us"] for r in results]
        dropped = sum(r["sent"] - r["messages"] for r in results)
        behind = max(r["behind_seconds"] for r in results)
        ratio = f"{ours / median[client]:9.2f}" if ours else " " * 9
        print(
            f"{client:<11}{median[client]:>8.2f}{min(us):>8.2f}{max(us):>8.2f}{ratio}{dropped:>9}{behind:>10.3f}"
        )
        if client == "ours":
            if dropped:
                failures.append(f"ours lost {dropped} messages")
            p99_ms = max(r["p99_ms"] for r in results)
            print(f"           receive to durable, p99: {p99_ms:.0f} ms (target {P99_TARGET_MS:.0f})")
            if p99_ms > P99_TARGET_MS:
                failures.append(f"receive to durable p99 is {p99_ms:.0f} ms")
    if ours and "cryptofeed" in median and ours > RATIO_TARGET * median["cryptofeed"]:
        failures.append(f"ours is {ours / median['cryptofeed']:.2f} of cryptofeed, target {RATIO_TARGET:.2f}")
    for failure in failures:
        print(f"MISSED: {failure}")
    if options.json:
        options.json.write_text(
            json.dumps({"options": vars(options) | {"json": str(options.json)}, "runs": runs})
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
