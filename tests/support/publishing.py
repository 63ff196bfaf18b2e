"""Collectors of one market, each with a data directory and all of it in one bucket; and the one machine that had it all."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crypto_lake.bars.transform import transform
from crypto_lake.completeness.entries import AnyLine, Seen
from crypto_lake.completeness.ledger import LedgerFile
from crypto_lake.lake import control as records
from crypto_lake.lake import durable, envelope
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.store import Store, open_store
from crypto_lake.upkeep.publish import Selection, publish
from crypto_lake.upkeep.publish_report import PublishReport
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.upload import upload
from support.lakes import At

EXCHANGE, SYMBOL = "binance", "BTCUSDT"
DAY = "2024-08-08"
DAY_NS = Hour(DAY, 0).start_ns
SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
END_NS = DAY_NS + 24 * HOUR_NS
SOON_NS = END_NS + 2 * HOUR_NS  # the ledger is closed, the hour after is there


@dataclass(frozen=True)
class Line:
    """What one collector received. `trade`: its id, None for a quote."""

    received_ns: int
    data: bytes
    trade: int | None = None

    @property
    def hour(self) -> Hour:
        return Hour.of_ns(self.received_ns)


def trade(id_: int, time_ns: int, received_ns: int | None = None, *, symbol: str = SYMBOL) -> Line:
    """All but its time follows from the id, so that two copies of a trade say the same."""
    received = received_ns if received_ns is not None else time_ns + 5_000_000
    time = time_ns // 10**6
    price, size = 6_183_700_000_000 + id_ * 1_000_000 % 97_000_000, 10_000_000 + id_ % 89 * 1_000
    message = (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time},"s":"{symbol}","t":{id_},'
        f'"p":"{format_e8(price)}","q":"{format_e8(size)}","T":{time},"m":{"true" if id_ % 3 else "false"},"M":true}}}}'
    )
    return Line(received, envelope.encode(received, f"c-{received % 2}", message.encode()), id_)


def healed(id_: int, time_ns: int, received_ns: int) -> Line:
    price, size = 6_183_700_000_000 + id_ * 1_000_000 % 97_000_000, 10_000_000 + id_ % 89 * 1_000
    message = (
        f'{{"id":{id_},"price":"{format_e8(price)}","qty":"{format_e8(size)}",'
        f'"quoteQty":"{format_e8(price * size // 10**8)}","time":{time_ns // 10**6},'
        f'"isBuyerMaker":{"true" if id_ % 3 else "false"},"isBestMatch":true}}'
    )
    return Line(
        received_ns, envelope.encode(received_ns, "rest-1", message.encode(), "historicalTrades"), id_
    )


def quote(u: int, received_ns: int, *, symbol: str = SYMBOL) -> Line:
    bid, size = 6_183_700_000_000 + u * 1_000_000 % 91_000_000, 100_000_000 + u % 7
    message = (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{u},"s":"{symbol}","b":"{format_e8(bid)}",'
        f'"B":"{format_e8(size)}","a":"{format_e8(bid + 1_000_000)}","A":"{format_e8(size)}"}}}}'
    )
    return Line(received_ns, envelope.encode(received_ns, f"c-{received_ns % 2}", message.encode()))


@dataclass
class Machine:
    """A data directory and the collector that fills it."""

    root: Path
    collector: str
    frame_lines: int = 8
    _parts: dict[tuple[str, Hour], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.layout = Layout(self.root)
        durable.write(self.layout.state / "collector", self.collector.encode() + b"\n")

    def receive(self, lines: Iterable[Line], *, symbol: str = SYMBOL) -> None:
        """Closed parts, one for each hour of receipt, and what the ledger says of them."""
        by_hour: dict[Hour, list[Line]] = {}
        for line in sorted(lines, key=lambda line: line.received_ns):
            by_hour.setdefault(line.hour, []).append(line)
        for hour, received in sorted(by_hour.items()):
            self._part(symbol, hour, [line.data for line in received])
            self._ledger(symbol, hour, received)

    def heal(self, lines: Sequence[Line], hour: Hour) -> None:
        ids = [line.trade for line in lines if line.trade is not None]
        folder = self.layout.raw_day(EXCHANGE, SYMBOL, hour.day)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"healed_{hour.hour:02d}_{min(ids)}-{max(ids)}.jsonl.zst"
        (folder / name).write_bytes(FrameCompressor().frame(b"".join(line.data for line in lines)))

    def note(self, *lines: AnyLine, symbol: str = SYMBOL) -> None:
        """Further lines of the ledger."""
        path = self.layout.ledger(EXCHANGE, symbol)
        ledger, _ = LedgerFile.open(path, EXCHANGE, symbol, self.collector)
        ledger.append(list(lines))
        ledger.close()

    def events(self, events: Iterable[tuple[int, str, records.AnyEvent]]) -> None:
        by_hour: dict[Hour, list[bytes]] = {}
        for received_ns, connection, event in events:
            line = envelope.encode(received_ns, connection, records.encode_event(event))
            by_hour.setdefault(Hour.of_ns(received_ns), []).append(line)
        for hour, lines in sorted(by_hour.items()):
            self._part(CONTROL, hour, lines)

    def _part(self, symbol: str, hour: Hour, lines: list[bytes]) -> None:
        self._parts[symbol, hour] += 1
        number = self._parts[symbol, hour]
        writer = PartWriter(self.layout.part(EXCHANGE, symbol, hour, number))
        compressor = FrameCompressor()
        for at in range(0, len(lines), self.frame_lines):
            writer.append(b"".join(lines[at : at + self.frame_lines]), compressor)
        writer.close()

    def _ledger(self, symbol: str, hour: Hour, received: Sequence[Line]) -> None:
        ids = IntervalSet()
        for line in received:
            if line.trade is not None:
                ids.add(line.trade)
        self.note(
            *(
                Seen(hour=str(hour), first_id=i.first, last_id=i.last, first_time_us=0, last_time_us=0)
                for i in ids
            ),
            symbol=symbol,
        )

    def send(self, store: Store, now_ns: int) -> None:
        """Seal what is finished and upload it."""
        sealed = compact(self.layout, clock=At(now_ns))
        assert not sealed.failed, sealed
        report = upload(self.layout, store, clock=At(now_ns))
        assert not report.problem, report


def one_machine(
    root: Path, received: Iterable[Iterable[Line]], heals: Iterable[tuple[Hour, Sequence[Line]]] = ()
) -> Machine:
    """A machine that received it all."""
    machine = Machine(root, "one")
    for lines in received:
        machine.receive(lines)
    for hour, lines in heals:
        machine.heal(lines, hour)
    return machine


def bars_of(machine: Machine, now_ns: int, day: str = DAY) -> bytes | None:
    """The bytes of the machine's own day."""
    report = transform(machine.layout, EXCHANGE, clock=At(now_ns), workers=1)
    assert not report.failed, report
    path = machine.layout.bars(EXCHANGE, SYMBOL, day)
    return path.read_bytes() if path.is_file() else None


def bucket(path: Path) -> Store:
    path.mkdir(parents=True, exist_ok=True)
    return open_store(f"file://{path}")


def published(store: Store, tmp: Path, day: str = DAY, symbol: str = SYMBOL) -> bytes | None:
    """The bytes of the day in the bucket."""
    year, month, date = day.split("-")
    name = f"parquet/{EXCHANGE}/{symbol}/year={year}/month={month}/day={date}/bars.parquet"
    if store.stat(name) is None:
        return None
    target = tmp / "fetched"
    store.fetch(name, target)
    return target.read_bytes()


def run(store: Store, now_ns: int, **options: Any) -> PublishReport:
    selection = Selection(**{k: options.pop(k) for k in ("symbols", "days", "rebuild") if k in options})
    return publish(store, clock=At(now_ns), selection=selection, **options)


def outcomes(report: PublishReport) -> dict[str, str]:
    """The last outcome of each day."""
    return {day.day: day.outcome for day in report.days}


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def span(first: int, last: int, start_ns: int, step_ns: int = 30 * SECOND_NS) -> list[Line]:
    """Trades first..last with a quote after each."""
    lines: list[Line] = []
    for n in range(last - first + 1):
        at = start_ns + n * step_ns
        lines += [trade(first + n, at), quote(7 * (first + n), at + SECOND_NS)]
    return lines


def send(tmp_path: Path, store: Store, name: str, lines: list[Line], now_ns: int = SOON_NS) -> Machine:
    machine = Machine(tmp_path / name, name)
    machine.receive(lines)
    machine.send(store, now_ns)
    return machine


class Killed(BaseException):
    """In place of SIGKILL: nothing of the program runs any more."""


@dataclass
class Tapped:
    """A store that does something before or after one of its puts."""

    store: Store
    at: int  # which put, from 1
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    names: list[str] = field(default_factory=list[str])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put(self, path: Path, name: str, *args: Any, **options: Any) -> Any:
        self.names.append(name)
        mine = len(self.names) == self.at
        if mine:
            self.before()
        result = self.store.put(path, name, *args, **options)
        if mine:
            self.after()
        return result


def killed() -> None:
    raise Killed
