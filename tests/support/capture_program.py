"""A collector without sockets, that does the same each time: what is killed at each of its calls.

    python capture_program.py DATA REPORTS RUN

It takes up what is in DATA as a collector does (salvage, ledgers), writes trades over two parts of an hour and into
the next hour, and closes. After each fsync it appends `{"symbol": …, "id": …}` to REPORTS; `started` when it has taken
up, `done` at the end. Of each RUN (1, 2, …) the ids and times are its own, with a hole between runs and one within.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control, locks, parts
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import Stream

HOUR = Hour("2024-08-08", 13)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
# Long enough that the thread never fsyncs by itself, short enough to be retried soon.
SETTINGS = WriterSettings(
    fsync_seconds=3600, rotate_ns=60 * 10**9, hole_grace_ns=10**9, retry_seconds=0.05, finish_seconds=10
)


class Clock:
    speed = 0.0

    def __init__(self, now_ns: int) -> None:
        self.at_ns = now_ns

    def now_ns(self) -> int:
        return self.at_ns

    def observe(self, exchange_ns: int) -> None:
        pass


def trade(symbol: str, id_: int, time_ns: int) -> bytes:
    time_ms = time_ns // 10**6
    data = {
        "e": "trade",
        "E": time_ms + 1,
        "s": symbol,
        "t": id_,
        "p": "61837.10",
        "q": "0.5",
        "T": time_ms,
        "m": True,
    }
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": data | {"M": True}}).encode()


def main(root: Path, reports: Path, run: int) -> None:
    report = os.open(reports, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
    layout = Layout(root)

    def tell(**line: object) -> None:
        os.write(report, json.dumps(line).encode() + b"\n")

    with locks.hold(layout.locks, "capture"):
        quarantine = Quarantine(layout.quarantine)
        parts.salvage(layout, quarantine)
        clock = Clock(HOUR.start_ns + run * 7200 * 10**9 + 3_520 * 10**9)
        latest: dict[str, int] = {}
        steps = iter(range(4))  # at 13:58:40, 13:59:20, 14:00:00, 14:00:40: a hole, a rotation, a new hour
        first = 1000 * run + 1

        def step() -> None:
            number = next(steps, None)
            if number is None:
                intake.event("collector", control.CollectorStopped("here", "done"))
                intake.finish()
                writer.finish()
                return
            ids = [first + 10 * number + n for n in range(10 if number == 1 else 5)]
            awaited.update(dict.fromkeys(SYMBOLS, ids[-1]))
            for symbol in SYMBOLS:
                intake.drain("c-1", clock.at_ns, [trade(symbol, id_, clock.at_ns) for id_ in ids])
            intake.cut(sync=True)
            clock.at_ns += 40 * 10**9

        awaited: dict[str, int] = {}

        def on_durable(ids: dict[str, int]) -> None:
            for symbol, id_ in ids.items():
                tell(symbol=symbol, id=id_)
            latest.update(ids)
            if latest == awaited:
                step()

        failures: list[BaseException] = []
        writer = Writer(
            layout,
            BINANCE,
            layout.collector_id(),
            SETTINGS,
            quarantine,
            on_written=lambda _: None,
            on_durable=on_durable,
            on_failure=failures.append,
        )
        for symbol in SYMBOLS:
            writer.open_symbol(symbol)
        intake = StreamIntake(BINANCE, clock, writer.put, queue_bytes=10**6, flush_bytes=10**5)
        intake.add_streams([BINANCE.stream_name(symbol, Stream.TRADE) for symbol in SYMBOLS])
        intake.event("collector", control.CollectorStarted("here", "0"))
        tell(started=run)
        step()
        writer.run()  # in this thread: which call comes when is then always the same
        if failures:
            raise failures[0]
    tell(done=run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
