"""How far past its last trade a symbol is known to have been watched. Pure.

Without a trade, only the connection tells that there was none: while it is live, and the exchange's clock was seen
to go on over it. Connection events are kept in raw (lake.control), so this too follows from raw alone.

Several collectors may have watched at once, each with a clock of its own. A second is known if any of them watched it,
so what one of them does (a start, an end) ends no other's watch; and receive times are compared only among connections
of one run of a collector, times of the exchange among all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crypto_lake.lake.control import Alive, AnyEvent, Disconnected, Subscribed, Unsubscribed
from crypto_lake.model.market import US_PER_SECOND

# A second counts as over when the exchange's clock is so far past it: a trade may arrive 300 ms late (measured).
GRACE_US: Final = 2 * US_PER_SECOND


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """One record of raw/<exchange>/_control."""

    received_ns: int
    connection: str
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a trade came over this connection then."""

    received_ns: int
    connection: str


@dataclass(frozen=True, slots=True)
class Watch:
    """A connection carried the stream from `since_ns` to `until_ns` (receive times).

    `first_us`, `last_us`: the least and the greatest time of the exchange that was noted meanwhile; 0 where none was.
    """

    connection: str
    since_ns: int
    until_ns: int
    first_us: int
    last_us: int

    @property
    def run(self) -> str:
        """Of its collector: connections of one run bear one name but for the last piece (c-9f3a-12-3)."""
        return self.connection.rpartition("-")[0]


def without_repeats(events: Iterable[ControlEvent]) -> list[ControlEvent]:
    """The same coverage of fewer events, sorted: of signs of life in a row the first and the last."""
    found: list[ControlEvent] = []
    last: dict[str, ControlEvent] = {}  # by connection: signs of life that are held back
    runs: dict[str, bool] = {}  # whether the last event of a connection was one
    for item in _sorted(events):
        if isinstance(item.event, Alive):
            if runs.get(item.connection):
                last[item.connection] = item
                continue
            runs[item.connection] = True
        else:
            if (held := last.pop(item.connection, None)) is not None:
                found.append(held)
            runs[item.connection] = False
        found.append(item)
    return _sorted([*found, *last.values()])


def watches(events: Iterable[ControlEvent]) -> dict[str, list[Watch]]:
    """When which connection carried which stream, by stream. One whose end was not written ends with its last sign
    of life."""
    since: dict[str, dict[str, int]] = {}  # by connection, by stream
    until: dict[str, int] = {}
    seen: dict[str, list[tuple[int, int]]] = {}
    found: dict[str, list[Watch]] = {}

    def end(connection: str, streams: Iterable[str]) -> None:
        noted = seen.get(connection, [])
        for stream in streams:
            begun = since.get(connection, {}).pop(stream, None)
            if begun is not None:
                times = [us for at_ns, us in noted if us and at_ns >= begun]
                watch = Watch(
                    connection, begun, until[connection], min(times, default=0), max(times, default=0)
                )
                found.setdefault(stream, []).append(watch)

    def end_all(connection: str) -> None:
        end(connection, list(since.get(connection, ())))
        since.pop(connection, None)
        seen.pop(connection, None)

    for item in _sorted(events):
        name, event = item.connection, item.event
        match event:
            case Subscribed():
                until[name] = item.received_ns
                carried = since.setdefault(name, {})
                for stream in event.streams:
                    carried.setdefault(stream, item.received_ns)
            case Alive() if name in since:
                until[name] = item.received_ns
                seen.setdefault(name, []).append((item.received_ns, event.exchange_time_us))
            case Disconnected() if name in since:
                until[name] = item.received_ns
                seen.setdefault(name, []).append((item.received_ns, event.exchange_time_us))
                end_all(name)
            case Unsubscribed() if name in since:
                until[name] = item.received_ns
                end(name, event.streams)
            case _:
                pass
    for left in list(since):
        end_all(left)
    return found


def watched_us(all_watches: Sequence[Watch], receipts: Sequence[Receipt], known_us: int = 0) -> int:
    """The exchange's time up to which the stream was watched without a break since its last trade. 0: not known.

    It starts on the connections that brought that trade, and goes on to any other that carried the stream before the
    one at hand ended: of the same run by the times of receipt, of another collector by the exchange's. `known_us`: how
    far it was watched by what is known already.
    """
    by_connection: Mapping[str, list[Watch]] = _grouped(all_watches)
    until_ns: dict[str, int] = {}  # by run
    reached_us = known_us
    chained: set[int] = set()

    def chain(watch: Watch) -> None:
        nonlocal reached_us
        chained.add(id(watch))
        until_ns[watch.run] = max(watch.until_ns, until_ns.get(watch.run, 0))
        reached_us = max(reached_us, watch.last_us)

    for receipt in receipts:
        for watch in by_connection.get(receipt.connection, []):
            # The trade itself shows that the stream was carried, even if the reply to the request came later.
            if receipt.received_ns <= watch.until_ns:
                chain(watch)
                break
    left = list(all_watches)
    grew = bool(reached_us or until_ns)
    while grew:
        left = [watch for watch in left if id(watch) not in chained]
        grew = False
        for watch in left:
            follows = watch.since_ns <= until_ns.get(watch.run, -1)
            if follows or 0 < watch.first_us <= reached_us:
                chain(watch)
                grew = True
    return reached_us


def reach(at_us: int) -> int:
    """The Unix second up to which (not included) seconds without a trade may be written, if it was watched so far."""
    return max(0, (at_us - GRACE_US) // US_PER_SECOND)


def _sorted(events: Iterable[ControlEvent]) -> list[ControlEvent]:
    return sorted(events, key=lambda e: (e.received_ns, e.connection))


def _grouped(all_watches: Sequence[Watch]) -> dict[str, list[Watch]]:
    grouped: dict[str, list[Watch]] = {}
    for watch in sorted(all_watches, key=lambda w: w.since_ns):
        grouped.setdefault(watch.connection, []).append(watch)
    return grouped
