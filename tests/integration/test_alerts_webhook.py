"""The webhook against real servers that misbehave, and the loop, the commands and the logs around it.

The address bears a canary in each of its pieces: none may turn up anywhere.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.lake.layout import Layout
from crypto_lake.model.alerting import RULES
from crypto_lake.simulator.tls import server_context
from crypto_lake.watch import alerts_loop
from crypto_lake.watch.alerts_loop import AlertLoop, AlertSettings
from crypto_lake.watch.webhook import Address, AddressError, Answer, post, read_address

CANARY = "c4n4ry"
PATH = f"/{CANARY}-path/{CANARY}-token?key={CANARY}-query"


class Hook:
    """An HTTP server on loopback. `plan`: what it does with each next request; after it, 200."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.fired: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                read = self.rfile.read(int(self.headers["Content-Length"]))
                act = hook.plan.pop(0) if hook.plan else "200"
                hook.fired.append(act)
                if act == "reset":  # RST, not FIN
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                if act == "stall":
                    hook.release.wait(30)
                    return
                if act == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
                    with contextlib.suppress(OSError):
                        while not hook.release.wait(0.05):
                            self.wfile.write(b"a")
                    return
                if act == "garbage":
                    self.wfile.write(b"\x00\xff not http\r\n\r\n")
                    self.close_connection = True
                    return
                code = int(act)
                if 200 <= code < 300:
                    hook.bodies.append(json.loads(read))
                    hook.headers.append(dict(self.headers))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                if code == 429:
                    self.send_header("Retry-After", "7")
                # As servers do, it says what it was asked for.
                said = f"{code} for {self.path} of {self.headers['Host']}\n".encode()
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://{CANARY}-user:{CANARY}-password@127.0.0.1:{self.port}{PATH}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    one = Hook()
    yield one
    one.close()


@pytest.mark.parametrize(
    ("act", "code", "problem", "channel"),
    [
        ("500", 500, "server fails (500)", True),
        ("503", 503, "server fails (503)", True),
        ("429", 429, "slow down (429), for 7 s", True),
        ("302", 302, "redirects (302), which is not followed", False),
        ("404", 404, "refuses (404)", False),
        ("400", 400, "does not take the message (400)", False),
        ("reset", 0, "can't be reached: Connection reset by peer", True),
        ("stall", 0, "does not answer in time", True),
        ("drip", 0, "no answer within 1 s", True),
        ("garbage", 0, "can't be used", True),
    ],
)
def test_each_fault_is_an_answer_that_tells_what_happened(
    hook: Hook, act: str, code: int, problem: str, channel: bool
) -> None:
    hook.plan = [act]
    answer = post(Address(hook.url), b'{"a": 1}', step_seconds=0.5, whole_seconds=1.0)
    assert hook.fired == [act]  # once: no retry of its own, and no redirect followed
    assert hook.bodies == []
    assert (answer.code, answer.ok, answer.channel) == (code, False, channel)
    assert problem in answer.problem
    assert answer.wait_seconds == (7 if act == "429" else 0)
    assert CANARY not in repr(answer)
    assert str(hook.port) not in repr(answer)


def test_a_message_that_is_taken(hook: Hook) -> None:
    hook.plan = ["204"]
    assert post(Address(hook.url), b'{"a": 1}').ok
    assert hook.bodies == [{"a": 1}]
    assert hook.headers[0]["Host"] == f"127.0.0.1:{hook.port}"
    assert hook.headers[0]["Authorization"].startswith("Basic ")
    assert hook.headers[0]["User-Agent"].startswith("crypto-lake/")


def test_nobody_there_and_no_such_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        answer = post(Address(f"http://127.0.0.1:{taken.getsockname()[1]}{PATH}"), b"{}")
    assert answer.problem == "the webhook can't be reached: Connection refused"
    answer = post(Address(f"http://{CANARY}.invalid{PATH}"), b"{}")
    assert answer.problem == "the webhook's name can't be resolved"


def test_a_certificate_nobody_vouches_for() -> None:

    context, _ = server_context("localhost")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen: list[str] = []

        def serve() -> None:
            raw, _ = listening.accept()
            with raw:
                try:
                    context.wrap_socket(raw, server_side=True).close()
                except OSError as error:
                    seen.append(type(error).__name__)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = post(Address(f"https://127.0.0.1:{listening.getsockname()[1]}{PATH}"), b"{}")
        thread.join(10)
    assert answer.problem == "TLS with the webhook failed: CERTIFICATE_VERIFY_FAILED"
    assert seen != []


def test_an_address_from_a_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "url"
    with pytest.raises(AddressError, match="can't be read: No such file"):
        read_address("", str(file))
    for wrong in ("", " \n", "ftp://x/y", f"{CANARY} http://x", "http://a b/", "http://h:port/", "http:///x"):
        file.write_text(wrong)
        with pytest.raises(AddressError) as caught:
            read_address("http://unused", str(file))
        assert CANARY not in str(caught.value)
    file.write_text("https://one.example/x\n")
    first = read_address("", str(file))
    assert first is not None
    assert first.reveal() == "https://one.example/x"
    assert "one.example" not in f"{first} {first!r} {[first]}"
    file.write_text("https://two.example/x\n")
    second = read_address("", str(file))
    assert second is not None
    assert second.reveal() == "https://two.example/x"
    assert read_address("", "") is None


# -- the loop


def settings_for(hook: Hook, **changes: Any) -> AlertSettings:
    """A lake without a collector fires collector_down at once."""
    rule = replace(RULES["collector_down"], limit=0.001)
    values: dict[str, Any] = {
        "rules": {"collector_down": rule},
        "webhook_url": hook.url,
        "every_seconds": 0.05,
        "name": "lake",
    }
    return AlertSettings(**values | changes)


def everything_in(folder: Path) -> str:
    return "\n".join(p.read_bytes().decode(errors="replace") for p in folder.rglob("*") if p.is_file())


def test_a_dead_webhook_costs_a_counter_and_a_line_and_is_told_later(
    hook: Hook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout(tmp_path)
    now_ns = time.time_ns()
    hook.plan = ["500", "reset", "429", "404"]
    with caplog.at_level(logging.DEBUG):
        loop = AlertLoop(layout, settings_for(hook))
        loop.step(now_ns)
        for _ in range(30):  # each waits as long as it must before the next
            now_ns += 30 * 10**9
            state = loop.step(now_ns)
        assert hook.fired == ["500", "reset", "429", "404", "200"]
        assert state.channel.failures_total == 4
        assert state.channel.sent_total == 1
        # A restart does not tell it twice.
        again = AlertLoop(layout, settings_for(hook))
        again.load()
        again.step(now_ns + 10**9)
        assert len(hook.bodies) == 1
    told = hook.bodies[0]
    assert (told["schema"], told["state"], told["condition"], told["lake"]) == (
        1,
        "firing",
        "collector_down",
        "lake",
    )
    assert "Start it" in told["message"]
    assert CANARY not in caplog.text
    assert CANARY not in everything_in(tmp_path)
    assert sum("can't be delivered" in record.getMessage() for record in caplog.records) == 3


def test_of_two_loops_one_tells_and_the_other_takes_over(
    hook: Hook, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    layout = Layout(tmp_path)
    loops = [AlertLoop(layout, settings_for(hook, repeat_seconds=0.2)) for _ in range(2)]
    for loop in loops:
        loop.start()
    wait_for(lambda: len(hook.bodies) >= 3, 20, "three messages")
    loops[0].stop()
    seen = len(hook.bodies)
    wait_for(lambda: len(hook.bodies) >= seen + 2, 20, "messages of the other one")
    loops[1].stop()
    # Had both told, their numbers would stand twice.
    numbers = [body["number"] for body in hook.bodies]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({body["id"] for body in hook.bodies}) == len(numbers)


def test_a_stalled_webhook_holds_nobody_up(hook: Hook, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    hook.plan = ["stall"]
    loop = AlertLoop(Layout(tmp_path), settings_for(hook))
    loop.start()
    wait_for(lambda: hook.fired == ["stall"], 20, "the stall")
    began = time.monotonic()
    loop.stop()
    assert time.monotonic() - began < 10  # it gives up waiting after two seconds
    hook.release.set()


def test_a_full_disk_is_told_although_nothing_can_be_written(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        refused.append(path)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(alerts_loop.durable, "write", write)
    loop = AlertLoop(Layout(tmp_path), settings_for(hook))
    now_ns = time.time_ns()
    for look in range(3):
        loop.step(now_ns + look * 10**9)
    assert refused != []
    assert len(hook.bodies) == 1


# -- the commands


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_")}
    return subprocess.run(
        [sys.executable, "-m", "crypto_lake.cli.main", *arguments],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_test_message(hook: Hook, tmp_path: Path) -> None:
    url = {"CRYPTO_LAKE_ALERTING_WEBHOOK_URL": hook.url}
    hook.plan = ["200", "404", "reset"]
    outputs = [command("--debug", "alerts", "test", cwd=tmp_path, **url) for _ in range(3)]
    outputs.append(command("alerts", "test", cwd=tmp_path))
    outputs.append(command("alerts", "test", "--set", f"alerting.webhook_url_file={tmp_path}", cwd=tmp_path))
    outputs.append(command("config", "show", cwd=tmp_path, **url))
    outputs.append(command("alerts", "show", "-o", "json", cwd=tmp_path, **url))
    assert [done.returncode for done in outputs] == [0, 1, 4, 2, 2, 0, 0], outputs
    assert hook.fired == ["200", "404", "reset"]
    assert hook.bodies[0]["state"] == "test"
    assert "the webhook answered 200: 200 for" in outputs[0].stdout
    assert "the webhook answered 404" in outputs[1].stdout
    assert "has it not been revoked" in outputs[1].stderr
    assert all(CANARY not in done.stdout + done.stderr for done in outputs)
    assert json.loads(outputs[6].stdout)["schema"] == 1
    assert list(tmp_path.iterdir()) == []  # to test and to show leaves nothing behind


def test_answer_knows_what_concerns_the_whole_channel() -> None:
    assert not Answer(200).channel
    assert Answer(0, "x").channel
    assert not Answer(400, "x").channel
