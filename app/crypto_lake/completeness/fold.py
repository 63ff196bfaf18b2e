"""From durable trades to the ledger's lines: a fold, without files or clocks.

It is fed what has become durable of one symbol, in the order of the raw file: runs of trades, and what happened
to the collector. It gives the lines that follow. The same raw, cut into runs and batches in any way, gives the
same lines: that is what lets a ledger be completed after a crash, and be checked.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from crypto_lake.completeness.entries import (
    TELLING,
    AnyLine,
    Cause,
    Ended,
    Hole,
    Outcome,
    Quiet,
    ReadLine,
    Resumed,
    Seen,
)
from crypto_lake.completeness.fold_state import FoldState, Run, Span, Suspect, without
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import NS_PER_SECOND

_EVENTS_KEPT = 64  # of each cause: many of one must not drive out another
_HOUR_NS = 3600 * NS_PER_SECOND
# The first that applies is the cause.
_CAUSES: tuple[Cause, ...] = ("disk_full", "write_error", "restart", "disconnect", "unsubscribed")


class SymbolFold:
    """The fold of one symbol. Every method gives the lines that follow, in order, without their chain."""

    def __init__(self, grace_ns: int, state: FoldState | None = None) -> None:
        self.grace_ns = grace_ns
        state = state or FoldState()
        self._state = state
        self.seen = IntervalSet(Interval(f, last) for f, last in state.seen)
        self.open_holes = IntervalSet(Interval(f, last) for f, last in state.open_holes)
        self._taken_up = IntervalSet()  # ids of holes that the ledger names, whatever has become of them
        self.unplaced = IntervalSet()  # ids of holes behind a trade of which no raw says when it came

    @property
    def last_id(self) -> int:
        """The greatest id seen, 0 before the first."""
        return self.seen.last or 0

    @property
    def last_time_us(self) -> int:
        return self._state.frontier_time_us

    @property
    def started_ns(self) -> int:
        """The collector's latest start that was fed, 0 before the first."""
        return self._state.started_ns

    @property
    def has_ended(self) -> bool:
        """Nothing is received any more, and the ledger says so."""
        return self._state.ended

    @property
    def duplicates(self) -> int:
        return self._state.duplicates

    @property
    def holes_total(self) -> int:
        return self._state.holes_total

    def missing(self) -> list[Interval]:
        """Ids that are missing now, whether they may still come or not."""
        suspects = IntervalSet(Interval(s.first_id, s.last_id) for s in self._state.suspects)
        for hole in self.open_holes:
            suspects.add_interval(hole.first, hole.last)
        return list(suspects)

    def state(self) -> FoldState:
        """A copy to store."""
        self._state.seen = [(i.first, i.last) for i in self.seen]
        self._state.open_holes = [(i.first, i.last) for i in self.open_holes]
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self._state), type=FoldState)

    def take_up(self, lines: Iterable[ReadLine]) -> None:
        """Lines that the ledger holds beyond this state: a crash came between the ledger and the state's copy."""
        state = self._state
        for line in lines:
            if isinstance(line, TELLING):
                state.ended = isinstance(line, Ended)
            match line:
                case Seen():
                    if line.last_id > (self.seen.last if self.seen.last is not None else -1):
                        # When it was received no line says; the raw that is read again does.
                        state.frontier_time_us, state.frontier_ns = line.last_time_us, 0
                        state.restarted = False
                    self.seen.add_interval(line.first_id, line.last_id)
                    state.fresh = [
                        span
                        for span in state.fresh
                        if not (line.first_id <= span.first_id and span.last_id <= line.last_id)
                    ]
                    ids = Interval(line.first_id, line.last_id)
                    run = Run(ids.first, ids.last, line.first_time_us, line.last_time_us, 0)
                    state.suspects = [left for s in state.suspects for left in without(s, ids, run)]
                case Hole():
                    hole = Interval(line.first_id, line.last_id)
                    self.open_holes.add_interval(hole.first, hole.last)
                    self._taken_up.add_interval(hole.first, hole.last)
                    run = Run(hole.first, hole.last, line.after_time_us, line.before_time_us, line.found_ns)
                    state.suspects = [left for s in state.suspects for left in without(s, hole, run)]
                case Outcome():
                    ids = Interval(line.first_id, line.last_id)
                    self.open_holes.remove(ids)
                    late = IntervalSet(Interval(f, last) for f, last in state.late)
                    late.remove(ids)
                    state.late = [(i.first, i.last) for i in late]
                case _:
                    pass

    # what is fed
    def trades(self, run: Run) -> list[AnyLine]:
        """A run became durable."""
        lines = self._pass_to(run.received_ns)
        state, last = self._state, self.seen.last
        # Read again after a crash, a trade that the ledger has says nothing new.
        if state.ended and self.seen.missing(Interval(run.first_id, run.last_id)):
            lines += self.resumed(run.received_ns)
        if last is None:
            state.base_id = run.first_id
        if last is not None and run.first_id <= last:
            self._out_of_order(run, last)
            return lines
        if last is not None and run.first_id > last + 1:
            jumped = Interval(last + 1, run.first_id - 1)
            # A hole that the ledger names already (it is taken up after a crash) is not found anew.
            for missing in self._taken_up.missing(jumped):
                state.suspects.append(
                    Suspect(
                        missing.first,
                        missing.last,
                        state.frontier_time_us,
                        run.first_time_us,
                        state.frontier_ns,
                        run.received_ns,
                        state.restarted,
                    )
                )
        self._append(run)
        return lines

    def passed(self, received_ns: int) -> list[AnyLine]:
        """Everything received before this is durable and was fed: what waited for that is decided."""
        return self._pass_to(received_ns)

    def subscribed(self, connection: str) -> None:
        """A connection carries this symbol's trades from now on."""
        if connection not in self._state.connections:
            self._state.connections.append(connection)

    def unsubscribed(self, connection: str, received_ns: int) -> None:
        """The symbol is no longer wanted on this connection."""
        if connection in self._state.connections:
            self._state.connections.remove(connection)
            self._event(received_ns, "unsubscribed")

    def disconnected(self, connection: str, received_ns: int) -> None:
        if connection in self._state.connections:
            self._state.connections.remove(connection)
            self._event(received_ns, "disconnect")

    def messages_lost(self, received_ns: int, cause: Cause) -> None:
        """Messages of this symbol came and could not be written."""
        self._event(received_ns, cause)

    def restarted(self, received_ns: int) -> list[AnyLine]:
        """The collector starts: what it did not see, it was off for. Nothing can come late over old connections."""
        lines = self.flush()
        self._state.connections.clear()
        self._state.started_ns = received_ns
        self._state.restarted = True
        self._event(received_ns, "restart")
        return lines

    def settle(self, line: Outcome | Quiet) -> list[AnyLine]:
        """Something was done about ids of holes that the ledger names, or a silence was asked about. For the ledger."""
        if isinstance(line, Outcome):
            self.open_holes.remove(Interval(line.first_id, line.last_id))
        return [line]

    def ended(self, at_ns: int) -> list[AnyLine]:
        """Nothing of the symbol is received any more; what was received before `at_ns` has been fed."""
        if self._state.ended:
            return []
        lines = [*self.flush(), Ended(ended_ns=at_ns)]
        self._state.ended = True
        return lines

    def resumed(self, received_ns: int) -> list[AnyLine]:
        """The symbol is received from now on, whether or not it was before."""
        if not self._state.ended:
            return []
        self._state.ended = False
        return [Resumed(resumed_ns=received_ns)]

    def flush(self) -> list[AnyLine]:
        """Write down everything that is known: at an hour's end, at the collector's stop and start."""
        lines: list[AnyLine] = [self._hole(s) for s in self._state.suspects]
        self._state.suspects = []
        # Outcomes stand before what was seen: after a crash between them, raw gives the rest and no more.
        late, self._state.late = self._state.late, []
        for interval in IntervalSet(Interval(f, last) for f, last in late):
            lines.append(
                Outcome(
                    first_id=interval.first, last_id=interval.last, action="none", outcome="received_late"
                )
            )
        fresh, self._state.fresh = self._state.fresh, []
        # The span of the first id ever seen leads: taken up after a crash behind any of these lines, the ledger must
        # not begin at a lower id, with a hole up to the first.
        base = self._state.base_id
        for span in sorted(fresh, key=lambda s: (not s.first_id <= base <= s.last_id, s.first_id)):
            lines.append(
                Seen(
                    hour=self._state.hour,
                    first_id=span.first_id,
                    last_id=span.last_id,
                    first_time_us=span.first_time_us,
                    last_time_us=span.last_time_us,
                )
            )
        return lines

    # how
    def _append(self, run: Run) -> None:
        state = self._state
        self.seen.add_interval(run.first_id, run.last_id)
        state.frontier_time_us = run.last_time_us
        state.frontier_ns = run.received_ns
        state.restarted = False
        self._add_fresh(run)

    def _add_fresh(self, run: Run) -> None:
        for span in reversed(self._state.fresh):
            if run.first_id == span.last_id + 1:
                span.last_id, span.last_time_us = run.last_id, run.last_time_us
                self._join_fresh(span)
                return
            if run.last_id == span.first_id - 1:
                span.first_id, span.first_time_us = run.first_id, run.first_time_us
                self._join_fresh(span)
                return
        self._state.fresh.append(Span(run.first_id, run.last_id, run.first_time_us, run.last_time_us))

    def _join_fresh(self, grown: Span) -> None:
        for other in self._state.fresh:
            if other is not grown and other.first_id == grown.last_id + 1:
                grown.last_id, grown.last_time_us = other.last_id, other.last_time_us
                self._state.fresh.remove(other)
                return
            if other is not grown and other.last_id == grown.first_id - 1:
                grown.first_id, grown.first_time_us = other.first_id, other.first_time_us
                self._state.fresh.remove(other)
                return

    def _out_of_order(self, run: Run, last: int) -> None:
        """Ids at or below the greatest: copies, or some that were missed."""
        state = self._state
        if not state.frontier_ns and run.last_id >= last:
            state.frontier_ns, state.restarted = run.received_ns, False
        new = self.seen.missing(Interval(run.first_id, run.last_id))
        state.duplicates += (run.last_id - run.first_id + 1) - sum(map(len, new))
        for piece in new:
            part = Run(
                piece.first,
                piece.last,
                run.first_time_us if piece.first == run.first_id else run.last_time_us,
                run.last_time_us if piece.last == run.last_id else run.first_time_us,
                run.received_ns,
            )
            if piece.first > last:
                self._append(part)
                continue
            self.seen.add_interval(piece.first, piece.last)
            self._add_fresh(part)
            state.suspects = [left for s in state.suspects for left in without(s, piece, part)]
            for hole in self.open_holes.shared_with(piece):
                state.late.append((hole.first, hole.last))
            self.open_holes.remove(piece)

    def _pass_to(self, received_ns: int) -> list[AnyLine]:
        """Decide what `received_ns` decides: suspects past their grace, an hour that has ended."""
        state = self._state
        # Out of it on either side: the clock may have been set back.
        if not state.hour_end_ns - _HOUR_NS <= received_ns < state.hour_end_ns:
            lines = self.flush() if state.hour else []
            hour = Hour.of_ns(received_ns)
            state.hour, state.hour_end_ns = str(hour), hour.end_ns
            return lines
        if state.suspects:
            due = [s for s in state.suspects if s.found_ns + self.grace_ns <= received_ns]
            if due:
                state.suspects = [s for s in state.suspects if s.found_ns + self.grace_ns > received_ns]
            return [self._hole(s) for s in due]
        return []

    def _hole(self, suspect: Suspect) -> Hole:
        self.open_holes.add_interval(suspect.first_id, suspect.last_id)
        if not suspect.after_ns:
            self.unplaced.add_interval(suspect.first_id, suspect.last_id)
        self._state.holes_total += 1
        return Hole(
            first_id=suspect.first_id,
            last_id=suspect.last_id,
            after_time_us=suspect.after_time_us,
            before_time_us=suspect.before_time_us,
            found_ns=suspect.found_ns,
            cause=self._cause(suspect),
        )

    def _cause(self, suspect: Suspect) -> Cause:
        start_ns, end_ns = sorted(
            (suspect.after_ns, suspect.found_ns)
        )  # a clock may have been set back in between
        causes = {cause for ns, cause in self._state.events if start_ns <= ns <= end_ns}
        if suspect.restarted:
            causes.add("restart")
        for cause in _CAUSES:
            if cause in causes:
                return cause
        return "message_lost"

    def _event(self, received_ns: int, cause: Cause) -> None:
        events = self._state.events
        if (received_ns, cause) in events:
            return  # it is read again
        of_cause = [event for event in events if event[1] == cause]
        if len(of_cause) >= _EVENTS_KEPT:
            events.remove(of_cause[0])
        events.append((received_ns, cause))
