"""What may be deleted: decided without a file, with an oracle of its own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.upkeep.cleanup_plan import ALARMING, Blocker, Case, Policy, Proof, Verdict, decide
from crypto_lake.upkeep.disk_budget import Need

NOW = 10**9
blockers = st.sampled_from(
    [
        Blocker("not_sealed", "is a part"),
        Blocker("not_uploaded", "is not in the bucket"),
        Blocker("not_in_ledger", "is unknown to its ledger"),
    ]
)
proofs = st.one_of(
    st.none(), st.just(Proof("ab")), st.just(Proof("ab", Blocker("gone_from_bucket", "is no longer there")))
)


@st.composite
def worlds(draw: st.DrawFn) -> list[Case]:
    count = draw(st.integers(0, 12))
    return [
        Case(
            path=f"raw/{number:02d}",
            kind=draw(st.sampled_from(["raw", "raw", "bars"])),
            bytes=draw(st.integers(0, 1000)),
            ages_from_ns=NOW - draw(st.integers(-10, 100)),
            blockers=tuple(draw(st.lists(blockers, max_size=2))),
            proof=draw(proofs),
        )
        for number in range(count)
    ]


policies = st.builds(
    Policy,
    st.one_of(st.none(), st.integers(1, 90)),
    st.one_of(st.none(), st.integers(1, 90)),
    st.booleans(),
    st.builds(Need, st.sampled_from([0, 0, 500, 2500, 10**9]), st.sampled_from([0, 0, 3])),
)


@given(worlds(), policies)
def test_nothing_goes_without_a_proof_or_against_a_blocker(cases: list[Case], policy: Policy) -> None:
    verdicts = decide(cases, policy, NOW)
    assert [verdict.path for verdict in verdicts] == [case.path for case in cases]
    for case, verdict in zip(cases, verdicts, strict=True):
        if verdict.action == "delete":
            assert case.blockers == ()
            assert case.proof is not None
            assert case.proof.problem is None
            keeps = policy.raw_ns if case.kind == "raw" else policy.bars_ns
            if keeps is None or case.ages_from_ns + keeps > NOW:
                assert verdict.code == "disk_full"
                assert case.kind == "raw"
                assert policy.need != Need()
                assert policy.has_bucket or keeps is not None, "the only copy of what is kept for good"
        assert verdict.text
        assert not verdict.is_alarming or (verdict.overdue and verdict.code in ALARMING)


def prove_all(cases: list[Case], policy: Policy, refused: set[str]) -> tuple[list[Case], list[Verdict], int]:
    """As cleanup does it: proofs are found for what is asked, until nothing is."""
    rounds = 0
    while True:
        verdicts = decide(cases, policy, NOW)
        asked = {verdict.path for verdict in verdicts if verdict.action == "prove"}
        if not asked:
            return cases, verdicts, rounds
        rounds += 1
        bad = Blocker("differs_in_bucket", "is another object")
        cases = [
            replace(case, proof=Proof("ab", bad if case.path in refused else None))
            if case.path in asked
            else case
            for case in cases
        ]


@given(worlds(), policies, st.sets(st.integers(0, 11).map("raw/{:02d}".format)))
def test_all_that_may_go_by_age_goes_and_no_more_than_is_needed_before_its_time(
    cases: list[Case], policy: Policy, refused: set[str]
) -> None:
    cases = [replace(case, proof=None) for case in cases]
    _, verdicts, rounds = prove_all(cases, policy, refused)
    assert rounds <= len(cases)
    gone = {verdict.path: verdict for verdict in verdicts if verdict.action == "delete"}
    sound = [case for case in cases if not case.blockers and case.path not in refused]
    expired, early = list[Case](), list[Case]()
    for case in sound:
        keeps = policy.raw_ns if case.kind == "raw" else policy.bars_ns
        if keeps is not None and case.ages_from_ns + keeps <= NOW:
            expired.append(case)
        elif case.kind == "raw" and (keeps is not None or policy.has_bucket):
            early.append(case)
    assert {case.path for case in expired} <= gone.keys()
    shed = [case for case in early if case.path in gone]
    assert gone.keys() == {case.path for case in (*expired, *shed)}
    # The oldest first: what was shed is older than what was not.
    left = [case for case in early if case.path not in gone]
    for one in shed:
        assert all((one.ages_from_ns, one.path) < (other.ages_from_ns, other.path) for other in left)
    freed = sum(case.bytes for case in (*expired, *shed)), len(expired) + len(shed)
    assert policy.need.is_met(*freed) or not left
    if shed:  # and without the last of them it would not have been enough
        last = max(shed, key=lambda case: (case.ages_from_ns, case.path))
        assert not policy.need.is_met(freed[0] - last.bytes, freed[1] - 1)


@given(worlds(), policies)
def test_the_same_facts_give_the_same_verdicts(cases: list[Case], policy: Policy) -> None:
    assert decide(cases, policy, NOW) == decide(iter(cases), policy, NOW)
