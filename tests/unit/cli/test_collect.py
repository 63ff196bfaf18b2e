"""`collect` around a collector: signals, what it leaves, and settings that change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "watch"))
try:
    from snapshots import snapshot
finally:
    sys.path.pop(0)

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.cli import collect
from crypto_lake.cli.common import CommandError
from crypto_lake.config.load import Loaded, load
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.locks import LockHeldError


@dataclass
class FakeCollector:
    """Runs until it is stopped, or ends as it is told to."""

    ends: BaseException | str | None = None
    stopped_by: list[str] = field(default_factory=list)
    symbols: list[tuple[str, ...]] = field(default_factory=list)
    streams: list[tuple[str, ...]] = field(default_factory=list)
    stop_event: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> str:
        if isinstance(self.ends, BaseException):
            raise self.ends
        if self.ends is not None:
            return self.ends
        await self.stop_event.wait()
        return self.stopped_by[0]

    def stop(self, reason: str) -> None:
        self.stopped_by.append(reason)
        self.stop_event.set()

    def snapshot(self) -> CollectorSnapshot:
        return snapshot()

    def follow(self, symbols: tuple[str, ...], streams: tuple[str, ...]) -> None:
        self.symbols.append(symbols)
        self.streams.append(streams)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "SNAPSHOT_SECONDS", 0.02)
    monkeypatch.setattr(collect, "CONFIG_POLL_SECONDS", 0.02)


def operate(
    tmp_path: Path, collector: FakeCollector, during: Callable[[Layout, Path], Awaitable[None]] | None = None
) -> int:
    """Run it on a data directory of the test's, and end it by SIGTERM when `during` is done."""
    layout, file = Layout(tmp_path / "data"), tmp_path / "config.yml"
    if not file.exists():
        file.write_text("collector: {port: 0, symbols: [BTCUSDT]}\n")

    def reload() -> Loaded:
        return load(file, {})

    async def run() -> int:
        running = asyncio.create_task(
            collect.operate(collector, loaded=reload(), layout=layout, reload=reload, heartbeat=True)
        )
        if during is not None:
            worker = asyncio.create_task(during(layout, file))
            await asyncio.wait([running, worker], timeout=60, return_when=asyncio.FIRST_COMPLETED)
            if worker.done() and worker.exception() is None:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                collector.stop("the test failed")
            code = await running
            await worker
            return code
        return await running

    return asyncio.run(run())


async def until(met: Callable[[], Any]) -> Any:
    async with asyncio.timeout(90):
        while not (value := met()):
            await asyncio.sleep(0.01)
    return value


def read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_bytes())
    return None


def test_it_leaves_its_snapshot_with_its_port_and_ends_on_sigterm(tmp_path: Path) -> None:
    async def during(layout: Layout, _: Path) -> None:
        told = await until(lambda: read(layout.state / "collector.json"))
        assert told["port"] > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", told["port"])
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()
        (layout.state / "collector.json").unlink()

    collector = FakeCollector()
    assert operate(tmp_path, collector, during) == 0
    assert collector.stopped_by == ["SIGTERM"]
    last = msgspec.json.decode((tmp_path / "data/state/collector.json").read_bytes(), type=CollectorSnapshot)
    assert last.pid == 4242


def test_a_collector_that_may_not_run_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(LockHeldError):
        operate(tmp_path, FakeCollector(ends=LockHeldError("held")))
    assert not (tmp_path / "data").exists()


def test_an_end_that_nobody_asked_for_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="ended by itself: disk full"):
        operate(tmp_path, FakeCollector(ends="disk full"))


def test_what_watches_does_not_end_the_collecting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("a file, where a folder should be")

    async def during(_: Layout, __: Path) -> None:
        await until(lambda: "snapshot: " in caplog.text)
        await asyncio.sleep(0.1)

    assert operate(tmp_path, FakeCollector(), during) == 0
    assert caplog.text.count("snapshot: ") == 1  # told once, not every round


def test_symbols_follow_the_file_and_other_changes_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = FakeCollector()

    async def during(_: Layout, file: Path) -> None:
        await asyncio.sleep(0.3)  # it runs, and has looked at the file as it was
        file.write_text("collector: {port: 0, symbols: [ETHUSDT, BTCUSDT], rotate_seconds: 5}\n")
        await until(lambda: collector.symbols)
        await until(lambda: "needs a restart to take effect: collector.rotate_seconds" in caplog.text)
        file.write_text("collector: {port: 0, symbols: [wrong]}\n")
        await until(lambda: "is not applied" in caplog.text)
        replaced = file.with_name("new.yml")
        replaced.write_text("collector: {port: 0, symbols: [XRPUSDT], rotate_seconds: 5}\n")
        replaced.rename(file)  # as a mounted ConfigMap is
        await until(lambda: len(collector.symbols) == 2)

    with caplog.at_level(logging.INFO, "crypto_lake"):
        assert operate(tmp_path, collector, during) == 0
    assert collector.symbols == [("ETHUSDT", "BTCUSDT"), ("XRPUSDT",)]
    assert caplog.text.count("needs a restart") == 1


def test_hangup_reads_the_configuration_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "CONFIG_POLL_SECONDS", 600)
    collector = FakeCollector()

    async def during(_: Layout, file: Path) -> None:
        await asyncio.sleep(0.3)
        file.write_text("collector: {port: 0, symbols: [ETHUSDT]}\n")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: collector.symbols)

    assert operate(tmp_path, collector, during) == 0
    assert collector.symbols == [("ETHUSDT",)]


def test_what_is_durable_is_reported_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    report = collect.durable_reporter(writer)
    report({})
    report({"BTCUSDT": 5, "ETHUSDT": 7})
    assert os.read(reader, 1000) == b'{"symbol":"BTCUSDT","id":5}\n{"symbol":"ETHUSDT","id":7}\n'
    os.close(reader)
    report({"BTCUSDT": 6})
    report({"BTCUSDT": 7})
    os.close(writer)
    assert caplog.text.count("no longer reported") == 1
