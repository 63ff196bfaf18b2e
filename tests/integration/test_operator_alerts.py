"""What the operator tells a lake's webhook: once, from when it began, and also when it was started anew in between."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.api_proxy import Proxy
from tests.support.operator_fixtures import collectors, here, proxy, server
from tests.support.operator_world import SETTINGS, Collectors, World, eventually, operating, play_lake

from crypto_lake_operator.queue import Backoff

__all__ = ["collectors", "here", "proxy", "server"]  # fixtures


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """Its address, what it was sent, and the codes it is to answer before it takes anything."""
    messages: list[dict[str, Any]] = []
    codes: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = codes.pop(0) if codes else 204
            if code == 204:
                messages.append(msgspec.json.decode(body))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/secret-path", messages, codes
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_collector_that_is_gone_is_told_once_also_by_an_operator_that_starts_anew_and_so_is_its_return(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    config = proxy.kubeconfig(tmp_path / "config")
    # Longer than it takes on a busy machine until there is a collector: that there is none yet would be told, too.
    options: dict[str, Any] = {"collector_port": collectors.port, "alert_seconds": 4.0}
    with webhook() as (url, messages, _):
        here.create("Secret", {"metadata": {"name": "hook"}, "stringData": {"url": url}})
        here.lake("told", alerts={"webhookSecretRef": {"name": "hook"}, "repeat": "1h"})
        with operating(config, settings, **options) as running:
            collector = play_lake(here, "told", collectors)
            here.until("told", "Ready", "True")
            collector.silent = True
            eventually(lambda: messages)
            (first,) = messages
            assert (first["condition"], first["state"], first["subject"]) == (
                "collector_down",
                "firing",
                "a-0",
            )
            assert first["lake"] == f"{here.namespace}/told"
            assert "told-a-0 does not answer" in first["message"]
            eventually(lambda: here.status("told")["alerts"][0]["subject"] == "a-0")
            assert running.metric('crypto_lake_operator_alerts_total{outcome="sent"}') == 1
            since = here.status("told")["shards"][0]["silentSince"]
            assert first["started_at"] == since
        with operating(config, settings, **options) as running:
            eventually(lambda: running.metric("crypto_lake_operator_collectors_unreachable") == 1)
            here.until("told", "Collecting", "Unknown", "Unreachable")
            assert here.status("told")["shards"][0]["silentSince"] == since
            time.sleep(1.5)  # what began before it is due at once
            assert len(messages) == 1
            collector.silent = False
            eventually(lambda: len(messages) == 2)
            assert (messages[1]["state"], messages[1]["subject"]) == ("resolved", "a-0")
            eventually(lambda: here.status("told")["alerts"][0].get("resolved"))
    assert "secret-path" not in caplog.text


@pytest.mark.faults
def test_a_silence_that_began_under_an_operator_before_is_told_from_its_beginning(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    config = proxy.kubeconfig(tmp_path / "config")
    seconds = 6.0
    options: dict[str, Any] = {"collector_port": collectors.port, "alert_seconds": seconds}
    with webhook() as (url, messages, _):
        here.create("Secret", {"metadata": {"name": "hook"}, "stringData": {"url": url}})
        here.lake("long", alerts={"webhookSecretRef": {"name": "hook"}})
        with operating(config, settings, **options):
            collector = play_lake(here, "long", collectors)
            here.until("long", "Ready", "True")
            collector.silent = True
            here.until("long", "Collecting", "Unknown", "Unreachable")
            since = here.status("long")["shards"][0]["silentSince"]
        assert messages == [], "it was told already: nothing is shown"
        began = datetime.fromisoformat(since).timestamp()
        time.sleep(max(0.0, began + seconds + 1 - time.time()))
        with operating(config, settings, **options):
            started = time.monotonic()
            eventually(lambda: messages)
            assert time.monotonic() - started < seconds, "its time began anew"
            assert messages[0]["started_at"] == since == here.status("long")["shards"][0]["silentSince"]
            collector.silent = False
            here.until("long", "Ready", "True")
            assert "silentSince" not in here.status("long")["shards"][0]


def test_a_pod_that_never_comes_is_told_and_a_webhook_that_fails_is_tried_again(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    options: dict[str, Any] = {
        "collector_port": collectors.port,
        "alert_seconds": 1.0,
        "alert_backoff": Backoff(0.2, 1.0),
    }
    with webhook() as (url, messages, codes):
        codes += [500, 302]
        here.create("Secret", {"metadata": {"name": "hook"}, "stringData": {"url": url}})
        here.lake("never", alerts={"webhookSecretRef": {"name": "hook"}})
        with operating(proxy.kubeconfig(tmp_path / "config"), settings, **options):
            eventually(lambda: messages)
            assert codes == []
            assert messages[0]["details"] == {"pod": "never-a-0", "reason": "NoCollector"}
            assert len(messages) == 1
