"""A real collector on a simulator that misbehaves: what it could not see is known, to the id, and it goes on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from crypto_lake.completeness.entries import Hole
from crypto_lake.completeness.ledger import Account, account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control, envelope
from crypto_lake.lake.frames import Frame, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import Interval, IntervalSet

SYMBOLS = ("BTCUSDT", "ETHUSDT")


class Bench:
    """A simulator and a collector on it, and what to ask both."""

    def __init__(self, simulator: Any, lake: Any, collector: Any, wait_for: Callable[..., Any]) -> None:
        self.simulator, self.lake, self.collector, self.wait_for = simulator, lake, collector, wait_for
        self.layout = Layout(lake.data)

    def snapshot(self) -> dict[str, Any]:
        path = self.layout.state / "collector.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def order(self, kind: str, **fields: Any) -> None:
        self.simulator.post("/control/faults", {"kind": kind, **fields})

    def fault(self, kind: str) -> dict[str, Any]:
        return self.simulator.get("/control/faults")[kind]

    def wait_fired(self, kind: str, times: int) -> dict[str, Any]:
        self.wait_for(lambda: self.fault(kind)["fired"] >= times, 20, f"{times} x {kind}")
        return self.fault(kind)

    def wait_live(self, streams: int) -> None:
        def live() -> bool:
            found = self.snapshot().get("connections", [])
            return sum(c["streams"] for c in found if c["state"] == "live") >= streams

        self.wait_for(live, 30, f"{streams} live streams")

    def wait_subscribed(self, streams: int) -> None:
        """By the simulator's word: the snapshot may be two seconds old, from before a connection ended."""

        def subscribed() -> bool:
            return (
                sum(len(c["streams"]) for c in self.simulator.get("/control/state")["connections"]) >= streams
            )

        self.wait_for(subscribed, 30, f"{streams} subscribed streams")

    def stop(self) -> dict[str, Any]:
        self.collector.send_signal(signal.SIGTERM)
        assert self.collector.wait(90) == 0
        assert list(self.layout.open_parts()) == []
        for symbol in SYMBOLS:
            proof = prove(self.layout, "binance", symbol)
            assert (proof.disagreements, proof.to_come) == ([], 0)
        return self.snapshot()

    def told(self, symbol: str) -> Account:
        return account(read(self.layout.ledger("binance", symbol)).lines)

    def ids_on_disk(self, symbol: str) -> IntervalSet:
        files = [
            f.path
            for day in self.layout.raw_days("binance", symbol)
            for f in self.layout.raw_files("binance", symbol, day)
        ]
        return IntervalSet(Interval(run.first_id, run.last_id) for run in read_runs(files, BINANCE))

    def events(self) -> list[control.AnyEvent]:
        return [
            control.decode_event(envelope.decode(line).message)
            for day in self.layout.raw_days("binance", control.CONTROL)
            for file in self.layout.raw_files("binance", control.CONTROL, day)
            for frame in read_frames(file.path)
            if isinstance(frame, Frame)
            for line in frame.data.splitlines()
        ]


@pytest.fixture
def bench(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], wait_for: Callable[..., Any]
) -> Iterator[Callable[..., Bench]]:
    with contextmanager(_benches)(simulate, lake_on, wait_for) as make:
        yield make


def _benches(simulate: Any, lake_on: Any, wait_for: Any) -> Iterator[Callable[..., Bench]]:
    running: list[Any] = []

    def make(**settings: str) -> Bench:
        simulator = simulate("--seed", "9", "--symbols", ",".join(SYMBOLS))
        defaults = {
            "collector_symbols": ",".join(SYMBOLS),
            "collector_fsync_ms": "100",
            "collector_flush_ms": "50",
            "collector_hole_grace_seconds": "0.5",
        }
        lake = lake_on(simulator, **(defaults | settings))
        collector = lake.popen("collect")
        running.append(collector)
        made = Bench(simulator, lake, collector, wait_for)
        made.wait_live(4)
        return made

    yield make
    for collector in running:
        collector.kill()
        collector.wait()


def test_messages_lost_repeated_shuffled_and_late_are_told_apart(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.order("duplicate", stream="btcusdt@trade", n=20)
    b.order("reorder", stream="btcusdt@trade", n=3, window=4)
    b.wait_fired("duplicate", 20)
    b.wait_fired("reorder", 1)
    for _ in range(3):
        b.order("swallow", stream="btcusdt@trade", n=2)
        time.sleep(0.5)
    b.order("swallow", stream="btcusdt@bookTicker", n=3)
    b.order("late", stream="ethusdt@trade", n=2, delay=2.0)
    withheld = b.wait_fired("swallow", 9)["withheld"]["BTCUSDT"]
    b.wait_fired("late", 2)

    def told_apart() -> bool:
        """What was swallowed is missed; what was late was missed at first, and is no more."""
        figures = {symbol["symbol"]: symbol for symbol in b.snapshot()["symbols"]}
        late = figures["ETHUSDT"]
        return figures["BTCUSDT"]["ids_missing"] == 6 and late["holes_total"] > 0 == late["holes_open"]

    b.wait_for(told_apart, 30, "six trades that are missed, and late ones that were")
    last = b.stop()

    told = b.told("BTCUSDT")
    assert sum(end - first + 1 for first, end in withheld) == 6
    assert [(h.first, h.last) for h in told.open_holes] == [tuple(pair) for pair in withheld]
    assert told.seen == b.ids_on_disk("BTCUSDT")
    assert {hole.cause for hole in told.holes} == {"message_lost"}
    [figures] = [s for s in last["symbols"] if s["symbol"] == "BTCUSDT"]
    assert figures["duplicates"] == 20
    assert figures["ids_missing"] == 6
    late = b.told("ETHUSDT")
    assert list(late.open_holes) == []
    assert late.holes, "two seconds late is past the grace: first a hole, then an outcome"
    assert late.seen == b.ids_on_disk("ETHUSDT")
    assert len(late.seen) == 1


def test_garbage_goes_to_quarantine_and_nothing_else_is_lost(bench: Callable[..., Bench]) -> None:
    b = bench()
    for what in ("json", "utf8", "newline"):
        b.order("garbage", what=what)
    assert b.fault("garbage")["fired"] == 3
    b.wait_for(lambda: sum(b.snapshot()["quarantined"].values()) == 3, 10, "three messages in quarantine")
    b.stop()
    index = [json.loads(line) for line in (b.layout.quarantine / "index.jsonl").read_bytes().splitlines()]
    assert len(index) == 3
    assert "newline in message" in {entry["reason"] for entry in index}
    for symbol in SYMBOLS:
        assert len(b.told(symbol).seen) == 1
        assert b.told(symbol).holes == []


def test_connections_that_end_in_every_way_leave_named_holes(bench: Callable[..., Bench]) -> None:
    b = bench(collector_silence_seconds="1.5")
    b.order("drop_connections")
    b.wait_for(lambda: b.snapshot()["outcomes"].get("reset"), 20, "a reset")
    b.wait_subscribed(4)
    b.order("refuse_connections", n=2)
    b.order("drop_connections", how="close")
    b.wait_fired("refuse_connections", 2)
    b.wait_subscribed(4)
    b.order("freeze", seconds=30)
    assert b.fault("freeze")["fired"] == 1
    b.wait_for(lambda: b.snapshot()["outcomes"].get("silent"), 30, "a connection given up as silent")
    b.wait_live(4)
    last = b.stop()

    assert last["reconnects"] >= 3
    ended = [e for e in b.events() if isinstance(e, control.Disconnected)]
    assert {"reset", "silent", "stopped"} <= {e.reason for e in ended}
    # Quotes bear no time: a connection that ended before its first trade knows none.
    assert any(e.exchange_time_us > 0 for e in ended)
    for symbol in SYMBOLS:
        told, on_disk = b.told(symbol), b.ids_on_disk(symbol)
        assert told.seen == on_disk
        assert list(told.open_holes) == on_disk.holes()
    holes = b.told("BTCUSDT").holes
    assert holes
    assert {hole.cause for hole in holes} == {"disconnect"}
    assert all(isinstance(h, Hole) and h.after_time_us <= h.before_time_us for h in holes)


@pytest.mark.parametrize("how", ["lifetime", "shutdown"])
def test_a_hand_over_leaves_no_hole(bench: Callable[..., Bench], how: str) -> None:
    """At a connection's age, and when the server says that it goes: the new one first."""
    b = bench(collector_handover_seconds="4" if how == "lifetime" else "3600")
    if how == "shutdown":
        b.order("shutdown", seconds=8)
        assert b.fault("shutdown")["fired"] == 1
    wanted = "lifetime" if how == "lifetime" else "server_shutdown"
    b.wait_for(lambda: b.snapshot()["outcomes"].get(wanted), 40, f"a connection that ended by {wanted}")
    time.sleep(1)
    last = b.stop()
    assert last["reconnects"] == 0
    assert sum(s["duplicates"] for s in last["symbols"]) > 0, "they overlapped"
    replaced = [e.replaces for e in b.events() if isinstance(e, control.Connected)]
    assert any(replaced)
    for symbol in SYMBOLS:
        assert b.told(symbol).holes == []
        assert len(b.told(symbol).seen) == 1


def test_symbols_come_and_go_without_disturbing_the_others(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    simulator = simulate("--seed", "3", "--symbols", "BTCUSDT,ETHUSDT,SOLUSDT")
    lake = lake_on(simulator, collector_fsync_ms="100")
    config = lake.data.parent / "config.yml"
    config.write_text("collector: {symbols: [BTCUSDT, ETHUSDT]}\n")
    collector = lake.popen("collect", "--config", str(config))
    b = Bench(simulator, lake, collector, wait_for)
    try:
        b.wait_live(4)
        config.write_text("collector: {symbols: [BTCUSDT, SOLUSDT]}\n")
        wait_for(lambda: b.layout.ledger("binance", "SOLUSDT").exists(), 20, "the ledger of a new symbol")
        subscribed = lambda: {s for c in simulator.get("/control/state")["connections"] for s in c["streams"]}  # noqa: E731
        wait_for(
            lambda: not any(s.startswith("eth") for s in subscribed()), 20, "the end of a symbol's streams"
        )
        wait_for(lambda: any(s.startswith("sol") for s in subscribed()), 20, "a new symbol's streams")
        wait_for(
            lambda: any(s["symbol"] == "SOLUSDT" and s["durable_id"] for s in b.snapshot()["symbols"]),
            20,
            "a trade of the new symbol",
        )
        last = b.stop()
    finally:
        collector.kill()
        collector.wait()
    assert last["reconnects"] == 0
    assert b.told("BTCUSDT").holes == []
    assert len(b.told("BTCUSDT").seen) == 1
    assert b.ids_on_disk("SOLUSDT").count() > 0


def test_a_second_collector_is_told_whose_the_directory_is(bench: Callable[..., Bench]) -> None:
    b = bench()
    import subprocess

    second = b.lake.popen("collect", stderr=subprocess.PIPE)
    _, told = second.communicate(timeout=90)
    assert second.returncode == 4
    assert f"process {b.collector.pid} holds the lock 'capture'" in told.decode()
    assert b.collector.poll() is None
