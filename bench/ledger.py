"""What the ledger costs while it is written, and what it costs to prove it.

    python bench/ledger.py [--megabytes 200] [--repeat 5]

Made-up raw of 13 symbols (bench/raw_generator.py), about two quotes to a trade. It is sealed, its ledgers are derived from
it, and each is proven: MB are those of the unpacked lines. Peak memory is the process's, sealing included.

Then its messages go through the collector's own intake and writer (fsync and zstd included, sockets and TLS not), in reads
of 8 messages and a cut every 250 ms; and the ledger's own part of that (building runs of ids, the inboxes, the fold, the
ledger's files) is measured by itself on the same input, in turns with it. CPU is the process's, threads included; medians
are told. Sockets and TLS come on top in a collector, so that the ledger's share of its CPU is less than the one told here.

Exit code 1 where the ledger takes more than 10 % of the CPU, or a ledger is not proven.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from crypto_lake.capture.batch import Batch
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.ledgers import Ledgers
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.completeness import recovery
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.runs import RunBuilder
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import Stream
from crypto_lake.model.symbols import DEFAULT_SYMBOLS
from crypto_lake.upkeep.prove import prove_lake
from crypto_lake.upkeep.seal import compact
from raw_generator import START_NS, generate

READ = 8  # messages of one read of a socket
CUT_NS = 250_000_000
GRACE_NS = 5 * 10**9
TARGET = 0.10

Drain = tuple[int, list[bytes]]


class HandClock:
    """A clock that stands until it is set."""

    speed = 0.0

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def now_ns(self) -> int:
        return self.at_ns

    def observe(self, exchange_ns: int) -> None:
        pass


def drains_of(layout: Layout) -> list[Drain]:
    """All messages in the order of their receipt, in reads of so many."""
    day = Hour.of_ns(START_NS).day
    lines: list[tuple[int, bytes]] = []
    for symbol in DEFAULT_SYMBOLS:
        for file in layout.raw_files("binance", symbol, day):
            for frame in read_frames(file.path):
                assert not isinstance(frame, BadBytes)
                read = map(envelope.decode, frame.data.splitlines())
                lines += [(line.received_ns, bytes(line.message)) for line in read]
    lines.sort(key=lambda line: line[0])
    return [
        (lines[min(at + READ, len(lines)) - 1][0], [message for _, message in lines[at : at + READ]])
        for at in range(0, len(lines), READ)
    ]


def take(drains: list[Drain], intake: StreamIntake, clock: HandClock) -> None:
    following = drains[0][0] + CUT_NS
    for received_ns, messages in drains:
        clock.at_ns = received_ns
        if received_ns >= following:
            intake.cut(sync=True)
            following = received_ns + CUT_NS
        intake.drain("c-7f3a-1-1", received_ns, messages)
    intake.finish()


def intake_of(clock: HandClock, deliver: object) -> StreamIntake:
    intake = StreamIntake(BINANCE, clock, deliver, queue_bytes=10**10, flush_bytes=256 * 1024)  # type: ignore[arg-type]
    intake.add_streams([BINANCE.stream_name(symbol, kind) for symbol in DEFAULT_SYMBOLS for kind in Stream])
    return intake


def whole(drains: list[Drain], folder: Path) -> float:
    """CPU seconds of intake and writer, ledgers and all."""
    layout, clock = Layout(folder), HandClock(drains[0][0])
    failures: list[BaseException] = []
    writer = Writer(
        layout,
        BINANCE,
        "bench-0000",
        WriterSettings(1.0, 60 * 10**9, GRACE_NS),
        Quarantine(layout.quarantine),
        on_written=lambda _: None,
        on_durable=lambda _: None,
        on_failure=failures.append,
    )
    for symbol in DEFAULT_SYMBOLS:
        writer.open_symbol(symbol)
    intake = intake_of(clock, writer.put)
    started = time.process_time()
    writer.start()
    take(drains, intake, clock)
    writer.finish()
    writer.join()
    assert not failures, failures
    return time.process_time() - started


def batches_of(drains: list[Drain]) -> list[Batch]:
    """As the intake cuts them."""
    batches: list[Batch] = []
    clock = HandClock(drains[0][0])
    take(drains, intake_of(clock, batches.append), clock)
    return batches


def trades_of(batches: list[Batch]) -> Iterator[list[tuple[int, int, int]]]:
    """Of each item: (id, time, receive time) of its trades."""
    for batch in batches:
        for item in batch.items:
            yield [
                (id_, run.first_time_us, run.received_ns)
                for run in item.runs
                for id_ in range(run.first_id, run.last_id + 1)
            ]


def ledger_alone(batches: list[Batch], trades: list[list[tuple[int, int, int]]], folder: Path) -> float:
    """CPU seconds of what the ledger takes of it: runs are built, and batches go through the ledgers."""
    started = time.process_time()
    for item in trades:
        builder = RunBuilder()
        for id_, time_us, received_ns in item:
            builder.add(id_, time_us, received_ns)
        builder.take()
    building = time.process_time() - started
    layout = Layout(folder)

    def fail(error: OSError, what: str) -> None:
        raise RuntimeError(what) from error

    ledgers = Ledgers(layout, BINANCE, "bench-0000", GRACE_NS, Quarantine(layout.quarantine), fail)
    for symbol in DEFAULT_SYMBOLS:
        ledgers.add(symbol)
    for batch in batches:
        for item in batch.items:
            item.durable = False
    started = time.process_time()
    for batch in batches:
        ledgers.take(batch)
        for item in batch.items:
            item.durable = True
        ledgers.enter(batch.items)
        ledgers.snapshots()
    ledgers.flush(batches[-1].cut_ns)
    ledgers.close()
    return building + time.process_time() - started


def hot_path(layout: Layout, repeat: int, scratch: Path) -> bool:
    drains = drains_of(layout)
    messages = sum(len(found) for _, found in drains)
    batches = batches_of(drains)
    trades = list(trades_of(batches))
    count = sum(map(len, trades))
    all_of_it: list[float] = []
    ledger: list[float] = []
    for turn in range(repeat):
        all_of_it.append(whole(drains, scratch / f"whole-{turn}"))
        ledger.append(ledger_alone(batches, trades, scratch / f"ledger-{turn}"))
    total, own = statistics.median(all_of_it), statistics.median(ledger)
    print(f"{messages:,} messages, {count:,} of them trades, {repeat} turns; CPU us a message, medians")
    print(f"intake and writer, ledger and all  {total / messages * 1e6:6.2f}")
    print(f"the ledger's part of it            {own / messages * 1e6:6.2f}   {own / total:6.1%}")
    if own / total > TARGET:
        print(f"the ledger takes {own / total:.1%} of the CPU, more than {TARGET:.0%}", file=sys.stderr)
    return own / total <= TARGET


def proving(layout: Layout, unpacked: int) -> bool:
    far = HandClock(START_NS + 3 * 3600 * 10**9)
    assert not compact(layout, clock=far).failed
    quarantine = Quarantine(layout.quarantine)
    started, cpu = time.monotonic(), time.process_time()
    for symbol in DEFAULT_SYMBOLS:
        ledger = recovery.open_ledger(layout, BINANCE, symbol, "bench-0000", GRACE_NS, quarantine)
        ledger.append(ledger.fold.flush())
        ledger.file.close()
    row("deriving the ledgers from raw", unpacked, started, cpu)
    started, cpu = time.monotonic(), time.process_time()
    proven = all(not prove(layout, "binance", symbol).disagreements for symbol in DEFAULT_SYMBOLS)
    row("proving them", unpacked, started, cpu)
    started, cpu = time.monotonic(), time.process_time()
    proven &= all(prove_lake(layout, symbol, None).proven for symbol in DEFAULT_SYMBOLS)
    row("with all files against manifests", unpacked, started, cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory so far {peak:,.0f} MiB")
    if not proven:
        print("a ledger is not proven", file=sys.stderr)
    return proven


def row(what: str, unpacked: int, started: float, cpu: float) -> None:
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    megabytes = unpacked / 1e6
    print(f"{what:<34} {megabytes / seconds:6.0f} MB/s   {cpu_seconds / megabytes * 1000:5.1f} s CPU a GB")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=200, help="of lines, unpacked")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--scratch", help="folder for the data; on a disk, for fsync to mean something")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        layout = Layout(scratch / "lake")
        _, unpacked = generate(layout.root, options.megabytes)
        good = proving(layout, unpacked)  # first, while nothing else takes memory
        good &= hot_path(layout, options.repeat, scratch)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
