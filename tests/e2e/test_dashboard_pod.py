"""The dashboard by the chart: its pod under the restricted standard, who reaches it, and its page in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support import browser as a_browser
from support import pods
from support.bar_rows import Second, write_days
from support.browser import drawn, text, visit
from support.cluster import Cluster, CommandFailedError

from .chart import OPERATOR_NAMESPACE, install

pytestmark = [pytest.mark.docker, pytest.mark.slow]
NAME, PORT = "crypto-lake-dashboard", 8501
PREFIX = "shown"
END = datetime(2026, 2, 3, 12, tzinfo=UTC)
MINUTES = 15
PRICE = 50_000 * 10**8
HEALTH = f"http://{NAME}.{OPERATOR_NAMESPACE}:{PORT}/_stcore/health"
ASK = f"""
import urllib.request
try:
    print(urllib.request.urlopen({HEALTH!r}, timeout=4).status, end="")
except OSError as error:
    print(error, end="")
"""


@dataclass(frozen=True)
class Dashboard:
    cluster: Cluster
    pod: dict[str, Any]

    @property
    def name(self) -> str:
        return self.pod["metadata"]["name"]


@pytest.fixture(scope="module")
def dashboard(
    cluster: Cluster, steady: str, tmp_path_factory: pytest.TempPathFactory, figures: dict[str, float | str]
) -> Iterator[Dashboard]:
    """An upgrade that turns it on; another that turns it off. What of the chart is not about it stays as it is."""
    folder = tmp_path_factory.mktemp("shown")
    put_bars(cluster, folder)
    values = folder / "values.yaml"
    asker = {"matchLabels": {"app": pods.GCS}}
    its = {
        "enabled": True,
        "data": f"gs://{pods.BUCKET}/{PREFIX}",
        "status": [f"http://{steady}-a-0.{steady}.{cluster.namespace}:9464/status"],
        "env": [
            {
                "name": "STORAGE_EMULATOR_HOST",
                "value": f"http://{pods.GCS}.{cluster.namespace}:{pods.GCS_PORT}",
            }
        ],
        "nodeSelector": {pods.PLACE: "around"},
        "networkPolicy": {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
                    "podSelector": asker,
                }
            ]
        },
    }
    values.write_text(json.dumps({"dashboard": its}))
    began = time.monotonic()
    install(cluster, None, "--no-hooks", "--values", str(values))  # --wait: it returns when the pod is ready
    figures["helm upgrade to a ready dashboard, s"] = time.monotonic() - began
    try:
        (pod,) = cluster.list("Pod", {"app.kubernetes.io/name": NAME}, OPERATOR_NAMESPACE)
        yield Dashboard(cluster, pod)
    finally:
        install(cluster, None, "--no-hooks")


def put_bars(cluster: Cluster, folder: Path) -> None:
    """A quarter of an hour of bars into the bucket, as a published day lies there."""
    first = int(END.timestamp()) - MINUTES * 60
    seconds: list[Second] = []
    for n in range(MINUTES * 60):
        price = PRICE + n * 10**6
        quote = (price - 10**6, 10**8, price + 10**6, 10**8)
        seconds.append(Second(first + n, price, ((n + 1, price, 10**7, True),), quote=quote))
    write_days(folder, "BTCUSDT", seconds)
    (path,) = folder.rglob("*.parquet")
    resource = json.dumps({"name": f"{PREFIX}/{path.relative_to(folder)}"}).encode()
    part = b"--part\r\nContent-Type: application/octet-stream\r\n\r\n"
    body = part + resource + b"\r\n" + part + path.read_bytes() + b"\r\n--part--"
    at = cluster.path("Service", f"{pods.GCS}:{pods.GCS_PORT}") + "/proxy"
    cluster.request(
        "POST",
        f"{at}/upload/storage/v1/b/{pods.BUCKET}/o?uploadType=multipart",
        body,
        'multipart/related; boundary="part"',
    )


@contextmanager
def forwarded(cluster: Cluster) -> Iterator[str]:
    """As a user reaches it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *("kubectl", "--kubeconfig", str(cluster.kubeconfig), "--namespace", OPERATOR_NAMESPACE),
            *("port-forward", f"service/{NAME}", f"{port}:{PORT}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Forwarding" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_its_pod_may_write_nothing_and_has_no_token(dashboard: Dashboard) -> None:
    """In a namespace that enforces the restricted standard."""
    (state,) = dashboard.pod["status"]["containerStatuses"]
    assert (state["ready"], state["restartCount"]) == (True, 0)
    assert not dashboard.pod["spec"].get("volumes")
    for folder in ("/", "/tmp", "/var/run"):
        with pytest.raises(CommandFailedError, match="Read-only file system"):
            dashboard.cluster.exec(dashboard.name, "touch", f"{folder}/x", namespace=OPERATOR_NAMESPACE)
    status = dashboard.cluster.exec(
        dashboard.name,
        "grep",
        "-E",
        "^(CapEff|NoNewPrivs|Seccomp):",
        "/proc/1/status",
        namespace=OPERATOR_NAMESPACE,
    )
    told = dict(line.split(":\t") for line in status.decode().splitlines())
    assert told == {"CapEff": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}


def asked_from(cluster: Cluster, app: str) -> str:
    """The health page's status by the Service, or why there is none."""
    (pod,) = cluster.list("Pod", {"app": app})
    return cluster.exec(pod["metadata"]["name"], "python", "-c", ASK).decode()


def test_who_is_named_reaches_it_by_its_service(dashboard: Dashboard) -> None:
    # A policy takes some seconds to be in force, and the page may be slow to answer on a busy machine.
    dashboard.cluster.wait(
        "the health page by the Service", lambda: asked_from(dashboard.cluster, pods.GCS) == "200", 90, 2
    )


def test_who_is_not_named_does_not_reach_it(dashboard: Dashboard) -> None:
    kindnet = ("get", "daemonset", "kindnet", "-n", "kube-system", "--ignore-not-found", "-o", "name")
    if not dashboard.cluster.kubectl(*kindnet):
        pytest.skip("the cluster's network takes no notice of NetworkPolicies")
    assert "timed out" in asked_from(dashboard.cluster, pods.WEBHOOK)


@pytest.mark.skipif(bool(a_browser.why_not()), reason=a_browser.why_not() or "there is one")
def test_its_page_shows_the_buckets_bars_and_what_the_collector_says(
    dashboard: Dashboard, figures: dict[str, float | str]
) -> None:
    with forwarded(dashboard.cluster) as url, a_browser.running() as browser:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=60) as answer:
            assert answer.status == 200
        began = time.monotonic()
        with visit(browser, f"{url}/?range={MINUTES}m&every=5s") as page:
            figures["first picture of the dashboard's pod, s"] = time.monotonic() - began
            (shown,) = drawn(page)
            price = shown["data"]["price"]
            assert len(price["x"]) == MINUTES * 12
            assert None not in price["y"]
            last = datetime.fromisoformat(price["x"][-1]).replace(tzinfo=UTC)
            assert last == END - timedelta(seconds=5)
            assert price["y"][-1] == PRICE / 10**8 + (MINUTES * 60 - 1) / 100
            # A real collector's words.
            assert page.locator('[data-testid="stMetric"]', has_text="Disk").inner_text().endswith("%")
            assert "no answer" not in text(page)
