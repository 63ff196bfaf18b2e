"""The exchange's clock: it stands until the market starts, then runs at its speed or by what was sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from crypto_lake.model.clock import ClockSetting


class Phase(StrEnum):
    WAITING = "waiting"
    PLAYING = "playing"
    DONE = "done"


class SimulatorClock:
    """Microseconds of the exchange. speed 0: as fast as it is read; the time is that of the last message."""

    def __init__(
        self,
        start_us: int,
        speed: float,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not 0 <= speed < float("inf"):
            raise ValueError(f"speed is {speed}; it must be above 0, or 0 for as fast as it is read")
        self.speed = speed
        self.phase = Phase.WAITING
        self._told_us = start_us
        self._start_us = start_us
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._started_ns = 0

    def start(self) -> None:
        if self.phase is Phase.WAITING:
            self.phase = Phase.PLAYING
            self._started_ns = self._monotonic_ns()

    def finish(self) -> None:
        """Nothing is left to send. A clock that has a speed runs on."""
        self.phase = Phase.DONE

    def told(self, time_us: int) -> None:
        """A message of this time was sent."""
        if time_us > self._told_us:
            self._told_us = time_us

    @property
    def told_us(self) -> int:
        """The time of the last message sent."""
        return self._told_us

    def now_us(self) -> int:
        if self.phase is Phase.WAITING:
            return self._start_us
        if not self.speed:
            return self._told_us
        return self._start_us + int((self._monotonic_ns() - self._started_ns) * self.speed) // 1000

    def setting(self) -> ClockSetting:
        """What a lake needs to follow it. While it waits its speed is 0: it stands until a message moves it."""
        speed = self.speed if self.phase is not Phase.WAITING else 0.0
        return ClockSetting(self.now_us() * 1000, self._wall_ns(), speed)
