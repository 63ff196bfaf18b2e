"""`doctor`: what it judges, and that it finds what is wrong on a real disk and a real socket."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.cli import doctor
from crypto_lake.config.schema import CollectorConfig, Config, Endpoint
from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout


def exchange(offset_seconds: float, *, websocket: bool = True) -> Callable[[], Awaitable[list[doctor.Check]]]:
    """Checks against an exchange whose clock is off by so much."""

    async def server_time(_: web.Request) -> web.Response:
        return web.json_response({"serverTime": int((time.time() + offset_seconds) * 1000)})

    async def stream(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.receive()
        return response

    async def checks() -> list[doctor.Check]:
        app = web.Application()
        app.router.add_get("/api/v3/time", server_time)
        if websocket:
            app.router.add_get("/stream", stream)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"127.0.0.1:{runner.addresses[0][1]}"
            endpoint = Endpoint(websocket=f"ws://{address}", rest=f"http://{address}")
            return await doctor.check_exchange(Config(collector=CollectorConfig(endpoint=endpoint)))
        finally:
            await runner.cleanup()

    return checks


def results(checks: list[doctor.Check]) -> dict[str, str]:
    return {check.name: check.result for check in checks}


def test_an_exchange_that_is_well() -> None:
    assert results(asyncio.run(exchange(0.0)())) == {"REST": "ok", "clock": "ok", "WebSocket": "ok"}


def test_a_clock_that_is_off_and_a_stream_that_is_refused() -> None:
    assert results(asyncio.run(exchange(-60.0, websocket=False)())) == {
        "REST": "ok",
        "clock": "fail",
        "WebSocket": "fail",
    }


def test_nobody_there() -> None:
    endpoint = Endpoint(websocket="ws://127.0.0.1:1", rest="http://127.0.0.1:1")
    checks = asyncio.run(doctor.check_exchange(Config(collector=CollectorConfig(endpoint=endpoint))))
    assert results(checks) == {"REST": "fail", "WebSocket": "fail"}
    assert all("127.0.0.1:1" in check.found for check in checks)


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    endpoint = Endpoint(ca_file=str(tmp_path / "ca.pem"))
    checks = asyncio.run(doctor.check_exchange(Config(collector=CollectorConfig(endpoint=endpoint))))
    assert results(checks) == {"certificates": "fail"}


def test_the_data_directory_is_measured_and_left_clean(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new" / "data")
    checks = list(doctor.check_data(layout))
    assert [check.name for check in checks] == ["data directory", "fsync", "disk space", "file system"]
    assert checks[0].result == "ok"
    assert list(layout.root.iterdir()) == []
    assert len(doctor.measure_fsync(layout.root, 3)) == 3


def test_a_directory_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = doctor.check_data(Layout(tmp_path / "file"))
    assert check.result == "fail"
    assert str(tmp_path / "file") in check.found


def test_the_lock(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert doctor.check_lock(layout).result == "ok"
    with locks.hold(layout.locks, "capture"):
        assert doctor.check_lock(layout).result == "warn"


@given(st.floats(-1e6, 1e6), st.floats(0, 60), st.sampled_from(["system", "exchange"]))
def test_the_offset_is_judged_beyond_its_own_error(offset: float, trip: float, clock: str) -> None:
    check = doctor.judge_offset(offset, trip, clock)
    if clock == "exchange" or abs(offset) <= trip / 2:
        assert check.result == "ok"
    elif abs(offset) - trip / 2 > 1.0:
        assert check.result == "fail"
    assert (check.advice == "") == (check.result == "ok")


@given(st.integers(0, 10**13))
def test_the_less_space_the_worse(free: int) -> None:
    order = ["ok", "warn", "fail"]
    more, less = doctor.judge_space(free + 10**8, 10**14), doctor.judge_space(free, 10**14)
    assert order.index(less.result) >= order.index(more.result)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/x /srv nfs4 rw 0 0
tmpfs /srv/fast tmpfs rw 0 0
/dev/sdb /with\\040space xfs rw 0 0
/dev/sdc /over btrfs rw 0 0
/dev/sdd /over ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "result"),
    [
        ("/home/lake", "ext4", "ok"),
        ("/srv/lake", "nfs4", "warn"),
        ("/srvother/lake", "ext4", "ok"),
        ("/srv/fast/lake", "tmpfs", "warn"),
        ("/with space/lake", "xfs", "ok"),
        ("/over/lake", "ext4", "ok"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(path: str, kind: str, result: str) -> None:
    assert doctor.file_system(Path(path), MOUNTS) == kind
    assert doctor.judge_file_system(kind).result == result


def test_the_command_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from crypto_lake.cli.main import main

    for name in [name for name in os.environ if name.startswith("CRYPTO_LAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    line = ["doctor", "-o", "json", "--rest", "http://127.0.0.1:1", "--websocket", "ws://127.0.0.1:1"]
    assert main(line) == 1
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["ok"] is False
    assert main(["doctor", "--set", "collector.prt=1"]) == 1
    assert "did you mean collector.port?" in capsys.readouterr().out
