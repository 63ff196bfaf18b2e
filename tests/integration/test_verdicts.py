"""Verdicts, reports and explanations of a lake that is really there: raw, bars and ledger on the disk."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from crypto_lake.bars.explain import explain
from crypto_lake.bars.transform import transform
from crypto_lake.cli.main import main
from crypto_lake.completeness import ledger, verdict_table
from crypto_lake.completeness.entries import AnyLine, Hole, Opened, Seen
from crypto_lake.lake import control, durable, envelope, tasks
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.messages import COMBINED, TradeMessage
from crypto_lake.simulator.recording import RecordedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.check import check
from crypto_lake.upkeep.check_report import CheckReport, figures
from crypto_lake.upkeep.day_report import gather, is_due, write_report
from support.klines import MarketKlines
from support.lakes import At
from support.recorded import folder, messages

SYMBOL = "BTCUSDT"
START = 1_723_161_300  # 2024-08-08T23:55:00
SECONDS = 90
DAY = "2024-08-08"
LATER = At((START + SECONDS + 3600) * 10**9)


def market() -> GeneratedMarket:
    return GeneratedMarket(5, [SYMBOL], start_us=START * 10**6, activity=0.05)


def lines_of(trades: list[SimulatedTrade]) -> list[bytes]:
    stream = f"{SYMBOL.lower()}@trade"
    return [
        envelope.encode(
            t.event_us * 1000 + 2_000_000, "c-1", TradeMessage(SYMBOL, stream, t).payload(COMBINED)
        )
        for t in trades
    ]


def store(layout: Layout, lines: list[bytes], symbol: str = SYMBOL) -> None:
    hours: dict[Hour, list[bytes]] = {}
    for line in lines:
        hours.setdefault(Hour.of_ns(envelope.decode(line).received_ns), []).append(line)
    compressor = FrameCompressor()
    for hour, of in hours.items():
        writer = PartWriter(layout.part("binance", symbol, hour, 1))
        for at in range(0, len(of), 40):
            writer.append(b"".join(of[at : at + 40]), compressor)
        writer.close()


def keep_ledger(layout: Layout, lines: list[AnyLine]) -> None:
    opened = Opened(exchange="binance", symbol=SYMBOL, collector="x")
    data, _ = ledger.encode_chain([opened, *lines], ledger.NO_PREVIOUS)
    durable.write(layout.ledger("binance", SYMBOL), data)


def a_lake(root: Path, change: Callable[[list[SimulatedTrade]], list[SimulatedTrade]] = list) -> Layout:
    layout = Layout(root)
    trades = list(market().trades_between(SYMBOL, START * 10**6, (START + SECONDS) * 10**6))
    changed = change(trades)
    store(layout, lines_of(changed))
    first = changed[0]
    keep_ledger(layout, [_seen(first)])
    assert transform(layout, "binance", clock=LATER).failed == {}
    return layout


def _seen(trade: SimulatedTrade) -> Seen:
    return Seen(
        hour=f"{DAY}T23",
        first_id=trade.id,
        last_id=trade.id,
        first_time_us=trade.time_us,
        last_time_us=trade.time_us,
    )


def checked(layout: Layout, asker: Any = None, clock: At = LATER, **options: Any) -> CheckReport:
    asking = check(
        layout, "binance", asker or MarketKlines(market()), clock=clock, retry_seconds=0.01, **options
    )
    return asyncio.run(asking)


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`crypto-lake …`, in this process."""

    def run(*arguments: str) -> Done:
        code = main(arguments)
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return run


def verdicts(layout: Layout, day: str = DAY) -> pl.DataFrame:
    read = verdict_table.read(layout.verdicts("binance", SYMBOL, day))
    assert read is not None
    return read[0]


def test_a_clean_lake_is_verified_and_asked_for_once(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    asker = MarketKlines(market())
    report = checked(layout, asker)
    (day,) = report.days
    assert (day.symbol, day.day, day.unexplained, day.unverifiable) == (SYMBOL, DAY, 0, 0)
    assert day.verified == day.seconds
    assert asker.requests == 1
    # Nothing has changed: nothing is asked, and the file stays as it is.
    path = layout.verdicts("binance", SYMBOL, DAY)
    before = path.read_bytes()
    assert checked(layout, asker).days[0].asked == 0
    assert asker.requests == 1
    assert path.read_bytes() == before
    assert checked(layout, asker, again=True).days[0].asked == day.seconds
    # It is no file of bars: whoever reads all bars of the symbol does not meet it.
    assert not list((tmp_path / "parquet").rglob("verdicts*"))


def drop(chance: Random) -> Callable[[list[SimulatedTrade]], list[SimulatedTrade]]:
    def change(trades: list[SimulatedTrade]) -> list[SimulatedTrade]:
        i = chance.randrange(20, len(trades) - 20)
        return trades[:i] + trades[i + 1 :]

    return change


def wrong_second(chance: Random) -> Callable[[list[SimulatedTrade]], list[SimulatedTrade]]:
    def change(trades: list[SimulatedTrade]) -> list[SimulatedTrade]:
        i = chance.randrange(20, len(trades) - 20)
        return [*trades[:i], trades[i]._replace(time_us=trades[i].time_us - 10**6), *trades[i + 1 :]]

    return change


def wrong_size(chance: Random) -> Callable[[list[SimulatedTrade]], list[SimulatedTrade]]:
    def change(trades: list[SimulatedTrade]) -> list[SimulatedTrade]:
        i = chance.randrange(20, len(trades) - 20)
        return [*trades[:i], trades[i]._replace(size_e8=trades[i].size_e8 + 1), *trades[i + 1 :]]

    return change


@pytest.mark.parametrize("error", [wrong_second, wrong_size])
def test_wrong_trades_in_raw_are_mismatches_that_nothing_explains(
    error: Callable[[Random], Callable[[list[SimulatedTrade]], list[SimulatedTrade]]], tmp_path: Path
) -> None:
    layout = a_lake(tmp_path, error(Random(3)))
    (day,) = checked(layout).days
    assert day.unexplained >= 1
    assert day.unlike[0].fields
    assert figures([checked(layout)])["bars_unexplained"] == day.unexplained


def test_a_dropped_trade_is_explained_once_the_ledger_knows_it(tmp_path: Path) -> None:
    layout = a_lake(tmp_path, drop(Random(3)))
    (day,) = checked(layout).days
    assert day.unexplained >= 1
    trades = list(market().trades_between(SYMBOL, START * 10**6, (START + SECONDS) * 10**6))
    there = {trade.id for trade in drop(Random(3))(trades)}
    (at,) = [n for n, trade in enumerate(trades) if trade.id not in there]
    before, missing, after = trades[at - 1 : at + 2]
    first = trades[0]
    hole = Hole(
        first_id=missing.id,
        last_id=missing.id,
        after_time_us=before.time_us,
        before_time_us=after.time_us,
        found_ns=after.event_us * 1000,
        cause="message_lost",
    )
    keep_ledger(layout, [_seen(first), hole])
    asker = MarketKlines(market())
    (day,) = checked(layout, asker).days
    assert day.unexplained == 0
    assert day.explained["hole"] >= 1
    assert asker.requests == 0, "an explanation needs no new answer"


def test_a_bar_that_was_changed_on_the_disk_is_flagged_and_asked_for_again(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    asker = MarketKlines(market())
    assert checked(layout, asker).unexplained == 0
    from crypto_lake.bars import table

    path = layout.bars("binance", SYMBOL, DAY)
    read = table.read(path, trusted=True)
    assert read is not None
    at = pl.col("window_start").dt.epoch("s") == START + 40
    worse = read[0].with_columns(
        pl.when(at).then(pl.col("volume_base") * 2).otherwise(pl.col("volume_base"))
        .cast(pl.Decimal(38, 8)).alias("volume_base")
    )  # fmt: skip
    hour = START // 3600
    table.write(path, worse, {hour: table.digest(worse)})
    (day,) = checked(layout, asker).days
    assert [one.second for one in day.unlike] == ["2024-08-08T23:55:40Z"]
    assert "volume_base" in day.unlike[0].fields
    assert asker.requests == 2


def test_an_exchange_that_does_not_answer_leaves_what_was_known(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    report = checked(layout, MarketKlines(market(), failing=2))
    assert (report.problem, report.days[0].verified) == ("", report.days[0].seconds)
    before = verdicts(layout)
    report = checked(layout, MarketKlines(market(), failing=99), again=True)
    assert "503" in report.problem
    (day,) = report.days
    assert (day.verified, day.unverifiable) == (0, day.seconds)
    assert not day.finished
    # What was not answered is asked for the next time.
    assert checked(layout).days[0].verified == day.seconds
    assert verdicts(layout).equals(before)


def test_a_wait_that_the_account_of_weight_asks_for_is_waited_or_told(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    report = checked(layout, MarketKlines(market(), failing=1, wait_seconds=0.05))
    assert report.problem == ""
    report = checked(layout, MarketKlines(market(), failing=1, wait_seconds=500.0), again=True)
    assert report.problem


def test_seconds_that_are_not_settled_are_not_judged(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    early = At((START + 30 + 60) * 10**9)
    (day,) = checked(layout, clock=early).days
    assert day.seconds == day.verified
    assert day.seconds <= 30
    assert checked(layout).days[0].seconds > day.seconds


def test_a_recorded_day_is_verified_whole(tmp_path: Path) -> None:
    """Klines of the recording's own trades: they equal the exchange's (see the tests of the simulator)."""
    recorded = folder()
    layout = Layout(tmp_path)
    store(layout, [envelope.encode(at, "c-1", message) for at, message in messages(recorded)])
    transform(layout, "binance")
    truth: Market = RecordedMarket(sorted(recorded.glob("btcusdt_*.gz")))
    now = At(datetime(2024, 8, 9, 12, tzinfo=UTC).timestamp().__int__() * 10**9)
    report = checked(layout, MarketKlines(truth), clock=now)
    assert [day.day for day in report.days] == ["2024-08-08", "2024-08-09"]
    seconds = sum(day.seconds for day in report.days)
    assert seconds > 600
    assert sum(day.verified for day in report.days) == seconds


# -- explain and report


def test_a_bar_is_explained_down_to_its_lines(tmp_path: Path) -> None:
    layout = a_lake(tmp_path)
    busiest = pl.read_parquet(layout.bars("binance", SYMBOL, DAY)).sort("trade_count").row(-1, named=True)
    second = int(busiest["window_start"].timestamp())
    told = explain(layout, "binance", SYMBOL, second)
    assert told.agrees
    assert told.fields
    assert len(told.trades) == busiest["trade_count"] > 1
    truth = {t.id: t for t in market().trades_between(SYMBOL, second * 10**6, (second + 1) * 10**6)}
    for trade in told.trades:
        assert trade.time_us // 1000 == truth[trade.id].time_us // 1000
        (line,) = trade.lines
        assert f'"t":{trade.id},' in raw_line(layout, line.file, line.frame, line.line)
    # Every field that trades make is there, and each says what the file says.
    assert {one.name for one in told.fields} >= {"open", "close", "volume_quote", "trade_count"}


def raw_line(layout: Layout, file: str, frame: int, line: int) -> str:
    """By the numbers that were told, with a reader of its own."""
    from crypto_lake.lake.frames import Frame, read_frames

    count = 0
    for number, one in enumerate(read_frames(layout.root / file), start=1):
        assert isinstance(one, Frame)
        for text in one.data.decode().splitlines():
            count += 1
            if count == line:
                assert number == frame
                return text
    raise AssertionError("no such line")


def test_a_bar_that_is_not_its_lines_is_told(tmp_path: Path, command: Callable[..., Done]) -> None:
    layout = a_lake(tmp_path)
    from crypto_lake.bars import table

    path = layout.bars("binance", SYMBOL, DAY)
    read = table.read(path, trusted=True)
    assert read is not None
    at = pl.col("window_start").dt.epoch("s") == START + 40
    worse = read[0].with_columns(
        pl.when(at).then(pl.col("high") + 1).otherwise(pl.col("high")).cast(pl.Decimal(38, 8)).alias("high")
    )
    table.write(path, worse, read[1])
    told = explain(layout, "binance", SYMBOL, START + 40)
    assert [one.name for one in told.fields if not one.agrees] == ["high"]
    done = command("explain", SYMBOL, "2024-08-08T23:55:40", "--data", str(tmp_path))
    assert done.returncode == 3
    assert "NOT what its lines add up to: high" in done.stdout
    # Without its raw nothing can be added up, and nothing is said to be wrong.
    shutil.rmtree(tmp_path / "raw")
    told = explain(layout, "binance", SYMBOL, START + 40)
    assert (told.fields, len(told.missing), told.agrees) == ([], 1, True)


def test_copies_are_shown_and_counted_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    trades = list(market().trades_between(SYMBOL, START * 10**6, (START + SECONDS) * 10**6))
    again = [line.replace(b'"c-1"', b'"c-2"') for line in lines_of(trades)]
    both = sorted([*lines_of(trades), *again], key=lambda line: envelope.decode(line).received_ns)
    store(layout, both)
    transform(layout, "binance", clock=LATER)
    told = explain(layout, "binance", SYMBOL, START + 40)
    assert told.agrees
    assert {len(trade.lines) for trade in told.trades} == {2}


def test_explain_as_a_command(tmp_path: Path, command: Callable[..., Done]) -> None:
    a_lake(tmp_path)
    done = command("explain", SYMBOL, "2024-08-08T23:55:40Z", "--data", str(tmp_path), "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["schema"], told["second"]) == (1, "2024-08-08T23:55:40Z")
    for time, code in (("yesterday", 2), ("2020-01-01T00:00:00", 1)):
        done = command("explain", SYMBOL, time, "--data", str(tmp_path))
        assert done.returncode == code
        assert done.stderr.startswith("crypto-lake: ")


def test_a_days_report(tmp_path: Path, command: Callable[..., Done]) -> None:
    layout = a_lake(tmp_path)
    checked(layout)
    offsets = [
        envelope.encode((START + n) * 10**9, "c", control.encode_event(control.ClockOffset(n * 1000, 500)))
        for n in (1, 2, 3)
    ]
    store(layout, offsets, control.CONTROL)
    report = gather(layout, "binance", SYMBOL, DAY)
    assert report.coverage.bars == report.coverage.seconds == report.verdicts.verified
    assert report.clock_offset is not None
    assert (report.clock_offset.least_ms, report.clock_offset.most_ms) == (1.0, 3.0)
    assert report.latency is not None
    assert report.latency.samples == report.coverage.trades
    # Each line was received 2 ms after the event, whose time is told in whole ms; the offset measured before is added.
    assert 3.0 <= report.latency.p50_ms <= 6.0
    assert is_due(layout, "binance", SYMBOL, DAY)
    as_json, page = write_report(layout, "binance", SYMBOL, DAY)
    assert not is_due(layout, "binance", SYMBOL, DAY)
    assert json.loads(as_json.read_bytes())["coverage"]["bars"] == report.coverage.bars
    assert f"{report.coverage.bars} of {report.coverage.seconds} (100.000 %)" in page.read_text()
    done = command("report", SYMBOL, DAY, "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, page.read_text())
    assert command("report", SYMBOL, "2020-01-01", "--data", str(tmp_path / "no")).returncode == 2


def test_a_report_names_gaps_with_their_outcome(tmp_path: Path, command: Callable[..., Done]) -> None:
    layout = a_lake(tmp_path)
    hole = Hole(
        first_id=10,
        last_id=14,
        after_time_us=(START + 5) * 10**6,
        before_time_us=(START + 6) * 10**6,
        found_ns=0,
        cause="disconnect",
    )
    from crypto_lake.completeness.entries import Outcome

    healed = Outcome(first_id=10, last_id=12, action="historicalTrades", outcome="healed", file="x")
    keep_ledger(layout, [hole, healed])
    report = gather(layout, "binance", SYMBOL, DAY)
    (gap,) = report.gaps
    assert (gap.ids, gap.healed, gap.open) == (5, 3, 2)
    assert (report.ids_missing, report.ids_healed) == (2, 3)
    done = command("report", SYMBOL, DAY, "--data", str(tmp_path))
    assert done.returncode == 3
    assert "| 10 to 14 | 5 | 23:55:05.000 and 23:55:06.000 | disconnect | healed 3, open 2 |" in done.stdout


# -- the command


def test_check_as_a_command_asks_the_exchange_and_says_what_differs(
    tmp_path: Path, command: Callable[..., Done]
) -> None:
    right, wrong = a_lake(tmp_path / "right"), a_lake(tmp_path / "wrong", wrong_size(Random(3)))
    done: dict[str, Done] = {}

    async def test() -> None:
        async with asyncio.timeout(200), Simulator(market(), Settings(speed=500)) as simulator:
            while simulator.clock.now_us() < (START + SECONDS + 120) * 10**6:
                await asyncio.sleep(0.05)
            rest = (
                "--set",
                f"collector.endpoint.rest={simulator.rest_url}",
                "--set",
                "collector.clock=exchange",
            )
            for name, root, more in (
                ("right", right.root, ("-o", "json")),
                ("wrong", wrong.root, ()),
            ):
                arguments = ("check", "--data", str(root), *rest, *more)
                done[name] = await asyncio.to_thread(command, *arguments)
            assert simulator.state()["rest_requests"]["200"] >= 2

    asyncio.run(test())
    assert done["right"].returncode == 0, done["right"].stderr
    (day,) = json.loads(done["right"].stdout)["days"]
    assert day["verified"] == day["seconds"] > 80
    assert done["wrong"].returncode == 3
    assert "DIFFER" in done["wrong"].stdout
    assert "volume_base +0.00000001" in done["wrong"].stdout
    assert tasks.read(wrong)["check"].figures["bars_unexplained"] >= 1
    # Of who does not answer it is told, and that it may be tried again.
    silent = ("--set", "collector.endpoint.rest=http://127.0.0.1:9", "--again")
    told = command("check", "--data", str(right.root), *silent, "--day", DAY)
    assert told.returncode == 4
    assert "127.0.0.1:9" in told.stderr


def test_a_bar_that_is_known_by_a_sum_is_explained_by_it(tmp_path: Path) -> None:
    """Trades 10 to 13 are one aggregate; 11 and 13 were received by themselves, too."""
    layout = Layout(tmp_path)
    time_us = START * 10**6 + 250_000

    def trade(id_: int, size_e8: int, at_us: int) -> SimulatedTrade:
        return SimulatedTrade(id_, at_us, at_us, 100 * 10**8, size_e8, False)

    aggregate = b'{"a":5,"p":"100.00000000","q":"0.00001000","f":10,"l":13,"T":%d,"m":false,"M":true}' % (
        time_us // 1000
    )
    streamed = [
        trade(9, 7, time_us - 10**6), trade(11, 300, time_us), trade(13, 200, time_us),
        trade(14, 7, time_us + 10**6), trade(15, 7, time_us + 2 * 10**6),
    ]  # fmt: skip
    fetched = envelope.encode((START + 9) * 10**9, "rest-1", aggregate, "aggTrades")
    store(layout, [*lines_of(streamed), fetched])
    transform(layout, "binance", clock=LATER)
    told = explain(layout, "binance", SYMBOL, START)
    assert [(trade.id, trade.size) for trade in told.trades] == [
        (10, "0.00000500"),
        (11, "0.00000300"),
        (12, "0.00000000"),
        (13, "0.00000200"),
    ]
    assert told.bar is not None
    assert told.bar["state"] == "aggregated"
    assert told.agrees, [one for one in told.fields if not one.agrees]
    assert {line.source for trade in told.trades for line in trade.lines} == {"stream", "aggTrades"}
