"""From messages to fsynced parts and ledger lines, without sockets: what is acknowledged is on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crypto_lake.capture.batch import Batch
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.completeness.entries import Cause, Hole
from crypto_lake.completeness.ledger import account, read
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control, envelope
from crypto_lake.lake.frames import Frame, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour

START_NS = Hour("2024-08-08", 13).start_ns + 10**9
SETTINGS = WriterSettings(fsync_seconds=0.01, rotate_ns=60 * 10**9, hole_grace_ns=5 * 10**9)


@dataclass
class HandClock:
    """A clock that stands until it is set."""

    at_ns: int = START_NS
    speed: float = 0.0

    def now_ns(self) -> int:
        return self.at_ns

    def observe(self, exchange_ns: int) -> None:
        pass


@dataclass
class Rig:
    """Intake and writer on one data directory, put together as the collector does."""

    root: Path
    clock: HandClock = field(default_factory=HandClock)
    queue_bytes: int = 10**6
    durable: dict[str, int] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    troubles: list[Cause | None] = field(default_factory=list)
    settings: WriterSettings = SETTINGS

    def __post_init__(self) -> None:
        self.layout = Layout(self.root)
        self.writer = Writer(
            self.layout,
            BINANCE,
            "here-1",
            self.settings,
            Quarantine(self.layout.quarantine),
            on_written=self._written,
            on_durable=self.durable.update,
            on_failure=self.failures.append,
            on_trouble=self._in_trouble,
        )
        self.intake = StreamIntake(
            BINANCE, self.clock, self.deliver, queue_bytes=self.queue_bytes, flush_bytes=10**5
        )
        self.intake.add_streams(["btcusdt@trade", "btcusdt@bookTicker", "ethusdt@trade"])

    def _written(self, sizes: dict[str, int]) -> None:
        self.intake.written(sizes)

    def _in_trouble(self, cause: Cause | None) -> None:
        self.troubles.append(cause)
        self.intake.trouble(cause)

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.writer.put(batch)

    def begin(self) -> None:
        self.intake.event("collector", control.CollectorStarted("here-1", "0"))
        self.writer.open_symbol("BTCUSDT")
        self.writer.start()

    def receive(self, *messages: bytes, after_ms: int = 10, connection: str = "c-1") -> None:
        self.clock.at_ns += after_ms * 10**6
        self.intake.drain(connection, self.clock.at_ns, list(messages))

    def end(self) -> None:
        self.intake.cut()
        self.writer.finish()
        self.writer.join(20)
        assert not self.writer.is_alive()
        assert not self.failures

    def lines(self, symbol: str) -> Iterator[envelope.Envelope]:
        for day in self.layout.raw_days("binance", symbol):
            for file in self.layout.raw_files("binance", symbol, day):
                for frame in read_frames(file.path):
                    assert isinstance(frame, Frame)
                    yield from map(envelope.decode, frame.data.splitlines())


def trade(id_: int, symbol: str = "btcusdt") -> bytes:
    time_ms = 1723122001000 + id_
    data = {
        "e": "trade",
        "E": time_ms + 1,
        "s": symbol.upper(),
        "t": id_,
        "p": "1.0",
        "q": "2.0",
        "T": time_ms,
        "m": True,
    }
    return json.dumps({"stream": f"{symbol}@trade", "data": data}, separators=(",", ":")).encode()


QUOTE = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1.0","B":"2.0","a":"1.1","A":"3.0"}}'
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_messages_become_lines_verbatim_in_their_order(rig: Rig) -> None:
    rig.begin()
    sent = [trade(1), QUOTE, trade(2), trade(3)]
    rig.receive(*sent[:2])
    rig.intake.cut()
    rig.receive(*sent[2:])
    rig.end()
    lines = list(rig.lines("BTCUSDT"))
    assert [bytes(line.message) for line in lines] == sent
    assert [line.received_ns for line in lines] == [START_NS + 10**7] * 2 + [START_NS + 2 * 10**7] * 2
    assert {line.connection for line in lines} == {"c-1"}
    assert rig.durable == {"BTCUSDT": 3}
    assert list(rig.layout.open_parts()) == []
    assert rig.intake.queued_bytes == 0


def test_a_part_ends_with_its_hour_and_after_its_time(rig: Rig) -> None:
    rig.begin()
    for id_, after_ms in enumerate([0, 30_000, 31_000, 10_000, 3_600_000], start=1):
        rig.receive(trade(id_), after_ms=after_ms)
        rig.intake.cut()
    rig.end()
    files = [
        f
        for day in rig.layout.raw_days("binance", "BTCUSDT")
        for f in rig.layout.raw_files("binance", "BTCUSDT", day)
    ]
    ids = [[run.first_id for run in read_runs([f.path], BINANCE)] for f in files]
    # The third was received past the first part's minute and cut it; a part never spans an hour.
    assert ids == [[1, 2, 3], [4], [5]]
    assert [str(f.hour) for f in files] == ["2024-08-08T13", "2024-08-08T13", "2024-08-08T14"]
    assert [f.number for f in files] == [1, 2, 3]


def test_what_cannot_be_assigned_goes_to_quarantine_with_its_reason(rig: Rig) -> None:
    rig.begin()
    bad = {
        b"\x00\xff garbage": "not a message of the exchange",
        b'{"stream":"dogeusdt@trade","data":{"e":"trade","E":1,"t":1,"T":1}}': "unknown stream",
        trade(2).replace(b'"m":true', b'"m":\ntrue'): "newline in message",
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1}}': "a trade without its id or time",
        trade(3).replace(b'"p":"1.0"', b'"p":"\xff"'): "",
    }
    rig.receive(trade(1), *bad, trade(2))
    rig.end()
    assert [run.first_id for run in read_runs_of(rig)] == [1]
    assert [run.last_id for run in read_runs_of(rig)] == [2]
    assert sum(rig.intake.quarantined.values()) == len(bad)
    index = [json.loads(line) for line in (rig.layout.quarantine / "index.jsonl").read_bytes().splitlines()]
    for entry, reason in zip(index, bad.values(), strict=True):
        assert entry["reason"].startswith(reason)
        assert entry["origin"] == "connection c-1"
    kept = (rig.layout.quarantine / "messages").read_bytes()
    assert all(message in kept for message in bad)


def read_runs_of(rig: Rig) -> list:
    files = rig.layout.raw_files("binance", "BTCUSDT", "2024-08-08")
    return list(read_runs([f.path for f in files], BINANCE))


def test_replies_go_back_to_the_connection(rig: Rig) -> None:
    drained = rig.intake.drain(
        "c-1", START_NS, [b'{"result":null,"id":7}', trade(1), b'{"code":2,"msg":"no","id":8}']
    )
    assert [(c.control, c.request_id) for c in drained.controls] == [("reply", 7), ("error", 8)]
    assert drained.trades == 1
    assert drained.exchange_time_us == (1723122001001 + 1) * 1000


def test_the_ledger_stands_on_what_is_durable(rig: Rig) -> None:
    rig.begin()
    rig.intake.event("c-1", control.Subscribed(("btcusdt@trade",)))
    rig.receive(trade(1), trade(2))
    rig.clock.at_ns += 10**9
    rig.intake.event("c-1", control.Disconnected("reset", "", 0, 1.0, 2))
    rig.receive(trade(6), trade(7), after_ms=1000, connection="c-2")
    rig.receive(trade(7), trade(8), connection="c-3")
    rig.end()
    told = account(read(rig.layout.ledger("binance", "BTCUSDT")).lines)
    assert [(i.first, i.last) for i in told.seen] == [(1, 2), (6, 8)]
    [hole] = told.holes
    assert (hole.first_id, hole.last_id, hole.cause) == (3, 5, "disconnect")
    [snapshot] = rig.writer.symbol_snapshots
    assert (snapshot.ids_missing, snapshot.duplicates, snapshot.durable_id) == (3, 1, 8)


def test_a_restart_goes_on_where_the_raw_ends(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.begin()
    first.receive(trade(1), trade(2))
    first.end()
    # Of a crash nothing remains but raw: the checkpoint is gone, and the ledger's last lines.
    second = Rig(tmp_path, HandClock(START_NS + 10**10))
    second.begin()
    second.receive(trade(3), trade(6))
    second.end()
    ledger = second.layout.ledger("binance", "BTCUSDT")
    whole = read(ledger)
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-2]))
    (second.layout.state / "ledger" / "binance" / "BTCUSDT.json").unlink()
    third = Rig(tmp_path, HandClock(START_NS + 2 * 10**10))
    third.begin()
    third.receive(trade(8))
    third.end()
    told = account(read(ledger).lines)
    assert told.seen == account(whole.lines).seen.__class__(
        [*account(whole.lines).seen, *account(read(ledger).lines[-2:]).seen]
    )
    assert [(i.first, i.last) for i in told.seen] == [(1, 3), (6, 6), (8, 8)]
    assert [(h.first_id, h.last_id, h.cause) for h in told.holes] == [
        (4, 5, "message_lost"),
        (7, 7, "restart"),
    ]


def test_a_broken_ledger_is_put_aside_and_derived_anew(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.begin()
    first.receive(trade(1), trade(2), trade(5))
    first.end()
    ledger = first.layout.ledger("binance", "BTCUSDT")
    before = account(read(ledger).lines)
    ledger.write_bytes(ledger.read_bytes().replace(b'"last_id":2', b'"last_id":9'))
    second = Rig(tmp_path, HandClock(START_NS + 10**10))
    second.begin()
    second.end()
    after = account(read(ledger).lines)
    assert (after.seen, after.open_holes) == (before.seen, before.open_holes)
    assert (first.layout.quarantine / "ledger-binance-BTCUSDT.jsonl").exists()


def test_a_full_queue_pauses_reading_until_half_is_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path, queue_bytes=1000)
    while not rig.intake.paused:
        rig.receive(trade(rig.intake.queued_bytes + 1))
    assert rig.intake.queue_full_total == 1
    assert rig.intake.queued_bytes > 1000
    rig.begin()
    rig.end()
    assert not rig.intake.paused


def test_a_hole_is_in_the_ledger_once_its_grace_is_over(rig: Rig) -> None:
    rig.begin()
    rig.receive(trade(1), trade(3))
    rig.clock.at_ns += 6 * 10**9
    rig.end()
    lines = read(rig.layout.ledger("binance", "BTCUSDT")).lines
    assert [(line.first_id, line.last_id) for line in lines if isinstance(line, Hole)] == [(2, 2)]


@pytest.mark.parametrize(
    ("messages", "first", "last"),
    [
        ([trade(0), trade(1), trade(2)], 0, 2),
        ([trade(2), trade(0), trade(1)], 0, 2),
        ([QUOTE, trade(7), trade(5), trade(9)], 5, 9),
        ([QUOTE, QUOTE], 0, 0),
    ],
)
def test_of_messages_let_go_the_first_and_the_last_trade_are_told(
    messages: list[bytes], first: int, last: int
) -> None:
    batches: list[Batch] = []
    intake = StreamIntake(BINANCE, HandClock(), batches.append, queue_bytes=1, flush_bytes=10**5)
    intake.add_streams(["btcusdt@trade", "btcusdt@bookTicker"])
    intake.trouble("disk_full")
    intake.drain("c-1", START_NS, [QUOTE])  # it fills the queue
    intake.drain("c-1", START_NS, messages)
    intake.finish()
    told = [event for batch in batches for *_, event in batch.events]
    lost = [event for event in told if isinstance(event, control.MessagesLost)]
    assert sum(event.count for event in lost) == len(messages)
    ids = {event.stream: (event.first_id, event.last_id) for event in lost}
    of_trades = ids.pop("btcusdt@trade", (0, 0))
    assert of_trades == (first, last)
    assert set(ids.values()) <= {(0, 0)}, "quotes have no ids"
