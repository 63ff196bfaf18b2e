"""The seam between the sockets and what keeps their messages."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from crypto_lake.exchanges import Head
from crypto_lake.lake import control


class Drained(NamedTuple):
    """What of one read concerns the connection itself.

    controls: heads of the messages that belong to no stream (replies, errors, shutdown), in order of arrival.
    exchange_time_us: the greatest trade or event time of the batch, 0 where no message bore one.
    trades: how many of the messages were trades.
    """

    controls: list[Head]
    exchange_time_us: int
    trades: int


class Intake(Protocol):
    """Takes what connections receive and what happens to them. Called from the event loop; never blocks it."""

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        """Keep all messages of one read of a socket, in order, received at `received_ns` of the lake's clock.

        It never raises for what a message holds: what can't be assigned goes to quarantine.
        """
        ...

    def event(self, connection: str, event: control.AnyEvent) -> None:
        """Keep what happened to a connection, as a control envelope."""
        ...

    @property
    def paused(self) -> bool:
        """The queue to the disk is full: read no socket until it is False again."""
        ...
