"""Rollups of the lake against klines: the simulator's, which share no code with it, and Binance's own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crypto_lake import Lake
from crypto_lake.access.files import EVERYTHING, LakeFiles
from crypto_lake.access.places import LocalPlace
from crypto_lake.access.session import open_session, source
from crypto_lake.bars.transform import transform
from crypto_lake.lake import envelope
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.klines import INTERVALS_US, Kline
from support.bar_rows import Second, write_days
from support.klines import KLINE_COLUMNS
from support.lakes import At, write_part
from support.recorded import compared, folder, messages

SYMBOL = "LINKUSDT"  # quiet at this activity: whole minutes without a trade
START = Hour("2024-08-08", 23)
HOUR_NS = 3600 * 10**9


def line(trade: SimulatedTrade) -> bytes:
    time = trade.time_us // 1000
    message = (
        f'{{"stream":"{SYMBOL.lower()}@trade","data":{{"e":"trade","E":{time},"s":"{SYMBOL}","t":{trade.id},'
        f'"p":"{format_e8(trade.price_e8)}","q":"{format_e8(trade.size_e8)}","T":{time},'
        f'"m":{"true" if trade.buyer_is_maker else "false"},"M":true}}}}'
    )
    return envelope.encode(trade.time_us * 1000 + 10**6, "c-1", message.encode())


@pytest.fixture(scope="module")
def market() -> GeneratedMarket:
    return GeneratedMarket(7, [SYMBOL], start_us=START.start_ns // 1000, activity=0.01)


@pytest.fixture(scope="module")
def lake(market: GeneratedMarket, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A whole day, an hour before and one after it, made of every trade by the transformer."""
    layout = Layout(tmp_path_factory.mktemp("market"))
    hour = START
    for number in range(26):
        start_us = hour.start_ns // 1000
        trades = market.trades_between(SYMBOL, start_us, start_us + 3600 * 10**6)
        write_part(layout, SYMBOL, hour, number + 1, [line(trade) for trade in trades])
        hour = hour.next()
    report = transform(layout, "binance", clock=At(hour.start_ns), workers=1)
    assert not report.failed
    assert not report.unreadable
    return Lake(layout.root)


def fields_of(kline: Kline) -> tuple[Any, ...]:
    _, *numbers = kline
    prices, volumes = numbers[:4], numbers[4:6]
    exact = [Decimal(format_e8(value)) for value in (*prices, *volumes)]
    taken = [Decimal(format_e8(value)) for value in numbers[7:9]]
    ids = [None if value < 0 else value for value in numbers[9:11]]
    return (*exact, numbers[6], *taken, *ids)


@pytest.mark.parametrize("every", ["1s", "1m", "3m", "5m", "15m", "1h", "4h", "1d"])
def test_rollups_equal_the_simulators_klines(lake: Lake, market: GeneratedMarket, every: str) -> None:
    start, end = "2024-08-09", "2024-08-10"
    if every == "1s":
        start, end = "2024-08-09T12:00", "2024-08-09T13:00"
    start_us, end_us = (
        int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) * 10**6 for at in (start, end)
    )
    klines = market.klines(SYMBOL, every, start_us, end_us)
    found = lake.bars(SYMBOL, start, end, every).collect()
    assert found["window_start"].dt.epoch("us").to_list() == [kline.open_us for kline in klines]
    assert len(klines) == (end_us - start_us) // INTERVALS_US[every]
    assert found.select(KLINE_COLUMNS).rows() == [fields_of(kline) for kline in klines]
    assert set(found["state"]) == {"complete"}
    assert found["missing_seconds"].sum() == 0
    if every in ("1s", "1m"):
        assert any(not kline.trade_count for kline in klines)
    with lake.connect() as connection:
        view = f"SELECT {', '.join(KLINE_COLUMNS)} FROM bars_{every} WHERE window_start >= '{start}' AND window_start < '{end}'"
        assert connection.sql(f"{view} ORDER BY window_start").fetchall() == [
            fields_of(kline) for kline in klines
        ]


def test_rollups_equal_the_exchanges_own(tmp_path: Path) -> None:
    recorded = folder()
    layout = Layout(tmp_path)
    parts: dict[Hour, list[bytes]] = {}
    for received_ns, message in messages(recorded):
        parts.setdefault(Hour.of_ns(received_ns), []).append(envelope.encode(received_ns, "c-1", message))
    for number, (hour, lines) in enumerate(parts.items(), start=1):
        write_part(layout, "BTCUSDT", hour, number, lines)
    transform(layout, "binance", workers=1)
    lake = Lake(tmp_path)
    seconds = lake.bars("BTCUSDT", every="1s").collect()["window_start"].dt.epoch("s")
    first, last = seconds[0], seconds[-1]
    for every, count in (("1m", 10), ("5m", 2)):
        # What `compared` groups are whole intervals already: it holds them against the exchange's file.
        rolled = lake.bars("BTCUSDT", every=every).collect()
        assert compared(rolled, recorded, every, first, last) == dict.fromkeys(
            compared(rolled, recorded, every, first, last), True
        )
        assert len(compared(rolled, recorded, every, first, last)) == count
    gone = lake.bars("BTCUSDT", every="1m").collect()
    assert gone["missing_seconds"][0] > 0  # the recording begins within a minute, and says so
    assert gone["state"][0] == "incomplete"


def test_the_first_query_works_as_it_stands(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(lake.url)
    query = (
        "SELECT window_start, open, high, low, close, volume_base "
        f"FROM read_parquet('data/parquet/binance/{SYMBOL}/**/*.parquet')"
    )
    code = f"import duckdb; print(len(duckdb.sql({query!r}).fetchall()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == lake.bars(SYMBOL, every="1s").collect().height


ROWS = 2000


def read_while_days_are_replaced(root: Path, times: int) -> tuple[Counter[str], int]:
    """How often each kind of answer came, of readings in Python and SQL, and how often a day was replaced meanwhile."""
    for version in (1, 2):
        for day in range(3):
            at = START.start_ns // 10**9 + 3600 + day * 86400
            write_days(
                root / str(version),
                "BTCUSDT",
                [
                    Second(at + n, version, ((n, version, 10**8 * version, True),))
                    for n in range(ROWS * version)
                ],
            )
    paths = [path.relative_to(root / "1") for path in sorted((root / "1").rglob("*.parquet"))]
    contents = [[(root / str(version) / path).read_bytes() for path in paths] for version in (1, 2)]
    live = root / "live"
    over, replaced = threading.Event(), [0]

    def replace(once: bool = False) -> None:
        while not over.is_set():
            for path, data in zip(paths, contents[replaced[0] % 2], strict=True):
                target = live / path
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(".bars.parquet.1.tmp")
                temporary.write_bytes(data)
                temporary.replace(target)
            replaced[0] += 1
            if once:
                return

    replace(once=True)
    writer = threading.Thread(target=replace)
    writer.start()
    found: Counter[str] = Counter()
    # A day's answer is that of one version: so many rows, all with its price.
    whole = {(version, ROWS * version, ROWS * version * version) for version in (1, 2)}
    question = "SELECT max((close * 100000000)::BIGINT), sum(n), sum(volume)::BIGINT FROM ({}) GROUP BY day ORDER BY day"
    rows = "SELECT day, any_value(close) AS close, count(*) AS n, sum(volume_base) AS volume FROM {} GROUP BY day, close"
    files = LakeFiles(LocalPlace(live))
    try:
        with open_session(files, views=False) as connection:
            lake = Lake(live)
            for number in range(times):
                if number % 2:
                    files.refresh()
                    told = connection.sql(question.format(rows.format(source(EVERYTHING)))).fetchall()
                    days = [tuple(map(int, row)) for row in told]
                else:
                    bars = lake.bars(
                        "BTCUSDT", every="1d", columns=["close", "complete_seconds", "volume_base"]
                    ).collect()
                    days = [(int(close.scaleb(8)), n, int(volume)) for close, n, volume in bars.rows()]
                found["whole" if len(days) == 3 and set(days) <= whole else repr(days)] += 1
    finally:
        over.set()
        writer.join()
    return found, replaced[0]


def test_a_lake_is_read_while_its_days_are_replaced(tmp_path: Path) -> None:
    found, replaced = read_while_days_are_replaced(tmp_path, 40)
    assert found == {"whole": 40}
    assert replaced > 20


@pytest.mark.faults
def test_a_lake_is_read_a_thousand_times_while_its_days_are_replaced(tmp_path: Path) -> None:
    found, replaced = read_while_days_are_replaced(tmp_path, 1000)
    assert found == {"whole": 1000}
    assert replaced > 500
