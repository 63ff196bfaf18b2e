"""Every query of the dashboards returns data from a Prometheus in the cluster that scrapes lakes and operator."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support import kind, pods
from support.cluster import Cluster

from .chart import OPERATOR_NAMESPACE, ROOT

pytestmark = [pytest.mark.docker, pytest.mark.slow]
IMAGE = "crypto-lake-prometheus:e2e"
BOARDS = ROOT / "charts" / "crypto-lake" / "files" / "dashboards"


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, steady: str) -> Cluster:
    """It has seen a lake and the operator."""
    dockerfile = (Path(__file__).parent / "images" / "prometheus.Dockerfile").read_bytes()
    built = subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=dockerfile, capture_output=True)
    assert built.returncode == 0, built.stdout + built.stderr
    kind.load(cluster.name, IMAGE, kind.workers(cluster.name)[:1])
    cluster.apply(*pods.prometheus(IMAGE, OPERATOR_NAMESPACE))
    cluster.kubectl(
        *("rollout", "status", "deployment", pods.PROMETHEUS, "-n", cluster.namespace, "--timeout", "90s")
    )
    # Twice at least, so that there are rates.
    for metric in ("crypto_lake_collector_info", "crypto_lake_operator_build_info"):
        cluster.wait(
            f"two scrapes of {metric}",
            lambda metric=metric: any(
                float(sample["value"][1]) >= 3 for sample in query(cluster, f"count_over_time({metric}[5m])")
            ),
            60,
            1,
        )
    return cluster


def query(cluster: Cluster, expression: str) -> list[Any]:
    path = "/api/v1/query?" + urlencode({"query": expression})
    return cluster.ask_json(pods.PROMETHEUS, pods.PROMETHEUS_PORT, path)["data"]["result"]


def expressions(board: str) -> list[tuple[str, str]]:
    """Panel's title and its query, with Grafana's variables as they are when `All` is chosen."""
    document = json.loads((BOARDS / board).read_text())
    found = [
        (panel["title"], target["expr"])
        for panel in document["panels"]
        for target in panel.get("targets", [])
    ]
    variables = {"$namespace": ".*", "$service": ".*", "$__rate_interval": "1m", "$__range": "5m"}
    for name, value in variables.items():
        found = [(title, text.replace(name, value)) for title, text in found]
    return found


@pytest.mark.parametrize("board", ["lake.json", "operator.json"])
def test_every_panel_has_data(prometheus: Cluster, board: str) -> None:
    asked = expressions(board)
    assert asked
    assert not any("$" in text for _, text in asked)
    empty: list[str] = []

    def all_there() -> bool:
        """A rate is there with the second scrape of a series, which may have begun a moment ago."""
        empty[:] = [f"{title}: {text}" for title, text in asked if not query(prometheus, text)]
        return not empty

    try:
        prometheus.wait("data in every panel", all_there, 30, 1)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *empty])) from None
