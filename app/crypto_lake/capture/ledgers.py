"""The symbols' ledgers while they are collected: what is durable goes into them, in its order.

Each symbol has an inbox of its own, so that one whose raw can't be written does not hold up the others. An item waits
in it until its lines are fsynced. Only the writer's thread uses it (and the collector, before that thread starts).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from crypto_lake.capture.batch import Batch, Item
from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.raw_files import OnProblem, OpenPart
from crypto_lake.capture.snapshot import SymbolSnapshot
from crypto_lake.completeness import recovery
from crypto_lake.completeness.entries import AnyLine, Cause
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.recovery import SymbolLedger
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import control
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.market import Stream

Deed = Callable[[SymbolFold], list[AnyLine]]


@dataclass(slots=True)
class _Passed:
    """Everything received before this has been put into the inbox."""

    cut_ns: int


@dataclass
class _Symbol:
    name: str
    ledger: SymbolLedger | None = None  # None: it could not be opened yet
    durable_id: int = 0
    inbox: deque[Item | _Passed | Deed] = field(default_factory=deque[Item | _Passed | Deed])


class Ledgers:
    """`on_problem(error, what)` is called for every failure; nothing here raises OSError."""

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        collector: str,
        grace_ns: int,
        quarantine: Quarantine,
        on_problem: OnProblem,
    ) -> None:
        self._layout = layout
        self._exchange = exchange
        self._collector = collector
        self._grace_ns = grace_ns
        self._quarantine = quarantine
        self._on_problem = on_problem
        self._symbols: dict[str, _Symbol] = {}
        self._started_ns = 0

    def add(self, name: str) -> None:
        """Take up a symbol's ledger, if it is not there. One that can't be opened now is tried again by `enter`."""
        if name in self._symbols:
            return
        symbol = self._symbols[name] = _Symbol(name)
        self._open(symbol)
        if self._started_ns:
            symbol.inbox.append(_restarted(self._started_ns))

    def _open(self, symbol: _Symbol) -> None:
        try:
            symbol.ledger = recovery.open_ledger(
                self._layout,
                self._exchange,
                symbol.name,
                self._collector,
                self._grace_ns,
                self._quarantine,
            )
            symbol.durable_id = max(symbol.durable_id, symbol.ledger.fold.last_id)
        except OSError as error:
            self._on_problem(error, f"opening the ledger of {symbol.name}")

    # what came
    def take(self, batch: Batch) -> None:
        """Put a batch into the inboxes: what happened, then its trades, then how far it reaches."""
        for received_ns, connection, event in batch.events:
            self._take_event(received_ns, connection, event)
        for item in batch.items:
            if item.symbol != control.CONTROL:
                self.add(item.symbol)
                if item.runs:
                    self._symbols[item.symbol].inbox.append(item)
        if batch.whole:
            for symbol in self._symbols.values():
                last = symbol.inbox[-1] if symbol.inbox else None
                if isinstance(last, _Passed) and last.cut_ns <= batch.cut_ns:
                    last.cut_ns = batch.cut_ns
                else:
                    symbol.inbox.append(_Passed(batch.cut_ns))

    def _take_event(self, received_ns: int, connection: str, event: control.AnyEvent) -> None:
        match event:
            case control.CollectorStarted():
                self._started_ns = received_ns
                self._tell_all(_restarted(received_ns))
            case control.Subscribed() | control.Unsubscribed():
                for stream in event.streams:
                    name, kind = self._exchange.parse_stream_name(stream)
                    if kind is Stream.TRADE:
                        self.add(name)
                        deed = (
                            _subscribed(connection)
                            if isinstance(event, control.Subscribed)
                            else _unsubscribed(connection, received_ns)
                        )
                        self._symbols[name].inbox.append(deed)
            case control.Disconnected():
                ended = _unsubscribed if event.reason == Reason.UNSUBSCRIBED else _disconnected
                self._tell_all(ended(connection, received_ns))
            case control.MessagesLost():
                if event.symbol in self._symbols:
                    self.lost(event.symbol, received_ns, cause_of(event.reason))
            case _:
                pass

    def lost(self, symbol: str, received_ns: int, cause: Cause) -> None:
        """Messages of this symbol came and could not be written."""
        self._symbols[symbol].inbox.append(_lost(received_ns, cause))

    def _tell_all(self, deed: Deed) -> None:
        for symbol in self._symbols.values():
            symbol.inbox.append(deed)

    # into the ledgers
    def enter(self, durable: Iterable[Item] = ()) -> dict[str, int]:
        """Put what is durable through the ledgers; of each symbol with a new greatest durable id, that id.

        Durable is what stands in fsynced raw. Where the ledger can't be written its lines are kept, and written by a
        later call; a crash before that leaves them to be derived from raw.
        """
        acknowledged: dict[str, int] = {}
        for item in durable:
            symbol = self._symbols.get(item.symbol)
            greatest = max((run.last_id for run in item.runs), default=-1)
            if symbol is not None and greatest > symbol.durable_id:
                symbol.durable_id = acknowledged[item.symbol] = greatest
        for symbol in self._symbols.values():
            self._enter(symbol)
        return acknowledged

    def _enter(self, symbol: _Symbol) -> None:
        if symbol.ledger is None:
            self._open(symbol)
            if symbol.ledger is None:
                return
        ledger, inbox = symbol.ledger, symbol.inbox
        while inbox:
            entry = inbox[0]
            if isinstance(entry, Item):
                if not entry.durable:
                    break
                for run in entry.runs:
                    ledger.pending += ledger.fold.trades(run)
            elif isinstance(entry, _Passed):
                ledger.pending += ledger.fold.passed(entry.cut_ns)
            else:
                ledger.pending += entry(ledger.fold)
            inbox.popleft()
        self._flush(ledger)

    def _flush(self, ledger: SymbolLedger) -> None:
        try:
            ledger.flush()
        except OSError as error:
            self._on_problem(error, f"writing the ledger {ledger.file.path}")

    def passed_part(self, part: OpenPart) -> None:
        """A part was closed; all of it has been entered."""
        symbol = self._symbols.get(part.symbol)
        if symbol is not None and symbol.ledger is not None:
            symbol.ledger.passed_part(part.hour, part.number)
            self._save(symbol.ledger)

    def _save(self, ledger: SymbolLedger) -> None:
        try:
            recovery.save_checkpoint(self._layout, self._exchange.name, ledger)
        except OSError as error:
            self._on_problem(error, f"keeping the state of the ledger {ledger.file.path}")

    def flush(self) -> None:
        """Write down everything that is known. What is not durable by now never will be. May be called again."""
        for symbol in self._symbols.values():
            symbol.inbox = deque(e for e in symbol.inbox if not isinstance(e, Item) or e.durable)
            self._enter(symbol)
            if symbol.ledger is not None:
                symbol.ledger.pending += symbol.ledger.fold.flush()
                self._flush(symbol.ledger)
                self._save(symbol.ledger)

    def close(self) -> None:
        for symbol in self._symbols.values():
            if symbol.ledger is not None:
                symbol.ledger.file.close()

    def snapshots(self) -> list[SymbolSnapshot]:
        return [_tell(symbol) for symbol in self._symbols.values()]


def cause_of(reason: str) -> Cause:
    """The cause of a hole, from what a `messages_lost` event gives as its reason."""
    return "disk_full" if reason == "disk_full" else "write_error"


def _restarted(received_ns: int) -> Deed:
    return lambda fold: fold.restarted(received_ns)


def _subscribed(connection: str) -> Deed:
    return lambda fold: _no_lines(fold.subscribed(connection))


def _unsubscribed(connection: str, received_ns: int) -> Deed:
    return lambda fold: _no_lines(fold.unsubscribed(connection, received_ns))


def _disconnected(connection: str, received_ns: int) -> Deed:
    return lambda fold: _no_lines(fold.disconnected(connection, received_ns))


def _lost(received_ns: int, cause: Cause) -> Deed:
    return lambda fold: _no_lines(fold.messages_lost(received_ns, cause))


def _no_lines(_: None) -> list[AnyLine]:
    return []


def _tell(symbol: _Symbol) -> SymbolSnapshot:
    if symbol.ledger is None:
        return SymbolSnapshot(symbol.name, symbol.durable_id, symbol.durable_id, 0, 0, 0, 0, 0)
    fold = symbol.ledger.fold
    missing = fold.missing()
    return SymbolSnapshot(
        symbol.name,
        fold.last_id,
        symbol.durable_id,
        fold.last_time_us,
        len(missing),
        sum(map(len, missing)),
        fold.holes_total,
        fold.duplicates,
        max(0, fold.holes_total - len(fold.open_holes)),
    )
