"""Which conditions hold: a pure function of what is seen, the rules, and what was seen before.

A check says what it found, or that it can't tell (`None`): then what fired goes on firing and nothing new does. No
collector means no news of symbols; it does not mean that they are well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from crypto_lake.model.alerting import Rule, Severity
from crypto_lake.model.market import NS_PER_SECOND
from crypto_lake.watch.conditions_checks import CHECKS
from crypto_lake.watch.conditions_look import Finding, Look
from crypto_lake.watch.conditions_memory import Memory, remember


class Alert(msgspec.Struct, frozen=True):
    """A condition that fires. `key`: type and subject, the same as long as it lasts. Times are Unix ns, real."""

    key: str
    type: str
    subject: str
    severity: Severity
    message: str  # what happened, to what, what to do
    started_ns: int  # when it began
    since_ns: int  # when it fired
    details: dict[str, Any] = {}


class Tracked(msgspec.Struct, frozen=True):
    """A finding over time. `alert.since_ns` 0: it does not fire yet. `clear_ns`: since when it is no longer found."""

    alert: Alert
    first_ns: int
    clear_ns: int = 0


class ConditionState(msgspec.Struct, frozen=True):
    """What evaluation carries from one look to the next. `unknown`: types that could not be judged at the last."""

    memory: Memory = Memory()
    tracked: dict[str, Tracked] = {}
    unknown: tuple[str, ...] = ()


def evaluate(
    look: Look, rules: Mapping[str, Rule], state: ConditionState, *, settle_seconds: float
) -> tuple[list[Alert], ConditionState]:
    """What fires now, and the state for the next look. Pure.

    settle_seconds: how long something must be gone before it counts as resolved.
    """
    memory = remember(state.memory, look)
    tracked: dict[str, Tracked] = {}
    unknown: list[str] = []
    for type_, rule in rules.items():
        if not rule.enabled:
            continue
        before = {key: one for key, one in state.tracked.items() if one.alert.type == type_}
        firing = frozenset(one.alert.subject for one in before.values() if one.alert.since_ns)
        findings = CHECKS[type_](look, rule, memory, firing)
        if findings is None:
            unknown.append(type_)
            tracked |= before
        else:
            tracked |= _follow(type_, findings, before, look.now_ns, settle_seconds)
    alerts = [one.alert for one in tracked.values() if one.alert.since_ns]
    return alerts, ConditionState(memory, tracked, tuple(unknown))


def _follow(
    type_: str, findings: list[Finding], before: dict[str, Tracked], now_ns: int, settle_seconds: float
) -> dict[str, Tracked]:
    """The findings of a type, taken together with those of the look before."""
    after: dict[str, Tracked] = {}
    for found in findings:
        key = f"{type_}:{found.subject}" if found.subject else type_
        known = before.get(key)
        first_ns = known.first_ns if known else now_ns
        since_ns = known.alert.since_ns if known else 0
        started_ns = found.started_ns or first_ns
        if since_ns and known:  # it is the same alert: its beginning does not move
            started_ns = known.alert.started_ns
        elif now_ns - first_ns >= found.hold_seconds * NS_PER_SECOND:
            since_ns = now_ns
        after[key] = Tracked(
            Alert(
                key, type_, found.subject, found.severity, found.message, started_ns, since_ns, found.details
            ),
            first_ns,
        )
    for key, known in before.items():
        if key in after or not known.alert.since_ns:
            continue
        clear_ns = known.clear_ns or now_ns
        # A clock that was set back must not keep it for ever.
        if 0 <= now_ns - clear_ns < settle_seconds * NS_PER_SECOND:
            after[key] = msgspec.structs.replace(known, clear_ns=clear_ns)
    return after
