"""A real collector on a real simulator, with what it acknowledged over a pipe, and what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from crypto_lake.completeness.ledger import Account, account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import IntervalSet
from support.lakes import lines_of

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")  # none that is quiet for minutes
QUICK = {
    "collector_symbols": ",".join(SYMBOLS),
    "collector_fsync_ms": "100",
    "collector_flush_ms": "25",
    "collector_rotate_seconds": "2",
    "collector_hole_grace_seconds": "0.3",
    "collector_port": "0",
    "logging_console": "ERROR",
}


class Collecting:
    """`acknowledged`: by symbol, every id that the collector reported as fsynced.

    While `without_power` is set, reports go to `unheard`: a file system that is shut down while an fsync runs may let
    it return as if it had been done (ext4), and of a machine without power nobody would hear it.
    """

    def __init__(self, simulator: Any, lake: Any, *arguments: str, **options: Any) -> None:
        self.simulator, self.lake = simulator, lake
        self.layout = Layout(lake.data)
        self.acknowledged: dict[str, IntervalSet] = {}
        self.reported_at = 0.0
        self.without_power = False
        self.unheard: dict[str, IntervalSet] = {}
        self._arguments, self._options = arguments, options
        self.start()

    def start(self) -> None:
        reader, writer = os.pipe()
        self.process: subprocess.Popen[bytes] = self.lake.popen(
            "collect", "--report-durable", str(writer), *self._arguments, pass_fds=[writer], **self._options
        )
        os.close(writer)
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as pipe:
            for line in pipe:
                if line.endswith(b"\n"):
                    told = json.loads(line)
                    heard = self.unheard if self.without_power else self.acknowledged
                    heard.setdefault(told["symbol"], IntervalSet()).add(told["id"])
                    self.reported_at = time.monotonic()

    def until(self, condition: Callable[[], Any], what: str, timeout_seconds: float = 120) -> Any:
        end = time.monotonic() + timeout_seconds
        while not (value := condition()):
            assert self.process.poll() is None, (
                f"the collector ended ({self.process.returncode}), waiting for {what}"
            )
            assert time.monotonic() < end, f"waited {timeout_seconds} s in vain for {what}"
            time.sleep(0.05)
        return value

    def _find_port(self) -> int:
        try:
            told = json.loads((self.layout.state / "collector.json").read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):  # the latter after a power cut
            return 0
        return max(0, told["port"]) if told["pid"] == self.process.pid else 0

    def wait_acknowledging(self) -> None:
        """All symbols acknowledge something new. From then on `get` works."""
        before = {symbol: ids.count() for symbol, ids in self.acknowledged.items()}
        self.until(
            lambda: all(self.acknowledged.get(s, IntervalSet()).count() > before.get(s, 0) for s in SYMBOLS),
            "acknowledged trades of every symbol",
        )
        self._port: int = self.until(self._find_port, "the collector's port")

    def snapshot(self) -> dict[str, Any]:
        """Over HTTP: of a full disk no file tells."""
        return json.loads(self.get("/status")[1])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> int:
        self.process.kill()
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(60)
        self._thread.join(10)
        return code

    def told(self, symbol: str) -> Account:
        return account(read(self.layout.ledger("binance", symbol)).lines)

    def on_disk(self, symbol: str) -> IntervalSet:
        return ids_on_disk(self.layout, symbol)

    def assert_exact(self) -> dict[str, list[str]]:
        """What was acknowledged is there, and the ledger says just what is there; gives the causes of the holes."""
        causes: dict[str, list[str]] = {}
        for symbol in SYMBOLS:
            on_disk, told = self.on_disk(symbol), self.told(symbol)
            assert all(
                interval.first in on_disk and interval.last in on_disk
                for interval in self.acknowledged[symbol]
            )
            assert told.seen == on_disk, (symbol, told.seen, on_disk)
            assert list(told.open_holes) == on_disk.holes(), symbol
            causes[symbol] = [hole.cause for hole in told.holes]
            proof = prove(self.layout, "binance", symbol)
            assert (proof.disagreements, proof.to_come) == ([], 0), symbol
        return causes


def ids_on_disk(layout: Layout, symbol: str) -> IntervalSet:
    """By plain reading, with nothing of what the ledger was made with. No part may be open, none be torn."""
    ids = IntervalSet()
    for day in layout.raw_days("binance", symbol):
        for file in layout.raw_files("binance", symbol, day):
            assert not file.is_open, file.path
            for line in lines_of(file.path):
                message = json.loads(line)["message"]
                if message["stream"].endswith("@trade"):
                    ids.add(message["data"]["t"])
    return ids
