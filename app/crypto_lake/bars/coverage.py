"""How far past its last trade a symbol is known to have been watched. Pure.

Without a trade, only the connection tells that there was none: while it is live, and the exchange's clock was seen
to go on over it. Connection events are kept in raw (lake.control), so this too follows from raw alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crypto_lake.lake.control import Alive, AnyEvent, CollectorStarted, Disconnected, Subscribed, Unsubscribed
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

    `seen`: (receive time, greatest exchange time) as it was noted on the way, rising.
    """

    connection: str
    since_ns: int
    until_ns: int
    seen: tuple[tuple[int, int], ...]


def watches(events: Iterable[ControlEvent]) -> dict[str, list[Watch]]:
    """When which connection carried which stream, by stream. One whose end was not written ends with its last sign
    of life."""
    since: dict[str, dict[str, int]] = {}  # by connection, by stream
    until: dict[str, int] = {}
    seen: dict[str, list[tuple[int, int]]] = {}
    found: dict[str, list[Watch]] = {}

    def end(connection: str, streams: Iterable[str]) -> None:
        noted = tuple(seen.get(connection, ()))
        for stream in streams:
            begun = since.get(connection, {}).pop(stream, None)
            if begun is not None:
                found.setdefault(stream, []).append(Watch(connection, begun, until[connection], noted))

    def end_all(connection: str) -> None:
        end(connection, list(since.get(connection, ())))
        since.pop(connection, None)
        seen.pop(connection, None)

    for item in sorted(events, key=lambda e: (e.received_ns, e.connection)):
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
            case CollectorStarted():
                # Connections of a collector before this one that it could not end in writing.
                for left in list(since):
                    end_all(left)
            case _:
                pass
    for left in list(since):
        end_all(left)
    return found


def reach(all_watches: Sequence[Watch], receipts: Sequence[Receipt]) -> int:
    """The Unix second up to which (not included) seconds without a trade may be written.

    It starts on a connection that brought the last trade, and goes on to any other that carried the stream before
    the one at hand ended. 0 where nothing is known.
    """
    by_connection: Mapping[str, list[Watch]] = _grouped(all_watches)
    chained: list[Watch] = []
    for receipt in receipts:
        for watch in by_connection.get(receipt.connection, []):
            # The trade itself shows that the stream was carried, even if the reply to the request came later.
            if receipt.received_ns <= watch.until_ns and watch not in chained:
                chained.append(watch)
                break
    if not chained:
        return 0
    start_ns = min(receipt.received_ns for receipt in receipts)
    until_ns = max(watch.until_ns for watch in chained)
    grew = True
    while grew:
        grew = False
        for watch in all_watches:
            if watch not in chained and watch.since_ns <= until_ns and watch.until_ns > until_ns:
                chained.append(watch)
                until_ns = watch.until_ns
                grew = True
    exchange_us = max(
        (time_us for watch in chained for at_ns, time_us in watch.seen if start_ns <= at_ns <= until_ns),
        default=0,
    )
    return max(0, (exchange_us - GRACE_US) // US_PER_SECOND)


def _grouped(all_watches: Sequence[Watch]) -> dict[str, list[Watch]]:
    grouped: dict[str, list[Watch]] = {}
    for watch in sorted(all_watches, key=lambda w: w.since_ns):
        grouped.setdefault(watch.connection, []).append(watch)
    return grouped
