"""Shards 1 -> 3 -> 1 while a market runs: symbols move under load, and the published day misses no trade.

At 20 seconds a second. The symbols go back within the day's last hour, so that their old collectors have trades of it
and nothing of the next day: by their ledgers, which say that they ended, the day does not wait for them, and they are
drained without the hour after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from support import pods
from support.cluster import Cluster
from support.market import Bucket, Market, assert_equal, bars_of, ns_of

from .lakes import identity, make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1500)]
DAY, NEXT = "2026-05-01", "2026-05-02"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")
LAKE, EXCHANGE = "sharded", "sharded-exchange"
FOLDER = f"year={DAY[:4]}/month={DAY[5:7]}/day={DAY[8:]}"


def collectors(cluster: Cluster) -> list[str]:
    labels = {"app.kubernetes.io/instance": LAKE, "app.kubernetes.io/component": "collector"}
    return sorted(pod["metadata"]["name"] for pod in cluster.list("Pod", labels))


def left_in_the_last_hour(objects: Iterable[str], symbol: str) -> list[tuple[str, str]]:
    """With their symbol, collectors with raw of the day's last hour and none of the next day."""
    hours = [name.split("/")[3:6] for name in objects if name.startswith(f"raw/binance/{symbol}/")]
    last = {collector for day, collector, file in hours if (day, file[:7]) == (DAY, "hour_23")}
    return [(symbol, name) for name in last - {name for day, name, _ in hours if day == NEXT}]


def test_no_trade_is_missing_in_the_published_day(
    cluster: Cluster, image: str, figures: dict[str, float | str]
) -> None:
    market, bucket = Market(cluster, EXCHANGE), Bucket(cluster, f"{LAKE}/")
    start = ("--start", f"{DAY}T22:35:00", "--speed", "20", "--hold", "--weight-limit", "1000000")
    cluster.apply(
        *pods.simulator(image, EXCHANGE, "--symbols", ",".join(SYMBOLS), "--activity", "0.02", *start)
    )
    cluster.kubectl("rollout", "status", "deployment", EXCHANGE, "-n", cluster.namespace, "--timeout", "90s")
    often = "*/1 * * * *"
    make(
        cluster,
        LAKE,
        EXCHANGE,
        symbols=list(SYMBOLS),
        schedules={"transform": often, "upload": often, "publish": often, "cleanup": pods.NEVER},
    )
    before = identity(cluster, f"{LAKE}-a-0")
    market.start()

    began = time.monotonic()
    cluster.patch("CryptoLake", LAKE, {"spec": {"shards": 3}})
    cluster.wait("three collectors", lambda: len(collectors(cluster)) == 3, 90)
    cluster.wait_for_condition(LAKE, "Reconciled", "True", 150)
    figures["shards 1 -> 3, s"] = time.monotonic() - began
    status = cluster.need("CryptoLake", LAKE)["status"]
    assert status["collectors"] == "3/3"
    assert sum(shard["symbols"] for shard in status["shards"]) == len(SYMBOLS)
    assert sum(shard["symbols"] > 0 for shard in status["shards"]) > 1, "no symbol has moved"
    assert identity(cluster, f"{LAKE}-a-0") == before

    # From here on the old collectors have something of the last hour.
    market.wait_until(f"{DAY}T23:02:00", 120)
    began = time.monotonic()
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
    figures["all symbols back, s"] = time.monotonic() - began
    assert market.now_ns() < ns_of(f"{NEXT}T00:00:00"), "too slow a machine: symbols moved after the day"
    cluster.wait("one collector", lambda: collectors(cluster) == [f"{LAKE}-a-0"], 420, 2)
    figures["shards 3 -> 1, drained, s"] = time.monotonic() - began
    figures["of the next day had passed then, min"] = (market.now_ns() - ns_of(f"{NEXT}T00:00:00")) / 60e9
    cluster.wait_for_condition(LAKE, "Reconciled", "True", 60)
    assert identity(cluster, f"{LAKE}-a-0") == before
    # Their claims stay.
    for shard in (1, 2):
        assert cluster.get("PersistentVolumeClaim", f"data-{LAKE}-a-{shard}") is not None

    names = {symbol: f"parquet/binance/{symbol}/{FOLDER}/bars.parquet" for symbol in SYMBOLS}
    # Its manifest is written after it.
    manifests = {f"manifests/{name}.json" for name in names.values()}
    cluster.wait("every symbol's published day", lambda: bucket.objects().keys() >= manifests, 300, 3)
    figures["the day published, min after its end"] = (market.now_ns() - ns_of(f"{NEXT}T00:00:00")) / 60e9
    objects = bucket.objects()
    left = [at for symbol in SYMBOLS for at in left_in_the_last_hour(objects, symbol)]
    assert left, "no symbol moved in the day's last hour"
    for symbol, collector in left:
        assert f"ledger/binance/{symbol}/{DAY}/{collector}.1.jsonl" in objects, (
            f"the ledger of {collector} was not closed early"
        )
    several = 0
    for symbol, name in names.items():
        manifest = bucket.read_json(f"manifests/{name}.json")
        assert manifest["final_because"] == "complete"
        assert manifest["missing_ids"] == 0, symbol
        several += len(manifest["collectors"]) > 1
        assert assert_equal(bars_of(bucket.read(name)), market, symbol) > 4500
    assert several, "no symbol was collected by more than one"
    remove(cluster, LAKE)
    cluster.delete("Deployment", EXCHANGE)
