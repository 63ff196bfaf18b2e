"""The one clock that stamps, rotates, ends hours and days, retains and alerts.

By default it is the system's. A lake with `clock: exchange` follows a simulator's time and speed, so that a
day passes in minutes and a recording keeps its dates. Timers (back-off, time-outs) do not use it: they run
on the event loop's monotonic time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from crypto_lake.model.market import NS_PER_SECOND


class Clock(Protocol):
    @property
    def speed(self) -> float:
        """Seconds of this clock in a second of real time; 0 where it goes by what is observed alone."""
        ...

    def now_ns(self) -> int:
        """UTC as nanoseconds since 1970. It may step, as the machine's does."""
        ...

    def observe(self, exchange_ns: int) -> None:
        """A message of the exchange bore this time. The system's clock takes no notice."""
        ...


class SystemClock:
    """The machine's clock."""

    speed = 1.0

    def now_ns(self) -> int:
        return time.time_ns()

    def observe(self, exchange_ns: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class ClockSetting:
    """A simulator's clock, in a form that another process can follow (`state/clock.json`).

    At the machine's `wall_ns` the exchange's clock stood at `exchange_ns` and ran `speed` times as fast.
    Speed 0: it has no speed of its own (a recording played as fast as it is read) and stands until a
    message moves it.
    """

    exchange_ns: int
    wall_ns: int
    speed: float

    def at(self, wall_ns: int) -> int:
        return self.exchange_ns + int((wall_ns - self.wall_ns) * self.speed)


class ExchangeClock:
    """Follows a simulator: its setting, and never behind what a message of it said; it does not go back."""

    def __init__(self, setting: ClockSetting) -> None:
        self.setting = setting
        self._latest_ns = setting.exchange_ns

    @property
    def speed(self) -> float:
        return self.setting.speed

    def now_ns(self) -> int:
        now = self.setting.at(time.time_ns())
        if now > self._latest_ns:
            self._latest_ns = now
        return self._latest_ns

    def observe(self, exchange_ns: int) -> None:
        if exchange_ns > self._latest_ns:
            self._latest_ns = exchange_ns


@dataclass(frozen=True, slots=True, order=True)
class Hour:
    """An hour of UTC: `day` as 2024-08-08, `hour` 0 to 23."""

    day: str
    hour: int

    @classmethod
    def of_ns(cls, ns: int) -> Hour:
        at = datetime.fromtimestamp(ns // NS_PER_SECOND, UTC)
        return cls(at.strftime("%Y-%m-%d"), at.hour)

    @property
    def start_ns(self) -> int:
        start = datetime.strptime(self.day, "%Y-%m-%d").replace(tzinfo=UTC, hour=self.hour)
        return int(start.timestamp()) * NS_PER_SECOND

    @property
    def end_ns(self) -> int:
        return self.start_ns + 3600 * NS_PER_SECOND

    def next(self) -> Hour:
        return Hour.of_ns(self.end_ns)

    def previous(self) -> Hour:
        return Hour.of_ns(self.start_ns - 1)

    def __str__(self) -> str:
        return f"{self.day}T{self.hour:02d}"
