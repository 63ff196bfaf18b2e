"""The lake's status, of what was found. Pure; `Observed.taken_at` is the time.

A collector that was not asked yet, as after the operator's start, leaves what was said before. Nothing here changes
while the lake rests: figures go in steps (steps.py), and messages hold no figure that moves by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from crypto_lake_operator import naming, status_tasks, steps
from crypto_lake_operator.actions import Wait
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import CONDITIONS, Condition, ConditionType, Status
from crypto_lake_operator.collectors import Seen, slots
from crypto_lake_operator.conditions import (
    Verdict,
    collecting,
    complete,
    disk,
    of_waits,
    ready,
    reconciled,
    uploaded,
)
from crypto_lake_operator.figures import gaps, last_known_gaps, shard
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.render import Plan

LONGEST_MESSAGE: Final = 2000


def compute_status(
    lake: CryptoLake, plan: Plan | None, observed: Observed, waits: Sequence[Wait], previous: Status
) -> Status:
    """The whole status. `waits`: of decide and of what execute could not do. No plan: spec can't be used; `waits` say
    why, and the figures stay what they were.
    """
    if plan is None:
        no_plan = of_waits(waits) or Verdict("Unknown", Reason.BUG, "there is no plan, and nothing says why")
        verdicts: dict[ConditionType, Verdict] = {"Reconciled": no_plan, "Ready": no_plan}
        conditions = _conditions(lake, observed, verdicts, previous)
        return _kept(lake, previous, conditions)
    seen = slots(lake, plan, observed, previous)
    as_wanted = reconciled(lake, plan, observed, seen, waits)
    if previous.conditions and not all(each.asked for each in seen):
        return _kept(lake, previous, _conditions(lake, observed, {"Reconciled": as_wanted}, previous))
    flowing, tasks = collecting(lake, seen), status_tasks.of_lake(lake, observed, previous)
    found: dict[ConditionType, Verdict] = {
        "Ready": ready(flowing, as_wanted),
        "Collecting": flowing,
        "Complete": complete(lake, seen, gaps(seen)[0]),
        "Uploaded": uploaded(
            lake, observed, seen, next((t for t in tasks if t.name == naming.PUBLISH), None)
        ),
        "DiskHealthy": disk(lake, seen),
        "Reconciled": as_wanted,
    }
    return msgspec.structs.replace(
        _summed(lake, seen, previous, _conditions(lake, observed, found, previous)),
        tasks=(*tasks, *status_tasks.of_check(lake, seen, previous)),
        last_published_day=status_tasks.last_published_day(lake, observed, previous),
        copies=status_tasks.copies(lake, observed, previous),
    )


def _kept(lake: CryptoLake, previous: Status, conditions: tuple[Condition, ...]) -> Status:
    return msgspec.structs.replace(
        previous, observed_generation=lake.metadata.generation, conditions=conditions
    )


def _conditions(
    lake: CryptoLake, observed: Observed, found: dict[ConditionType, Verdict], previous: Status
) -> tuple[Condition, ...]:
    """In their order. One without a verdict stays as it was. The time of a transition changes with `status` alone."""
    now = observed.taken_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made: list[Condition] = []
    for type_ in CONDITIONS:
        before, verdict = previous.condition(type_), found.get(type_)
        if verdict is None:
            made += [before] if before else []
            continue
        same = before is not None and before.status == verdict.status
        made.append(
            Condition(
                type=type_,
                status=verdict.status,
                reason=verdict.reason.value,
                message=verdict.message[:LONGEST_MESSAGE],
                observed_generation=lake.metadata.generation,
                last_transition_time=before.last_transition_time if before and same else now,
            )
        )
    return tuple(made)


def _summed(
    lake: CryptoLake, seen: list[Seen], previous: Status, conditions: tuple[Condition, ...]
) -> Status:
    shards = tuple(shard(each, lake.spec.suspend, previous) for each in seen)
    reports = [each.report for each in seen if each.report]
    live = frozenset[str]().union(*(report.live_symbols for report in reports))
    pending = [report.pending for report in reports if report.pending is not None]
    not_uploaded = (
        steps.up(sum(pending), steps.BYTES, previous.not_uploaded_bytes)
        if pending and len(pending) == len(seen)
        else None
    )
    lags = [each.lag_seconds for each in shards if each.lag_seconds is not None]
    uploads = [each.last_verified_upload for each in shards]
    gaps_open, trades_missing = last_known_gaps(seen, shards)
    wanted = [shard_ for shard_, each in zip(shards, seen, strict=True) if each.wanted]
    return Status(
        observed_generation=lake.metadata.generation,
        conditions=conditions,
        symbols=len(live & frozenset(lake.spec.symbols)),
        lag_seconds=max(lags, default=None),
        lag=steps.read_seconds(max(lags)) if lags else "",
        gaps_open=gaps_open,
        trades_missing=trades_missing,
        gaps_healed=sum(each.gaps_healed for each in shards),
        not_uploaded_bytes=not_uploaded,
        not_uploaded=steps.read_bytes(not_uploaded) if not_uploaded is not None and lake.spec.bucket else "",
        last_verified_upload=min((u for u in uploads if u), default=None) if all(uploads) else None,
        disk_used_percent=_of(max, [each.disk_used_percent for each in shards]),
        disk_full_in_seconds=_of(min, [each.disk_full_in_seconds for each in shards]),
        collectors=f"{sum(each.state == 'Live' for each in wanted)}/{len(wanted)}",
        shards=shards,
        alerts=previous.alerts,
    )


def _of(choose: Callable[[list[int]], int], figures: list[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return choose(known) if known else None


def is_transition(old: Status, new: Status) -> bool:
    """Something that must be there at once: a condition, the generation looked at, which alerts were told, since when a
    collector is silent, whether a task went well.
    """

    def of(status: Status) -> tuple[object, ...]:
        return (
            status.observed_generation,
            status.alerts,
            {c.type: (c.status, c.reason) for c in status.conditions},
            {s.name: s.silent_since for s in status.shards if s.silent_since},
            {t.name: t.ok for t in status.tasks},
        )

    return of(old) != of(new)


def should_write(
    old: Status, new: Status, last_write: datetime | None, now: datetime, every_seconds: float
) -> bool:
    """Transitions at once; figures and messages once in every_seconds; what is equal never."""
    if old == new:
        return False
    if last_write is None or is_transition(old, new):
        return True
    return (now - last_write).total_seconds() >= every_seconds
