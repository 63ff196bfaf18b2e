"""Raw once more through the fold: what a symbol's trades and the control records say together.

The collector goes by the same things as they happen (capture.ledgers), so the same lines follow. Within one process
what happened stands before a trade that was received later, as both bear the collector's time; which process received
a trade its connection's name tells, whatever the clock did in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from crypto_lake.completeness.entries import AnyLine
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.fold_state import Run
from crypto_lake.completeness.happened import Happened, Process
from crypto_lake.lake.control import Disconnected, MessagesLost, Subscribed, Unsubscribed

# As capture's outcomes name it: the connection was ended since none of its streams was wanted any more.
_NOT_WANTED = "unsubscribed"


def enter(fold: SymbolFold, symbol: str, stream: str, happened: Happened) -> None:
    """Tell the fold of a record, where it concerns this symbol. `stream`: that of its trades."""
    received_ns, connection, event = happened
    match event:
        case Subscribed():
            if stream in event.streams:
                fold.subscribed(connection)
        case Unsubscribed():
            if stream in event.streams:
                fold.unsubscribed(connection, received_ns)
        case Disconnected():
            ended = fold.unsubscribed if event.reason == _NOT_WANTED else fold.disconnected
            ended(connection, received_ns)
        case MessagesLost():
            if event.symbol == symbol:
                fold.messages_lost(received_ns, "disk_full" if event.reason == "disk_full" else "write_error")
        case _:
            pass


class Replay:
    """Puts trades, in the order of their receipt, and what happened between them through a fold.

    `all_processes`: in their order; the first may be one that the fold knows already. `set_back`: whether the clock was
    seen to go back.
    """

    def __init__(self, fold: SymbolFold, symbol: str, stream: str, all_processes: Sequence[Process]) -> None:
        self._fold, self._symbol, self._stream = fold, symbol, stream
        self._processes = all_processes
        self._places = {process.name: at for at, process in enumerate(all_processes) if process.name}
        self._at = -1
        self._events: Sequence[Happened] = ()
        self._least_ns: list[int] = []  # of each event and those after it
        self._fed = 0
        self._process: str = ""
        self._met: set[str] = set()
        self._received_ns: int = 0
        self.set_back = any(process.set_back() for process in all_processes)

    def trades(self, runs: Iterable[Run]) -> Iterator[AnyLine]:
        for run in runs:
            yield from self._before(run)
            yield from self._fold.trades(run)

    def end(self) -> Iterator[AnyLine]:
        """Nothing more was received: what happened since."""
        while self._at + 1 < len(self._processes):
            yield from self._next()
        self._feed(len(self._events))
        if self._at >= 0 and not self.set_back:
            yield from self._fold.passed(max(self._received_ns, self._processes[self._at].last_ns))
        if self._at >= 0 and self._processes[self._at].stopped:
            yield from self._fold.flush()  # as the collector did

    def _before(self, run: Run) -> Iterator[AnyLine]:
        at, place = self._at, self._places.get(run.process)
        if place is not None:
            while self._at < place:
                yield from self._next()
        else:
            while self._at + 1 < len(self._processes) and self._starts_before(run.received_ns):
                yield from self._next()
        if run.process == self._process:
            self.set_back = self.set_back or run.received_ns < self._received_ns
        elif self._process and self._at == at and run.process not in self._met:
            # Its start stands nowhere, but its name says that it is another process.
            yield from self._fold.restarted(run.received_ns)
        self._met.add(run.process)
        self._process, self._received_ns = run.process, run.received_ns
        fed = self._fed
        while fed < len(self._events) and self._least_ns[fed] <= run.received_ns:
            fed += 1
        self._feed(fed)

    def _starts_before(self, received_ns: int) -> bool:
        following = self._processes[self._at + 1]
        return following.started_ns is None or following.started_ns <= received_ns

    def _next(self) -> Iterator[AnyLine]:
        self._feed(len(self._events))
        self._at += 1
        process = self._processes[self._at]
        self._events, self._fed = process.events, 0
        self._least_ns = [happened.received_ns for happened in process.events]
        for at in range(len(self._least_ns) - 2, -1, -1):
            self._least_ns[at] = min(self._least_ns[at], self._least_ns[at + 1])
        if process.started_ns is not None and process.started_ns != self._fold.started_ns:
            yield from self._fold.restarted(process.started_ns)
        if process.grace_ns is not None:
            self._fold.grace_ns = process.grace_ns

    def _feed(self, until: int) -> None:
        for happened in self._events[self._fed : until]:
            enter(self._fold, self._symbol, self._stream, happened)
        self._fed = max(self._fed, until)
