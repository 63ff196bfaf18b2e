"""The symbols' ledgers while they are collected: what is durable goes into them, in its order.

Each symbol has an inbox of its own, so that one whose raw can't be written does not hold up the others. An item waits
in it until its lines are fsynced. Only the writer's thread uses it (and the collector, before that thread starts).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from crypto_lake.capture.batch import PROCESS, Batch, Item
from crypto_lake.capture.raw_files import OnProblem, OpenPart
from crypto_lake.capture.snapshot import SymbolSnapshot
from crypto_lake.completeness import recovery
from crypto_lake.completeness.entries import AnyLine, Cause, Outcome, Quiet
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.happened import Happened, Records
from crypto_lake.completeness.recovery import SymbolLedger
from crypto_lake.completeness.replay import enter
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
    """`carried`: by which connections, and which stream by each. `active_ns`: when it was last carried, or something came.

    `ending`: its end is in the inbox, or in the ledger. `leftover`: of an earlier run, taken up only to be completed
    and ended.
    """

    name: str
    ledger: SymbolLedger | None = None  # None: it could not be opened yet
    durable_id: int = 0
    inbox: deque[Item | _Passed | Happened | Deed] = field(
        default_factory=deque[Item | _Passed | Happened | Deed]
    )
    carried: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    active_ns: int = 0
    ending: bool = False
    leftover: bool = False

    @property
    def whole(self) -> bool:
        """Whether the ledger has gone through all raw on the disk: a part that can't be salvaged may hold trades, too."""
        return self.ledger is not None and not self.ledger.left


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
        self._records = Records(layout, exchange.name)  # as they were at the start
        self._symbols: dict[str, _Symbol] = {}
        self._started_ns = 0
        self.wanted: frozenset[str] | None = None
        """Symbols that are to be received; any other one ends when nothing carries it. None: none ever ends."""

    def add_leftovers(self) -> None:
        """Take up the ledgers that an earlier run left without an end, and nobody wants now."""
        try:
            names = recovery.unended(self._layout, self._exchange.name)
        except OSError as error:
            self._on_problem(error, "looking for ledgers that have not ended")
            return
        for name in names:
            if name not in self._symbols:
                self.add(name)
                self._symbols[name].leftover = True

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
                None if self._started_ns else self._records,
            )
            symbol.durable_id = max(symbol.durable_id, symbol.ledger.fold.last_id)
        except OSError as error:
            self._on_problem(error, f"opening the ledger of {symbol.name}")

    # what came
    def take(self, batch: Batch) -> None:
        """Put a batch into the inboxes: what happened, then its trades, then how far it reaches."""
        for event in batch.events:
            self._take_event(Happened(*event))
        for item in batch.items:
            if item.symbol != control.CONTROL:
                self.add(item.symbol)
                _active(self._symbols[item.symbol], batch.cut_ns)
                if item.runs:
                    self._symbols[item.symbol].inbox.append(item)
        for name, line in batch.settled:
            if name not in self._symbols:  # healed, and not collected now
                self.add(name)
                self._symbols[name].leftover = True
            self._symbols[name].inbox.append(_settled(line))
        if batch.whole:
            for symbol in self._symbols.values():
                last = symbol.inbox[-1] if symbol.inbox else None
                if isinstance(last, _Passed) and last.cut_ns <= batch.cut_ns:
                    last.cut_ns = batch.cut_ns
                else:
                    symbol.inbox.append(_Passed(batch.cut_ns))
                self._end_unwanted(symbol, batch.cut_ns)

    def _end_unwanted(self, symbol: _Symbol, cut_ns: int) -> None:
        """Once no connection has carried it for as long as a trade may be late."""
        if symbol.carried:
            symbol.active_ns = cut_ns
            return
        if self.wanted is None or symbol.name in self.wanted or symbol.ending or not symbol.whole:
            return
        if not 0 <= cut_ns - symbol.active_ns < self._grace_ns:  # below 0: the clock was set back
            symbol.inbox.append(_ended(cut_ns))
            symbol.ending = True

    def _take_event(self, happened: Happened) -> None:
        received_ns, connection, event = happened
        match event:
            case control.CollectorStarted():
                self._started_ns = received_ns
                self._tell_all(_restarted(received_ns))
            case control.Subscribed() | control.Unsubscribed():
                for stream in event.streams:
                    name, kind = self._exchange.parse_stream_name(stream)
                    self.add(name)
                    symbol = self._symbols[name]
                    if isinstance(event, control.Subscribed):
                        symbol.carried.add((connection, stream))
                        _active(symbol, received_ns)
                        symbol.inbox.append(_resumed(received_ns))
                    else:
                        symbol.carried.discard((connection, stream))
                    if kind is Stream.TRADE:
                        symbol.inbox.append(happened)
            case control.Disconnected():
                for symbol in self._symbols.values():
                    symbol.carried = {held for held in symbol.carried if held[0] != connection}
                self._tell_all(happened)
            case control.MessagesLost():
                if event.symbol in self._symbols:
                    self._symbols[event.symbol].inbox.append(happened)
            case _:
                pass

    def lost(self, symbol: str, received_ns: int, cause: Cause) -> None:
        """Messages of this symbol came and could not be written."""
        lost = control.MessagesLost(symbol, "", 0, cause)
        self._symbols[symbol].inbox.append(Happened(received_ns, PROCESS, lost))

    def _tell_all(self, told: Happened | Deed) -> None:
        for symbol in self._symbols.values():
            symbol.inbox.append(told)

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
            elif isinstance(entry, Happened):
                enter(ledger.fold, symbol.name, self._exchange.stream_name(symbol.name, Stream.TRADE), entry)
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

    def flush(self, ended_ns: int, lost: Collection[str] = ()) -> None:
        """Write down everything that is known. What is not durable by now never will be. May be called again.

        `ended_ns`: nothing is received any more since then. `lost`: symbols of which something did not last.
        """
        for symbol in self._symbols.values():
            symbol.inbox = deque(e for e in symbol.inbox if not isinstance(e, Item) or e.durable)
            self._enter(symbol)
            if symbol.ledger is not None:
                fold, ends = symbol.ledger.fold, symbol.whole and symbol.name not in lost
                symbol.ledger.pending += fold.ended(ended_ns) if ends else fold.flush()
                self._flush(symbol.ledger)
                self._save(symbol.ledger)

    def close(self) -> None:
        for symbol in self._symbols.values():
            if symbol.ledger is not None:
                symbol.ledger.file.close()

    def snapshots(self) -> list[SymbolSnapshot]:
        return [_tell(symbol) for symbol in self._symbols.values() if not symbol.leftover]


def _restarted(received_ns: int) -> Deed:
    return lambda fold: fold.restarted(received_ns)


def _active(symbol: _Symbol, at_ns: int) -> None:
    symbol.active_ns, symbol.ending, symbol.leftover = at_ns, False, False


def _ended(at_ns: int) -> Deed:
    return lambda fold: fold.ended(at_ns)


def _resumed(received_ns: int) -> Deed:
    return lambda fold: fold.resumed(received_ns)


def _settled(line: Outcome | Quiet) -> Deed:
    return lambda fold: fold.settle(line)


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
