"""For how long live connections carried a stream. Pure.

Best quotes bear no ids that follow each other, so of a quote that did not come nothing is known. What is known is when
somebody listened.
"""

from __future__ import annotations

from collections.abc import Iterable

from crypto_lake.completeness.happened import Process
from crypto_lake.completeness.prove_report import Watched
from crypto_lake.lake.control import Disconnected, Subscribed, Unsubscribed
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.model.market import NS_PER_SECOND


def watched(stream: str, all_processes: Iterable[Process], since_ns: int, until_ns: int) -> Watched:
    """Within a span of receive times. A connection whose end was not written ends with its process's last record."""
    carried = IntervalSet()
    for process in all_processes:
        open_since: dict[str, int] = {}

        def end(connection: str, at_ns: int, open_since: dict[str, int] = open_since) -> None:
            begun = open_since.pop(connection, None)
            if begun is not None:
                start, stop = max(begun, since_ns), min(at_ns, until_ns)
                if start < stop:
                    carried.add_interval(start, stop - 1)

        for received_ns, connection, event in process.events:
            match event:
                case Subscribed() if stream in event.streams:
                    open_since.setdefault(connection, received_ns)
                case Unsubscribed() if stream in event.streams:
                    end(connection, received_ns)
                case Disconnected():
                    end(connection, received_ns)
                case _:
                    pass
        for connection in list(open_since):
            end(connection, process.last_ns)
    return Watched(
        stream=stream,
        watched_seconds=round(carried.count() / NS_PER_SECOND, 3),
        of_seconds=round(max(0, until_ns - since_ns) / NS_PER_SECOND, 3),
        breaks=max(0, len(carried) - 1),
    )
