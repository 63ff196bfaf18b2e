"""Two collectors of one market, and what is published of it: the exchange's own klines, and a market's of some days."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import envelope
from crypto_lake.model.clock import Hour
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.klines import Kline
from crypto_lake.simulator.messages import COMBINED
from crypto_lake.store import Store
from support import publishing as p
from support import recorded
from support.publishing import EXCHANGE, HOUR_NS, SECOND_NS, SYMBOL, Line, Machine

DAYS = ["2024-08-08", "2024-08-09", "2024-08-10"]
MARKET_START_NS = Hour(DAYS[0], 0).start_ns - HOUR_NS
MARKET_END_NS = Hour(DAYS[-1], 23).end_ns + HOUR_NS
PRICES = ("open", "high", "low", "close", "volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


def name(day: str) -> str:
    year, month, date = day.split("-")
    return f"parquet/{EXCHANGE}/{SYMBOL}/year={year}/month={month}/day={date}/bars.parquet"


def rows(store: Store, day: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(store.read(name(day))[1]))


def manifest(store: Store, day: str) -> dict[str, Any]:
    return json.loads(store.read(f"manifests/{name(day)}.json")[1])


def line(received_ns: int, connection: str, message: bytes) -> Line:
    number = BINANCE.head(message).trade_id if b"@trade" in message[:40] else None
    return Line(received_ns, envelope.encode(received_ns, connection, message), number)


def seen(
    messages: Iterable[tuple[int, bytes]], spans: Sequence[tuple[int, int]], off_ns: int = 0
) -> list[Line]:
    """What was received in these spans of true time, by a clock that is off."""
    return [
        line(at_ns + off_ns, f"c-{number}", message)
        for at_ns, message in messages
        for number, (start_ns, end_ns) in enumerate(spans)
        if start_ns <= at_ns < end_ns
    ]


def test_two_collectors_of_a_recording_make_the_exchanges_klines_of_all_that_either_saw(
    tmp_path: Path, store: Store
) -> None:
    """One joins late and has a clock that is off, both are cut off for a while, for ten seconds both at once."""
    folder = recorded.folder()
    messages = list(recorded.messages(folder))
    start = Hour(DAYS[1], 0).start_ns
    first, last = messages[0][0], messages[-1][0] + 1
    minute = 60 * SECOND_NS
    neither = (start + 190 * SECOND_NS, start + 200 * SECOND_NS)  # within 00:03 of the second day
    one = [(first, start - 2 * minute), (start - minute, neither[0]), (start + 5 * minute, last)]
    # Joins after three minutes; back before the other's last absence ends.
    two = [(first + 3 * minute, start + 30 * SECOND_NS), (start + minute, neither[0]), (neither[1], last)]
    one.insert(2, (neither[1], start + 4 * minute))
    lines = {"a": seen(messages, one), "b": seen(messages, two, 3 * SECOND_NS)}
    now_ns = Hour(DAYS[1], 23).end_ns + 49 * HOUR_NS
    for collector, received in lines.items():
        machine = Machine(tmp_path / collector, collector)
        machine.receive(received)
        machine.send(store, now_ns)
    report = p.run(store, now_ns)
    assert p.outcomes(report) == {DAYS[0]: "published", DAYS[1]: "published"}
    bars = pl.concat([rows(store, day) for day in DAYS[:2]])
    by_minute = recorded.compared(bars, folder, "1m", first // SECOND_NS, last // SECOND_NS)
    assert len(by_minute) == 10
    unequal = [at for at, equal in by_minute.items() if not equal]
    assert unequal == [(start + 3 * minute) // SECOND_NS]
    ids = {one.trade for received in lines.values() for one in received if one.trade is not None}
    # What neither saw is named, by id, and nothing else; a part of it each had for itself.
    missing = {n for low, high in manifest(store, DAYS[1])["missing"] for n in range(low, high + 1)}
    assert missing == set(range(min(ids), max(ids) + 1)) - ids
    assert missing
    assert manifest(store, DAYS[0])["missing_ids"] == 0
    for day in DAYS[:2]:
        assert all(one["only_here"] > 0 for one in manifest(store, day)["collectors"])
    # The holes of each alone would have cost minutes.
    for collector in lines:
        alone = p.bucket(tmp_path / f"of-{collector}")
        machine = Machine(tmp_path / f"{collector}-alone", collector)
        machine.receive(lines[collector])
        machine.send(alone, now_ns)
        p.run(alone, now_ns)
        own = pl.concat([rows(alone, day) for day in DAYS[:2]])
        equal = recorded.compared(own, folder, "1m", first // SECOND_NS, last // SECOND_NS).values()
        assert sum(equal) < 9


def theirs(klines: Sequence[Kline]) -> pl.DataFrame:
    columns = list(zip(*klines, strict=True))
    names = ("open", "high", "low", "close", "volume_base", "volume_quote")
    found = {"window_start": pl.Series(columns[0])}
    found |= {
        name: pl.Series(values, dtype=pl.Int64) for name, values in zip(names, columns[1:7], strict=True)
    }
    found["trade_count"] = pl.Series(columns[7])
    found |= {"taker_buy_base": pl.Series(columns[8]), "taker_buy_quote": pl.Series(columns[9])}
    found |= {"first_trade_id": pl.Series(columns[10]), "last_trade_id": pl.Series(columns[11])}
    return pl.DataFrame(found)


def ours(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(
        pl.col("window_start").dt.epoch("us"),
        *((pl.col(name) * 10**8).cast(pl.Int64) for name in PRICES[:6]),
        "trade_count",
        *((pl.col(name) * 10**8).cast(pl.Int64) for name in PRICES[6:]),
        *(pl.col(name).fill_null(-1) for name in ("first_trade_id", "last_trade_id")),
    )


def absences(rng: random.Random) -> list[tuple[int, int]]:
    """Two hours or so of each half day: which one of the two collectors is away is drawn."""
    found: list[tuple[int, int]] = []
    for at in range(MARKET_START_NS, MARKET_END_NS, 6 * HOUR_NS):
        start = at + rng.randrange(HOUR_NS, 3 * HOUR_NS)
        found.append((start, start + rng.randrange(60 * SECOND_NS, 2 * HOUR_NS)))
    return found


@pytest.mark.timeout(900)
def test_days_of_a_market_are_published_as_they_become_final_and_equal_its_klines(
    tmp_path: Path, store: Store
) -> None:
    """Of two collectors there is always one, seldom both for long; a day is made two hours after its end."""
    rng = random.Random(4)
    market = GeneratedMarket(3, [SYMBOL], start_us=MARKET_START_NS // 1000, activity=0.0006)
    messages: list[tuple[int, bytes]] = []
    for batch in market.messages():
        for one in batch:
            if one.trade_id >= 0 or one.stream.endswith("@bookTicker"):
                data = one.payload(COMBINED)
                messages.append((one.pace_us * 1000 + 20_000_000, data))
        if batch and batch[-1].pace_us * 1000 >= MARKET_END_NS:
            break
    machines = {"a": Machine(tmp_path / "a", "a", 200), "b": Machine(tmp_path / "b", "b", 200)}
    away: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
    for number, span in enumerate(absences(rng)):
        away["ab"[number % 2]].append(span)
    spans = {
        who: [
            (end, start) for (_, end), (start, _) in pairwise([(0, MARKET_START_NS), *of, (MARKET_END_NS, 0)])
        ]
        for who, of in away.items()
    }
    lines = {who: seen(messages, spans[who], {"a": 0, "b": -2 * SECOND_NS}[who]) for who in machines}
    sent_ns = 0
    for day in DAYS:
        now_ns = Hour(day, 23).end_ns + 2 * HOUR_NS
        upto_ns = min(Hour(day, 23).end_ns + HOUR_NS, MARKET_END_NS)
        for who, machine in machines.items():
            machine.receive([one for one in lines[who] if sent_ns <= one.received_ns < upto_ns])
            machine.send(store, now_ns)
        sent_ns = upto_ns
        report = p.run(store, now_ns)
        assert not report.problem
        assert p.outcomes(report)[day] == "published", report.days
        told = manifest(store, day)
        assert (told["final_because"], told["missing_ids"], told["version"]) == ("complete", 0, 1)
        assert all(one["only_here"] for one in told["collectors"])
        assert len(told["collectors"]) == 2
        start_us = Hour(day, 0).start_ns // 1000
        wanted = theirs(market.klines(SYMBOL, "1s", start_us, start_us + 86400 * 10**6))
        made = ours(rows(store, day))
        assert made.height == 86400
        assert made.equals(wanted.cast(dict(made.schema)))  # pyright: ignore[reportArgumentType]
        assert set(rows(store, day)["state"]) == {"complete"}
    # Nothing of it is made again.
    last = p.run(store, now_ns, days=DAYS)
    assert (last.up_to_date, last.days, last.bytes_read) == (3, [], 0)
