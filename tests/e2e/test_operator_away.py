"""The operator may be gone, killed, or without an API server: the data plane goes on, and all is as wanted afterwards."""

from __future__ import annotations

import json
import random
import subprocess
import time
from typing import Any

import pytest

from support import kind
from support.cluster import Cluster

from .chart import OPERATOR, OPERATOR_NAMESPACE
from .lakes import durable_ids, holes_of, identity, wait_for_symbols

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def scale(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "deployment", OPERATOR, "-n", OPERATOR_NAMESPACE, f"--replicas={replicas}")
    if replicas:
        cluster.kubectl(
            "rollout", "status", "deployment", OPERATOR, "-n", OPERATOR_NAMESPACE, "--timeout", "120s"
        )
    else:
        cluster.wait("no operator", lambda: not operators(cluster), 90)


def operators(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.list("Pod", {"app.kubernetes.io/name": OPERATOR}, OPERATOR_NAMESPACE)


def test_a_change_while_there_is_no_operator(cluster: Cluster, steady: str) -> None:
    pod = f"{steady}-a-0"
    before, holes = identity(cluster, pod), holes_of(cluster, pod)
    scale(cluster, 0)
    ids = durable_ids(cluster, pod)
    cluster.patch("CryptoLake", steady, {"spec": {"symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"]}})
    cluster.wait(
        "more trades of each symbol",
        lambda: all(now > ids[symbol] for symbol, now in durable_ids(cluster, pod).items()),
        60,
    )
    # A task of the lake's runs as well.
    cluster.run_task(f"{pod}-transform", "transform-without-operator")
    scale(cluster, 1)
    wait_for_symbols(cluster, steady, 3)
    assert identity(cluster, pod) == before
    cluster.patch("CryptoLake", steady, {"spec": {"symbols": ["BTCUSDT", "ETHUSDT"]}})
    wait_for_symbols(cluster, steady, 2)
    assert holes_of(cluster, pod).items() >= holes.items()


def test_twenty_changes_while_the_operator_is_killed_again_and_again(cluster: Cluster, steady: str) -> None:
    pod, chance = f"{steady}-a-0", random.Random(20)
    before, killed = identity(cluster, pod), 0
    kill_before = set(chance.sample(range(20), 6))
    for number in range(20):
        if number in kill_before:
            # Right after another kill there may be none yet.
            for found in cluster.wait("an operator", lambda: operators(cluster), 60):
                cluster.delete("Pod", found["metadata"]["name"], OPERATOR_NAMESPACE, grace_seconds=0)
                killed += 1
        cluster.patch("CryptoLake", steady, {"spec": {"schedules": {"cleanup": f"{number} 3 29 2 *"}}})
        time.sleep(chance.uniform(0, 2))
    assert killed >= 6
    cluster.wait(
        "the last change",
        lambda: cluster.need("CronJob", f"{pod}-cleanup")["spec"]["schedule"] == "19 3 29 2 *",
        120,
    )
    cluster.wait_for_condition(steady, "Ready", "True", 90)
    cluster.wait_for_condition(steady, "Reconciled", "True", 90)
    assert identity(cluster, pod) == before


def test_the_api_server_stands_still_for_a_minute(cluster: Cluster, steady: str) -> None:
    """Afterwards all is as before, a change is taken up, and there was no storm of requests."""
    pod, node = f"{steady}-a-0", f"{cluster.name}-control-plane"
    before, holes, ids = identity(cluster, pod), holes_of(cluster, pod), durable_ids(cluster, pod)
    subprocess.run(["docker", "pause", node], check=True, capture_output=True)
    try:
        time.sleep(60)
    finally:
        subprocess.run(["docker", "unpause", node], check=True, capture_output=True)
    ended = time.time()
    cluster.wait("the API server", lambda: cluster.get("Namespace", "default", ""), 120)
    cluster.patch("CryptoLake", steady, {"spec": {"schedules": {"cleanup": "59 4 29 2 *"}}})
    cluster.wait(
        "the change",
        lambda: cluster.need("CronJob", f"{pod}-cleanup")["spec"]["schedule"] == "59 4 29 2 *",
        150,
    )
    cluster.wait_for_condition(steady, "Ready", "True", 120)
    assert identity(cluster, pod) == before
    assert all(now > ids[symbol] for symbol, now in durable_ids(cluster, pod).items())
    assert holes_of(cluster, pod).items() >= holes.items()
    # A minute's worth: a dozen kinds listed and watched anew, a lake's children, a status; not thousands.
    assert sum(seconds_of(line) > ended for line in requests(cluster)) < 600


def requests(cluster: Cluster) -> list[dict[str, Any]]:
    """What the operator asked of the API server, by its audit log."""
    lines = [json.loads(line) for line in kind.audit_log(cluster.name).splitlines()]
    return [line for line in lines if line["user"]["username"].endswith(f":{OPERATOR}")]


def seconds_of(line: dict[str, Any]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(line["requestReceivedTimestamp"]).timestamp()
