"""`crypto-lake backfill` on a simulated exchange: a past day from its archive or over REST, whole and once."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from crypto_lake.cli.main import main
from crypto_lake.cli.past import Filled, Past
from crypto_lake.completeness import archive
from crypto_lake.completeness.archive import ArchiveError, Archives
from crypto_lake.completeness.backfill import Backfill, NoArchiveError
from crypto_lake.completeness.heal_holes import HoleReader
from crypto_lake.config.schema import CollectorConfig, Config, Endpoint
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings, StartWhen
from support.healing import assert_equal_klines, bars_of, collecting
from support.lakes import At

DAY = "2026-03-01"
# Twenty seconds before midnight: at ten times the speed the day is over in two, and has as many seconds of trades.
START_US = 1_772_409_580 * 10**6
SUMS = frozenset({"volume_quote", "taker_buy_quote"})


def market() -> GeneratedMarket:
    return GeneratedMarket(5, ["BTCUSDT", "ETHUSDT"], start_us=START_US, activity=1.0)


def on_simulator(scenario: Callable[[Simulator], Any], **settings: Any) -> None:
    async def run() -> None:
        async with Simulator(market(), Settings(speed=10, **settings)) as simulator:
            while simulator.clock.now_us() < START_US + 22 * 10**6:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(scenario, simulator)

    asyncio.run(run())


def backfill(
    simulator: Simulator, root: Path, *arguments: str, symbols: tuple[str, ...] = ("BTCUSDT",)
) -> int:
    # fmt: off
    return main([
        "backfill", *symbols, "--from", DAY, "--data", str(root),
        "--set", f"collector.endpoint.rest={simulator.rest_url}", "--set", "collector.clock=exchange",
        "--set", f"collector.endpoint.archive={simulator.rest_url}", *arguments,
    ])
    # fmt: on


def healed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("healed_*.zst"))


def test_a_day_is_the_same_from_its_archive_and_over_rest_and_is_fetched_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario(simulator: Simulator) -> None:
        both = ("BTCUSDT", "ETHUSDT")
        assert backfill(simulator, tmp_path / "a", "-o", "json", symbols=both) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["schema"], told["missing"], told["failed"]) == (1, 0, {})
        [day] = told["symbols"]["BTCUSDT"]
        assert (day["source"], day["whole"], day["fetched"]) == ("archive", True, day["trades"])
        assert day["trades"] > 100

        asked = dict(simulator.rest.requests)
        assert backfill(simulator, tmp_path / "a", "-o", "json", symbols=both) == 0
        assert json.loads(capsys.readouterr().out)["fetched"] == 0
        assert backfill(simulator, tmp_path / "a", "--again", symbols=both) == 0
        assert len(healed(tmp_path / "a")) == 2, "what raw holds is not fetched again"
        assert simulator.rest.requests == asked, "an archive costs no weight"

        assert backfill(simulator, tmp_path / "b", "--source", "rest") == 0
        # A run that was cut off before the last of its files: the same command goes on.
        [only] = healed(tmp_path / "b")
        first, last = only.split("_")[2].split(".")[0].split("-")
        assert int(last) - int(first) + 1 == day["trades"]

    on_simulator(scenario)
    archived = bars_of(Layout(tmp_path / "a"), "BTCUSDT")
    assert archived == bars_of(Layout(tmp_path / "b"), "BTCUSDT")
    assert assert_equal_klines(Layout(tmp_path / "a"), market(), "ETHUSDT")["healed"] > 10
    assert {row["state"] for row in archived.values()} <= {"healed", "complete", "incomplete"}


def test_sums_become_exact_once_the_archive_is_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sums(simulator: Simulator) -> None:
        assert backfill(simulator, tmp_path, "--source", "rest") == 0
        assert "not whole yet" in capsys.readouterr().out
        states = assert_equal_klines(Layout(tmp_path), market(), "BTCUSDT", but=SUMS)
        assert states["aggregated"] > 10
        assert backfill(simulator, tmp_path, "--source", "archive") == 0
        assert "not whole yet" not in capsys.readouterr().out
        states = assert_equal_klines(Layout(tmp_path), market(), "BTCUSDT")
        assert "aggregated" not in states
        assert states["healed"] > 10

    on_simulator(sums, without=frozenset({"historicalTrades"}))


def test_the_days_known_by_sums_alone_are_found_in_the_ledger_and_their_archives_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before_midnight = GeneratedMarket(5, ["BTCUSDT", "ETHUSDT"], start_us=START_US - 40 * 10**6, activity=3)
    layout = Layout(tmp_path)

    def told(simulator: Simulator, *command: str) -> dict[str, Any]:
        # fmt: off
        code = main([
            *command, "--data", str(tmp_path), "-o", "json", "--set", "collector.clock=exchange",
            "--set", f"collector.endpoint.rest={simulator.rest_url}",
            "--set", f"collector.endpoint.archive={simulator.rest_url}",
        ])
        # fmt: on
        assert code == 0
        return json.loads(capsys.readouterr().out)

    def inexact(simulator: Simulator, *symbols: str) -> tuple[dict[str, Any], dict[str, str]]:
        document = told(simulator, "backfill", "--inexact", *symbols)
        return document["symbols"], document["waiting"]

    async def run() -> None:
        # It begins when all is subscribed, so that a slow start does not bring what is lost past midnight.
        settings = Settings(
            speed=10,
            start_when=StartWhen.SUBSCRIBED,
            wait_for_streams=4,
            without=frozenset({"historicalTrades"}),
        )
        async with Simulator(before_midnight, settings) as simulator:
            async with collecting(simulator, tmp_path, ("BTCUSDT", "ETHUSDT")) as lake:
                await lake.past_this_second()
                for symbol in ("btcusdt", "ethusdt"):
                    simulator.control("swallow", stream=f"{symbol}@trade", n=9)
                await lake.whole(2)
                assert simulator.faults()["swallow"]["fired"] == 18
                assert lake.healing.trades_aggregated > 0
            while simulator.clock.now_us() < START_US + 22 * 10**6:
                await asyncio.sleep(0.05)
            symbols, waiting = await asyncio.to_thread(inexact, simulator, "BTCUSDT")
            [(symbol, [day])] = symbols.items()
            assert (symbol, day["day"], day["source"], waiting) == ("BTCUSDT", DAY, "archive", {})
            assert day["fetched"] > 0
            # What `check` does of its own accord, and each once.
            for archives in ([f"ETHUSDT {DAY}"], []):
                assert (await asyncio.to_thread(told, simulator, "check"))["archives"] == archives
            assert await asyncio.to_thread(inexact, simulator) == ({}, {})
            states = await asyncio.to_thread(assert_equal_klines, layout, before_midnight, "BTCUSDT")
            assert states["healed"] >= 1
            assert "aggregated" not in states
            # The collector enters it. What it missed meanwhile is another matter.
            reader = HoleReader(layout, "binance")
            reader.look()
            sums = [want.ids for want in reader.inexact()]
            assert sums
            async with collecting(simulator, tmp_path, ("BTCUSDT", "ETHUSDT")) as lake:

                def exact() -> bool:
                    reader.look()
                    left = IntervalSet()
                    for want in reader.inexact():
                        left.add_interval(want.ids.first, want.ids.last)
                    return not any(left.shared_with(ids) for ids in sums)

                await lake.until(exact, "exact ids")

    asyncio.run(run())


def test_what_is_cut_off_goes_on_and_a_hole_alone_is_filled(tmp_path: Path) -> None:
    def scenario(simulator: Simulator) -> None:
        assert backfill(simulator, tmp_path, "--source", "rest") == 0
        [whole] = healed(tmp_path)
        data = (tmp_path / whole).read_bytes()
        # As if of the day's pages only the first thousand rows had been written.
        (tmp_path / whole).write_bytes(data[: _first_frame(data)])
        before = simulator.rest.requests[200]
        assert backfill(simulator, tmp_path, "--source", "rest", "--again") == 0
        assert simulator.rest.requests[200] - before <= 2 + 3
        assert len(healed(tmp_path)) == 2

    on_simulator(scenario)
    assert assert_equal_klines(Layout(tmp_path), market(), "BTCUSDT")["healed"] > 10


def _first_frame(data: bytes) -> int:
    from crypto_lake.lake.frames import scan

    frames = list(scan(memoryview(data)))
    assert len(frames) > 1
    return frames[0].size


def test_a_day_that_is_not_there_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scenario(simulator: Simulator) -> None:
        assert backfill(simulator, tmp_path, "--from", "2026-03-09") == 1
        assert "has not begun" in capsys.readouterr().err
        assert backfill(simulator, tmp_path, symbols=("SOLUSDT",)) == 1
        assert "Invalid symbol" in capsys.readouterr().err
        assert backfill(simulator, tmp_path, "--to", "2026-01-01") == 2

    on_simulator(scenario)


# Archives that are not as they are described

_ROWS = [
    b"1,10.5,2,21,1735689600000000,True,True",
    b"2,10.5,1,10.5,1735689600000001,False,True",
    b"3,10.5,1,10.5,1735689601000000,False,True",
]


def packed(*lines: bytes, name: str = "X-trades-2025-01-01.csv") -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as file:
        file.writestr(name, b"\n".join(lines) + b"\n")
    return into.getvalue()


def read(path: Path, data: bytes) -> list[tuple[int, int]]:
    path.write_bytes(data)
    return [(row.first_id, row.time_us) for row in archive.rows(path, BINANCE.past)]


def test_header_units_and_ends_of_lines_are_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    plain = read(path, packed(*_ROWS))
    assert [id_ for id_, _ in plain] == [1, 2, 3]
    assert read(path, packed(b"id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch", *_ROWS)) == plain
    assert read(path, packed(*(line + b"\r" for line in _ROWS))) == plain
    in_ms = [line.replace(b"1735689600000000", b"1735689600000") for line in _ROWS]
    assert read(path, packed(*in_ms)) == plain
    assert read(path, packed(*_ROWS, *_ROWS)) == [*plain, *plain], (
        "repeated rows are dropped by who knows the ids"
    )


@pytest.mark.parametrize(
    "data",
    [
        packed(_ROWS[0], b"2,10.5,1"),
        packed(*_ROWS, name="readme.txt"),
        packed(*_ROWS)[:-30],
        b"no zip",
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"a\.zip"):
        read(tmp_path / "a.zip", data)


def test_a_checksum_that_differs_is_asked_for_again_and_then_refused(tmp_path: Path) -> None:
    data = packed(*_ROWS)
    served: list[bytes] = []

    async def scenario(answers: list[bytes]) -> Any:
        async def give(request: web.Request) -> web.Response:
            if request.path.endswith(".CHECKSUM"):
                name = request.path.rpartition("/")[2].removesuffix(".CHECKSUM")
                return web.Response(text=f"{hashlib.sha256(data).hexdigest()}  {name}\n")
            served.append(answers.pop(0))
            return web.Response(body=served[-1])

        app = web.Application()
        app.add_routes([web.get("/{path:.*}", give)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with aiohttp.ClientSession() as session:
                base = f"http://127.0.0.1:{runner.addresses[0][1]}"
                return await Archives(BINANCE.past, base, session, tmp_path).fetch("BTCUSDT", "2025-01-01")
        finally:
            await runner.cleanup()

    fetched = asyncio.run(scenario([data[:-1] + b"?", data]))
    assert fetched.path.read_bytes() == data
    assert len(served) == 2
    fetched.path.unlink()
    with pytest.raises(ArchiveError, match="its checksum file says"):
        asyncio.run(scenario([b"other", b"another"]))
    assert list(tmp_path.iterdir()) == []


def inexact_days(tmp_path: Path, days: dict[str, list[str]]) -> Filled:
    nobody = Endpoint(archive="http://127.0.0.1:9")
    config = Config(data=str(tmp_path), collector=CollectorConfig(endpoint=nobody))
    past = Past(config, Layout(tmp_path), BINANCE, At(START_US * 1000 + 9 * 86400 * 10**9))
    return asyncio.run(past.fill_inexact(days))


def test_archives_that_nobody_answers_for_are_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_PAUSE_SECONDS", 0.0)
    filled = inexact_days(tmp_path, {"BTCUSDT": [DAY, "2026-03-02"], "ETHUSDT": [DAY]})
    assert list(filled.failed) == [f"BTCUSDT {DAY}"]
    assert "127.0.0.1:9" in filled.failed[f"BTCUSDT {DAY}"]
    assert (filled.done, filled.waiting) == ({}, {})


def test_raw_of_one_day_that_can_not_be_read_keeps_no_other_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def fill(_: Backfill, symbol: str, day: str) -> Any:
        tried.append(symbol)
        raise OSError("Input/output error") if symbol == "BTCUSDT" else NoArchiveError("none")

    monkeypatch.setattr(Backfill, "fill", fill)
    filled = inexact_days(tmp_path, {"BTCUSDT": [DAY], "ETHUSDT": [DAY]})
    assert tried == ["BTCUSDT", "ETHUSDT"]
    assert filled.failed == {f"BTCUSDT {DAY}": "Input/output error"}
    assert list(filled.waiting) == [f"ETHUSDT {DAY}"]
