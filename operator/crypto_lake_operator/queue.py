"""Which keys are to be worked on, and when. Pure: the time is an argument; worker.py has the tasks.

A key stands in it once, however often it is added. One that is being worked on is never given out a second time; what
is added meanwhile is done after. Errors are retried later and later; a wait that was asked for is kept to.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple


class Key(NamedTuple):
    """A lake."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Backoff:
    """least_seconds, doubled with each failure in a row up to most_seconds, and of that half to all, by chance."""

    least_seconds: float = 1.0
    most_seconds: float = 300.0

    def seconds(self, failures: int, random: Random) -> float:
        """failures: in a row, 1 or more."""
        full = min(self.most_seconds, self.least_seconds * 2.0 ** min(failures - 1, 60))
        return full * random.uniform(0.5, 1)


@dataclass(frozen=True, slots=True)
class Done:
    """again_seconds: when to look again without being asked; None: not."""

    again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Again after a while. least_seconds: not before, as the API server said."""

    least_seconds: float = 0.0


Outcome = Done | Failed


@dataclass(slots=True)
class _Entry:
    due: float  # the monotonic time from which on it may be worked on
    since: float  # when it was asked for
    anew: bool = False


@dataclass(slots=True)
class KeyQueue:
    """Times are of a monotonic clock, in seconds."""

    backoff: Backoff = field(default_factory=Backoff)
    random: Random = field(default_factory=Random)
    _waiting: dict[Key, _Entry] = field(default_factory=dict[Key, _Entry])
    _order: list[tuple[float, Key]] = field(default_factory=list[tuple[float, Key]])
    _working: dict[Key, _Entry | None] = field(default_factory=dict[Key, "_Entry | None"])
    _failures: dict[Key, int] = field(default_factory=dict[Key, int])

    def add(self, key: Key, now: float, after_seconds: float = 0.0, *, anew: bool = False) -> None:
        """Not later than this. While it backs off after a failure, an addition does not make it come sooner: what is
        refused again and again would otherwise be asked as often as something moves. `anew`: its failures are forgotten,
        as the lake itself has changed.
        """
        due = now + after_seconds
        if anew:
            self._failures.pop(key, None)
        if key in self._working:
            later = self._working[key]
            self._working[key] = (
                _Entry(due, now, anew)
                if later is None
                else _Entry(min(due, later.due), later.since, anew or later.anew)
            )
            return
        entry = self._waiting.get(key)
        if entry is None:
            self._put(key, _Entry(due, now))
        elif due < entry.due and key not in self._failures:
            self._put(key, _Entry(due, min(entry.since, now)))

    def take(self, now: float) -> Key | None:
        """The key that is due the longest; it is being worked on until `done`. None: none is due."""
        self._forget_old()
        if not self._order or self._order[0][0] > now:
            return None
        _, key = heapq.heappop(self._order)
        del self._waiting[key]
        self._working[key] = None
        return key

    def done(self, key: Key, outcome: Outcome, now: float) -> None:
        added = self._working.pop(key)
        match outcome:
            case Failed(least_seconds):
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                wait = self.backoff.seconds(failures, self.random)
                self._put(key, _Entry(now + max(wait, least_seconds), now))
                if added is not None and added.anew:
                    self.add(key, now, anew=True)
            case Done(again_seconds):
                self._failures.pop(key, None)
                if added is not None:
                    self._put(key, added)
                if again_seconds is not None:
                    self.add(key, now, again_seconds)

    def forget(self, key: Key) -> None:
        """It is not there any more. One that is being worked on ends as it likes."""
        self._waiting.pop(key, None)
        self._failures.pop(key, None)
        if key in self._working:
            self._working[key] = None

    def wait_seconds(self, now: float) -> float | None:
        """Until the next one is due; 0: now; None: nothing waits."""
        self._forget_old()
        return max(0.0, self._order[0][0] - now) if self._order else None

    def depth(self, now: float) -> int:
        """How many are due and not begun."""
        return sum(entry.due <= now for entry in self._waiting.values())

    def oldest_seconds(self, now: float) -> float:
        """How long the one that is overdue the most waits; 0: none is."""
        return max((now - entry.due for entry in self._waiting.values() if entry.due <= now), default=0.0)

    @property
    def working(self) -> int:
        return len(self._working)

    def _put(self, key: Key, entry: _Entry) -> None:
        self._waiting[key] = entry
        heapq.heappush(self._order, (entry.due, key))

    def _forget_old(self) -> None:
        """Places in the order that another one has replaced."""
        while self._order and not self._stands(*self._order[0]):
            heapq.heappop(self._order)
        if len(self._order) > 64 + 4 * len(self._waiting):
            self._order = [(entry.due, key) for key, entry in self._waiting.items()]
            heapq.heapify(self._order)

    def _stands(self, due: float, key: Key) -> bool:
        entry = self._waiting.get(key)
        return entry is not None and entry.due == due


LONGEST_PAUSE_SECONDS: Final = 15.0


@dataclass(slots=True)
class Breaker:
    """Holds all work back while the API server serves nobody: after a pause one key is tried, and when it succeeds the
    rest follow. So an outage costs a call now and then, however many lakes there are.
    """

    random: Random = field(default_factory=Random)
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, LONGEST_PAUSE_SECONDS))
    _failures: int = 0
    _closed_until: float = 0.0
    _probing: bool = False

    def failed(self, now: float, least_seconds: float = 0.0) -> None:
        if self._failures and not self._probing and now < self._closed_until:
            return  # of a call that was on its way when it closed
        self._failures += 1
        self._probing = False
        self._closed_until = now + max(least_seconds, self.backoff.seconds(self._failures, self.random))

    def succeeded(self) -> None:
        self._failures, self._probing = 0, False

    def enter(self, now: float) -> bool:
        """Whether work may begin now. While it is closed: one attempt after each pause."""
        if not self._failures:
            return True
        if self._probing or now < self._closed_until:
            return False
        self._probing = True
        return True

    def wait_seconds(self, now: float) -> float:
        """Until it is worth asking again; 0: open."""
        if not self._failures:
            return 0.0
        return 0.5 if self._probing else max(0.0, self._closed_until - now)
