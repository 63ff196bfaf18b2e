"""One image and one cluster for all end-to-end tests: made at the first test that wants them, deleted at the end.

CRYPTO_LAKE_E2E_KEEP=1 leaves the cluster as it is, and the next run takes it up, with a new image and chart.
CRYPTO_LAKE_KIND_IMAGE names the nodes' image.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support import kind, pods
from support.cluster import Cluster
from support.market import Market

from .chart import IMAGE, OPERATOR_NAMESPACE, ROOT, install
from .flow import Flow
from .flow import begin as begin_flow
from .lakes import make

KEEP = bool(os.environ.get("CRYPTO_LAKE_E2E_KEEP"))
# Two runs on one machine leave each other's clusters alone.
NAME = "crypto-lake-e2e" if KEEP else f"crypto-lake-e2e-{os.getpid()}"
# Where a cluster that is kept has its files.
KEPT_FOLDER = ROOT / ".cache" / "e2e-cluster"


@pytest.fixture(scope="session")
def image() -> str:
    built = subprocess.run([ROOT / "tools" / "build-image", IMAGE], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return IMAGE


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Iterator[dict[str, float | str]]:
    """What was measured; printed at the end, past what pytest keeps to itself of tests that pass."""
    found: dict[str, float | str] = {}
    yield found
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for name, value in found.items():
            print(f"\nfigure: {name}: {value if isinstance(value, str) else format(value, '.1f')}", end="")


@pytest.fixture(scope="session")
def bare_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, figures: dict[str, float | str]
) -> Iterator[Cluster]:
    """Three nodes with the image on both workers; nothing of ours runs there yet."""
    if reason := kind.why_not():
        pytest.skip(reason)
    began = time.monotonic()
    folder = KEPT_FOLDER if KEEP else tmp_path_factory.mktemp("cluster")
    there = KEEP and (folder / "kubeconfig").exists() and kind.exists(NAME)
    if not there:
        kind.delete(NAME)
    try:
        with ThreadPoolExecutor() as at_once:
            making = None if there else at_once.submit(kind.create, NAME, folder)
            name = request.getfixturevalue("image")
            cluster = making.result() if making else Cluster(NAME, folder / "kubeconfig")
        if there:
            names = (cluster.namespace, OPERATOR_NAMESPACE, "unwatched")
            cluster.kubectl("delete", "namespace", *names, "--ignore-not-found", timeout_seconds=180)
        kind.load(NAME, name, kind.workers(NAME))
        # What stands around the lakes stays on one node; collectors can be driven from either.
        cluster.kubectl("label", "node", kind.workers(NAME)[0], f"{pods.PLACE}=around", "--overwrite")
        figures["cluster with the image loaded, s"] = time.monotonic() - began
        yield cluster
    finally:
        if not KEEP:
            kind.delete(NAME)


@pytest.fixture(scope="session")
def surroundings(bare_cluster: Cluster, image: str) -> Cluster:
    """The object store, a webhook, and a market in real time; each in the lakes' namespace."""
    cluster = bare_cluster
    cluster.apply(pods.namespace(cluster.namespace))
    steady = ("--symbols", "BTCUSDT,ETHUSDT,BNBUSDT,SOLUSDT", "--activity", "0.05")
    cluster.apply(
        pods.files(),
        *pods.gcs(image),
        *pods.webhook(image),
        *pods.simulator(image, "simulator", *steady, "--start", "2026-03-01T12:00:00", "--seed", "5"),
    )
    url = f"http://{pods.WEBHOOK}.{cluster.namespace}:{pods.WEBHOOK_PORT}/alerts"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "webhook"},
        "stringData": {"url": url},
    }
    cluster.apply(secret)
    for name in (pods.GCS, pods.WEBHOOK, "simulator"):
        cluster.kubectl(
            *("rollout", "status", "deployment", name, "-n", cluster.namespace, "--timeout", "120s")
        )
    return cluster


@pytest.fixture(scope="session")
def cluster(surroundings: Cluster, figures: dict[str, float | str]) -> Cluster:
    """With the operator, by its chart."""
    began = time.monotonic()
    install(surroundings)
    figures["helm install, s"] = time.monotonic() - began
    return surroundings


@pytest.fixture(scope="session")
def flow(cluster: Cluster, image: str, figures: dict[str, float | str]) -> Flow:
    """A lake whose market day ends while other tests run."""
    return begin_flow(cluster, image, figures)


@pytest.fixture(scope="session")
def steady(cluster: Cluster) -> str:
    """A lake in real time for tests that change it and leave it as it was."""
    return make(cluster, "steady")


@pytest.fixture(scope="session")
def market(surroundings: Cluster) -> Market:
    """The one that runs in real time."""
    return Market(surroundings, "simulator")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The flow's market runs an hour and more while other tests are at work. Those that end the operator come after the
    one that needs it for five minutes, and what all of them did is looked at last."""
    last = (
        "test_alerts",
        "test_operator_away",
        "test_upgrade",
        "test_collector_killed",
        "test_shards",
        "test_replicas",
        "test_flow_day",
        "test_access",
    )

    def rank(item: pytest.Item) -> int:
        name = item.path.stem
        return 0 if name == "test_flow_start" else 2 + last.index(name) if name in last else 1

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure what a person needs: objects, events, logs."""
    report = yield
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    found = arguments.get("cluster") or arguments.get("surroundings")
    if report.failed and isinstance(found, Cluster):
        try:
            report.sections.append(("the cluster", found.told([found.namespace, OPERATOR_NAMESPACE])))
        except Exception as error:
            report.sections.append(("the cluster", f"can't be asked: {error!r}"))
    return report
