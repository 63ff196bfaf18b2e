"""The operator while the API server answers errors, loses answers or is away, and while it is killed itself."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.api_proxy import Fault, Proxy
from tests.support.operator_fixtures import collectors, here, operator, proxy, server
from tests.support.operator_world import (
    SETTINGS,
    Collectors,
    Running,
    World,
    eventually,
    operating,
    play_lake,
    process,
)

from crypto_lake_operator.drift import covers
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render import render
from crypto_lake_operator.validate import read_lake

__all__ = ["collectors", "here", "operator", "proxy", "server"]  # fixtures


def all_made(here: World, lake: dict[str, Any]) -> bool:
    """Every child is there and as it was rendered, and no other is."""
    made = render(read_lake(lake), SETTINGS, Observed(taken_at=datetime.now(UTC)))
    wanted = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in made}
    live = here.children(lake["metadata"]["uid"])
    assert set(live) == set(wanted)
    for key, manifest in wanted.items():
        assert (key, covers(live[key], manifest)) == (key, "")
    return True


# Of each kind one in the normal run; `make faults` runs them all.
FEW = [
    Fault("PATCH", "/statefulsets/", 409, times=1, after=True),
    Fault("PATCH", "/configmaps/", 429, times=2, retry_after="1"),
    Fault("PATCH", "/networkpolicies/", 0, times=1, after=True),
    Fault("PATCH", "/cryptolakes/.*/status", 500, times=1, after=True),
    Fault("GET", "/(pods|configmaps)$", 410, times=2, watch=True),
    Fault("GET", "/cryptolakes$", 410, times=1, watch=True),
]
MORE = [
    Fault("PATCH", "/statefulsets/", 409, times=2),
    Fault("PATCH", "/cronjobs/", 500, times=3),
    Fault("PATCH", "/services/", 503, times=1, after=True),
    Fault("PATCH", "/serviceaccounts/", 0, times=2),
    Fault("PATCH", "/poddisruptionbudgets/", 504, times=4),
    Fault("PATCH", "/cryptolakes/.*/status", 409, times=2),
    Fault("PATCH", "/cryptolakes/.*/status", 0, times=1, after=True),
    Fault("POST", "/events", 500, times=1),
    Fault("GET", "/statefulsets$", 410, times=1, watch=False),
    Fault("GET", "/cronjobs$", 500, times=4, watch=True),
    # More often than the client tries by itself: the operator's first list, and kopf's.
    Fault("GET", "/cryptolakes$", 500, times=5, watch=False),
    Fault("GET", "/persistentvolumeclaims$", 429, times=2, watch=False, retry_after="1"),
]


@pytest.mark.parametrize(
    "fault",
    [*FEW, *(pytest.param(fault, marks=pytest.mark.faults) for fault in MORE)],
    ids=lambda f: (
        f"{f.method}-{f.path}-{f.code or 'cut'}{'-after' if f.after else ''}{'-watch' if f.watch else ''}"
    ),
)
def test_an_answer_that_is_an_error_or_is_lost_delays_and_spoils_nothing(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path, fault: Fault
) -> None:
    fault.fired = 0
    proxy.faults.append(fault)
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    began = time.monotonic()
    with operating(proxy.kubeconfig(tmp_path / "config"), settings, collector_port=collectors.port):
        lake = here.lake("faulty", bucket="gs://lake")
        if fault.watch:
            # The watches that stand are cut, so that they meet the fault when they are taken up again.
            eventually(lambda: all_made(here, lake))
            proxy.cut_watches()
        eventually(lambda: fault.fired == fault.times, what="the fault meets as many requests as it should")
        lake = here.lake("faulty", bucket="gs://lake", symbols=["BTCUSDT", "ETHUSDT"])
        eventually(lambda: all_made(here, lake))
        play_lake(here, "faulty", collectors)
        here.until("faulty", "Ready", "True")
        here.until("faulty", "Reconciled", "True")
    seconds = time.monotonic() - began
    assert len(proxy.seen) < 200 + 20 * seconds, proxy.count()


def test_an_api_server_that_is_away_is_waited_for_without_a_storm(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    lakes = 12
    for number in range(lakes):
        here.lake(f"many-{number}")
    for number in range(lakes):
        lake = here.get("CryptoLake", f"many-{number}")
        eventually(lambda: all_made(here, lake))  # noqa: B023
    since = time.monotonic()
    proxy.go_away()
    changed = {f"many-{n}": here.lake(f"many-{n}", suspend=True) for n in range(lakes)}
    time.sleep(6)
    away = [seen for seen in tuple(proxy.seen) if seen.at >= since]
    # Watches are 9 and the lakes'; each is taken up again ever later.
    assert 0 < len(away) < 120, proxy.count(since)
    proxy.away = False
    back = time.monotonic()
    for lake in changed.values():
        eventually(lambda: all_made(here, lake), seconds=40)  # noqa: B023
    count = proxy.count(back)
    assert sum(n for name, n in count.items() if name.startswith("PATCH statefulsets")) <= 2 * lakes
    assert sum(count.values()) < 40 * lakes + 20 * (time.monotonic() - back), count


def test_an_api_server_that_stands_still_is_waited_for(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    lake = here.lake("still")
    eventually(lambda: all_made(here, lake))
    os.kill(here.server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        time.sleep(5)
        assert operator.page("/healthz")[0] == 200
        assert len([seen for seen in proxy.seen if seen.at > began]) < 60
    finally:
        os.kill(here.server.pid, signal.SIGCONT)
    lake = here.lake("still", symbols=["BTCUSDT", "ETHUSDT"])
    eventually(lambda: all_made(here, lake), seconds=60)


def test_a_lake_whose_deletion_no_watch_told_is_found_out_before_anything_is_written(
    here: World, proxy: Proxy, operator: Running
) -> None:
    lake = here.lake("gone")
    eventually(lambda: all_made(here, lake))
    proxy.go_away()
    here.delete("CryptoLake", "gone")
    here.delete("ConfigMap", "gone-a-config")
    proxy.away = False
    eventually(lambda: operator.metric("crypto_lake_operator_lakes") == 0, seconds=40)
    time.sleep(1)
    assert "gone-a-config" not in {each["metadata"]["name"] for each in here.list("ConfigMap")}


def monitoring(plural: str, kind: str) -> dict[str, Any]:
    """The least definition of a kind of the Prometheus operator's."""
    group = "monitoring.coreos.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def test_kinds_that_the_cluster_loses_are_no_longer_tried(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path
) -> None:
    kinds = {"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"}
    path = f"/apis/monitoring.coreos.com/v1/namespaces/{here.namespace}"
    for plural, kind in kinds.items():
        here.server.apply(monitoring(plural, kind))
        eventually(lambda: here.server.request("GET", f"{path}/{plural}"))  # noqa: B023
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    with operating(
        proxy.kubeconfig(tmp_path / "config"), settings, collector_port=collectors.port
    ) as running:
        here.lake("seen")
        play_lake(here, "seen", collectors)
        eventually(lambda: here.server.request("GET", f"{path}/servicemonitors/seen"))
        here.until("seen", "Ready", "True")
        since = time.monotonic()
        for plural in kinds:
            definition = (
                f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.monitoring.coreos.com"
            )
            here.server.request("DELETE", definition)

        def quiet() -> bool:
            return not [
                seen for seen in proxy.seen if seen.at > time.monotonic() - 2.5 and "monitoring" in seen.path
            ]

        eventually(quiet, what="nobody asks for the kinds that are gone")
        asked = [seen for seen in proxy.seen if seen.at > since and "monitoring" in seen.path]
        assert asked, "it was noticed"
        assert running.page("/readyz")[0] == 200
        here.lake("seen", symbols=["BTCUSDT", "ETHUSDT"])
        eventually(lambda: "ETHUSDT" in here.get("ConfigMap", "seen-a-config")["data"]["shard-0.yml"])
        here.until("seen", "Ready", "True")


@contextmanager
def replica(here: World, proxy: Proxy, folder: Path, name: str, **variables: str) -> Iterator[Any]:
    config = proxy.kubeconfig(folder / f"{name}.config")
    running = process(config, folder / f"{name}.log", watch_namespaces=here.namespace, **variables)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


@pytest.mark.faults
def test_an_operator_that_is_killed_at_random_during_twenty_changes_gets_there(
    here: World, proxy: Proxy, tmp_path: Path
) -> None:
    random_ = random.Random(20240809)
    killed = 0
    lake: dict[str, Any] = {}
    changes = 0
    while changes < 20:
        with replica(
            here, proxy, tmp_path, "operator", lease="false", image="crypto-lake:test", namespace="default"
        ) as running:
            for _ in range(random_.randint(2, 4)):
                changes += 1
                symbols = [f"S{n}USDT" for n in range(1 + changes % 5)]
                lake = here.lake("killed", symbols=symbols, bucket="gs://lake", suspend=changes % 3 == 0)
                time.sleep(random_.uniform(0.2, 1.2))
            assert running.poll() is None, (tmp_path / "operator.log").read_text()
            running.kill()
            killed += 1
    assert killed >= 5
    with replica(
        here, proxy, tmp_path, "operator", lease="false", image="crypto-lake:test", namespace="default"
    ):
        eventually(lambda: all_made(here, lake))


@pytest.mark.faults
def test_of_two_replicas_one_works_and_the_other_takes_over(
    here: World, proxy: Proxy, tmp_path: Path
) -> None:
    variables = {"image": "crypto-lake:test", "namespace": here.namespace}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{here.namespace}/leases/crypto-lake-operator"

    def holder() -> str:
        return here.server.request("GET", path)["spec"].get("holderIdentity", "")

    with replica(here, proxy, tmp_path, "one", **variables) as one:
        first = eventually(holder)
        with replica(here, proxy, tmp_path, "two", **variables) as two:
            lake = here.lake("held")
            eventually(lambda: here.get("StatefulSet", "held-a"))
            time.sleep(3)
            assert holder() == first
            # Ended in order, it gives the lease back.
            began = time.monotonic()
            one.send_signal(signal.SIGTERM)
            assert one.wait(20) == 0
            second = eventually(lambda: (found := holder()) != first and found)
            given_seconds = time.monotonic() - began
            here.delete("StatefulSet", "held-a")
            eventually(lambda: here.get("StatefulSet", "held-a"))
            # Killed, it is waited for until the lease runs out.
            with replica(here, proxy, tmp_path, "three", **variables) as three:
                time.sleep(3)
                began = time.monotonic()
                two.kill()
                two.wait()
                third = eventually(lambda: (found := holder()) != second and found)
                taken_seconds = time.monotonic() - began
                here.delete("StatefulSet", "held-a")
                eventually(lambda: here.get("StatefulSet", "held-a"))
                # One that is cut off stops before another may begin.
                proxy.go_away()
                assert three.wait(30) == 1
                proxy.away = False
            assert third not in (first, second)
            print(f"takeover: given back {given_seconds:.1f} s, run out {taken_seconds:.1f} s")
            assert lake["metadata"]["uid"] == here.get("CryptoLake", "held")["metadata"]["uid"]
