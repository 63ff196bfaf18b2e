"""Two collectors of the same symbols, and either is killed every 30 seconds for five minutes: the published day is whole.

At 20 seconds a second, so that each kill costs a collector minutes of the market, also around the day's end. Once with
an exchange that gives no past trades: then nothing but the other copy fills what one missed. Once with one that does.
And one replica becomes two and one again, of two shards, within a day.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from crypto_lake.model.copies import FIGURES
from support import pods
from support.cluster import Cluster
from support.market import Bucket, Market, assert_equal, bars_of, ns_of

from .chart import OPERATOR, OPERATOR_NAMESPACE
from .lakes import accounts_of, collector_status, identity, make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1500)]
DAY, NEXT = "2026-06-01", "2026-06-02"
FOLDER = f"year={DAY[:4]}/month={DAY[5:7]}/day={DAY[8:]}"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
SPEED, ACTIVITY = 20, 0.1
TIMES, EVERY_SECONDS = 10, 30.0
OFTEN = dict.fromkeys(("transform", "upload", "publish"), "*/1 * * * *") | {"cleanup": pods.NEVER}
NO_PAST = ("--without", "historicalTrades", "--without", "aggTrades")


@dataclass(frozen=True)
class Kill:
    """down_seconds: from the deletion until the collector was ready again."""

    replica: str
    old_uid: str
    new_uid: str
    down_seconds: float


def ready_uid(cluster: Cluster, pod: str) -> str | None:
    """Of a pod that collects and writes; None while it does not."""
    found = cluster.get("Pod", pod)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return None
    conditions = {c["type"]: c["status"] for c in found["status"].get("conditions", [])}
    return found["metadata"]["uid"] if conditions.get("Ready") == "True" else None


def kill(cluster: Cluster, lake: str, replica: str) -> Kill:
    """With grace 0, while both collect: it has a second for its last words, if that. Back when it collects again."""
    for each in "ab":
        cluster.wait(f"{lake}-{each}-0", lambda each=each: ready_uid(cluster, f"{lake}-{each}-0"), 90)
    pod = f"{lake}-{replica}-0"
    old_uid = cluster.need("Pod", pod)["metadata"]["uid"]
    began = time.monotonic()
    cluster.delete("Pod", pod, grace_seconds=0)

    def back() -> str | None:
        uid = ready_uid(cluster, pod)
        return uid if uid != old_uid else None

    new_uid = cluster.wait(f"a new {pod}", back, 90)
    return Kill(replica, old_uid, new_uid, time.monotonic() - began)


def published(
    cluster: Cluster, bucket: Bucket, symbols: Sequence[str] = SYMBOLS
) -> dict[str, dict[str, Any]]:
    """By symbol, the manifest of the day once every symbol has one."""
    names = {symbol: f"manifests/parquet/binance/{symbol}/{FOLDER}/bars.parquet.json" for symbol in symbols}
    cluster.wait(
        "every symbol's published day", lambda: bucket.objects().keys() >= set(names.values()), 600, 3
    )
    return {symbol: bucket.read_json(name) for symbol, name in names.items()}


def held(
    cluster: Cluster, image: str, name: str, start: str, symbols: Sequence[str], *further: str
) -> Market:
    """A market of DAY that begins when it is told to."""
    arguments = ("--symbols", ",".join(symbols), "--activity", str(ACTIVITY), "--start", f"{DAY}T{start}:00")
    arguments += ("--speed", str(SPEED), "--hold", "--weight-limit", "1000000", *further)
    cluster.apply(*pods.simulator(image, name, *arguments))
    cluster.kubectl("rollout", "status", "deployment", name, "-n", cluster.namespace, "--timeout", "90s")
    return Market(cluster, name)


METRICS = "import urllib.request as r; print(r.urlopen('http://localhost:9465/metrics').read().decode())"


def assert_told(cluster: Cluster, lake: str, manifests: dict[str, dict[str, Any]]) -> None:
    """In the lake's status, and by the operator's metrics, what the day's manifests say of its copies."""

    def status() -> dict[str, Any] | None:
        found = cluster.need("CryptoLake", lake)["status"]
        return found if found.get("lastPublishedDay") == DAY else None

    told = cluster.wait("the published day in the status", status, 120, 2)["copies"]
    sums = {name: sum(manifest["copies"][name] for manifest in manifests.values()) for name in FIGURES}
    names = {name: name.replace("_a", "A").replace("_b", "B").replace("_other", "Other") for name in FIGURES}
    assert told == {"day": DAY, "symbols": len(SYMBOLS)} | {names[name]: sums[name] for name in FIGURES}
    assert (sums["missing"], sums["differing"], sums["only_other"]) == (0, 0, 0)
    (pod,) = cluster.list("Pod", {"app.kubernetes.io/name": OPERATOR}, OPERATOR_NAMESPACE)
    all_copies = [one.get("status", {}).get("copies") for one in cluster.list("CryptoLake")]
    lines = cluster.exec(
        pod["metadata"]["name"], "python", "-c", METRICS, namespace=OPERATOR_NAMESPACE
    ).decode()
    for held_by, name in (("both", "shared"), ("a", "onlyA"), ("b", "onlyB"), ("none", "missing")):
        (line,) = [line for line in lines.splitlines() if f'published_trades{{held_by="{held_by}"}}' in line]
        assert float(line.rpartition(" ")[2]) == sum(one[name] for one in all_copies if one), line


@pytest.mark.parametrize("past", ["refused", "served"])
def test_either_may_die_and_no_hole_remains(
    cluster: Cluster, image: str, figures: dict[str, float | str], past: str
) -> None:
    lake, exchange = f"twins-{past}", f"twins-{past}-exchange"
    bucket = Bucket(cluster, f"{lake}/")
    market = held(cluster, image, exchange, "22:20", SYMBOLS, *(NO_PAST if past == "refused" else ()))
    make(cluster, lake, exchange, replicas=2, schedules=OFTEN)
    nodes = {cluster.need("Pod", f"{lake}-{each}-0")["spec"]["nodeName"] for each in "ab"}
    assert len(nodes) == 2, "both copies are on one node"
    market.start()

    chance = random.Random(20260601)
    kills: list[Kill] = []
    began = time.monotonic()
    for number in range(1, TIMES + 1):
        time.sleep(max(0.0, began + number * EVERY_SECONDS - time.monotonic()))
        kills.append(kill(cluster, lake, chance.choice("ab")))
    killed_seconds = time.monotonic() - began
    assert all(one.old_uid != one.new_uid for one in kills)
    assert len({one.new_uid for one in kills}) == TIMES
    by_replica = {each: sum(one.replica == each for one in kills) for each in "ab"}
    assert all(by_replica.values()), "one of the two was never killed"
    state = market.get("/control/state")
    messages = sum(state["sent"].values()) / killed_seconds

    manifests = published(cluster, bucket)
    figures[f"{past}: kills of a and b"] = f"{by_replica['a']} and {by_replica['b']}"
    down = [one.down_seconds for one in kills]
    figures[f"{past}: killed to collecting again, s, median"] = statistics.median(down)
    figures[f"{past}: the same, greatest"] = max(down)
    figures[f"{past}: messages of the market a second"] = messages
    figures[f"{past}: the day published, min after its end"] = (
        max(manifest["published_ns"] for manifest in manifests.values()) - ns_of(f"{NEXT}T00:00:00")
    ) / 60e9

    for symbol, manifest in manifests.items():
        # Each alone has holes: what it saw, before anything was fetched.
        for each in "ab":
            told = accounts_of(cluster, f"{lake}-{each}-0")[symbol]
            figures[f"{past}: {symbol}: holes that {each} saw"] = len(told["missed"])
            assert told["missed"], f"{each} missed nothing of {symbol}"
        assert manifest["final_because"] == "complete"
        assert manifest["missing_ids"] == 0, manifest["missing"]
        collectors = {one["collector"].split("-")[-3]: one for one in manifest["collectors"]}
        assert collectors.keys() == {"a", "b"}
        figures[f"{past}: {symbol}: trades of the day"] = float(manifest["trades"])
        for each, one in collectors.items():
            figures[f"{past}: {symbol}: ids that {each} lacks"] = one["missing_ids"]
            figures[f"{past}: {symbol}: ids that only {each} has"] = one["only_here"]
        if past == "refused":
            assert all(one["missing_ids"] and one["only_here"] for one in collectors.values())
        bars = bars_of(bucket.read(f"parquet/binance/{symbol}/{FOLDER}/bars.parquet"))
        # Nothing is known of what was before the first second.
        assert assert_equal(bars, market, symbol) == bars.height - 1
        assert bars.height == 100 * 60, "the day has a second without a bar"
        first, last = manifest["first_trade_id"], manifest["last_trade_id"]
        assert manifest["trades"] == last - first + 1 == bars.select(pl.col("trade_count").sum()).item()
    assert_told(cluster, lake, manifests)
    for each in "ab":
        # Since it started last; that was a hole in any case.
        healing = collector_status(cluster, f"{lake}-{each}-0")["healing"]
        if past == "refused":
            assert healing["requests"].get("404"), "no past trade was asked for"
            assert not healing["requests"].get("200")
        else:
            assert healing["trades_healed"], f"{each} fetched nothing"
    remove(cluster, lake)
    cluster.delete("Deployment", exchange)


def test_one_becomes_two_and_one_again(cluster: Cluster, image: str, figures: dict[str, float | str]) -> None:
    """Of two shards, within a day; nothing restarts, and what the second copy saw is in the published day."""
    lake, exchange, symbols = "grown", "grown-exchange", ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
    bucket = Bucket(cluster, f"{lake}/")
    market = held(cluster, image, exchange, "22:50", symbols)
    make(cluster, lake, exchange, symbols=list(symbols), shards=2, schedules=OFTEN)
    before = [identity(cluster, f"{lake}-a-{shard}") for shard in (0, 1)]
    market.start()

    began = time.monotonic()
    cluster.patch("CryptoLake", lake, {"spec": {"replicas": 2}})
    # Until it collects it is a copy that is down, which is no loss.
    cluster.wait_for_condition(lake, "Collecting", "True", 60, "OneCopyDown")
    assert cluster.condition(lake, "Reconciled")["status"] == "False"
    cluster.wait_for_condition(lake, "Reconciled", "True", 120)
    cluster.wait_for_condition(lake, "Ready", "True", 60)
    figures["replicas 1 -> 2, s"] = time.monotonic() - began
    assert cluster.need("CryptoLake", lake)["status"]["collectors"] == "4/4"
    for shard in (0, 1):
        nodes = {cluster.need("Pod", f"{lake}-{each}-{shard}")["spec"]["nodeName"] for each in "ab"}
        assert len(nodes) == 2, f"both copies of shard {shard} are on one node"

    market.wait_until(f"{DAY}T23:30:00", 180)
    began = time.monotonic()
    cluster.patch("CryptoLake", lake, {"spec": {"replicas": 1}})
    cluster.wait_for_condition(lake, "Reconciled", "False", 60, "Draining")
    assert market.now_ns() < ns_of(f"{NEXT}T00:00:00"), (
        "too slow a machine: the second copy went after the day"
    )
    cluster.wait_for_condition(lake, "Reconciled", "True", 420)
    figures["replicas 2 -> 1, drained, s"] = time.monotonic() - began
    for shard in (0, 1):
        assert cluster.get("Pod", f"{lake}-b-{shard}") is None
        assert cluster.get("PersistentVolumeClaim", f"data-{lake}-b-{shard}") is not None
    assert [identity(cluster, f"{lake}-a-{shard}") for shard in (0, 1)] == before

    for symbol, manifest in published(cluster, bucket, symbols).items():
        copies = manifest["copies"]
        figures[f"{symbol}: share of the day that both have, %"] = copies["shared"] / copies["trades"] * 100
        assert copies["shared"], f"the second copy has nothing of {symbol}"
        assert copies["only_a"], f"the second copy was there all day of {symbol}"
        assert (copies["missing"], copies["differing"], copies["only_b"]) == (0, 0, 0)
        assert manifest["final_because"] == "complete"
        bars = bars_of(bucket.read(f"parquet/binance/{symbol}/{FOLDER}/bars.parquet"))
        # From its first trade on, to the day's end.
        assert assert_equal(bars, market, symbol) == bars.height - 1
        assert str(bars["window_start"].max()) == f"{DAY} 23:59:59+00:00"
    remove(cluster, lake)
    cluster.delete("Deployment", exchange)
