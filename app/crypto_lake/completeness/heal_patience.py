"""What was tried in vain, and when to try again: of each hole, and of each way to past trades. Times are passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from crypto_lake.completeness import heal
from crypto_lake.completeness.heal import Road, Wanted
from crypto_lake.model.intervals import Interval

CLOSED_SECONDS: Final = 3600.0  # until a road that is not served is tried again
PATIENCE_SECONDS: Final = 600.0  # while single trades fail to come, before sums are taken
FAILED_PAUSES_SECONDS: Final = (1.0, 5.0, 20.0, 60.0)

# What the exchange must say twice: it skipped ids between two of its rows, its memory begins after them, or it does not
# know the symbol.
Doubt = Literal["skipped", "older", "refused"]


@dataclass
class _Hole:
    tries: int = 0
    again_at: float = 0.0
    doubt: tuple[Interval, Doubt] | None = None
    since: float = 0.0


class Patience:
    """Of holes, by their symbol and first id."""

    def __init__(self) -> None:
        self._holes: dict[tuple[str, int], _Hole] = {}

    def is_due(self, want: Wanted, now: float) -> bool:
        hole = self._holes.get((want.symbol, want.ids.first))
        return hole is None or hole.again_at <= now

    def put_off(self, want: Wanted, now: float) -> int:
        """It was asked for and nothing came of it; how often by now."""
        hole = self._of(want.symbol, want.ids.first)
        hole.tries += 1
        hole.again_at = now + heal.pause_seconds(hole.tries)
        return hole.tries

    def is_certain(self, symbol: str, ids: Interval, doubt: Doubt, now: float) -> bool:
        """Whether the same was said of these ids before, long enough ago. If not, they are put off until then."""
        hole = self._of(symbol, ids.first)
        known = hole.doubt
        if known is None or (known[0].first, known[1]) != (ids.first, doubt):
            hole.doubt, hole.since = (ids, doubt), now
            hole.again_at = now + heal.CONFIRM_SECONDS
            return False
        return now - hole.since >= heal.CONFIRM_SECONDS

    def forget(self, symbol: str, first: int) -> None:
        self._holes.pop((symbol, first), None)

    def clear(self) -> None:
        self._holes.clear()

    def _of(self, symbol: str, first: int) -> _Hole:
        return self._holes.setdefault((symbol, first), _Hole())


@dataclass
class _Closed:
    """A road that is not used before `until`. failing_since: it fails, and did since then; None: it is not served."""

    until: float = 0.0
    failures: int = 0
    failing_since: float | None = None


class Roads:
    """Ways to past trades, those to single trades first. `exact`: the source of these."""

    def __init__(self, roads: Sequence[Road], exact: str) -> None:
        self._roads, self._exact = roads, exact
        self._closed: dict[str, _Closed] = {}

    def best(self, now: float) -> Road | None:
        """The first that can be used. For sums no outage of the others is long enough but one of many minutes."""
        patient = False
        for road in self._roads:
            closed = self._closed.get(road.name)
            if road.call.source != self._exact and patient:
                return None
            if closed is None or closed.until <= now:
                return road
            since = closed.failing_since
            patient |= (
                road.call.source == self._exact and since is not None and now - since < PATIENCE_SECONDS
            )
        return None

    def worked(self, road: Road) -> None:
        self._closed.pop(road.name, None)

    def not_served(self, road: Road, now: float) -> None:
        self._closed[road.name] = _Closed(now + CLOSED_SECONDS)

    def failed(self, road: Road, now: float) -> None:
        closed = self._closed.setdefault(road.name, _Closed())
        closed.failures += 1
        closed.failing_since = now if closed.failing_since is None else closed.failing_since
        closed.until = now + FAILED_PAUSES_SECONDS[min(closed.failures, len(FAILED_PAUSES_SECONDS)) - 1]
