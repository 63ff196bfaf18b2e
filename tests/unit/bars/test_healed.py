"""Bars of a market with holes that were filled, against the bars of the same market undisturbed."""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.bars.lines import parse
from crypto_lake.bars.seconds import TradeHour, trade_hour
from crypto_lake.bars.template import Template, streams_of
from crypto_lake.bars.transform import transform
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8


def _load(name: str):
    full = f"bars_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


lake = _load("lake")
START_US = 1_723_161_600 * 10**6
TEMPLATE = Template("BTCUSDT", *streams_of("BTCUSDT"))
SUMS = ("volume_quote", "taker_buy_quote")


@dataclass(frozen=True)
class Fill:
    id: int
    time_us: int
    price: int
    size: int
    maker: bool


def market(seed: int, orders: int) -> list[list[Fill]]:
    """Orders: each one's fills share time, price and side, as an aggregate's do."""
    rng = random.Random(seed)
    made: list[list[Fill]] = []
    id_, at = 1000, START_US
    for _ in range(orders):
        at += rng.choice([0, 1000, 400_000, 1_500_000])
        price, maker = rng.randrange(10**10, 10**11), rng.random() < 0.5
        fills = []
        for _ in range(rng.choice([1, 1, 2, 5])):
            fills.append(Fill(id_, at, price, rng.randrange(1, 10**9), maker))
            id_ += 1
        made.append(fills)
    return made


def streamed(fill: Fill) -> bytes:
    return lake.trade_line(
        fill.id, fill.time_us, fill.price, fill.size, fill.maker, fill.time_us * 1000 + 10**6
    )


def fetched(fill: Fill, source: str) -> bytes:
    line = lake.rest_line(fill.id, fill.time_us, fill.price, fill.size, fill.maker, fill.time_us * 1000)
    return line.replace(b'"historicalTrades"', b'"%s"' % source.encode())


def aggregate(fills: list[Fill]) -> bytes:
    first = fills[0]
    message = (
        f'{{"a":{first.id},"p":"{format_e8(first.price)}","q":"{format_e8(sum(f.size for f in fills))}",'
        f'"f":{first.id},"l":{fills[-1].id},"T":{first.time_us // 1000},"m":{str(first.maker).lower()},"M":true}}'
    )
    return envelope.encode(first.time_us * 1000, "rest-1", message.encode(), "aggTrades")


def hour_of(lines: list[bytes]) -> TradeHour:
    parsed = parse(b"".join(lines), TEMPLATE)
    assert not parsed.bad
    return trade_hour(parsed.trades)


def seconds_of(hour: TradeHour) -> dict[int, dict[str, Any]]:
    return {row["second"]: row for row in hour.seconds.iter_rows(named=True)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25), st.data())
def test_whatever_is_missing_and_filled_the_bars_are_those_of_the_undisturbed_market(
    seed: int, orders: int, data: st.DataObject
) -> None:
    made = market(seed, orders)
    fills = [fill for order in made for fill in order]
    first = data.draw(st.integers(0, len(fills) - 1))
    last = data.draw(st.integers(first, len(fills) - 1))
    missing = {fill.id for fill in fills[first : last + 1]}
    kept = [streamed(fill) for fill in fills if fill.id not in missing]
    whole = seconds_of(hour_of([streamed(fill) for fill in fills]))
    touched = {fill.time_us // 10**6 for fill in fills if fill.id in missing}

    for source in ("historicalTrades", "archive"):
        healed = hour_of(kept + [fetched(fill, source) for fill in fills if fill.id in missing])
        assert healed.gaps == ()
        found = seconds_of(healed)
        assert {s for s, row in found.items() if row["healed"]} == touched
        assert {s: row | {"healed": False} for s, row in found.items()} == whole

    # Every aggregate with a missing trade, some of them twice; those at the edges have trades that came.
    sums = [aggregate(order) for order in made if missing & {fill.id for fill in order}]
    lines = [*kept, *sums, *data.draw(st.lists(st.sampled_from(sums), max_size=2))]
    random.Random(seed).shuffle(lines)
    summed = hour_of(lines)
    assert summed.gaps == ()
    assert summed.conflicts == 0
    found = seconds_of(summed)
    assert {s for s, row in found.items() if row["aggregated"]} == touched
    for second, row in found.items():
        assert {k: v for k, v in row.items() if k not in (*SUMS, "aggregated")} == {
            k: v for k, v in whole[second].items() if k not in (*SUMS, "aggregated")
        }
        for name in SUMS:  # each trade's product is cut; of a sum, that of the sum is
            assert 0 <= row[name] - whole[second][name] <= len(fills)
            assert second in touched or row[name] == whole[second][name]

    # Once the single trades are had, nothing of the sums is left.
    exact = hour_of(lines + [fetched(fill, "archive") for fill in fills if fill.id in missing])
    assert {s: row | {"healed": False} for s, row in seconds_of(exact).items()} == whole


def test_an_aggregate_of_more_trades_than_the_exchange_would_make_is_put_aside() -> None:
    line = aggregate([Fill(1, START_US, 10**8, 10**8, False)]).replace(b'"l":1,', b'"l":900000000,')
    parsed = parse(line, TEMPLATE)
    assert [reason for _, _, reason in parsed.bad] == ["trade ids of an aggregate out of range"]


@pytest.mark.parametrize(
    ("fill", "state"),
    [
        (lambda order: [fetched(f, "historicalTrades") for f in order], "healed"),
        (lambda order: [aggregate(order)], "aggregated"),
    ],
)
def test_a_healed_file_makes_its_hour_anew(fill: Any, state: str) -> None:
    made = [
        [Fill(1, START_US, 10**10, 10**8, False)],
        [Fill(2, START_US + 10**6, 10**10, 3 * 10**8, True), Fill(3, START_US + 10**6, 10**10, 10**8, True)],
        [Fill(4, START_US + 2 * 10**6, 10**10, 10**8, False)],
        [Fill(5, START_US + 3 * 10**6, 10**10, 10**8, False)],
    ]
    with tempfile.TemporaryDirectory() as folder:
        layout, hour = Layout(Path(folder)), Hour.of_ns(START_US * 1000)
        lake.write_part(layout, hour, 1, [streamed(f) for order in (made[0], *made[2:]) for f in order])
        transform(layout, "binance")
        before = {second - START_US // 10**6: row["state"] for second, row in lake.rows_of(layout).items()}
        assert before == {0: "incomplete", 2: "incomplete", 3: "incomplete"}
        path = layout.healed("binance", "BTCUSDT", hour, 2, 3)
        path.write_bytes(FrameCompressor().frame(b"".join(fill(made[1]))))
        report = transform(layout, "binance")
        assert (report.unreadable, report.hours_made) == (0, 1)
        rows = {second - START_US // 10**6: row for second, row in lake.rows_of(layout).items()}
        assert [rows[n]["state"] for n in range(4)] == ["incomplete", state, "complete", "incomplete"]
        assert rows[1]["volume_base"] == 4 * 10**8
        assert rows[1]["trade_count"] == 2
        assert transform(layout, "binance").hours_made == 0
