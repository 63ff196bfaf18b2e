"""What each condition is, and why. Pure.

A collector that does not answer makes a condition Unknown, not False. Messages hold no figure that moves by itself, and
say what to do where something is to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from crypto_lake_operator import naming, quantity, steps, timetable
from crypto_lake_operator.actions import Wait
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import TaskStatus, Truth
from crypto_lake_operator.collectors import Seen, runs
from crypto_lake_operator.decide import is_settled
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.reasons import BLOCKING, Reason
from crypto_lake_operator.render import Plan
from crypto_lake_operator.render.context import CONFIG_FOLDER

DISK_FULL_PERCENT: Final = 97.0
FULL_SOON_SECONDS: Final = 86400
LATE_LEAST_SECONDS: Final = 3 * 3600
NOT_WRITING: Final = {
    "disk_full": "there is no room on the volume, what comes is let go",
    "write_errors": "writes to the volume fail, what comes is let go",
    "not_writing": "what comes does not reach the volume",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition before it has its times."""

    status: Truth
    reason: Reason
    message: str


def of_waits(waits: Iterable[Wait]) -> Verdict | None:
    """The worst reason, and the messages of all: those that block first."""
    ordered = sorted(waits, key=lambda wait: wait.reason not in BLOCKING)
    if not ordered:
        return None
    return Verdict("False", ordered[0].reason, "; ".join(dict.fromkeys(wait.message for wait in ordered)))


def reconciled(
    lake: CryptoLake, plan: Plan, observed: Observed, slots: list[Seen], waits: Sequence[Wait]
) -> Verdict:
    if verdict := of_waits(waits):
        return verdict
    growing = [c.name for c in observed.claims.values() if c.capacity and _is_less(c.capacity, c.requested)]
    if growing:
        return Verdict(
            "False", Reason.GROWING_VOLUME, f"{', '.join(sorted(growing))} will have {lake.spec.storage.size}"
        )
    if lake.spec.suspend:
        return Verdict("True", Reason.AS_WANTED, "all is as spec wants it: suspended")
    if draining := [str(slot) for slot in plan.assignment.draining]:
        lacks_bucket = (
            "" if lake.spec.bucket else "; without spec.bucket it can't: set it again, or annotate the lake"
        )
        return Verdict(
            "False",
            Reason.DRAINING,
            f"{', '.join(draining)} will go when it has fetched what it missed and uploaded all it has{lacks_bucket}",
        )
    if moving := sorted(plan.assignment.moving):
        return Verdict("False", Reason.MOVING_SYMBOLS, f"{some(moving)} move to another collector")
    for replica in plan.assignment.replicas():
        child = observed.child("StatefulSet", naming.stateful_set(lake.metadata.name, replica))
        if child is None or not is_settled(child):
            return Verdict(
                "False", Reason.ROLLING_OUT, f"replica {replica} does not run its newest revision yet"
            )
    for seen in slots:
        verdict = _applied(seen, plan)
        if verdict is not None:
            return verdict
    return Verdict("True", Reason.AS_WANTED, "all is as spec wants it")


def _applied(seen: Seen, plan: Plan) -> Verdict | None:
    """Why a collector does not do yet what its file says; None where it does, or does not tell."""
    report = seen.report
    if report is None:
        return None
    configuration = report.configuration
    if configuration is not None and configuration.sha256 != plan.files[seen.slot]:
        if configuration.problem:
            return Verdict(
                "False",
                Reason.CONFIGURATION_REFUSED,
                f"{seen.name} refuses its file: {configuration.problem}",
            )
        return Verdict("False", Reason.CONFIGURATION_PENDING, f"{seen.name} has not read its new file yet")
    missing = sorted(plan.assignment.collects[seen.slot] - report.live_symbols)
    if configuration is None and missing:
        return Verdict(
            "False", Reason.CONFIGURATION_PENDING, f"{seen.name} does not collect {some(missing)} yet"
        )
    return None


def ready(collecting: Verdict, reconciled: Verdict) -> Verdict:
    if reconciled.status == "False" and reconciled.reason in BLOCKING:
        return reconciled
    if collecting.status != "True" or collecting.reason is Reason.ONE_COPY_DOWN:
        truth = "False" if collecting.status == "True" else collecting.status
        return Verdict(truth, collecting.reason, collecting.message)
    return Verdict("True", Reason.ALL_LIVE, "every collector collects and writes")


def why_not_collecting(seen: Seen) -> Verdict | None:
    """Of one collector; None where it collects and writes."""
    pod, report = seen.pod, seen.report
    if report is not None:
        # Its own verdict. Its reasons also tell of what is over: a write that failed minutes ago. And a stream that is
        # made good within half a minute is no transition, as it is none for its pod.
        if report.ready:
            return None
        if reason := report.has("disk_full") or report.has("write_errors", "not_writing"):
            # Not its own words, which tell for how long: they would change with each look.
            said = NOT_WRITING[reason.code]
            return Verdict("False", Reason.NOT_WRITING, f"{seen.name}: {_said(said, reason.do)}")
        if reason := report.has("not_subscribed"):
            return Verdict(
                "False", Reason.NOT_SUBSCRIBED, f"{seen.name}: {_said('not all streams are live', reason.do)}"
            )
        return None
    if pod is None and seen.not_made:
        reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in seen.not_made else Reason.REFUSED
        return Verdict("False", reason, f"there is no pod {seen.name}: {seen.not_made}")
    if pod is None:
        return Verdict("False", Reason.NO_COLLECTOR, f"there is no pod {seen.name}")
    if pod.unschedulable:
        return Verdict("False", Reason.UNSCHEDULABLE, f"{seen.name} fits on no node: {pod.unschedulable}")
    if pod.waiting.startswith(("ErrImage", "ImagePull", "InvalidImageName")):
        return Verdict("False", Reason.IMAGE_CANT_BE_PULLED, f"{seen.name}: {pod.waiting}; see spec.image")
    if pod.waiting.startswith("CrashLoop"):
        how = f" ({pod.ended})" if pod.ended else ""
        do = f"see kubectl logs --previous {seen.name}"
        if pod.ended.startswith("OOMKilled"):
            do = "raise the memory in spec.pod.resources.limits, or spread its symbols over more shards"
        return Verdict("False", Reason.CRASHING, f"{seen.name} ends again and again{how}; {do}")
    if seen.silence is not None and runs(pod):
        since = (seen.silent_since or seen.silence.since).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return Verdict(
            "Unknown", Reason.UNREACHABLE, f"{seen.name} does not answer since {since}: {seen.silence.why}"
        )
    return Verdict("False", Reason.STARTING, f"{seen.name} starts")


def _said(message: str, do: str) -> str:
    return f"{message} ({do})" if do else message


def collecting(lake: CryptoLake, slots: list[Seen]) -> Verdict:
    """True while every shard has a collector, also where its copy is down."""
    if lake.spec.suspend:
        return Verdict(
            "False",
            Reason.SUSPENDED,
            "spec.suspend is set: nothing is collected, and what is traded is missed",
        )
    troubles = {seen.slot: verdict for seen in slots if seen.wanted and (verdict := why_not_collecting(seen))}
    if not troubles:
        return Verdict("True", Reason.ALL_LIVE, "every collector collects and writes")
    messages = some([verdict.message for verdict in troubles.values()], "; ")
    bare = [
        shard
        for shard in range(lake.spec.shards)
        if all(
            slot in troubles
            for slot in (Slot(replica, shard) for replica in naming.REPLICAS[: lake.spec.replicas])
        )
    ]
    if not bare:
        return Verdict("True", Reason.ONE_COPY_DOWN, messages)
    of_bare = [verdict for slot, verdict in troubles.items() if slot.shard in bare]
    worst = next((v for v in of_bare if v.status == "False"), of_bare[0])
    return Verdict(worst.status, worst.reason, messages)


def _cant_be_asked(lake: CryptoLake, slots: list[Seen]) -> Verdict | None:
    """Where something is not known of a collector, and so not of the lake."""
    silent = [seen.name for seen in slots if seen.report is None]
    if not silent:
        return None
    if lake.spec.suspend:
        return Verdict("Unknown", Reason.SUSPENDED, "spec.suspend is set: there is no collector to be asked")
    return Verdict("Unknown", Reason.UNREACHABLE, f"{some(silent)} can't be asked")


def complete(lake: CryptoLake, slots: list[Seen], gaps_open: int) -> Verdict:
    """Where bars differ that is told first: what is missing is known, what is wrong is used. Of a lake that checks no more
    nothing is told of bars: the word of the last check would stand for good.
    """
    checked = slots if lake.spec.check.enabled else []
    differ = [seen.name for seen in checked if seen.report and seen.report.bars_differ]
    if differ:
        return Verdict(
            "False",
            Reason.BARS_DIFFER,
            f"{some(differ)}: bars are not what the exchange's own klines say, and the ledger does not explain it; in the "
            f"pod `crypto-lake check --config {CONFIG_FOLDER}/{naming.config_file('N')}` names the seconds, `crypto-lake "
            "explain` the lines that a bar was made of",
        )
    if gaps_open:
        return Verdict(
            "False",
            Reason.GAPS_OPEN,
            "trades are missing that were not fetched yet; status.shards says where, the ledger names each",
        )
    return _cant_be_asked(lake, slots) or Verdict("True", Reason.NO_GAPS, "no trade is known to be missing")


def uploaded(lake: CryptoLake, observed: Observed, slots: list[Seen], publish: TaskStatus | None) -> Verdict:
    """publish: what became of its last run; None: none is known."""
    if not lake.spec.bucket:
        return Verdict("True", Reason.NO_BUCKET, "spec.bucket is not set: nothing is to be uploaded")
    failing = [
        f"{seen.name}: {task.problem}"
        for seen in slots
        if seen.report and (task := seen.report.tasks.get("upload")) and task.failures
    ]
    if publish is not None and not publish.ok:
        failing.append(f"publish: {publish.problem or 'it failed'}")
    if failing:
        return Verdict("False", Reason.UPLOAD_FAILING, some(failing, "; "))
    now_s = observed.taken_at.timestamp()
    limit_seconds = max(LATE_LEAST_SECONDS, 3 * 60 * timetable.longest_period_minutes(lake.spec, "upload"))
    late = [
        seen.name
        for seen in slots
        if seen.report and seen.report.upload_ok_ns and now_s - seen.report.upload_ok_ns / 1e9 > limit_seconds
    ]
    if late and not lake.spec.suspend:
        return Verdict(
            "False",
            Reason.UPLOAD_LATE,
            f"{some(late)}: no upload has succeeded for {steps.read_seconds(limit_seconds)}",
        )
    if problem := _publish_problem(lake, observed):
        return Verdict("False", Reason.UPLOAD_LATE, problem)
    if verdict := _cant_be_asked(lake, slots):
        return verdict
    if waiting := [seen.name for seen in slots if seen.report and not seen.report.upload_ok_ns]:
        return Verdict("Unknown", Reason.NOT_UPLOADED_YET, f"{some(waiting)}: no upload has ended yet")
    return Verdict("True", Reason.UP_TO_DATE, "the last uploads were read back and agree")


def _publish_problem(lake: CryptoLake, observed: Observed) -> str:
    """That it is late, its CronJob tells: also where no pod of it comes to an end."""
    child = observed.child("CronJob", naming.publish(lake.metadata.name))
    if child is None:
        return ""
    scheduled = _seconds(child.status.get("lastScheduleTime"))
    succeeded = _seconds(child.status.get("lastSuccessfulTime") or child.created)
    limit_seconds = max(
        LATE_LEAST_SECONDS, 3 * 60 * timetable.longest_period_minutes(lake.spec, naming.PUBLISH)
    )
    if not succeeded or scheduled - succeeded <= limit_seconds:
        return ""
    return (
        f"publish has not succeeded for {steps.read_seconds(limit_seconds)}; see kubectl get jobs,pods "
        f"-l {_labels(naming.selector(lake.metadata.name, naming.PUBLISH))}"
    )


def _labels(chosen: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in chosen.items())


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def disk(lake: CryptoLake, slots: list[Seen]) -> Verdict:
    limit_percent = float(lake.spec.alerts.disk.removesuffix("%"))
    full: list[str] = []
    filling: list[str] = []
    for seen in slots:
        report = seen.report
        if report is None:
            continue
        used = report.disk.used_percent if report.disk else 0.0
        soon = report.disk_full_in_seconds
        if used >= DISK_FULL_PERCENT or report.has("disk_full"):
            full.append(seen.name)
        elif used >= limit_percent or (soon is not None and soon < FULL_SOON_SECONDS):
            filling.append(seen.name)
    hint = f"raise spec.storage.size (now {lake.spec.storage.size}) or shorten spec.retention.raw"
    if full:
        return Verdict("False", Reason.DISK_FULL, f"the volume of {some(full)} is full: {hint}")
    if filling:
        return Verdict("False", Reason.DISK_FILLING, f"the volume of {some(filling)} fills up: {hint}")
    if verdict := _cant_be_asked(lake, slots):
        return verdict
    if untold := [seen.name for seen in slots if seen.report and seen.report.disk is None]:
        return Verdict("Unknown", Reason.NOT_TOLD, f"{some(untold)} do not tell how full their volume is")
    return Verdict("True", Reason.ENOUGH_ROOM, "there is room on every volume")


def _is_less(one: str, other: str) -> bool:
    return quantity.parse(one) < quantity.parse(other)


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first five, and how many more."""
    shown = between.join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
