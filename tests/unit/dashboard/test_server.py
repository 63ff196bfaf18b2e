"""What is served beside Streamlit's own: the page that names plotly's library, and the library, once for a browser."""

from __future__ import annotations

import gzip
import pkgutil
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.support.bar_rows import Second, write_days

from crypto_lake.access.errors import LakeError
from crypto_lake.dashboard import reading, server, warm
from crypto_lake.dashboard.chart import library
from crypto_lake.dashboard.serve import Settings

INDEX = "<html><head><title>x</title></head><body></body></html>"


def asked(path: str, takes: str = "identity") -> Response:
    (route,) = [route for route in server.routes(library(), INDEX) if route.path == path]
    headers = [(b"accept-encoding", takes.encode())]
    return route.endpoint(Request({"type": "http", "method": "GET", "path": path, "headers": headers}))


def test_the_page_names_the_library_and_is_asked_for_each_time() -> None:
    answer = asked("/")
    before, added, after = re.split("(<link .*</script>)", bytes(answer.body).decode(), flags=re.DOTALL)
    assert before + after == INDEX
    assert added.count(f'"./{library().path.removeprefix("/")}"') == 2
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("takes", ["gzip, br", "identity"])
def test_the_library_is_plotlys_and_kept_for_good(takes: str) -> None:
    answer = asked(library().path, takes)
    packed = answer.headers.get("content-encoding") == "gzip"
    assert packed == ("gzip" in takes)
    text = gzip.decompress(answer.body) if packed else bytes(answer.body)
    assert text == pkgutil.get_data("plotly", "package_data/plotly.min.js")
    assert b"plotly.js v" in text[:200]
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(library().packed) < len(text) / 3


def test_streamlits_own_page_has_a_place_for_it() -> None:
    assert server._index().count("</head>") == 1


def test_the_first_query_is_made_before_there_is_a_visitor(tmp_path: Path) -> None:
    first = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())
    write_days(
        tmp_path, "BTCUSDT", [Second(first + n, 10**8, ((n + 1, 10**8, 10**8, True),)) for n in range(60)]
    )
    misses = reading.lake_of.cache_info().misses
    warm.up(Settings(str(tmp_path)), lambda: False)
    assert reading.lake_of.cache_info().misses == misses + 1
    assert reading.lake_of(str(tmp_path), None).symbols() == ["BTCUSDT"]
    assert reading.lake_of.cache_info().misses == misses + 1


def test_a_lake_without_bars_and_one_that_is_not_there_are_left_to_the_page(tmp_path: Path) -> None:
    warm.up(Settings(str(tmp_path)), lambda: False)
    warm.up(Settings("gs://A"), lambda: False)


@pytest.mark.parametrize("stops", [True, False])
def test_a_lake_that_does_not_answer_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    answers, asked = threading.Event(), threading.Event()

    def lake_of(where: str, exchange: str | None) -> None:
        asked.set()
        answers.wait(30)
        raise LakeError("too late")

    monkeypatch.setattr(reading, "lake_of", lake_of)
    began = time.monotonic()
    try:
        warm.up(Settings("slow"), lambda: stops and asked.is_set(), patience_seconds=0.3)
        assert asked.wait(10)
        assert time.monotonic() - began < 10
    finally:
        answers.set()


@pytest.mark.faults
def test_a_signal_before_it_serves_ends_it_with_0(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from crypto_lake.dashboard import warm; from crypto_lake.cli.main import main; "
        "warm.up = lambda settings, stopping: (os.kill(os.getpid(), signal.SIGTERM), print(stopping())); "
        f"sys.exit(main(['dashboard', '--data', {str(tmp_path)!r}, '--port', '{free_port()}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
