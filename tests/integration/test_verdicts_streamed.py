"""Verdicts by the exchange's own klines as they were streamed beside the trades: what of them costs a request, and what not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.bars.explain import explain
from crypto_lake.bars.transform import transform
from crypto_lake.cli.main import main
from crypto_lake.completeness import raw_klines, verdict_table
from crypto_lake.completeness.content import Content
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.config.schema import CollectorConfig
from crypto_lake.lake import envelope
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import read_raw_manifest
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import Stream
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.messages import COMBINED, KlineMessage, TradeMessage
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.check import check
from crypto_lake.upkeep.check_report import CheckReport, DayCheck
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.verify import verify_disk
from crypto_lake_operator.api import CryptoLakeSpec
from support.healing import START_US, Collecting, collecting
from support.klines import MarketKlines
from support.lakes import At, write_part

SYMBOL = "BTCUSDT"
START = 1_723_161_540  # 2024-08-08T23:59:00: over an hour's end, which is a day's
SECONDS = 100
DAYS = ("2024-08-08", "2024-08-09")
LATER = At((START + 2 * 86400) * 10**9)


def market() -> GeneratedMarket:
    return GeneratedMarket(5, [SYMBOL], start_us=START * 10**6, activity=0.05)


def trade_lines(skew_ns: int = 0) -> list[bytes]:
    stream = f"{SYMBOL.lower()}@trade"
    return [
        envelope.encode(t.event_us * 1000 + skew_ns, "c-1", TradeMessage(SYMBOL, stream, t).payload(COMBINED))
        for t in market().trades_between(SYMBOL, START * 10**6, (START + SECONDS) * 10**6)
    ]


def kline_lines(skew_ns: int = 0, connection: str = "c-1") -> list[bytes]:
    """As the simulator sends them: in the making at the half of each second, closed a little after its end."""
    stream, made = f"{SYMBOL.lower()}@kline_1s", market()
    lines: list[bytes] = []
    for second in range(START, START + SECONDS):
        for at_us, closed in ((second * 10**6 + 500_000, False), (second * 10**6 + 1_005_000, True)):
            (kline,) = made.klines(SYMBOL, "1s", second * 10**6, second * 10**6 + 10**6, at_us) or (None,)
            if kline is not None:
                told = KlineMessage(at_us, SYMBOL, stream, "1s", 10**6, kline, closed=closed)
                lines.append(envelope.encode(at_us * 1000 + skew_ns, connection, told.payload(COMBINED)))
    return lines


def is_closed_kline_of(line: bytes, seconds: Iterable[int]) -> bool:
    return b'"x":true' in line and any(b'"t":%d000,' % second in line for second in seconds)


def a_lake(root: Path, lines: list[bytes]) -> Layout:
    layout, hours = Layout(root), dict[Hour, list[bytes]]()
    for line in sorted(lines, key=lambda line: envelope.decode(line).received_ns):
        hours.setdefault(Hour.of_ns(envelope.decode(line).received_ns), []).append(line)
    for hour, of in hours.items():
        write_part(layout, SYMBOL, hour, 1, of)
    assert transform(layout, "binance", clock=LATER, workers=1).failed == {}
    return layout


def checked(layout: Layout, asker: MarketKlines, **options: Any) -> CheckReport:
    return asyncio.run(check(layout, "binance", asker, clock=LATER, retry_seconds=0.001, **options))


def refused() -> MarketKlines:
    return MarketKlines(market(), failing=10**6)


def verdicts(layout: Layout) -> pl.DataFrame:
    read = [verdict_table.read(layout.verdicts("binance", SYMBOL, day)) for day in DAYS]
    return pl.concat([one[0] for one in read if one is not None])


def sums(report: CheckReport, name: str) -> int:
    return sum(getattr(day, name) for day in report.days)


def assert_all_by_stream(report: CheckReport, asker: MarketKlines) -> None:
    assert (asker.requests, report.problem, report.weight) == (0, "", 0)
    assert [day.day for day in report.days] == list(DAYS)
    seconds = sums(report, "seconds")
    assert seconds == sums(report, "verified") == sums(report, "by_stream") > SECONDS - 10
    assert sums(report, "asked") == 0


@pytest.mark.parametrize("skew_ns", [0, -1_300_000_000, 1_300_000_000])
def test_a_day_that_was_streamed_is_verified_without_a_request(tmp_path: Path, skew_ns: int) -> None:
    """Also where the collector's clock is off, so that klines lie in the hour before or after their own."""
    layout = a_lake(tmp_path, [*trade_lines(skew_ns), *kline_lines(skew_ns)])
    asker = refused()
    assert_all_by_stream(checked(layout, asker), asker)
    assert set(verdicts(layout)["source"]) == {"stream"}
    # It stands; and from sealed hours it comes out the same.
    before = verdicts(layout)
    assert sums(checked(layout, asker), "verified") == before.height
    assert compact(layout, clock=LATER).hours_sealed >= 2
    for day in DAYS:
        layout.verdicts("binance", SYMBOL, day).unlink()
    assert_all_by_stream(checked(layout, asker), asker)
    assert verdicts(layout).equals(before)
    # Again: of REST alone.
    answering = MarketKlines(market())
    report = checked(layout, answering, again=True)
    assert answering.requests >= 2
    assert (sums(report, "by_stream"), sums(report, "revised")) == (0, 0)
    assert sums(report, "verified") == sums(report, "asked") == sums(report, "seconds") >= before.height
    assert set(verdicts(layout)["source"]) == {"rest"}


def test_klines_change_no_bar_and_are_counted_where_raw_is(tmp_path: Path) -> None:
    klines = kline_lines()
    with_them = a_lake(tmp_path / "with", [*trade_lines(), *klines])
    without = a_lake(tmp_path / "without", trade_lines())
    for day in DAYS:
        path = with_them.bars("binance", SYMBOL, day)
        assert path.read_bytes() == without.bars("binance", SYMBOL, day).read_bytes()
    assert not list(with_them.quarantine.glob("*"))
    # Klines name the second, too, and are no lines of the bar.
    told = explain(with_them, "binance", SYMBOL, START + 40)
    assert told.agrees
    assert told.fields
    assert len(told.trades) == sum(len(trade.lines) for trade in told.trades)
    compact(with_them, clock=LATER)
    manifests = [
        read_raw_manifest(with_them, file.path)
        for day in DAYS
        for file in with_them.raw_files("binance", SYMBOL, day)
    ]
    assert all(manifest is not None and manifest.klines == manifest.others for manifest in manifests)
    assert sum(manifest.klines for manifest in manifests if manifest is not None) == len(klines)
    assert verify_disk(with_them, workers=1).differences == []
    # However they are written: one that begins otherwise is read further, and is one all the same.
    content = Content("binance", SYMBOL, None)
    content.add(klines[0] + klines[1].replace(b'"message":{"stream":', b'"message": {"stream":'))
    assert (content.summary().klines, content.summary().unreadable) == (2, 0)


def test_only_seconds_without_a_word_are_asked_for(tmp_path: Path) -> None:
    missed, torn, contradicted = range(START + 20, START + 27), START + 31, START + 40
    lines = [line for line in kline_lines() if not is_closed_kline_of(line, missed)]
    lines = [
        re.sub(rb'"n":(\d+)', rb'"n":"\1"', line) if is_closed_kline_of(line, [torn]) else line
        for line in lines
    ]
    (other,) = (line for line in lines if is_closed_kline_of(line, [contradicted]))
    lines += [re.sub(rb'"v":"\d', b'"v":"9', other), other]
    layout = a_lake(tmp_path, [*trade_lines(), *lines])
    asker = MarketKlines(market())
    report = checked(layout, asker)
    assert report.problem == ""
    # One span holds them all.
    assert (asker.requests, report.days[0].asked) == (1, contradicted + 1 - missed[0])
    assert sums(report, "verified") == sums(report, "seconds")
    assert sums(report, "by_stream") == sums(report, "seconds") - report.days[0].asked
    assert report.days[0].revised == 0
    rows = verdicts(layout).filter(pl.col("source") == "rest")
    assert set(rows["window_start"].dt.epoch("s")) == set(range(missed[0], contradicted + 1))
    # What REST would have told and did not is not verified, and asked for the next time.
    layout.verdicts("binance", SYMBOL, DAYS[0]).unlink()
    report = checked(layout, refused())
    assert "503" in report.problem
    assert report.days[0].unverifiable == len([*missed, torn, contradicted])
    assert sums(checked(layout, asker), "unverifiable") == 0


def wrong_size(line: bytes) -> bytes:
    return re.sub(rb'"q":"(\d+)\.(\d+)"', rb'"q":"1\1.\2"', line)


def test_a_wrong_bar_is_flagged_by_the_stream_and_called_wrong_by_rest(tmp_path: Path) -> None:
    trades = trade_lines()
    trades[60] = wrong_size(trades[60])
    layout = a_lake(tmp_path, [*trades, *kline_lines()])
    report = checked(layout, refused())
    assert report.unexplained == 1
    (unlike,) = report.days[0].unlike
    assert "volume_base" in unlike.fields
    row = verdicts(layout).filter(pl.col("verdict") == "mismatch").row(0, named=True)
    assert (row["source"], row["explained"]) == ("stream", "")
    assert "503" in report.problem, "the exchange is asked before a bar is called wrong"
    # It answers: for that one second alone.
    asker = MarketKlines(market())
    report = checked(layout, asker)
    assert (asker.requests, sums(report, "asked"), report.unexplained, sums(report, "revised")) == (
        1,
        1,
        1,
        0,
    )
    row = verdicts(layout).filter(pl.col("verdict") == "mismatch").row(0, named=True)
    assert row["source"] == "rest"
    assert checked(layout, asker).unexplained == 1
    assert asker.requests == 1


def dropped(trades: list[bytes]) -> list[bytes]:
    return [*trades[:60], *trades[61:]]


def in_the_wrong_second(trades: list[bytes]) -> list[bytes]:
    earlier = re.sub(rb'"T":(\d+)', lambda at: b'"T":%d' % (int(at[1]) - 1000), trades[60])
    return [*trades[:60], earlier, *trades[61:]]


def of_another_size(trades: list[bytes]) -> list[bytes]:
    return [*trades[:60], wrong_size(trades[60]), *trades[61:]]


@pytest.mark.parametrize("error", [dropped, in_the_wrong_second, of_another_size])
def test_the_stream_flags_the_seconds_that_rest_flags(
    error: Callable[[list[bytes]], list[bytes]], tmp_path: Path
) -> None:
    layout = a_lake(tmp_path, [*error(trade_lines()), *kline_lines()])

    def flagged() -> list[tuple[Any, ...]]:
        rows = verdicts(layout).filter(pl.col("verdict") != "verified")
        return rows.drop("source").sort("window_start").rows()

    assert checked(layout, refused()).unexplained >= 1
    by_stream = flagged()
    assert checked(layout, MarketKlines(market()), again=True).unexplained == len(by_stream)
    assert flagged() == by_stream


def test_a_kline_that_was_sent_too_early_is_no_fault_of_the_bar(tmp_path: Path) -> None:
    """The stream's kline lacks what the exchange learned later; REST's has it."""
    early = START + 33

    def without_its_last(line: bytes) -> bytes:
        if not is_closed_kline_of(line, [early]):
            return line
        return re.sub(rb'"n":(\d+)', lambda n: b'"n":%d' % (int(n[1]) - 1), line)

    lines = [without_its_last(line) for line in kline_lines()]
    assert lines != kline_lines()
    layout = a_lake(tmp_path, [*trade_lines(), *lines])
    asker = MarketKlines(market())
    report = checked(layout, asker)
    assert sums(report, "verified") == sums(report, "seconds")
    assert (asker.requests, sums(report, "asked"), sums(report, "revised")) == (1, 1, 1)
    assert verdicts(layout).filter(pl.col("source") == "rest").height == 1
    # All over again, REST has the word; and says of that second what the stream did not.
    assert sums(checked(layout, asker, again=True), "revised") == 1


def test_the_newest_bars_wait_for_their_klines(tmp_path: Path) -> None:
    """Which may lie in a part that is still open."""
    end = START + SECONDS
    klines = [line for line in kline_lines() if not is_closed_kline_of(line, range(end - 4, end))]
    layout = a_lake(tmp_path, [*trade_lines(), *klines])
    asker = refused()
    report = checked(layout, asker)
    assert asker.requests == 0
    assert int(verdicts(layout)["window_start"].dt.epoch("s")[-1]) == end - 5
    assert sums(report, "verified") == sums(report, "seconds")
    answering = MarketKlines(market())
    assert sums(checked(layout, answering, again=True), "seconds") == sums(report, "seconds") + 4
    # More than that is a stream that went silent.
    longer = [line for line in klines if not is_closed_kline_of(line, range(end - 9, end))]
    silent = a_lake(tmp_path / "silent", [*trade_lines(), *longer])
    assert sums(checked(silent, answering), "seconds") == SECONDS


def test_raw_without_klines_is_not_read_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = a_lake(tmp_path / "without", trade_lines())

    def read(_: Path) -> Iterable[Any]:
        raise AssertionError("raw was read")

    monkeypatch.setattr(raw_klines, "read_frames", read)
    for _ in ("parts", "sealed hours"):
        report = checked(layout, MarketKlines(market()))
        assert sums(report, "verified") == sums(report, "seconds") == SECONDS
        assert (sums(report, "by_stream"), sums(report, "asked")) == (0, SECONDS)
        compact(layout, clock=LATER)
        for day in DAYS:
            layout.verdicts("binance", SYMBOL, day).unlink()
    with pytest.raises(AssertionError, match="raw was read"):
        checked(a_lake(tmp_path / "with", [*trade_lines(), *kline_lines()]), refused())


def test_a_part_that_was_sealed_meanwhile_is_read_where_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = a_lake(tmp_path, [*trade_lines(), *kline_lines()])
    listed = raw_klines.raw_inputs
    sealed: list[int] = []

    def inputs(*of: Any) -> Any:
        found = listed(*of)
        if not sealed:
            sealed.append(compact(layout, clock=LATER).parts_deleted)
        return found

    monkeypatch.setattr(raw_klines, "raw_inputs", inputs)
    asker = refused()
    assert_all_by_stream(checked(layout, asker), asker)
    assert sealed[0] >= 2


def test_check_as_a_command_with_nobody_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_lake(tmp_path, [*trade_lines(), *kline_lines()])
    days = [argument for day in DAYS for argument in ("--day", day)]
    nobody = ("--set", "collector.endpoint.rest=http://127.0.0.1:9", "--data", str(tmp_path))
    assert main(["check", *nobody, *days]) == 0
    told = capsys.readouterr()
    assert "by the stream" in told.out
    assert "0 requests of weight 0" in told.out
    assert main(["explain", SYMBOL, "2024-08-08T23:59:40", "--data", str(tmp_path)]) == 0
    assert "verified (by the kline that was streamed)" in capsys.readouterr().out


# -- from the socket on


def test_collected_with_its_klines_a_lake_is_verified_and_proven_without_rest(tmp_path: Path) -> None:
    made = GeneratedMarket(9, ["BTCUSDT", "DOTUSDT"], start_us=START_US, activity=0.3)
    layout, live = Layout(tmp_path), dict[str, str]()

    async def collect() -> None:
        async with (
            asyncio.timeout(200),
            Simulator(made, Settings(speed=20)) as simulator,
            collecting(simulator, tmp_path, made.symbols, tuple(Stream)) as running,
        ):
            until_us = simulator.clock.now_us() + 40_000_000
            await running.until(lambda: simulator.clock.now_us() > until_us, "forty seconds of the market")
            live.update({one.name: one.liveness for one in running.collector.snapshot().streams})

    asyncio.run(collect())
    assert live == {f"{name}@{kind.value}": "live" for name in ("btcusdt", "dotusdt") for kind in Stream}
    assert transform(layout, "binance", workers=1).failed == {}
    asker = MarketKlines(made, failing=10**6)
    clock = At(START_US * 1000 + 600 * 10**9)
    report = asyncio.run(check(layout, "binance", asker, clock=clock, retry_seconds=0.001))
    found: dict[str, DayCheck] = {day.symbol: day for day in report.days}
    assert found.keys() == set(made.symbols)
    for symbol, day in found.items():
        read = verdict_table.read(layout.verdicts("binance", symbol, day.day))
        assert read is not None
        # A trade of a second that was over when the streams began may come after its kline: nobody streamed that one.
        first, *others = read[0].iter_rows(named=True)
        assert {row["source"] for row in others} == {"stream"}
        assert {row["verdict"] for row in others[:-1]} == {"verified"}
        assert len(others) > 30
        assert first["source"] == "stream" or asker.requests
        assert day.unexplained == 0
        proof = prove(layout, "binance", symbol)
        assert (proof.disagreements, proof.to_come) == ([], 0)
    assert not list(layout.quarantine.glob("*"))


def spoken(running: Collecting) -> set[Stream]:
    """Of which streams something has come: at twenty seconds a second a slow subscription costs many."""
    return {Stream(one.kind) for one in running.collector.snapshot().streams if one.messages}


def test_turned_on_while_it_runs_they_count_from_there_on(tmp_path: Path) -> None:
    made = GeneratedMarket(9, [SYMBOL], start_us=START_US, activity=0.3)
    layout, holes = Layout(tmp_path), list[int]()

    async def collect() -> None:
        async with (
            asyncio.timeout(200),
            Simulator(made, Settings(speed=20)) as simulator,
            collecting(simulator, tmp_path, made.symbols) as running,
        ):
            for streams in (CollectorConfig().streams, tuple(Stream)):
                running.collector.follow(made.symbols, streams)
                await running.until(lambda wanted=streams: spoken(running) == set(wanted), "all streams")
                until_us = simulator.clock.now_us() + 20_000_000
                await running.until(lambda at=until_us: simulator.clock.now_us() > at, "the market")
            holes.append(running.symbols[SYMBOL].holes_total)

    asyncio.run(collect())
    assert holes == [0]
    assert transform(layout, "binance", workers=1).failed == {}
    asker, clock = MarketKlines(made), At(START_US * 1000 + 600 * 10**9)
    (day,) = asyncio.run(check(layout, "binance", asker, clock=clock)).days
    assert (asker.requests, day.unexplained, day.revised) == (1, 0, 0)
    assert day.asked > 15
    assert day.by_stream > 15
    assert day.asked + day.by_stream == day.seconds


def test_by_default_no_kline_is_collected() -> None:
    assert (
        CollectorConfig().streams
        == CryptoLakeSpec(symbols=(SYMBOL,)).streams
        == (Stream.TRADE, Stream.BOOK_TICKER)
    )
