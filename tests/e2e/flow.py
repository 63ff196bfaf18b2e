"""The lake whose day ends while the tests run: its market begins at 23:57, at 30 seconds a second."""

from __future__ import annotations

import time
from dataclasses import dataclass

from support import pods
from support.cluster import Cluster
from support.market import Bucket, Market, ns_of

LAKE, EXCHANGE, POD = "flow", "flow-exchange", "flow-a-0"
# A lake whose collector finds no node: after five minutes without one the operator alerts (test_alerts).
UNPLACED = "unplaced"
DAY, SPEED = "2026-03-01", 30
DAY_END_NS = ns_of("2026-03-02T00:00:00")
EVERY_MINUTE = "*/1 * * * *"


@dataclass(frozen=True)
class Flow:
    cluster: Cluster
    market: Market
    bucket: Bucket


def begin(cluster: Cluster, image: str, figures: dict[str, float | str]) -> Flow:
    """From `kubectl apply` to Ready, then the market starts."""
    market = Market(cluster, EXCHANGE)
    start = ("--start", f"{DAY}T23:57:00", "--speed", str(SPEED), "--hold", "--weight-limit", "1000000")
    cluster.apply(
        *pods.simulator(image, EXCHANGE, "--symbols", "BTCUSDT,ETHUSDT", "--activity", "0.02", *start)
    )
    cluster.kubectl("rollout", "status", "deployment", EXCHANGE, "-n", cluster.namespace, "--timeout", "90s")
    schedules = {"transform": EVERY_MINUTE, "upload": EVERY_MINUTE, "publish": EVERY_MINUTE}
    lake = pods.lake(
        LAKE,
        EXCHANGE,
        schedules=schedules | {"cleanup": pods.NEVER},
        retention={"raw": "1h"},
    )
    began = time.monotonic()
    cluster.apply(lake)
    cluster.wait_for_condition(LAKE, "Ready", "True", 90)
    figures["apply to Ready, s"] = time.monotonic() - began
    market.start()
    nowhere = pods.lake(UNPLACED, bucket=None, alerts={"webhookSecretRef": {"name": "webhook", "key": "url"}})
    nowhere["spec"]["pod"]["nodeSelector"] = {"crypto-lake-test/no-such-node": "true"}
    cluster.apply(nowhere)
    return Flow(cluster, market, Bucket(cluster, f"{LAKE}/"))
