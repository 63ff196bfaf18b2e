"""Each collector as it is seen: its slot, its pod, what it says, and since when it says nothing. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import Status
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Observed, Pod, Unreachable
from crypto_lake_operator.render import Plan
from crypto_lake_operator.report import Report


@dataclass(frozen=True, slots=True)
class Seen:
    """A slot with its pod and what its collector said. asked: somebody tried to reach it. silent_since: since when it is
    wanted and does not answer, or is not there; of one that was not asked yet, what was known before.
    """

    slot: Slot
    name: str
    wanted: bool
    pod: Pod | None
    report: Report | None
    silence: Unreachable | None
    not_made: str = ""  # why there is no pod, where its controller says so
    silent_since: datetime | None = None

    @property
    def asked(self) -> bool:
        return self.report is not None or self.silence is not None or not runs(self.pod)


def runs(pod: Pod | None) -> bool:
    return pod is not None and pod.phase == "Running" and not pod.waiting


def slots(lake: CryptoLake, plan: Plan, observed: Observed, previous: Status) -> list[Seen]:
    """previous: the status as it was written; it knows of silences that began before the operator did."""
    since = {shard.name: shard.silent_since for shard in previous.shards}
    found: list[Seen] = []
    for slot in sorted(plan.assignment.collects):
        name = naming.pod(lake.metadata.name, slot)
        answer = observed.reports.get(name)
        seen = Seen(
            slot,
            name,
            slot in plan.assignment.wanted,
            observed.pods.get(name),
            answer if isinstance(answer, Report) else None,
            answer if isinstance(answer, Unreachable) else None,
            observed.not_made.get(naming.stateful_set(lake.metadata.name, slot.replica), ""),
        )
        if seen.wanted and seen.report is None and not lake.spec.suspend:
            before = read_time(since.get(str(slot)))
            now = (seen.silence.since if seen.silence else observed.taken_at) if seen.asked else None
            seen = replace(seen, silent_since=before or now)
        found.append(seen)
    return found


def read_time(text: str | None) -> datetime | None:
    """Of a status; None also of what somebody wrote there that is no time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None
