"""Which connection carried which stream when, read from the control records on the disk, a day at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from crypto_lake.bars.coverage import ControlEvent, Watch, watches, without_repeats
from crypto_lake.lake import envelope
from crypto_lake.lake.control import CONTROL, Alive, Disconnected, Subscribed, Unsubscribed, decode_event
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import raw_inputs


@dataclass
class Connections:
    """Each day is read once a run, when it is asked for; of it no more is kept than its coverage needs."""

    layout: Layout
    exchange: str
    _days: dict[str, list[ControlEvent]] = field(default_factory=dict[str, list[ControlEvent]])
    _since: dict[str, dict[str, list[Watch]]] = field(default_factory=dict[str, dict[str, list[Watch]]])

    def watches(self, stream: str, day: str) -> list[Watch]:
        """Of a stream, by the records of this day and all that follow."""
        if day not in self._since:
            days = [at for at in self.layout.raw_days(self.exchange, CONTROL) if at >= day]
            self._since[day] = watches(event for at in days for event in self._of(at))
        return self._since[day].get(stream, [])

    def _of(self, day: str) -> list[ControlEvent]:
        if day not in self._days:
            self._days[day] = without_repeats(_read(self.layout, self.exchange, day))
        return self._days[day]


def _read(layout: Layout, exchange: str, day: str) -> Iterator[ControlEvent]:
    """What can't be read is passed over: it is no market data, and the collector's own recovery puts it aside."""
    for file in raw_inputs(layout, exchange, CONTROL, day):
        if file.is_open:
            continue
        for frame in read_frames(file.path):
            if isinstance(frame, BadBytes):
                continue
            for line in frame.data.splitlines():
                with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    read = envelope.decode(line)
                    event = decode_event(read.message)
                    if isinstance(event, Subscribed | Unsubscribed | Alive | Disconnected):
                        yield ControlEvent(read.received_ns, read.connection, event)
