"""Which streams a connection carries, and what is to be asked for next. Pure: it sends nothing, times are given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """To subscribe these streams, or to unsubscribe them."""

    subscribe: bool
    streams: tuple[str, ...]


class Subscriptions:
    """The streams of one connection: wanted, asked for, acknowledged, refused. None of them is before it is wanted.

    A request that the exchange refuses is asked again in halves, until the stream that is to blame stands alone.
    """

    def __init__(self, wanted: Iterable[str], most_per_request: int) -> None:
        self.acknowledged: frozenset[str] = frozenset()
        self.acknowledged_at: dict[str, float] = {}  # of each that is acknowledged
        self.refused: frozenset[str] = frozenset()
        self._wanted = frozenset(wanted)
        self._most = most_per_request
        self._asked: frozenset[str] = frozenset()  # subscribed, or about to be
        self._halves: deque[tuple[str, ...]] = deque()  # of refused requests, to be asked again
        self._unanswered: dict[int, tuple[Request, float]] = {}  # and when it was sent
        self._last_id = 0

    def want(self, streams: Iterable[str]) -> None:
        self._wanted = frozenset(streams)
        self.refused &= self._wanted

    @property
    def complete(self) -> bool:
        """All that is wanted is acknowledged, but for what the exchange refuses; and it is not nothing."""
        return bool(self.acknowledged) and self.acknowledged >= self._wanted - self.refused

    @property
    def all_refused(self) -> bool:
        return self.refused >= self._wanted

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest request without an answer was sent; None where each has one."""
        return min((sent_at for _, sent_at in self._unanswered.values()), default=None)

    def next_request(self) -> Request | None:
        """None: all was asked for. It counts as asked for when it is told to `sent`."""
        while self._halves:
            half = tuple(s for s in self._halves[0] if s in self._wanted)
            if half:
                self._halves[0] = half
                return Request(True, half)
            self._halves.popleft()
        # A stream whose last request is not answered yet waits: two requests for it must not cross.
        unanswered = frozenset[str]().union(*(r.streams for r, _ in self._unanswered.values()))
        if drop := sorted(self._asked - self._wanted - unanswered):
            return Request(False, tuple(drop[: self._most]))
        if add := sorted(self._wanted - self._asked - self.refused - unanswered):
            return Request(True, tuple(add[: self._most]))
        return None

    def sent(self, request: Request, now: float) -> int:
        """It is sent now, under the id that is returned."""
        if request.subscribe:
            self._asked |= frozenset(request.streams)
        else:
            self._asked -= frozenset(request.streams)
        if self._halves and self._halves[0] == request.streams:
            self._halves.popleft()
        self._last_id += 1
        self._unanswered[self._last_id] = request, now
        return self._last_id

    def answered(self, request_id: object) -> Request | None:
        """The request that has its answer now: tell it to `accept` or `refuse`. None: nothing of ours has this id."""
        if not isinstance(request_id, int) or request_id not in self._unanswered:
            return None
        return self._unanswered.pop(request_id)[0]

    def accept(self, request: Request, now: float) -> None:
        if request.subscribe:
            self.acknowledged |= frozenset(request.streams)
            self.acknowledged_at |= dict.fromkeys(request.streams, now)
            return
        self.acknowledged -= frozenset(request.streams)
        for stream in request.streams:
            self.acknowledged_at.pop(stream, None)

    def refuse(self, request: Request) -> str | None:
        """Of a refused request to subscribe, the stream that is to blame, now among `refused`.

        None: it has more than one, and its halves are asked next; or its stream is no longer wanted.
        """
        streams = request.streams
        self._asked -= frozenset(streams)
        if len(streams) != 1:
            half = len(streams) // 2
            self._halves.extend((streams[:half], streams[half:]))
            return None
        (stream,) = streams
        if stream not in self._wanted:
            return None
        self.refused |= {stream}
        return stream
