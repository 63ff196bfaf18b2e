"""What tests do with lakes in a cluster."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from support import pods
from support.cluster import Cluster, Manifest, run

from .chart import IMAGE


def children_of(cluster: Cluster, name: str) -> list[Manifest]:
    """As `crypto-lake-operator render` prints them of the lake that is in the cluster, without its hashes."""
    lake = cluster.need("CryptoLake", name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lake.yaml"
        path.write_text(yaml.safe_dump(lake))
        program = str(Path(sys.executable).parent / "crypto-lake-operator")
        printed = run(program, "render", str(path), "--image", IMAGE, "-o", "json")
    children = json.loads(printed)["items"]
    for child in children:
        child["metadata"].get("annotations", {}).pop("cryptolake.io/rendered", None)
    return children


def make(cluster: Cluster, name: str, exchange: str = "simulator", seconds: float = 120, **spec: Any) -> str:
    """Apply a lake and wait until it is Ready; its name."""
    cluster.apply(pods.lake(name, exchange, **spec))
    cluster.wait_for_condition(name, "Ready", "True", seconds)
    return name


def remove(cluster: Cluster, name: str) -> None:
    """With its claims: what a user does who wants nothing of it any more."""
    cluster.delete("CryptoLake", name)
    for claim in cluster.list("PersistentVolumeClaim", {"app.kubernetes.io/instance": name}):
        cluster.delete("PersistentVolumeClaim", claim["metadata"]["name"])
    for job in cluster.list("Job", {"app.kubernetes.io/instance": name}):
        cluster.delete("Job", job["metadata"]["name"])
    labels = {"app.kubernetes.io/instance": name}
    cluster.wait(f"the end of {name}'s pods", lambda: not cluster.list("Pod", labels), 90)


def collector_status(cluster: Cluster, pod: str) -> dict[str, Any]:
    """/status of a collector, asked from within its pod."""
    ask = "import sys,urllib.request; sys.stdout.buffer.write(urllib.request.urlopen('http://localhost:9464/status').read())"
    return json.loads(cluster.exec(pod, "python", "-c", ask))


def durable_ids(
    cluster: Cluster, pod: str, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT")
) -> dict[str, int]:
    """By symbol, the last trade that is fsynced."""
    found = {s["symbol"]: s["durable_id"] for s in collector_status(cluster, pod)["symbols"]}
    return {symbol: found[symbol] for symbol in symbols}


def identity(cluster: Cluster, pod: str) -> tuple[str, int]:
    """uid and restarts: the same two say that nothing restarted."""
    found = cluster.need("Pod", pod)
    (container,) = found["status"]["containerStatuses"]
    return found["metadata"]["uid"], container["restartCount"]


def wait_for_symbols(cluster: Cluster, name: str, count: int, seconds: float = 150) -> None:
    """Until the lake's status says so many are live, and that all is as wanted."""
    cluster.wait(
        f"{count} live symbols of {name}",
        lambda: cluster.need("CryptoLake", name)["status"].get("symbols") == count,
        seconds,
        1,
    )
    cluster.wait_for_condition(name, "Reconciled", "True", seconds)


def durable(status: dict[str, Any]) -> dict[str, int]:
    """By symbol, the last trade id that is fsynced; empty where one has none yet."""
    ids = {symbol["symbol"]: symbol["durable_id"] for symbol in status["symbols"]}
    return ids if ids and all(ids.values()) else {}


ACCOUNT = """
import json
from pathlib import Path
from crypto_lake.completeness.ledger import account, read
from crypto_lake.lake.layout import Layout
layout, found = Layout(Path("/data")), {}
for symbol in layout.symbols("binance"):
    if symbol.startswith("_"):
        continue
    told = account(read(layout.ledger("binance", symbol)).lines)
    found[symbol] = {
        "seen": [[i.first, i.last] for i in told.seen],
        "holes": [[i.first, i.last] for i in told.open_holes],
        "missed": [[h.first_id, h.last_id] for h in told.holes],
    }
print(json.dumps(found))
"""


def accounts_of(cluster: Cluster, pod: str) -> dict[str, Any]:
    """By symbol, what its ledger says of ids, as pairs of first and last: `seen`, the open `holes`, and all that was
    `missed` at first, whether it was fetched since or not."""
    return json.loads(cluster.exec(pod, "python", "-c", ACCOUNT))


def alerts(cluster: Cluster, condition: str, lake: str) -> list[dict[str, Any]]:
    """What came to the webhook about a condition, of a lake whose name holds this."""
    messages = cluster.ask_json(pods.WEBHOOK, pods.WEBHOOK_PORT, "/messages")
    bodies = [message["body"] for message in messages]
    return [body for body in bodies if body.get("condition") == condition and lake in body.get("lake", "")]


def holes_of(cluster: Cluster, pod: str) -> dict[str, int]:
    """By symbol, how many were found since the collector started."""
    return {symbol["symbol"]: symbol["holes_total"] for symbol in collector_status(cluster, pod)["symbols"]}
