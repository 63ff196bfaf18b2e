"""The pure parts of the running operator: what is kept, what is worth a look, who may work, what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.aio.client.configuration import Configuration
from tests.support.operator_lakes import NOW, SETTINGS, documents, lake, live_objects, observed_at_rest

from crypto_lake_operator import access, kinds, naming
from crypto_lake_operator.api_status import Condition, Status
from crypto_lake_operator.cache import Cache, Owner, Place
from crypto_lake_operator.client import (
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from crypto_lake_operator.client_answers import error_of
from crypto_lake_operator.client_kube import KubeApi, NotInAccessError
from crypto_lake_operator.decide import KINDS
from crypto_lake_operator.execute import refusal
from crypto_lake_operator.lakes import Change, Lakes
from crypto_lake_operator.lease import DURATION_SECONDS, RENEW_SECONDS, RETRY_SECONDS, Rival
from crypto_lake_operator.poll_figures import picture
from crypto_lake_operator.queue import Key
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.reconcile import differences
from crypto_lake_operator.render import render
from crypto_lake_operator.report import Disk, Healing, Latency, Report, Stream, Symbol, Task
from crypto_lake_operator.validate import read_lake

# What is asked


def test_every_kind_that_is_rendered_is_watched_and_may_be_written() -> None:
    watched = {kind.kind for kind in (*kinds.CHILDREN, *kinds.OPTIONAL.values())}
    assert watched == set(KINDS)
    for name in KINDS:
        kind = kinds.of(name)
        for verb in ("get", "list", "watch", "create", "patch", "delete"):
            assert access.allows(kind.group, kind.plural, verb), (name, verb)


@settings(deadline=None)
@given(documents)
def test_what_is_rendered_is_of_kinds_that_are_known_and_is_found_by_their_selector(
    document: dict[str, Any],
) -> None:
    made = read_lake(document)
    for manifest in render(made, SETTINGS, observed_at_rest(made)):
        kind = kinds.of(manifest["kind"])
        assert kind.api_version == manifest["apiVersion"]
        labels = manifest["metadata"]["labels"]
        for pair in kinds.selector(kind).split(","):
            key, _, value = pair.partition("=")
            assert labels[key] == value
        if manifest["kind"] == "StatefulSet":
            pod = manifest["spec"]["template"]["metadata"]["labels"]
            claim = manifest["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]
            for chosen, found in ((kinds.POD, pod), (kinds.CLAIM, claim)):
                for pair in kinds.selector(chosen).split(","):
                    key, _, value = pair.partition("=")
                    assert found[key] == value


def test_nothing_that_loses_data_is_allowed() -> None:
    for resource in ("persistentvolumeclaims", "pods", "secrets", "namespaces", "cryptolakes"):
        assert not any(
            "delete" in rule.verbs or "deletecollection" in rule.verbs
            for rule in access.ALL
            if rule.resource == resource
        )
    assert not access.allows(kinds.LAKE.group, kinds.LAKE.plural, "patch"), "spec is never written"
    assert all("*" not in (*rule.verbs, rule.resource, rule.group) for rule in access.ALL)


def test_a_call_that_is_not_in_the_list_is_refused_before_it_is_made() -> None:
    async def main() -> None:
        configuration = Configuration(host="http://127.0.0.1:9")
        async with KubeApi(configuration) as client:
            with pytest.raises(NotInAccessError, match="delete persistentvolumeclaims of core"):
                await client.delete(kinds.CLAIM, "lakes", "data-lake-a-0", uid="1")
            with pytest.raises(NotInAccessError, match="patch cryptolakes of cryptolake"):
                await client.merge_patch(kinds.LAKE, "lakes", "lake", {"spec": {}})

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, InvalidError),
        (401, UnavailableError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, GoneError),
        (422, InvalidError),
        (429, ThrottledError),
        (500, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_an_answer_is_an_error_by_what_is_to_be_done(code: int, kind: type[ApiError]) -> None:
    error = error_of(code, "so it is", 7.0)
    assert type(error) is kind
    assert error.code == code
    if isinstance(error, ThrottledError):
        assert error.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ForbiddenError('statefulsets "x" is forbidden: exceeded quota: q, requested: …'),
            Reason.QUOTA_EXCEEDED,
        ),
        (
            ForbiddenError('x is forbidden: User "y" cannot patch resource "z" in API group ""'),
            Reason.FORBIDDEN,
        ),
        (ForbiddenError('admission webhook "x" denied the request: no'), Reason.REFUSED),
        (InvalidError("ValidatingAdmissionPolicy 'x' denied request: no", 422), Reason.REFUSED),
        (error_of(500, 'Internal error occurred: failed calling webhook "x": no such host'), Reason.REFUSED),
    ],
)
def test_a_refusal_has_the_reason_that_helps(error: ApiError, reason: Reason) -> None:
    wait = refusal("CronJob x", error)
    assert wait.reason is reason
    assert error.message in wait.message
    assert wait.message.startswith("CronJob x")


# What is kept


def with_version(live: dict[str, Any], version: int, **metadata: Any) -> dict[str, Any]:
    return live | {"metadata": live["metadata"] | {"resourceVersion": str(version)} | metadata}


def test_only_what_changes_the_picture_of_a_lake_calls_for_a_look() -> None:
    cache, one = Cache(), lake(bucket="gs://lake")
    owner = Owner("lakes", naming.base("lake"))
    for key, live in live_objects(one).items():
        kind = kinds.of(key.kind)
        assert cache.put(kind, with_version(live, 5)) == {owner}
        assert cache.put(kind, with_version(live, 6)) == set(), "a version alone is no change"
        assert cache.put(kind, with_version(live, 4, labels={})) == set(), "it is older"
        if key.kind == "CronJob":
            ran = with_version(live, 7) | {"status": {"lastScheduleTime": "2024-08-09T12:00:00Z"}}
            assert cache.put(kind, ran) == set()
            assert cache.of(owner).children[key].status["lastScheduleTime"]
        assert cache.has(kind, "lakes", key.name, cache.of(owner).children[key].resource_version)
        edited = with_version(live, 9, annotations={"mine": "x"})
        assert cache.put(kind, edited) == {owner}
        assert cache.drop(kind, "lakes", key.name, "another-uid") == set()
        assert cache.drop(kind, "lakes", key.name) == {owner}
        assert cache.drop(kind, "lakes", key.name) == set()
    assert cache.of(owner).empty
    assert len(cache) == 0


def test_an_object_that_changes_hands_changes_two_pictures() -> None:
    cache = Cache()
    (live,) = (o for k, o in live_objects(lake()).items() if k.kind == "Service")
    kind = kinds.of("Service")
    cache.put(kind, with_version(live, 1))
    other = with_version(live, 2, ownerReferences=[], labels={"app.kubernetes.io/instance": "other"})
    assert cache.put(kind, other) == {Owner("lakes", "lake"), Owner("lakes", "other")}
    assert cache.of(Owner("lakes", "lake")).empty
    assert cache.put(kind, with_version(live, 3, ownerReferences=[], labels={})) == {Owner("lakes", "other")}


def test_what_a_list_lacks_is_gone_but_not_what_was_made_since() -> None:
    cache = Cache()
    (live,) = (o for k, o in live_objects(lake()).items() if k.kind == "Service")
    kind = kinds.of("Service")
    for name, version in (("old", 5), ("listed", 6), ("new", 20)):
        cache.put(kind, with_version(live, version, name=name))
    changed = cache.keep_only(kind, "", {Place("lakes", "listed")}, before=10)
    assert changed == {Owner("lakes", "lake")}
    assert {key.name for key in cache.of(Owner("lakes", "lake")).children} == {"listed", "new"}
    assert cache.keep_only(kind, "elsewhere", set(), before=99) == set()


def test_a_lake_is_looked_at_when_what_is_wanted_changes_and_not_for_our_own_status() -> None:
    lakes, key = Lakes(), Key("lakes", "lake")
    document = {
        "apiVersion": "cryptolake.io/v1alpha1",
        "kind": "CryptoLake",
        "metadata": {
            "name": "lake",
            "namespace": "lakes",
            "uid": "1",
            "resourceVersion": "5",
            "generation": 1,
        },
        "spec": {"symbols": ["BTCUSDT"]},
    }
    assert lakes.put(document) is Change.LAKE
    assert lakes.key_of(Owner("lakes", "lake")) == key
    status = {"observedGeneration": 1, "symbols": 1}
    written = with_version(document, 6) | {"status": status}
    lakes.wrote(written, NOW)
    assert lakes.put(written) is Change.NOTHING
    entry = lakes.get(key)
    assert entry is not None
    assert entry.written == NOW
    assert entry.status == Status(observed_generation=1, symbols=1)
    by_hand = with_version(document, 7) | {"status": status | {"symbols": 9}}
    assert lakes.put(by_hand) is Change.STATUS
    assert lakes.put(with_version(document, 6, annotations={"x": "y"})) is Change.NOTHING, "it is older"
    assert lakes.put(with_version(document, 8, annotations={"x": "y"})) is Change.LAKE
    assert not lakes.drop(key, "2")
    anew = with_version(document, 9, uid="2")
    assert lakes.put(anew) is Change.LAKE
    assert lakes.drop(key, "2")
    assert lakes.key_of(Owner("lakes", "lake")) is None


# What is written


statuses = st.builds(
    Status,
    observed_generation=st.integers(0, 3),
    symbols=st.integers(0, 3),
    lag=st.sampled_from(["", "1s"]),
    last_verified_upload=st.sampled_from([None, "2024-08-08T00:00:00Z"]),
    conditions=st.sampled_from([(), (Condition(type="Ready", status="True", reason="AllLive"),)]),
)


@settings(deadline=None)
@given(statuses, statuses)
def test_a_patch_of_differences_makes_the_one_the_other(old: Status, new: Status) -> None:
    patch = differences(old, new)
    merged: dict[str, Any] = msgspec.to_builtins(old) | patch
    assert {key: value for key, value in merged.items() if value is not None} == msgspec.to_builtins(new)
    assert old != new or set(patch.values()) <= {0}


# What a collector says


def report(**fields: Any) -> Report:
    made = Report(
        version="1",
        streams=(Stream("BTCUSDT", live=True, latency=Latency(100.0)),),
        symbols=(Symbol("BTCUSDT"),),
        disk=Disk(31.0, 10**9),
        pending_bytes=10_000_000,
        last_verified_upload_ns=10**18,
    )
    return msgspec.structs.replace(made, **fields)


@settings(deadline=None)
@given(st.floats(1, 900), st.integers(9_100_000, 10_900_000), st.floats(27.1, 38), st.integers(0, 10**9))
def test_figures_that_waver_wake_nobody(lag_ms: float, pending: int, percent: float, later_ns: int) -> None:
    first = picture(report(), None)
    second = report(
        streams=(Stream("BTCUSDT", live=True, latency=Latency(lag_ms), last_received_ns=later_ns),),
        pending_bytes=pending,
        disk=Disk(percent, 10**9 - later_ns),
        last_verified_upload_ns=10**18 + later_ns,
    )
    assert picture(second, first) == first


@pytest.mark.parametrize(
    "fields",
    [
        {"pending_bytes": 0},
        {"pending_bytes": 90_000_000},
        {"symbols": (Symbol("BTCUSDT", holes_open=1, ids_missing=3),)},
        {"streams": (Stream("BTCUSDT", live=False),)},
        {"disk": Disk(99.0)},
        {"disk_full_in_seconds": 7200.0},
        {"last_verified_upload_ns": 10**18 + 10**11},
        {"health": "down"},
        {"tasks": {"check": Task(ended_ns=10**18, ok=True)}},
        {"tasks": {"check": Task(note="BTCUSDT: the exchange has no such symbol")}},
        {"healing": Healing(1)},
    ],
    ids=str,
)
def test_what_the_status_tells_does(fields: dict[str, Any]) -> None:
    first = picture(report(), None)
    assert picture(report(**fields), first) != first


def test_a_check_that_begins_wakes_nobody_and_its_end_does() -> None:
    def told(**fields: Any) -> Report:
        return report(tasks={"check": Task(ok=True, last_ok_ns=10**18, **fields)})

    first = picture(told(ended_ns=10**18), None)
    running = picture(told(started_ns=10**18 + 5, ended_ns=0), first)
    assert running == first
    assert picture(told(ended_ns=10**18 + 9), running) != first


# Who works


def test_a_lease_is_taken_when_it_was_not_renewed_for_its_whole_time_by_our_own_clock() -> None:
    rival = Rival()
    held = {
        "metadata": {"resourceVersion": "1"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:00:00Z"},
    }
    assert rival.decide(None, "me", 0.0) == "create"
    assert rival.decide(held, "me", 100.0) == "wait", "its own time says nothing"
    assert rival.decide(held, "me", 114.9) == "wait"
    renewed = held | {"metadata": {"resourceVersion": "2"}}
    assert rival.decide(renewed, "me", 115.1) == "wait"
    assert rival.decide(renewed, "me", 130.2) == "take"
    given = renewed | {"spec": held["spec"] | {"holderIdentity": ""}}
    assert Rival().decide(given, "me", 0.0) == "take"


def test_who_could_not_renew_stops_before_another_may_begin() -> None:
    assert RENEW_SECONDS + RETRY_SECONDS < DURATION_SECONDS
