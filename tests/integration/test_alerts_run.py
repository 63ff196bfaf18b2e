"""A lake on a simulated exchange: a symbol falls silent and somebody is told; it speaks again and that is told, too."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "/c4n4ry-token"


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback and what it was sent."""
    bodies: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == SECRET
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}{SECRET}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["run", "collect"])
def test_a_silent_symbol_is_told_and_its_return(
    program: str,
    simulate: Any,
    lake_on: Any,
    inbox: tuple[str, list[dict[str, Any]]],
    tmp_path: Path,
    wait_for: Callable[..., Any],
) -> None:
    url, bodies = inbox
    secret = tmp_path / "secret"
    secret.write_text(f"{url}\n")
    simulator = simulate("--symbols", "BTCUSDT,ETHUSDT", "--activity", "5")
    lake = lake_on(
        simulator,
        collector_symbols="BTCUSDT,ETHUSDT",
        alerting_webhook_url_file=str(secret),
        alerting_every_seconds="0.5",
        alerting_name="e2e",
        alerting_conditions='[{"type": "data_gap", "threshold_minutes": 0.05},'
        ' {"type": "holes", "enabled": false}, {"type": "disk_usage", "enabled": false},'
        # What a busy machine may bring about.
        ' {"type": "disk_full_in", "enabled": false}, {"type": "clock_offset", "enabled": false}]',
    )

    def kept() -> dict[str, Any] | None:
        """As it is shown once it is written down, which is when the webhook has answered."""
        told = json.loads(lake.run("alerts", "show", "-o", "json").stdout)
        return told if told["alerts"] and told["alerts"][0]["last_sent_at"] else None

    said = (tmp_path / "said.txt").open("wb")
    with said, lake.popen(program, stdout=said, stderr=said) as process:
        try:

            def collected() -> bool:
                told = simulator.get("/control/state")["sent"]
                return told.get("btcusdt@trade", 0) > 100 and told.get("ethusdt@trade", 0) > 100

            wait_for(collected, 60, "a market that moves")
            for kind in ("trade", "bookTicker"):
                simulator.post(
                    "/control/faults", {"kind": "swallow", "stream": f"ethusdt@{kind}", "n": 10**9}
                )
            wait_for(lambda: bodies, 60, "an alert")
            told = wait_for(kept, 60, "the alert among those that are shown")
            assert simulator.get("/control/faults")["swallow"]["fired"] > 0
            assert end_faults(simulator) == 200
            wait_for(lambda: len(bodies) > 1, 60, "the resolved one")
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert [(b["state"], b["key"]) for b in bodies] == [
        ("firing", "data_gap:binance/ETHUSDT"),
        ("resolved", "data_gap:binance/ETHUSDT"),
    ], bodies  # and none that it was stopped
    assert bodies[0]["lake"] == "e2e"
    assert bodies[0]["collector"] == (lake.data / "state/collector").read_text().strip()
    assert "nothing has come of ETHUSDT while 1 other" in bodies[0]["message"]
    assert [alert["key"] for alert in told["alerts"]] == ["data_gap:binance/ETHUSDT"]
    assert told["watched"] is True
    left = [p for p in lake.data.rglob("*") if p.is_file()]
    assert lake.data / "state/alerts.json" in left
    everything = b"".join(p.read_bytes() for p in [*left, tmp_path / "said.txt"])
    assert SECRET.encode() not in everything
    done = subprocess.run(
        ["grep", "-c", "alert fires: data_gap", str(lake.data / "logs/qa/crypto-lake.log")],
        capture_output=True,
    )
    assert done.stdout == b"1\n"


@pytest.mark.slow
def test_a_dead_collector_is_told_by_run(
    simulate: Any,
    lake_on: Any,
    inbox: tuple[str, list[dict[str, Any]]],
    wait_for: Callable[..., Any],
) -> None:
    url, bodies = inbox
    lake = lake_on(
        simulate("--symbols", "BTCUSDT"),
        collector_symbols="BTCUSDT",
        alerting_webhook_url=url,
        alerting_every_seconds="0.5",
        # A slow start is told, too; an hour's silence after it would hide what this is about.
        alerting_repeat_minutes="0.01",
        alerting_conditions='[{"type": "collector_down", "threshold_minutes": 0.01}]',
    )

    def collector_pid() -> int:
        try:
            told = json.loads((lake.data / "state/collector.json").read_bytes())
        except FileNotFoundError:
            return 0
        return told["pid"] if any(s["durable_id"] for s in told["symbols"]) else 0

    with lake.popen("run", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            pid = wait_for(collector_pid, 60, "an fsynced trade")
            wait_for(lambda: all(b["state"] == "resolved" for b in told_down(bodies)[-1:]), 30, "a well lake")
            os.kill(pid, signal.SIGSTOP)  # it hangs: it has the lock and reports nothing
            try:
                wait_for(
                    lambda: any(b["details"]["reason"] == "stale" for b in told_down(bodies)), 60, "an alert"
                )
            finally:
                os.kill(pid, signal.SIGCONT)
            wait_for(lambda: told_down(bodies)[-1]["state"] == "resolved", 60, "the resolved one")
        finally:
            process.terminate()
            ended = process.wait(60)
    assert ended == 0
    assert told_down(bodies)[-1]["details"]["reason"] == "stale"


def told_down(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [b for b in bodies if b["condition"] == "collector_down"]


def end_faults(simulator: Any) -> int:
    """End all faults of the simulator; the answer's status."""
    request = urllib.request.Request(simulator.rest + "/control/faults", method="DELETE")
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status
