"""What is sent of the alerts, and when: pure decisions over what was sent before.

For each key: a firing alert at most once in `repeat_seconds`; one message when it is resolved, and only where it was
told; one that flaps sends no more than that. What could not be delivered is not forgotten: an alert that came and went
while the webhook was down is told when it is up again, as resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from crypto_lake.model.alert_message import MessageState
from crypto_lake.model.market import NS_PER_SECOND
from crypto_lake.watch.conditions import Alert, ConditionState

SCHEMA = 1

FIRST_BACKOFF_SECONDS = 5.0
LAST_BACKOFF_SECONDS = 300.0
LONGEST_WAIT_SECONDS = 3600.0  # whatever a server asks for


class Delivery(msgspec.Struct, frozen=True):
    """What the receiver knows of one key. Times are Unix ns, real, 0: never.

    told: the last message delivered said that it fires.
    owed: a message was due since, and could not be delivered yet.
    alert: as it was last known, for what is still to be said.
    """

    alert: Alert
    told: bool = False
    owed: bool = False
    firing_ns: int = 0  # when a firing message was last delivered
    sent_ns: int = 0  # when any was
    sent: int = 0  # how many firing messages were
    ended_ns: int = 0  # when it was found resolved
    attempts: int = 0  # of the message due, refused by the receiver
    not_before_ns: int = 0


class Notice(msgspec.Struct, frozen=True):
    """A message that is due. `late`: it could not be delivered while the alert fired."""

    alert: Alert
    state: MessageState
    number: int = 1  # of the firing messages about this alert's key
    ended_ns: int = 0
    late: bool = False


class Channel(msgspec.Struct, frozen=True):
    """The webhook as a whole. After a failure nothing is tried before `not_before_ns`."""

    attempts: int = 0  # that failed in a row
    not_before_ns: int = 0
    sent_total: int = 0
    failures_total: int = 0
    last_problem: str = ""
    last_ok_ns: int = 0


class AlertsState(msgspec.Struct, frozen=True):
    """state/alerts.json: what a restart must know so that it tells nothing twice and forgets nothing."""

    schema: int = SCHEMA
    updated_ns: int = 0  # of the last look, real time
    conditions: ConditionState = ConditionState()
    deliveries: dict[str, Delivery] = {}
    channel: Channel = Channel()
    quarantine_offset: int = -1  # how far quarantine/index.jsonl was read; -1: not yet
    disk_full_in_seconds: float | None = None

    @property
    def firing(self) -> list[Alert]:
        return [one.alert for one in self.conditions.tracked.values() if one.alert.since_ns]


def decide(
    firing: Iterable[Alert], deliveries: Mapping[str, Delivery], now_ns: int, repeat_seconds: float
) -> tuple[list[Notice], dict[str, Delivery]]:
    """What is due now, what ended first, and the deliveries with that noted. Pure.

    A notice is due until `delivered` says that it went out: asked again, the answer is the same.
    """
    repeat_ns = int(repeat_seconds * NS_PER_SECOND)
    after: dict[str, Delivery] = {}
    due: list[Notice] = []
    active = {alert.key: alert for alert in firing}
    for key, delivery in deliveries.items():
        if key in active:
            continue
        known = _not_ahead(delivery, now_ns)
        ended = msgspec.structs.replace(known, ended_ns=known.ended_ns or now_ns)
        if known.told or known.owed:
            due.append(
                Notice(ended.alert, "resolved", known.sent, ended_ns=ended.ended_ns, late=not known.told)
            )
            after[key] = ended
        elif now_ns - known.firing_ns < repeat_ns:  # kept so that it does not fire again too soon
            after[key] = ended
    for key, alert in active.items():
        before = deliveries.get(key, Delivery(alert))
        known = _not_ahead(msgspec.structs.replace(before, alert=alert, ended_ns=0), now_ns)
        if not known.firing_ns or now_ns - known.firing_ns >= repeat_ns:
            due.append(Notice(alert, "firing", known.sent + 1))
            known = msgspec.structs.replace(known, owed=True)
        after[key] = known
    ready = [notice for notice in due if after[notice.alert.key].not_before_ns <= now_ns]
    return ready, after


def _not_ahead(known: Delivery, now_ns: int) -> Delivery:
    """Times that lie ahead are of a clock that was set back since; they must not silence an alert for longer."""
    limit_ns = now_ns + int(LONGEST_WAIT_SECONDS * NS_PER_SECOND)
    return msgspec.structs.replace(
        known,
        firing_ns=min(known.firing_ns, now_ns),
        not_before_ns=known.not_before_ns if known.not_before_ns <= limit_ns else 0,
    )


def delivered(deliveries: Mapping[str, Delivery], notice: Notice, now_ns: int) -> dict[str, Delivery]:
    """The receiver has it."""
    known = deliveries[notice.alert.key]
    firing = notice.state == "firing"
    return dict(deliveries) | {
        notice.alert.key: msgspec.structs.replace(
            known,
            told=firing,
            owed=False,
            # One that was told late was this hour's message, too.
            firing_ns=now_ns if firing or notice.late else known.firing_ns,
            sent_ns=now_ns,
            sent=known.sent + 1 if firing else known.sent,
            attempts=0,
            not_before_ns=0,
        )
    }


def refused(
    deliveries: Mapping[str, Delivery], notice: Notice, now_ns: int, wait_seconds: float = 0.0
) -> dict[str, Delivery]:
    """The receiver did not take this one. It is tried again later; the others are not held up by it."""
    known = deliveries[notice.alert.key]
    attempts = known.attempts + 1
    wait_ns = int(max(wait_seconds, backoff_seconds(attempts)) * NS_PER_SECOND)
    return dict(deliveries) | {
        notice.alert.key: msgspec.structs.replace(known, attempts=attempts, not_before_ns=now_ns + wait_ns)
    }


def backoff_seconds(attempts: int) -> float:
    """5, 10, 20 … 300 seconds."""
    return min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(max(attempts, 1) - 1, 20))


def channel_open(channel: Channel, now_ns: int) -> bool:
    """Whether something may be tried now. A wait longer than any we give is of a clock that was set back."""
    ahead_ns = channel.not_before_ns - now_ns
    return ahead_ns <= 0 or ahead_ns > LONGEST_WAIT_SECONDS * NS_PER_SECOND


def channel_failed(channel: Channel, problem: str, now_ns: int, wait_seconds: float) -> Channel:
    """Nothing got through: wait before anything is tried again."""
    attempts = channel.attempts + 1
    wait = min(LONGEST_WAIT_SECONDS, max(wait_seconds, backoff_seconds(attempts)))
    return msgspec.structs.replace(
        channel,
        attempts=attempts,
        not_before_ns=now_ns + int(wait * NS_PER_SECOND),
        failures_total=channel.failures_total + 1,
        last_problem=problem,
    )


def channel_worked(channel: Channel, now_ns: int) -> Channel:
    return msgspec.structs.replace(
        channel,
        attempts=0,
        not_before_ns=0,
        sent_total=channel.sent_total + 1,
        last_problem="",
        last_ok_ns=now_ns,
    )
