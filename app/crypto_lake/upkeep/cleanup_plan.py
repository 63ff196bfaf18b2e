"""What may be deleted here, and why not. Pure: from facts, the policy and the time to a verdict for every file.

It is asked more than once. What a verdict depends on is looked at in two steps: first what the records say; a file
that may go by them is to be *proven*: measured here, and its objects looked at in the bucket. With the proof among the
facts the same question gives the answer. Without a proof nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from crypto_lake.upkeep.disk_budget import Need

Action = Literal["delete", "keep", "prove"]
Code = Literal[
    "expired",
    "disk_full",
    "open",
    "not_sealed",
    "too_young",
    "kept_for_good",
    "not_uploaded",
    "other_bucket",
    "not_in_ledger",
    "ledger_not_uploaded",
    "bars_not_made",
    "bars_not_final",
    "lines_unused",
    "raw_here",
    "bars_here",
    "not_published",
    "local_changed",
    "gone_from_bucket",
    "differs_in_bucket",
    "store_failed",
    "bars_differ",
    "to_prove",
]
# What a person should look at: something is not as the records say.
ALARMING: Final[frozenset[Code]] = frozenset(
    {"local_changed", "gone_from_bucket", "differs_in_bucket", "store_failed", "bars_differ", "not_in_ledger"}
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why a file must stay, by what is recorded."""

    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found when a file was measured and its objects were looked at. `problem` None: all agree.

    `evidence`: what was found, to be recorded with the deletion.
    """

    sha256: str
    problem: Blocker | None = None
    evidence: Mapping[str, str | int] = field(default_factory=dict[str, "str | int"])


@dataclass(frozen=True, slots=True)
class Case:
    """A file and what decides over it.

    `ages_from_ns`: its age counts from then, by the lake's clock. `blockers`: by the records; whatever its age and
    however full the disk is, it stays while there is one.
    """

    path: str
    kind: Literal["raw", "bars", "judged"]
    bytes: int
    ages_from_ns: int
    blockers: Sequence[Blocker] = ()
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """`raw_ns`, `bars_ns`: how long they are kept, None: for good. What was judged of bars is kept as long. `need`: what must go earlier, for want of room.

    `has_bucket`: else what is kept for good is nowhere else, and stays however full the disk is.
    """

    raw_ns: int | None
    bars_ns: int | None = None
    has_bucket: bool = False
    need: Need = field(default_factory=Need)

    def keeps_ns(self, case: Case) -> int | None:
        return self.raw_ns if case.kind == "raw" else self.bars_ns


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` goes on from the file's name. `overdue`: it is kept although it is older than it has to be."""

    path: str
    bytes: int
    action: Action
    code: Code
    text: str
    overdue: bool = False

    @property
    def is_alarming(self) -> bool:
        return self.overdue and self.code in ALARMING


def decide(cases: Iterable[Case], policy: Policy, now_ns: int) -> list[Verdict]:
    """A verdict for each case, in their order. `now_ns`: the lake's clock.

    What is short of room takes the oldest files first, of raw alone, and no more than is needed; those whose proof is
    still to be found count as if they went, so ask again with the proofs until no verdict is `prove`.
    """
    cases = list(cases)
    verdicts = {case.path: _by_age(case, policy, now_ns) for case in cases}
    going = [v for v in verdicts.values() if v.action != "keep"]
    freed_bytes, freed_files = sum(v.bytes for v in going), len(going)
    sheddable = ("too_young", "kept_for_good") if policy.has_bucket else ("too_young",)
    young = sorted(
        (case for case in cases if case.kind == "raw" and verdicts[case.path].code in sheddable),
        key=lambda case: (case.ages_from_ns, case.path),
    )
    for case in young:
        if policy.need.is_met(freed_bytes, freed_files):
            break
        verdict = _proven(case, "disk_full", "goes before its time: the disk is nearly full")
        verdicts[case.path] = verdict
        if verdict.action != "keep":
            freed_bytes, freed_files = freed_bytes + case.bytes, freed_files + 1
    return [verdicts[case.path] for case in cases]


def stays(case: Case, policy: Policy, now_ns: int) -> Verdict | None:
    """The verdict of a case that stays whatever becomes of the others; None where that is not known by the case alone."""
    if case.kind == "raw" and not case.blockers:
        return None  # it may go for want of room
    verdict = _by_age(case, policy, now_ns)
    return verdict if verdict.action == "keep" and case.proof is None else None


def _by_age(case: Case, policy: Policy, now_ns: int) -> Verdict:
    keeps_ns = policy.keeps_ns(case)
    left_ns = None if keeps_ns is None else case.ages_from_ns + keeps_ns - now_ns
    for blocker in case.blockers:
        overdue = left_ns is not None and left_ns <= 0
        return Verdict(case.path, case.bytes, "keep", blocker.code, blocker.text, overdue)
    if keeps_ns is None or left_ns is None:
        return Verdict(case.path, case.bytes, "keep", "kept_for_good", "is kept for good")
    if left_ns > 0:
        text = f"is kept for another {_duration(left_ns / 1e9)}"
        return Verdict(case.path, case.bytes, "keep", "too_young", text)
    return _proven(case, "expired", f"is older than {_duration(keeps_ns / 1e9)}")


def _proven(case: Case, code: Code, text: str) -> Verdict:
    if case.proof is None:
        return Verdict(case.path, case.bytes, "prove", "to_prove", f"{text}; to be proven")
    problem = case.proof.problem
    if problem is not None:
        return Verdict(case.path, case.bytes, "keep", problem.code, problem.text, overdue=True)
    return Verdict(case.path, case.bytes, "delete", code, text)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "d" and seconds % length == 0 and seconds):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
