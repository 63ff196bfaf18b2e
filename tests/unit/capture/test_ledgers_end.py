"""When a symbol's ledger says that it ended, and that it goes on: by what the exchange sends, and what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.capture.outcome import Reason
from crypto_lake.completeness.entries import Ended, Resumed, Seen
from crypto_lake.completeness.ledger import account, ended_ns, has_ended, read
from crypto_lake.lake import control
from crypto_lake.lake.layout import Layout

from .test_intake_writer import QUOTE, SETTINGS, START_NS, HandClock, Rig, trade

SECOND_NS = 10**9
GRACE_SECONDS = SETTINGS.hole_grace_ns / SECOND_NS
TRADES, QUOTES = "btcusdt@trade", "btcusdt@bookTicker"


def begun(root: Path, *wanted: str, at_ns: int = START_NS) -> Rig:
    """As the collector begins."""
    rig = Rig(root, HandClock(at_ns))
    rig.intake.event("collector", control.CollectorStarted("here-1", "0"))
    for symbol in wanted:
        rig.writer.open_symbol(symbol)
    rig.writer.follow(wanted)
    rig.writer.open_leftovers()
    rig.writer.start()
    return rig


def passes(rig: Rig, seconds: float) -> None:
    """So much time, with a cut at its end."""
    rig.clock.at_ns += int(seconds * SECOND_NS)
    rig.intake.cut(sync=True)


def disconnected(reason: Reason) -> control.Disconnected:
    return control.Disconnected(reason.value, "", 0, 1.0, 1)


def told(rig: Rig, symbol: str = "BTCUSDT") -> list[tuple[str, int]]:
    """What the ledger says of ends: kind, and seconds since the start."""
    lines = read(rig.layout.ledger("binance", symbol)).lines
    return [
        ("ended", (line.ended_ns - START_NS) // SECOND_NS)
        if isinstance(line, Ended)
        else ("resumed", (line.resumed_ns - START_NS) // SECOND_NS)
        for line in lines
        if isinstance(line, Ended | Resumed)
    ]


def test_a_stop_ends_every_ledger_and_a_start_goes_on_when_it_is_carried(tmp_path: Path) -> None:
    rig = begun(tmp_path, "BTCUSDT", "ETHUSDT")
    rig.intake.event("c-1", control.Subscribed((TRADES, QUOTES)))
    rig.receive(trade(1))
    passes(rig, 10)
    rig.end()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert has_ended(rig.layout.ledger("binance", symbol))
    again = begun(tmp_path, "BTCUSDT", "ETHUSDT", at_ns=START_NS + 20 * SECOND_NS)
    passes(again, 10)  # not connected yet
    again.intake.event("c-2", control.Subscribed((TRADES, QUOTES)))
    passes(again, 10)
    again.end()
    assert told(again) == [("ended", 10), ("resumed", 30), ("ended", 40)]
    assert told(again, "ETHUSDT") == [("ended", 10)]


WAYS_TO_GO = {
    "unsubscribed": [("c-1", control.Unsubscribed((TRADES, QUOTES)))],
    "each stream by itself": [
        ("c-1", control.Unsubscribed((QUOTES,))),
        ("c-1", control.Unsubscribed((TRADES,))),
    ],
    "its connection ended": [("c-1", disconnected(Reason.UNSUBSCRIBED))],
    "its connection was lost": [("c-1", disconnected(Reason.RESET))],
    "while another took over": [
        ("c-2", control.Subscribed((TRADES, QUOTES))),
        ("c-1", disconnected(Reason.LIFETIME)),
        ("c-2", control.Unsubscribed((TRADES, QUOTES))),
    ],
}


@pytest.mark.parametrize("way", WAYS_TO_GO)
def test_a_symbol_that_is_not_wanted_ends_once_nothing_carries_it(tmp_path: Path, way: str) -> None:
    rig = begun(tmp_path, "BTCUSDT")
    rig.intake.event("c-1", control.Subscribed((TRADES, QUOTES)))
    rig.receive(trade(1), trade(3), QUOTE)
    rig.writer.follow([])
    passes(rig, 20)  # still carried
    for connection, event in WAYS_TO_GO[way]:
        rig.intake.event(connection, event)
        passes(rig, 1)
    gone_seconds = (rig.clock.at_ns - START_NS) // SECOND_NS
    for _ in range(20):
        passes(rig, 1)
    rig.end()
    [(what, seconds)] = told(rig)
    assert what == "ended"
    assert 0 <= seconds - gone_seconds <= GRACE_SECONDS + 1
    lines = read(rig.layout.ledger("binance", "BTCUSDT")).lines
    assert isinstance(lines[-1], Ended), "all that is known is above it"
    assert [(i.first, i.last) for i in account(lines).seen] == [(1, 1), (3, 3)]
    assert [(hole.first_id, hole.last_id) for hole in account(lines).holes] == [(2, 2)]


def test_a_wanted_symbol_that_is_lost_does_not_end(tmp_path: Path) -> None:
    rig = begun(tmp_path, "BTCUSDT")
    rig.intake.event("c-1", control.Subscribed((TRADES, QUOTES)))
    rig.receive(trade(1))
    rig.intake.event("c-1", disconnected(Reason.RESET))
    passes(rig, 600)
    rig.end()
    assert [what for what, _ in told(rig)] == ["ended"]
    assert told(rig)[0][1] >= 600, "by the stop alone"


def test_what_comes_after_all_and_a_symbol_that_is_wanted_again_go_on(tmp_path: Path) -> None:
    rig = begun(tmp_path, "BTCUSDT")
    rig.intake.event("c-1", control.Subscribed((TRADES,)))
    rig.receive(trade(1))
    rig.writer.follow([])
    rig.intake.event("c-1", control.Unsubscribed((TRADES,)))
    passes(rig, 10)
    passes(rig, 10)
    rig.receive(trade(2))  # a straggler
    passes(rig, 10)
    passes(rig, 10)
    rig.writer.follow(["BTCUSDT"])
    rig.intake.event("c-1", control.Subscribed((TRADES,)))
    rig.receive(trade(3))
    passes(rig, 10)
    rig.end()
    assert [what for what, _ in told(rig)] == ["ended", "resumed"] * 2 + ["ended"]
    lines = read(rig.layout.ledger("binance", "BTCUSDT")).lines
    assert [(i.first, i.last) for i in account(lines).seen] == [(1, 3)]


def test_what_a_crash_left_of_a_symbol_that_is_not_wanted_any_more_is_entered_and_ended(
    tmp_path: Path,
) -> None:
    first = begun(tmp_path, "BTCUSDT")
    first.receive(trade(1), trade(2))
    first.end()
    # Of a crash nothing remains but raw: the checkpoint is gone, and the ledger's last lines.
    ledger = first.layout.ledger("binance", "BTCUSDT")
    whole = ledger.read_bytes().splitlines(keepends=True)
    assert [isinstance(line, Seen | Ended) for line in read(ledger).lines] == [False, True, True]
    ledger.write_bytes(whole[0])
    (first.layout.state / "ledger" / "binance" / "BTCUSDT.json").unlink()
    second = begun(tmp_path, "ETHUSDT", at_ns=START_NS + 60 * SECOND_NS)
    passes(second, 1)
    assert [symbol.symbol for symbol in second.writer.symbol_snapshots] in ([], ["ETHUSDT"])
    second.end()
    lines = read(ledger).lines
    assert [(i.first, i.last) for i in account(lines).seen] == [(1, 2)]
    assert told(second) == [("ended", 61)]
    assert ended_ns(lines) is not None
    size = ledger.stat().st_size
    third = begun(tmp_path, "ETHUSDT", at_ns=START_NS + 120 * SECOND_NS)
    third.end()
    assert ledger.stat().st_size == size, "it has ended, and is left alone"


def test_a_part_that_cannot_be_salvaged_leaves_the_ledger_without_an_end(tmp_path: Path) -> None:
    first = begun(tmp_path, "BTCUSDT")
    first.receive(trade(1))
    first.end()
    ledger = first.layout.ledger("binance", "BTCUSDT")
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    day = Layout(tmp_path).raw_day("binance", "BTCUSDT", "2024-08-08")
    (day / "part_13_0099.jsonl.zst.open").write_bytes(b"trades, perhaps")
    second = begun(tmp_path, at_ns=START_NS + 60 * SECOND_NS)
    passes(second, 10)
    second.end()
    assert told(second) == []
