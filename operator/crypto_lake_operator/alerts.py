"""What the operator tells a lake's webhook: that a collector is gone, which the collector itself can't. Pure.

What was told, and when, stands in the lake's status, and so does since when a collector is silent: an operator that
starts anew goes on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from crypto_lake.config.durations import parse_duration
from crypto_lake.model.alert_message import SCHEMA, Message, MessageState
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import ToldAlert
from crypto_lake_operator.collectors import Seen
from crypto_lake_operator.conditions import why_not_collecting

COLLECTOR_DOWN: Final = "collector_down"
SEVERITY: Final = "critical"
AFTER_SECONDS: Final = 300.0


class Trouble(NamedTuple):
    """Of a collector, by its slot. began: when it was first seen."""

    subject: str
    pod: str
    began: datetime
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that is due. record: what is to stand in the status once it is sent; None: nothing."""

    state: MessageState
    subject: str
    began: datetime
    number: int
    message: str
    details: Mapping[str, str]
    record: ToldAlert | None


def troubles(
    slots: Sequence[Seen], suspended: bool, since: Mapping[str, datetime], now: datetime
) -> list[Trouble]:
    """Collectors that do not answer, new and old. One that was not asked yet is as it was. since: what this process knows
    of silences, where the status can't be written.
    """
    found: list[Trouble] = []
    for seen in slots:
        if suspended or not seen.wanted or seen.report is not None:
            continue
        subject = str(seen.slot)
        if not seen.asked and subject not in since and seen.silent_since is None:
            continue
        verdict = why_not_collecting(seen)
        assert verdict is not None
        began = min(since.get(subject, now), seen.silent_since or now)
        found.append(Trouble(subject, seen.name, began, verdict.message, verdict.reason.value))
    return found


def unasked(slots: Sequence[Seen]) -> frozenset[str]:
    """Of which nothing can be said yet."""
    return frozenset(str(seen.slot) for seen in slots if not seen.asked)


def due(
    found: Sequence[Trouble],
    unknown: frozenset[str],
    told: Sequence[ToldAlert],
    repeat_seconds: float,
    now: datetime,
    *,
    after_seconds: float = AFTER_SECONDS,
) -> tuple[list[Notice], float | None]:
    """Messages to be sent now, and in how many seconds the next one may be due."""
    notices: list[Notice] = []
    later: list[float] = []
    before = {alert.subject: alert for alert in told}
    for trouble in found:
        alert = before.get(trouble.subject)
        waits = after_seconds - (now - trouble.began).total_seconds()
        if alert is not None:
            waits = max(waits, repeat_seconds - (now - _time(alert.told)).total_seconds())
        if waits > 0:
            later.append(waits)
            continue
        goes_on = alert is not None and not alert.resolved
        number = alert.number + 1 if alert is not None and goes_on else 1
        began = _time(alert.since) if alert is not None and goes_on else trouble.began
        record = ToldAlert(
            subject=trouble.subject,
            message=trouble.message[:1000],
            since=iso(began),
            told=iso(now),
            number=number,
        )
        details = {"pod": trouble.pod, "reason": trouble.reason}
        notices.append(Notice("firing", trouble.subject, began, number, trouble.message, details, record))
    troubled = {trouble.subject for trouble in found}
    for alert in told:
        if alert.resolved or alert.subject in troubled | unknown:
            continue
        record = msgspec.structs.replace(alert, resolved=True)
        message = "the collector answers again, or is no longer wanted"
        notices.append(
            Notice("resolved", alert.subject, _time(alert.since), alert.number, message, {}, record)
        )
    return notices, min(later, default=None)


def recorded(
    told: Iterable[ToldAlert], sent: Iterable[ToldAlert], repeat_seconds: float, now: datetime
) -> tuple[ToldAlert, ...]:
    """What stands in the status from now on. What is over and limits nothing any more goes, but only when something else
    is written: for itself it is worth no write.
    """
    new = {alert.subject: alert for alert in sent}
    old = tuple(told)
    if not new:
        return old
    kept = {
        alert.subject: alert
        for alert in old
        if not alert.resolved or (now - _time(alert.told)).total_seconds() < repeat_seconds
    }
    return tuple(alert for _, alert in sorted((kept | new).items()))


def repeat_seconds(lake: CryptoLake) -> float:
    return max(60.0, parse_duration(lake.spec.alerts.repeat))


def message(notice: Notice, lake: CryptoLake, host: str, version: str, now: datetime) -> Message:
    name = f"{lake.metadata.namespace}/{lake.metadata.name}"
    key = f"{COLLECTOR_DOWN}/{notice.subject}"
    identity = f"{lake.metadata.uid} {key} {iso(notice.began)} {notice.state} {notice.number}"
    return Message(
        schema=SCHEMA,
        id=hashlib.sha256(identity.encode()).hexdigest()[:16],
        state=notice.state,
        key=key,
        condition=COLLECTOR_DOWN,
        subject=notice.subject,
        severity=SEVERITY,
        message=notice.message,
        lake=name,
        collector="",
        host=host,
        version=version,
        started_at=iso(notice.began),
        since=iso(notice.began),
        ended_at=iso(now) if notice.state == "resolved" else None,
        sent_at=iso(now),
        duration_seconds=max(0, int((now - notice.began).total_seconds())),
        number=notice.number,
        late=False,
        details=dict(notice.details),
    )


def iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # what somebody wrote by hand limits nothing
        return datetime.fromtimestamp(0, UTC)
