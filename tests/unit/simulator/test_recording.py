"""Recordings: every form of a file, what is played of it, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.model.decimals import parse_e8
from crypto_lake.simulator.messages import COMBINED, Message
from crypto_lake.simulator.recording import RecordedMarket, RecordingError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AHEAD_US = 1_270_000  # the exchange's clock against the recorder's
BASE_US = 1_723_161_255_000_000


def trade(id_: int, time_ms: int, symbol: str = "BTCUSDT", price: str = "61837.63000000") -> bytes:
    data: dict[str, Any] = {"e": "trade", "E": time_ms + 1, "s": symbol, "t": id_, "p": price}
    data |= {"q": "0.01000000", "T": time_ms, "m": True, "M": True}
    body = {"stream": f"{symbol.lower()}@trade", "data": data}
    received_ns = ((time_ms + 1) * 1000 - AHEAD_US) * 1000
    return b"%d %s\n" % (received_ns, json.dumps(body, separators=(",", ":")).encode())


def quote(update_id: int, received_us: int) -> bytes:
    data = {"u": update_id, "s": "BTCUSDT", "b": "1.0", "B": "1.0", "a": "2.0", "A": "1.0"}
    body = {"stream": "btcusdt@bookTicker", "data": data}
    return b"%d %s\n" % (received_us * 1000, json.dumps(body).encode())


def played(market: RecordedMarket) -> list[Message]:
    return [message for batch in market.messages() for message in batch]


def lines(count: int, first: int = 100, at_ms: int = BASE_US // 1000) -> list[bytes]:
    return [trade(first + i, at_ms + 7 * i) for i in range(count)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_each_packing_is_played_verbatim(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "recording"
    body = [*lines(30), quote(5, BASE_US + 500_000 - AHEAD_US)]
    path.write_bytes(pack(b"".join(body)))
    market = RecordedMarket([path])
    messages = played(market)
    assert [m.payload(COMBINED) for m in messages] == [line.split(b" ", 1)[1].rstrip() for line in body]
    for message in messages:
        combined = json.loads(message.payload(COMBINED))
        assert json.loads(message.payload(0)) == combined["data"]
        assert message.stream == combined["stream"]
    assert market.symbols == ("BTCUSDT",)
    assert market.streams() == {"btcusdt@trade", "btcusdt@bookTicker"}
    assert (market.first_id("BTCUSDT"), market.newest_id("BTCUSDT", 2**62)) == (100, 129)


def test_several_files_are_one_market(tmp_path: Path) -> None:
    first, second = tmp_path / "1.gz", tmp_path / "2"
    first.write_bytes(gzip.compress(b"".join(lines(20))))
    second.write_bytes(b"".join(lines(20, 120, BASE_US // 1000 + 1000)))
    market = RecordedMarket([first, second])
    assert [m.trade_id for m in played(market)] == list(range(100, 140))
    assert [t.id for t in market.trades("BTCUSDT", 118, 121)] == [118, 119, 120, 121]


def test_a_message_without_a_time_is_placed_by_when_it_was_received(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(b"".join([*lines(3), quote(5, BASE_US + 60_000 - AHEAD_US)]))
    market = RecordedMarket([path])
    assert market.clock_offset_us == AHEAD_US
    assert played(market)[-1].pace_us == BASE_US + 60_000 == market.end_us


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=60))
def test_the_pace_never_goes_back(tmp_path_factory: pytest.TempPathFactory, times: list[int]) -> None:
    path = tmp_path_factory.mktemp("recording") / "lines"
    base = BASE_US // 1000
    path.write_bytes(b"".join(trade(100 + i, base + time) for i, time in enumerate(sorted(times))))
    market = RecordedMarket([path])
    paces = [m.pace_us for m in played(market)]
    assert paces == sorted(paces)
    assert (paces[0], paces[-1]) == (market.start_us, market.end_us)


def test_what_is_no_message_of_a_stream_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    rest = b'1723161254206652067 {"lastUpdateId":50093239218,"bids":[],"asks":[]}\n'
    path.write_bytes(b"".join([rest, *lines(5), b"no line\n", b'17 {"stream":"btc']))
    market = RecordedMarket([path])
    assert len(played(market)) == market.message_count == 5
    assert (market.skipped.not_of_a_stream, market.skipped.unreadable) == (1, 2)


def test_trades_seen_twice_count_once(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    body = lines(5)
    path.write_bytes(b"".join([*body, body[2]]))
    market = RecordedMarket([path])
    assert len(played(market)) == 6
    assert [t.id for t in market.trades("BTCUSDT", 0, 2**62)] == [100, 101, 102, 103, 104]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no line of .* is a message of a stream"),
        (b"".join([*lines(3), *lines(3, 110)]), r"misses trades 103\.\.109 of BTCUSDT"),
        (gzip.compress(b"".join(lines(500)), mtime=0)[:-20], "can't be read to its end"),
        (zstd.compress(b"".join(lines(500)))[:-20], "can't be read to its end"),
        (
            gzip.compress(b"", mtime=0)[:10] + b"\x07" + bytes(20),
            "can't be read to its end",
        ),  # no such kind of block
        (trade(1, BASE_US // 1000, price="1e5"), "has no number"),
    ],
)
def test_recordings_that_would_lie_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "recording"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=reason):
        RecordedMarket([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"gone\.gz is not there"):
        RecordedMarket([tmp_path / "gone.gz"])


def test_real_trades_give_the_exchanges_own_klines() -> None:
    root = os.environ.get("CRYPTO_LAKE_RECORDED_DATA")
    if not root:
        pytest.skip("CRYPTO_LAKE_RECORDED_DATA is unset: no recorded market to compare with")
    folder = Path(root, "binance-spot")
    market = RecordedMarket([folder / "btcusdt_20240808.gz", folder / "btcusdt_20240809.gz"])
    equal = {}
    for interval, seconds in (("1m", 60), ("5m", 300)):
        with (folder / f"BTCUSDT-{interval}-klines-2024-08-08.csv").open() as file:
            rows = {
                int(datetime.fromisoformat(row["date"]).timestamp()) * 1_000_000: row
                for row in csv.DictReader(file)
            }
        equal[interval] = 0
        for kline in market.klines("BTCUSDT", interval, market.start_us, market.end_us):
            if kline.open_us + seconds * 1_000_000 > market.end_us or kline.open_us not in rows:
                continue  # not whole in the recording
            row = rows[kline.open_us]
            expected = [parse_e8(row[field]) for field in ("open", "high", "low", "close", "volume")]
            assert list(kline[1:6]) == expected
            equal[interval] += 1
    assert equal == {"1m": 10, "5m": 2}
