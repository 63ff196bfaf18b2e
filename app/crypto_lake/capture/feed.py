"""Keeps the wanted streams covered: connects, reconnects, hands over, and never tries too often."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from crypto_lake.capture.backoff import AttemptBudget, Backoff, cool_down_seconds
from crypto_lake.capture.connection import Connection, ConnectionSettings
from crypto_lake.capture.intake_protocol import Intake
from crypto_lake.capture.leaving import why_leave
from crypto_lake.capture.opening import open_transport
from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.plan import Standing, Step, next_step, plan
from crypto_lake.capture.slot import Carried, Running, Slot
from crypto_lake.capture.snapshot import ConnectionSnapshot
from crypto_lake.capture.transport import Connector
from crypto_lake.exchanges import Exchange
from crypto_lake.model.clock import Clock

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # how often a slot looks at its connections when nothing calls it
# Connections are opened at one time and would all be handed over at one time: each takes its own age, between
# this share of `handover_seconds` and all of it.
_EARLIEST_HANDOVER = 0.9
# The budget of attempts is the address's, and others may use it too.
_SHARE_OF_ATTEMPTS = 0.8


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """handover_seconds: a connection's age when its replacement is opened, at the latest.
    no_data_seconds: a connection whose streams are acknowledged and that sent none of their messages for so long,
    while others did, is replaced (one that is alone after twice as long)."""

    connection: ConnectionSettings
    streams_per_connection: int = 256
    handover_seconds: float = 23 * 3600.0
    no_data_seconds: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)


class FeedSnapshot(NamedTuple):
    """outcomes: ended connections by reason. reconnects: connections opened because one had been lost."""

    connections: list[ConnectionSnapshot]
    outcomes: dict[str, int]
    reconnects: int


class Feed:
    """`await run()` until `stop()`; `set_streams` at any time. All of it on one event loop.

    Names of connections are `<name_prefix>-<n>`, n counting from 1.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: FeedSettings,
        intake: Intake,
        clock: Clock,
        streams: Iterable[str],
        name_prefix: str,
        *,
        chance: random.Random | None = None,
        connect: Connector = open_transport,
    ) -> None:
        limits = exchange.limits
        if not 1 <= settings.streams_per_connection <= limits.streams_per_connection:
            raise ValueError(
                f"streams_per_connection is {settings.streams_per_connection}: {exchange.name} allows 1 to "
                f"{limits.streams_per_connection}"
            )
        self._exchange = exchange
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._prefix = name_prefix
        self._chance = chance or random.Random()  # noqa: S311  spreads load, guards no secret
        self._connect = connect
        self._wanted = frozenset(streams)
        self.at_rest: frozenset[str] = frozenset()
        """Streams that are known to be silent because their market is: no reason to replace a connection."""
        self._slots: dict[int, Slot] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._count = 0
        self._outcomes: Counter[str] = Counter()
        self._reconnects = 0
        self._stopping = asyncio.Event()
        self._budget = AttemptBudget(
            max(1, int(limits.connection_attempts * _SHARE_OF_ATTEMPTS)), limits.connection_window_seconds
        )

    async def run(self) -> None:
        """Returns after `stop`, when every connection has ended. Raises (as an ExceptionGroup) what the intake
        raised, for then nothing can be kept."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                self._replan()
                await self._stopping.wait()
            finally:
                self._tasks = None

    def set_streams(self, streams: Iterable[str]) -> None:
        """From now on these are wanted. Streams that stay are not disturbed."""
        self._wanted = frozenset(streams)
        if self._tasks is not None:
            self._replan()

    async def stop(self) -> None:
        """Take what has come, close every connection and have `run` return. Does not wait for the exchange."""
        self._stopping.set()
        for slot in self._slots.values():
            slot.end(Reason.STOPPED)
            slot.wake.set()
        tasks = [running.task for slot in self._slots.values() for running in slot.running]
        if tasks:
            await asyncio.wait(tasks)

    def snapshot(self) -> FeedSnapshot:
        running = (r.connection.snapshot() for slot in self._slots.values() for r in slot.running)
        return FeedSnapshot(list(running), dict(self._outcomes), self._reconnects)

    @property
    def acknowledged(self) -> frozenset[str]:
        """Streams that the exchange acknowledged on a connection that stands."""
        return frozenset[str]().union(
            *(r.connection.acknowledged for slot in self._slots.values() for r in slot.running)
        )

    def carried(self) -> dict[str, Carried]:
        """By stream, the connection that it is expected on. What is not acknowledged yet is not there."""
        return dict(carried for slot in self._slots.values() for carried in slot.carried())

    def replace(self, connection: str, why: str) -> bool:
        """Have another one take over from this connection, make before break. False where that is under way, or it is gone."""
        for slot in self._slots.values():
            if slot.current is not None and slot.current.connection.name == connection:
                return slot.condemn(why)
        return False

    @property
    def refused(self) -> frozenset[str]:
        """Wanted streams that the exchange will not give."""
        return frozenset[str]().union(
            *(r.connection.refused for slot in self._slots.values() for r in slot.running)
        )

    def _replan(self) -> None:
        assert self._tasks is not None
        present = {number: slot.streams for number, slot in self._slots.items() if not slot.gone}
        # Slots on their way out still hold their numbers.
        present |= {number: frozenset() for number, slot in self._slots.items() if slot.gone}
        planned = plan(present, self._wanted, self._settings.streams_per_connection, self._symbol_of)
        for number, slot in self._slots.items():
            if number not in planned:
                slot.gone = True
                slot.wake.set()
        for number, streams in planned.items():
            slot = self._slots.get(number)
            if slot is None:
                slot = self._slots[number] = Slot(streams)
                self._tasks.create_task(self._keep(number, slot), name=f"slot {number}")
            elif slot.streams != streams:
                slot.set_streams(streams)

    def _symbol_of(self, stream: str) -> str:
        return self._exchange.parse_stream_name(stream)[0]

    # One slot

    async def _keep(self, number: int, slot: Slot) -> None:
        """Serve one slot until it is gone or the feed is stopped."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                now = loop.time()
                self._settle_ended(slot, now)
                if self._stopping.is_set() or slot.gone:
                    slot.end(Reason.STOPPED if self._stopping.is_set() else Reason.UNSUBSCRIBED)
                    if not slot.running:
                        return
                    await slot.wait(_LOOK_SECONDS)
                    continue
                may_open_at = max(slot.retry_at, self._budget.free_at(now))
                step = next_step(
                    self._standing(slot.current, now), self._standing(slot.successor, now), may_open_at <= now
                )
                match step:
                    case Step.OPEN:
                        self._open(slot, now)
                    case Step.PROMOTE:
                        slot.promote()
                    case Step.SWAP:
                        assert slot.current is not None
                        slot.swap(self._why_leave(slot.current, now) or Reason.LIFETIME)
                    case Step.WAIT:
                        wait = may_open_at - now if may_open_at > now else _LOOK_SECONDS
                        await slot.wait(min(wait, _LOOK_SECONDS))
        finally:
            slot.end(Reason.STOPPED)
            if tasks := [running.task for running in slot.running]:
                await asyncio.wait(tasks)
            self._slots.pop(number, None)
            self._settle_ended(slot, loop.time())

    def _open(self, slot: Slot, now: float) -> None:
        self._budget.spend(now)
        self._count += 1
        replaced = slot.current
        connection = Connection(
            f"{self._prefix}-{self._count}",
            self._exchange,
            self._settings.connection,
            self._intake,
            self._clock,
            slot.streams,
            replaces=None if replaced is None else replaced.connection.name,
            connect=self._connect,
            changed=slot.wake.set,
        )
        share = self._chance.uniform(_EARLIEST_HANDOVER, 1.0)
        running = Running(
            connection,
            asyncio.create_task(connection.run(), name=connection.name),
            share * self._settings.handover_seconds,
        )
        if replaced is None:
            slot.current = running
            self._reconnects += slot.lost
            slot.lost = False
        else:
            slot.successor = running

    def _settle_ended(self, slot: Slot, now: float) -> None:
        """Take note of connections that ended, and settle when the next may be tried."""
        for running in slot.running:
            if not running.task.done():
                continue
            outcome = running.task.result()
            self._outcomes[outcome.reason.value] += 1
            if running is slot.leaving:
                slot.leaving = None
                continue
            if running is slot.current:
                slot.current = None
                slot.lost = not outcome.reason.planned
            else:
                slot.successor = None
            if outcome.reason.planned:
                continue
            slot.failures = self._settings.backoff.failures_after(slot.failures, outcome)
            delay = self._settings.backoff.delay(slot.failures, self._chance)
            slot.retry_at = now + delay
            if cool_down := cool_down_seconds(outcome.ending):
                self._budget.close_until(now + cool_down)
            _log.warning(
                "connection %s ended after %.1f s and %d messages: %s (%s); the next is tried in %.1f s",
                running.connection.name,
                outcome.connected_seconds,
                outcome.messages,
                outcome.reason,
                outcome.detail,
                max(delay, cool_down),
            )

    def _standing(self, running: Running | None, now: float) -> Standing | None:
        if running is None:
            return None
        return Standing(running.connection.covering, self._why_leave(running, now))

    def _why_leave(self, running: Running, now: float) -> Reason | None:
        seen = running.seen(now, self.at_rest, others_spoke=self._others_spoke(running))
        return why_leave(seen, self._settings.no_data_seconds)

    def _others_spoke(self, running: Running) -> bool:
        """Whether another one brought messages since this one might have; False where this one brought some."""
        since = running.connection.quiet_since
        return since is not None and any(
            (other.connection.last_message_at or 0.0) > since
            for slot in self._slots.values()
            for other in slot.running
            if other is not running
        )
