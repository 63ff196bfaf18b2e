"""What happened to the collector, out of its control records: which process of it ran when, and over what it heard.

The records stand in the order in which they were made, the trades in that of their receipt, each in files of their
own. Put together they give what the collector itself went by (see `replay`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from crypto_lake.completeness.raw_order import day_in_order
from crypto_lake.lake import envelope
from crypto_lake.lake.control import (
    CONTROL,
    Alive,
    AnyEvent,
    ClockOffset,
    CollectorStarted,
    CollectorStopped,
    Connected,
    Subscribed,
    decode_event,
)
from crypto_lake.lake.frames import Frame
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import NS_PER_SECOND

# No connection is older: who wants to know what one of an hour carried reads the records so far back.
CONNECTION_NS: Final = 24 * 3600 * NS_PER_SECOND


class Happened(NamedTuple):
    """A control record. `connection`: that it concerns, or the process."""

    received_ns: int
    connection: str
    event: AnyEvent


@dataclass
class Process:
    """One run of the collector. `name`: that its connections begin with, "" where it had none.

    `started_ns`: None where its start is not among the records that were read. `stopped`: it ended by itself.
    `grace_ns`: its own, None where that is not known.
    """

    name: str = ""
    started_ns: int | None = None
    grace_ns: int | None = None
    events: list[Happened] = field(default_factory=list[Happened])
    stopped: bool = False

    @property
    def last_ns(self) -> int:
        return self.events[-1].received_ns if self.events else self.started_ns or 0

    def set_back(self) -> bool:
        """Whether the clock went back while it ran."""
        times = [happened.received_ns for happened in self.events]
        return any(later < earlier for earlier, later in itertools.pairwise(times))


def processes(records: Iterable[Happened]) -> list[Process]:
    """The records by the process that made them. Pure."""
    found: list[Process] = []
    for happened in records:
        if isinstance(happened.event, CollectorStarted):
            grace_ns = int(happened.event.hole_grace_seconds * NS_PER_SECOND)
            found.append(Process(started_ns=happened.received_ns, grace_ns=grace_ns))
            continue
        if not found:
            found.append(Process())
        process = found[-1]
        if isinstance(happened.event, CollectorStopped):
            process.stopped = True
        elif not process.name and isinstance(happened.event, Connected | Subscribed):
            process.name = happened.connection.rpartition("-")[0]
        process.events.append(happened)
    return found


def from_frames(frames: Iterable[bytes]) -> Iterator[Happened]:
    """The records of unpacked frames. What can't be read, or is of a later version, is passed over."""
    for data in frames:
        for line in data.splitlines():
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                read = envelope.decode(line)
                yield Happened(read.received_ns, read.connection, decode_event(read.message))


def sparse(records: Iterable[Happened]) -> Iterator[Happened]:
    """Without figures that say nothing new: of a connection's signs of life in a row the first and the last. Pure."""
    held: dict[str, Happened] = {}
    silent: set[str] = set()  # whose latest record was a sign of life
    for happened in records:
        name = happened.connection
        if isinstance(happened.event, ClockOffset):
            continue
        if isinstance(happened.event, Alive):
            if name in silent:
                held[name] = happened
                continue
            silent.add(name)
        else:
            yield from held.values()  # in their places, as far as anything else goes by them
            held.clear()
            silent.discard(name)
        yield happened
    yield from held.values()


def read_happened(
    layout: Layout, exchange: str, since: Hour | None, until_day: str = "9999"
) -> list[Happened]:
    """The records from an hour on (None: all that are here), up to a day, in the order in which they were made."""

    def wanted(file: RawFile) -> bool:
        return since is None or file.hour >= since

    def frames() -> Iterator[bytes]:
        for day in layout.raw_days(exchange, CONTROL):
            if (since is None or day >= since.day) and day <= until_day:
                for found in day_in_order(layout, exchange, CONTROL, day, wanted):
                    if isinstance(found.frame, Frame):
                        yield found.frame.data

    return list(sparse(from_frames(frames())))


@dataclass
class Records:
    """The control records of a data directory, read once for all symbols that ask for them."""

    layout: Layout
    exchange: str
    _since: Hour | None = None
    _processes: list[Process] | None = None

    def since(self, hour: Hour | None) -> list[Process]:
        """The processes from an hour on (None: all), or from an earlier one."""
        if self._processes is None or (self._since is not None and (hour is None or hour < self._since)):
            self._processes = processes(read_happened(self.layout, self.exchange, hour))
            self._since = hour
        return self._processes


def started(all_processes: Sequence[Process], started_ns: int) -> Sequence[Process]:
    """From the process on that started then; all where it is not among them: its start is older than the records."""
    for at, process in enumerate(all_processes):
        if process.started_ns == started_ns:
            return all_processes[at:]
    return all_processes
