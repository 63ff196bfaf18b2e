"""Shards 1 -> 3 -> 1 while a market runs: symbols move under load, and the published day misses no trade.

At 30 seconds a second. The shards that go are drained when the day is over. All moves come before the day's last hour: a
collector that was at a symbol then, and is not in the next one, holds up the day for its 48 hours.
"""

from __future__ import annotations

import pytest

from support import pods
from support.cluster import Cluster
from support.market import Bucket, Market, assert_equal, bars_of, ns_of

from .lakes import identity, make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1500)]
DAY, SYMBOLS = "2026-05-01", ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")
LAKE, EXCHANGE = "sharded", "sharded-exchange"
FOLDER = f"year={DAY[:4]}/month={DAY[5:7]}/day={DAY[8:]}"


def collectors(cluster: Cluster) -> list[str]:
    labels = {"app.kubernetes.io/instance": LAKE, "app.kubernetes.io/component": "collector"}
    return sorted(pod["metadata"]["name"] for pod in cluster.list("Pod", labels))


def test_no_trade_is_missing_in_the_published_day(cluster: Cluster, image: str) -> None:
    market, bucket = Market(cluster, EXCHANGE), Bucket(cluster, f"{LAKE}/")
    start = ("--start", f"{DAY}T21:15:00", "--speed", "30", "--hold", "--weight-limit", "1000000")
    cluster.apply(
        *pods.simulator(image, EXCHANGE, "--symbols", ",".join(SYMBOLS), "--activity", "0.02", *start)
    )
    cluster.kubectl("rollout", "status", "deployment", EXCHANGE, "-n", cluster.namespace, "--timeout", "90s")
    often = "*/2 * * * *"
    make(
        cluster,
        LAKE,
        EXCHANGE,
        symbols=list(SYMBOLS),
        schedules={"transform": often, "upload": often, "publish": often, "cleanup": "0 0 1 1 *"},
    )
    before = identity(cluster, f"{LAKE}-a-0")
    market.start()

    cluster.patch("CryptoLake", LAKE, {"spec": {"shards": 3}})
    cluster.wait("three collectors", lambda: len(collectors(cluster)) == 3, 90)
    cluster.wait_for_condition(LAKE, "Reconciled", "True", 150)
    status = cluster.need("CryptoLake", LAKE)["status"]
    assert status["collectors"] == "3/3"
    assert sum(shard["symbols"] for shard in status["shards"]) == len(SYMBOLS)
    assert sum(shard["symbols"] > 0 for shard in status["shards"]) > 1, "no symbol has moved"
    assert identity(cluster, f"{LAKE}-a-0") == before

    cluster.patch("CryptoLake", LAKE, {"spec": {"shards": 1}})
    cluster.wait_for_condition(LAKE, "Reconciled", "False", 60)
    cluster.wait(
        "all symbols with the first one",
        lambda: (
            [shard["symbols"] for shard in cluster.need("CryptoLake", LAKE)["status"]["shards"]]
            == [len(SYMBOLS), 0, 0]
        ),
        90,
    )
    assert market.now_ns() < ns_of(f"{DAY}T23:00:00"), (
        "too slow a machine: symbols moved in the day's last hour"
    )
    # What goes has uploaded all it had: its ledger's day is closed an hour after the day's end.
    cluster.wait("one collector", lambda: collectors(cluster) == [f"{LAKE}-a-0"], 780, 2)
    cluster.wait_for_condition(LAKE, "Reconciled", "True", 60)
    assert identity(cluster, f"{LAKE}-a-0") == before
    # Their claims stay.
    for shard in (1, 2):
        assert cluster.get("PersistentVolumeClaim", f"data-{LAKE}-a-{shard}") is not None

    names = {symbol: f"parquet/binance/{symbol}/{FOLDER}/bars.parquet" for symbol in SYMBOLS}
    cluster.wait(
        "every symbol's published day", lambda: bucket.objects().keys() >= set(names.values()), 300, 3
    )
    several = 0
    for symbol, name in names.items():
        manifest = bucket.read_json(f"manifests/{name}.json")
        assert manifest["final_because"] == "complete"
        assert manifest["missing_ids"] == 0, symbol
        several += len(manifest["collectors"]) > 1
        assert assert_equal(bars_of(bucket.read(name)), market, symbol) > 9000
    assert several, "no symbol was collected by more than one"
    remove(cluster, LAKE)
    cluster.delete("Deployment", EXCHANGE)
