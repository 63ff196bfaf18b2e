"""A collector's /status, as the operator reads it: of a real process whose configuration file changes under it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import ClockSetting, Hour
from crypto_lake_operator.report import Report, read_report
from support.lakes import market, write_part

COMMAND = [sys.executable, "-m", "crypto_lake.cli.main"]


class Page:
    """A `crypto-lake collect` with a configuration file of its own, and its pages."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path, data: Path, wait_for: Any) -> None:
        self.process, self.file, self.data, self._wait_for = process, file, data, wait_for
        self.port = 0

    def write(self, **changes: dict[str, Any]) -> str:
        """Change sections of the file as a mounted ConfigMap changes; gives the sha256 of its bytes."""
        settings = yaml.safe_load(self.file.read_text())
        for section, values in changes.items():
            settings[section] = settings.get(section, {}) | values
        replaced = self.file.with_name("new.yml")
        replaced.write_text(yaml.safe_dump(settings))
        replaced.rename(self.file)
        return self.sha256

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def get(self, path: str) -> tuple[int, bytes]:
        if not self.port:
            self.port = self._wait_for(self._find_port, 60, "the collector's port")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _find_port(self) -> int:
        assert self.process.poll() is None, "the collector ended"
        try:
            told = json.loads((self.data / "state/collector.json").read_bytes())
        except FileNotFoundError:
            return 0
        return max(0, told["port"])

    def report(self) -> Report:
        return read_report(self.get("/status")[1])

    def status(self) -> dict[str, Any]:
        return json.loads(self.get("/status")[1])

    def until(self, condition: Callable[[Report], Any], what: str) -> Report:
        found: list[Report] = []

        def holds() -> bool:
            found[:] = [self.report()]
            return bool(condition(found[0]))

        self._wait_for(holds, 60, what)
        return found[0]

    def metric(self, name: str) -> float:
        """Of a series that has no labels, or the sum over all that it has."""
        values = [
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics")[1].decode().splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        ]
        assert values, name
        return sum(values)


@pytest.fixture
def collect(simulate: Any, lake_on: Any, tmp_path: Path, wait_for: Any) -> Callable[..., Any]:
    @contextmanager
    def start(simulator: Any, program: str = "collect", **sections: dict[str, Any]) -> Iterator[Page]:
        settings: dict[str, Any] = {
            "collector": {
                "symbols": ["BTCUSDT", "ETHUSDT"],
                "port": 0,
                "fsync_ms": 100,
                "flush_ms": 25,
                "rotate_seconds": 1,
                "hole_grace_seconds": 0.3,
            },
            "logging": {"console": "ERROR"},
        }
        for section, values in sections.items():
            settings[section] = settings.get(section, {}) | values
        file = tmp_path / "config.yml"
        file.write_text(yaml.safe_dump(settings))
        lake = lake_on(simulator)
        del lake.environment["CRYPTO_LAKE_COLLECTOR_PORT"]
        with lake.popen(program, "--config", str(file), stderr=subprocess.DEVNULL) as process:
            try:
                yield Page(process, file, lake.data, wait_for)
            finally:
                process.terminate()
                assert process.wait(60) == 0

    return start


def test_the_operator_reads_of_it_what_it_needs(
    collect: Any, simulate: Any, lake_on: Any, tmp_path: Path
) -> None:
    simulator = simulate("--symbols", "BTCUSDT,ETHUSDT,SOLUSDT", "--activity", "5")
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    with collect(simulator, gcs={"url": f"file://{bucket}"}) as page:
        first = page.sha256
        report = page.until(lambda r: r.live_symbols == {"BTCUSDT", "ETHUSDT"}, "live streams")
        assert all(stream.live for stream in report.streams)
        assert report.configuration is not None
        assert (report.configuration.sha256, report.configuration.problem) == (first, "")
        assert report.disk is not None
        assert 0 < report.disk.used_percent <= 100
        assert report.disk.free_bytes > 0
        assert report.disk_full_in_seconds is None  # not known yet
        assert report.gaps_healed == 0
        assert report.last_verified_upload_ns == 0
        page.until(lambda r: r.pending_bytes, "something that is not uploaded")
        assert page.get("/readyz")[0] == 200
        assert report.ready

        second = page.write(collector={"symbols": ["SOLUSDT"], "streams": ["trade"]})
        report = page.until(lambda r: r.live_symbols == {"SOLUSDT"}, "the new symbol, alone")
        assert {stream.symbol for stream in report.streams} == {"SOLUSDT"}
        assert len(report.streams) == 1
        assert report.configuration is not None
        assert (report.configuration.sha256, report.configuration.problem) == (second, "")

        page.write(collector={"symbols": ["SOLUSDT", "BTCUSDT"], "rotate_seconds": 2})
        report = page.until(lambda r: r.live_symbols == {"SOLUSDT", "BTCUSDT"}, "what needs no restart")
        assert report.configuration is not None
        assert report.configuration.sha256 == second
        assert report.configuration.problem == "needs a restart: collector.rotate_seconds"
        assert report.has("configuration")

        page.write(collector={"symbols": ["not-a-symbol"]})
        report = page.until(
            lambda r: r.configuration and "not-a-symbol" in r.configuration.problem, "a file that is refused"
        )
        assert report.live_symbols == {"SOLUSDT", "BTCUSDT"}
        assert page.metric("crypto_lake_configuration_applied") == 0

        last = page.write(collector={"symbols": ["BTCUSDT"], "rotate_seconds": 1})
        report = page.until(lambda r: r.configuration and r.configuration.sha256 == last, "the file as it is")
        assert report.configuration is not None
        assert report.configuration.problem == ""
        assert page.metric("crypto_lake_configuration_applied") == 1
        kept = page.data / "state/collector.json"  # written every two seconds
        page._wait_for(lambda: last in kept.read_text(), 30, "what the collector leaves for the command")
        shown = lake_on(simulator).popen(
            "status", "--config", str(page.file), "-o", "json", stdout=subprocess.PIPE
        )
        told = json.loads(shown.communicate(timeout=60)[0])
        assert told["configuration"]["sha256"] == last
        assert told["pending_bytes"] > 0
        same = page.status().keys() & told.keys()
        assert same >= {"schema", "health", "reasons", "tasks", "alerts", "disk", "pending_bytes"}


def test_an_idle_collector_is_ready_and_takes_symbols_over_live(collect: Any, simulate: Any) -> None:
    simulator = simulate("--symbols", "BTCUSDT", "--activity", "5")
    idle = {"symbols": [], "idle": True, "clock_probe_seconds": 0.2}
    with collect(simulator, collector=idle) as page:
        page.until(lambda r: r.health == "ok", "a collector that is well")
        assert page.get("/readyz") == (200, b"ready\n")
        assert page.get("/healthz")[0] == 200
        report = page.report()
        assert not report.streams
        assert not report.reasons
        assert page.metric("crypto_lake_idle") == 1
        assert page.metric("crypto_lake_ready") == 1

        page.write(collector={"symbols": ["BTCUSDT"], "idle": False})
        page.until(lambda r: r.live_symbols == {"BTCUSDT"}, "the symbol")
        page.until(lambda r: any(s["durable_id"] for s in page.status()["symbols"]), "a durable trade")
        assert page.metric("crypto_lake_idle") == 0
        assert page.metric("crypto_lake_stream_live") == 2

        page.write(collector=idle)
        page.until(lambda r: not r.streams and r.health == "ok", "idleness again")
        assert page.get("/readyz")[0] == 200
        # It closes what it had open, and opens nothing more: by and by all of it can be sealed and uploaded.
        page._wait_for(lambda: not list(page.data.glob("raw/**/*.open")), 30, "closed parts")
        parts = sorted(page.data.glob("raw/**/part_*"))
        assert parts
        offset = page.status()["clock_round_trip_us"]
        page.until(lambda r: page.status()["clock_round_trip_us"] != offset, "another look at the clock")
        assert sorted(page.data.glob("raw/**/part_*")) == parts


@pytest.mark.slow
def test_an_idle_collector_comes_to_have_nothing_pending(
    collect: Any, simulate: Any, lake_on: Any, tmp_path: Path
) -> None:
    """As a shard does that goes: after its last hour all is sealed and in the bucket, its ledger too, be the day over or not."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    simulator = simulate(
        "--symbols", "BTCUSDT", "--activity", "0.05", "--start", "2024-08-08T10:30:00Z", "--speed", "600"
    )
    collector = {"symbols": ["BTCUSDT"], "clock": "exchange", "clock_probe_seconds": 1, "rotate_seconds": 60}
    with collect(simulator, collector=collector, gcs={"url": f"file://{bucket}"}) as page:
        page.until(lambda r: any(s["durable_id"] for s in page.status()["symbols"]), "a durable trade")
        assert page.report().pending_bytes
        page.write(collector={"symbols": [], "idle": True})
        report = page.until(lambda r: not r.streams, "idleness")
        assert report.pending_bytes  # it may not seem drained before it is
        hour = Hour.of_ns(page.status()["taken_ns"])
        page._wait_for(
            lambda: page.status()["taken_ns"] > hour.end_ns + 120 * 10**9, 60, "the end of its last hour"
        )
        lake = lake_on(simulator)
        lake.run("transform", "--config", str(page.file))
        lake.run("upload", "--config", str(page.file))
        report = page.until(lambda r: r.pending_bytes == 0, "nothing pending")
        assert report.uploaded_ns > 0
        assert report.tasks["upload"].ok
        assert page.metric("crypto_lake_upload_pending_bytes") == 0
        assert page.metric("crypto_lake_upload_last_verified_timestamp_seconds") > 0
        # Right after a symbol comes back something is pending, however old the last look is.
        page.write(collector={"symbols": ["BTCUSDT"], "idle": False})
        page.until(lambda r: r.pending_bytes, "something pending again")
    names = {path.name for path in bucket.rglob("*") if path.is_file()}
    assert (page.data / "state/collector").read_text().strip() + ".1.jsonl" in names


def test_a_command_goes_by_the_markets_clock_where_no_collector_tells_it(
    simulate: Any, lake_on: Any, tmp_path: Path
) -> None:
    simulator = simulate("--symbols", "BTCUSDT", "--start", "2024-08-08T23:57:00Z")
    layout = Layout(tmp_path / "data")
    layout.state.mkdir(parents=True)
    config = tmp_path / "config.yml"
    config.write_text("collector: {clock: exchange}\n")
    lake = lake_on(simulator)
    flags = ("--config", str(config), "--set", f"collector.endpoint.rest={simulator.rest}")

    def compacted() -> list[str]:
        """The hours that count as over."""
        day = layout.raw_day("binance", "BTCUSDT", "2024-08-08")
        shutil.rmtree(tmp_path / "data/raw", ignore_errors=True)
        for hour in (22, 23):
            write_part(
                layout,
                "BTCUSDT",
                Hour("2024-08-08", hour),
                hour,
                market("BTCUSDT", Hour("2024-08-08", hour), 1000 * hour, 3),
            )
        lake.run("transform", "--data", str(layout.root), *flags)
        return sorted(path.name for path in day.glob("hour_*"))

    assert compacted() == ["hour_22.jsonl.zst"]
    # One that a collector keeps is believed, one that was left is not.
    later = ClockSetting(Hour("2024-08-09", 2).start_ns, time.time_ns(), 1.0)
    layout.clock.write_bytes(msgspec.json.encode(later))
    os.utime(layout.clock, (0, time.time() - 300))
    assert compacted() == ["hour_22.jsonl.zst"]
    layout.clock.write_bytes(msgspec.json.encode(later))
    assert compacted() == ["hour_22.jsonl.zst", "hour_23.jsonl.zst"]
    # Nobody tells: the system's clock would be wrong by years.
    layout.clock.unlink()
    simulator.process.terminate()
    simulator.process.wait(90)
    done = subprocess.run(
        [*COMMAND, "upload", *flags, "--set", f"gcs.url=file://{tmp_path}"],
        env=lake.environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 4, done.stderr
    assert b"the exchange's clock can't be read" in done.stderr


@pytest.mark.parametrize("program", ["collect", "run"])
def test_alerts_follow_the_file_and_expect_what_cron_starts(
    program: str, collect: Any, simulate: Any
) -> None:
    simulator = simulate("--symbols", "BTCUSDT", "--activity", "5")
    off = [{"type": kind, "enabled": False} for kind in ("disk_usage", "disk_full_in", "holes")]
    alerting: dict[str, Any] = {"every_seconds": 0.2, "conditions": off}
    with collect(simulator, program, collector={"symbols": ["BTCUSDT"]}, alerting=alerting) as page:
        page.until(lambda r: r.live_symbols, "live streams")
        page._wait_for(
            lambda: page.metric("crypto_lake_alerts_last_look_timestamp_seconds"),
            30,
            "a look at the conditions",
        )
        assert page.metric("crypto_lake_alerts_firing") == 0
        late = [{"type": "cleanup_late", "threshold_minutes": 0.01}]
        sha256 = page.write(alerting={"conditions": [*off, *late], "expected_tasks": ["cleanup"]})
        page._wait_for(lambda: page.metric("crypto_lake_alerts_firing"), 30, "an alert")
        (alert,) = page.status()["alerts"]
        assert alert["key"] == "cleanup_late"
        assert "the clean-up has never succeeded" in alert["message"]
        # Of `run` and the collector each follows the file for itself.
        page._wait_for(lambda: page.status()["configuration"]["sha256"] == sha256, 30, "the file's take-over")
        assert "cleanup_late" in [reason["code"] for reason in page.status()["reasons"]]
        assert page.get("/readyz")[0] == 200  # it is no reason not to collect
        page.write(alerting={"conditions": off})
        page._wait_for(lambda: not page.metric("crypto_lake_alerts_firing"), 30, "its end")
