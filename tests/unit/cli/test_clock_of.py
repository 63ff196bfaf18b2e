"""The time of a command that has no collector's directory at hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from crypto_lake.cli.common import CommandError, ExitCode
from crypto_lake.cli.selection import clock_of
from crypto_lake.config.schema import Config
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import ClockSetting, ExchangeClock, SystemClock

STANDS_NS = 1_723_161_254_000_000_000


class Simulator(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/control/clock"
        data = json.dumps({"exchange_ns": STANDS_NS, "wall_ns": 0, "speed": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def rest() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Simulator)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def config(clock: str, rest: str = "") -> Config:
    collector = {"clock": clock, "endpoint": {"rest": rest}}
    return msgspec.convert({"collector": collector}, Config)


@pytest.mark.parametrize("there", [False, True], ids=["no directory", "an empty directory"])
def test_a_simulator_is_asked_where_no_collector_has_left_its_time(
    rest: str, tmp_path: Path, there: bool
) -> None:
    clock = clock_of(config("exchange", rest), Layout(tmp_path) if there else None)
    assert clock.now_ns() == STANDS_NS


def test_what_a_collector_has_left_goes_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.clock.parent.mkdir(parents=True)
    layout.clock.write_bytes(msgspec.json.encode(ClockSetting(STANDS_NS + 1, 0, 0.0)))
    clock = clock_of(config("exchange", "http://127.0.0.1:1"), layout)
    assert isinstance(clock, ExchangeClock)
    assert clock.now_ns() == STANDS_NS + 1


def test_a_simulator_that_does_not_answer_is_no_reason_to_go_by_another_clock() -> None:
    with pytest.raises(CommandError, match="the exchange's clock can't be read") as refused:
        clock_of(config("exchange", "http://127.0.0.1:1"), None)
    assert refused.value.exit_code == ExitCode.UNAVAILABLE


def test_without_it_the_system_tells_the_time(tmp_path: Path) -> None:
    assert isinstance(clock_of(config("system"), None), SystemClock)
    assert isinstance(clock_of(config("system"), Layout(tmp_path)), SystemClock)
