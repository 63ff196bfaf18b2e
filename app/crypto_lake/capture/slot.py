"""A slot of the feed: streams, and the connection or two that serve them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from crypto_lake.capture.connection import Connection
from crypto_lake.capture.leaving import Seen
from crypto_lake.capture.outcome import Outcome, Reason


class Carried(NamedTuple):
    """By which connection a stream comes, since when (the loop's time) it is acknowledged there."""

    connection: str
    since: float
    is_replaced: bool  # another one is about to take over


@dataclass(eq=False)
class Running:
    """A connection and the task that runs it; `handover_age`: so old, in seconds, it is replaced."""

    connection: Connection
    task: asyncio.Task[Outcome]
    handover_age: float

    def seen(self, now: float, at_rest: frozenset[str], *, others_spoke: bool) -> Seen:
        connection = self.connection
        connected_at, quiet_since = connection.connected_at, connection.quiet_since
        return Seen(
            is_ending=connection.shutdown_announced,
            is_condemned=bool(connection.condemned),
            age=None if connected_at is None else now - connected_at,
            handover_age=self.handover_age,
            is_at_rest=bool(connection.acknowledged) and connection.acknowledged <= at_rest,
            silent=None if quiet_since is None else now - quiet_since,
            others_spoke=others_spoke,
        )


@dataclass(eq=False)
class Slot:
    """Streams served by one connection, or by two while one takes over."""

    streams: frozenset[str]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    current: Running | None = None
    successor: Running | None = None
    leaving: Running | None = None  # told to end, not ended yet
    failures: int = 0
    retry_at: float = float("-inf")
    lost: bool = False  # the next connection makes good for one that was lost
    gone: bool = False  # none of its streams is wanted any more

    @property
    def running(self) -> list[Running]:
        return [r for r in (self.current, self.successor, self.leaving) if r is not None]

    def carried(self) -> Iterator[tuple[str, Carried]]:
        """Each stream that is acknowledged on the current connection, and how it comes."""
        if self.current is not None:
            connection, is_replaced = self.current.connection, self.successor is not None
            for stream, since in connection.acknowledged_at.items():
                yield stream, Carried(connection.name, since, is_replaced)

    def set_streams(self, streams: frozenset[str]) -> None:
        self.streams = streams
        for running in (self.current, self.successor):
            if running is not None:
                running.connection.set_streams(streams)

    def condemn(self, why: str) -> bool:
        """Have the current connection replaced. False where that is under way, or there is none."""
        if self.current is None or self.current.connection.condemned or self.successor is not None:
            return False
        self.current.connection.condemned = why
        self.wake.set()
        return True

    def promote(self) -> None:
        """The successor is alone now: it becomes the current one."""
        self.current, self.successor = self.successor, None

    def swap(self, reason: Reason) -> None:
        """The successor covers the streams: end the current connection."""
        old, new = self.current, self.successor
        assert old is not None
        assert new is not None
        why = f" ({old.connection.condemned})" if reason is Reason.STREAM_DEAD else ""
        old.connection.end(reason, f"{new.connection.name} took over{why}")
        self.current, self.successor, self.leaving = new, None, old

    def end(self, reason: Reason) -> None:
        """End its connections; each has ended when its task is done."""
        for running in self.running:
            running.connection.end(reason)

    async def wait(self, seconds: float) -> None:
        """Until one of its connections ended, something called, or the time is over."""
        called = asyncio.ensure_future(self.wake.wait())
        try:
            await asyncio.wait(
                {called, *(running.task for running in self.running)},
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            called.cancel()
            self.wake.clear()
