"""What became of the day that ended: bars on the claim, objects in the bucket, the published day, and what may be deleted."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import Any

import google_crc32c
import polars as pl
import pytest

from support import pods
from support.cluster import Cluster, CommandFailedError
from support.market import assert_equal, bars_of

from .flow import DAY, DAY_END_NS, LAKE, POD, SPEED, Flow

pytestmark = [pytest.mark.docker, pytest.mark.slow]
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FOLDER = f"year={DAY[:4]}/month={DAY[5:7]}/day={DAY[8:]}"


def bars_path(symbol: str) -> str:
    return f"parquet/binance/{symbol}/{FOLDER}/bars.parquet"


@pytest.fixture(scope="module")
def published(flow: Flow) -> dict[str, Any]:
    """By symbol, the manifest of the published day. An hour of market time has to pass, then three tasks to run."""
    names = {symbol: f"manifests/{bars_path(symbol)}.json" for symbol in SYMBOLS}
    flow.cluster.wait(
        "both symbols' published day", lambda: flow.bucket.objects().keys() >= set(names.values()), 420, 3
    )
    return {symbol: flow.bucket.read_json(name) for symbol, name in names.items()}


def test_the_transform_cron_jobs_bars_on_the_claim_are_the_exchanges_klines(
    flow: Flow, figures: dict[str, float | str]
) -> None:
    cluster = flow.cluster
    # All but the first second, before which nothing is known, and where the ledger begins. A run of the task may come
    # before the day's end.
    found = dict.fromkeys(SYMBOLS, b"")

    def all_there() -> bool:
        try:
            for symbol in SYMBOLS:
                found[symbol] = cluster.exec(POD, "cat", f"/data/{bars_path(symbol)}")
        except CommandFailedError:  # there is no such file yet
            return False
        return all(
            bars_of(data).filter(pl.col("state") == "complete").height >= 170 for data in found.values()
        )

    cluster.wait("the day's bars", all_there, 150, 3)
    for symbol, data in found.items():
        assert assert_equal(bars_of(data), flow.market, symbol) >= 170
    # The folder is as old as the first bar.
    born = float(cluster.exec(POD, "stat", "-c", "%W", "/data/parquet"))
    applied = datetime.fromisoformat(cluster.need("CryptoLake", LAKE)["metadata"]["creationTimestamp"])
    figures["apply to the first bar on the claim, s"] = born - applied.timestamp()
    # By the CronJob, and by nobody else.
    owners = {
        owner["kind"]
        for job in cluster.list("Job", {"app.kubernetes.io/component": "transform"})
        if job["metadata"]["name"].startswith(f"{LAKE}-")
        for owner in job["metadata"].get("ownerReferences", [])
    }
    assert owners == {"CronJob"}


def test_what_is_in_the_bucket_has_the_checksums_of_its_manifests(
    flow: Flow, published: dict[str, Any]
) -> None:
    raw: list[str] = []

    def attested() -> dict[str, Any] | None:
        """The bucket's objects at a moment at which no upload is between a file, its manifest and what comes after."""
        found = flow.bucket.objects()
        raw[:] = [name for name in found if name.startswith("raw/")]
        ledgers = {name.split("/")[2] for name in found if name.startswith("ledger/")}
        of = {name.split("/")[2] for name in raw}
        whole = found.keys() >= {f"manifests/{name}.json" for name in raw}
        return found if whole and of == {*SYMBOLS, "_control"} and ledgers >= set(SYMBOLS) else None

    objects = flow.cluster.wait("raw of all kinds, a manifest of each, and the ledgers", attested, 90, 2)
    # Under the volume's name, which begins with its pod's.
    assert {name.split("/")[4].rpartition("-")[0] for name in raw} == {POD}
    for name in raw:
        data, manifest = flow.bucket.read(name), flow.bucket.read_json(f"manifests/{name}.json")
        assert hashlib.sha256(data).hexdigest() == manifest["sha256"], name
        assert len(data) == manifest["bytes"] == int(objects[name]["size"]), name
        assert crc32c(data) == objects[name]["crc32c"], name


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def test_the_published_day_is_the_exchanges_klines(
    flow: Flow, published: dict[str, Any], figures: dict[str, float | str]
) -> None:
    for symbol, manifest in published.items():
        data = flow.bucket.read(bars_path(symbol))
        assert hashlib.sha256(data).hexdigest() == manifest["sha256"]
        assert manifest["final_because"] == "complete"
        assert manifest["missing_ids"] == 0
        assert int(flow.bucket.objects()[bars_path(symbol)]["generation"]) == manifest["generation"]
        bars = bars_of(data)
        assert assert_equal(bars, flow.market, symbol) >= 170
        assert {value.date().isoformat() for value in bars["window_start"]} == {DAY}
    market_seconds = (max(m["published_ns"] for m in published.values()) - DAY_END_NS) / 1e9
    figures["market day's end to its file in the bucket, market minutes"] = market_seconds / 60
    figures["market day's end to its file in the bucket, s"] = market_seconds / SPEED


def test_the_status_tells_of_it(flow: Flow, published: dict[str, Any]) -> None:
    cluster = flow.cluster
    # An operator that was ended a moment ago, by another test, has yet to look.
    for condition in ("Ready", "Collecting", "Complete", "Uploaded", "DiskHealthy", "Reconciled"):
        cluster.wait_for_condition(LAKE, condition, "True", 90)
    status = cluster.need("CryptoLake", LAKE)["status"]
    assert len(status["conditions"]) == 6
    assert status["gapsOpen"] == 0
    assert status["lastVerifiedUpload"]
    # What a publish job's last words told, of which the pod is gone after a while.
    cluster.wait(
        "the last published day",
        lambda: cluster.need("CryptoLake", LAKE)["status"].get("lastPublishedDay") == DAY,
        120,
        2,
    )


@pytest.fixture(scope="module")
def at_rest(flow: Flow, published: dict[str, Any]) -> Cluster:
    """No task runs any more by itself. While the last ones end, the day's bars are checked."""
    cluster = flow.cluster
    never = dict.fromkeys(("transform", "upload", "publish"), pods.NEVER)
    cluster.patch("CryptoLake", LAKE, {"spec": {"schedules": never}})
    cluster.begin_task(f"{POD}-check", "check-1")
    cluster.wait_for_condition(LAKE, "Reconciled", "True", 150)
    cluster.wait("the last task's end", lambda: not running(flow), 120, 2)
    return cluster


def test_a_check_on_the_claim_holds_its_bars_against_the_exchange(at_rest: Cluster) -> None:
    cluster = at_rest
    cluster.end_task("check-1")
    for symbol in SYMBOLS:
        rows = pl.read_parquet(
            cluster.exec(POD, "cat", f"/data/verdicts/binance/{symbol}/{FOLDER}/verdicts.parquet")
        )
        assert rows.filter(pl.col("verdict") == "verified").height >= 170
        # The second in which the collector began was not seen whole, and the ledger says so.
        others = rows.filter(pl.col("verdict") != "verified")
        assert others["explained"].to_list() == ["before_first"] * others.height
        assert others.height <= 1
    checked = cluster.wait(
        "the check in the status",
        lambda: [
            t for t in cluster.need("CryptoLake", LAKE)["status"].get("tasks", []) if t["name"] == "check"
        ],
        150,
        1,
    )
    assert [task["ok"] for task in checked] == [True]


def test_cleanup_deletes_only_what_the_bucket_is_proven_to_have(flow: Flow, at_rest: Cluster) -> None:
    """One object is taken away behind the lake's back: its file stays. The next upload puts it again, and then it may go."""
    cluster, bucket = at_rest, flow.bucket

    def hours(symbol: str) -> list[str]:
        found = cluster.exec(POD, "find", f"/data/raw/binance/{symbol}", "-name", "hour_*")
        return [path for path in found.decode().split() if DAY in path]

    assert all(hours(symbol) for symbol in SYMBOLS)
    (lost,) = [
        name
        for name in bucket.objects()
        if name.startswith(f"raw/binance/BTCUSDT/{DAY}/") and "/hour_" in name
    ]
    bucket.remove(lost)
    # That something is not as it is recorded makes the task fail, and is an alert.
    with pytest.raises(AssertionError, match="gone_from_bucket"):
        cluster.run_task(f"{POD}-cleanup", "cleanup-1", 300)
    assert hours("BTCUSDT")
    assert not hours("ETHUSDT")

    cluster.run_task(f"{POD}-upload", "upload-again")
    assert lost in bucket.objects()
    for symbol in SYMBOLS:
        (judged,) = [
            name for name in bucket.objects() if name.startswith(f"verdicts/binance/{symbol}/{FOLDER}/")
        ]
        assert judged.rpartition("/")[2].startswith(f"{POD}-")
        here = cluster.exec(POD, "cat", f"/data/verdicts/binance/{symbol}/{FOLDER}/verdicts.parquet")
        assert bucket.read(judged) == here
        reports = [
            name for name in bucket.objects() if name.startswith(f"reports/binance/{symbol}/{DAY}/{POD}-")
        ]
        assert sorted(name.rpartition(".")[2] for name in reports) == ["json", "md"]
    cluster.run_task(f"{POD}-cleanup", "cleanup-2")
    assert not hours("BTCUSDT")
    # The bars stay, and say the same.
    for symbol in SYMBOLS:
        bars = bars_of(cluster.exec(POD, "cat", f"/data/{bars_path(symbol)}"))
        assert assert_equal(bars, flow.market, symbol) >= 170
    verified = json.loads(
        cluster.exec(POD, "crypto-lake", "verify", "--data", "/data", "-o", "json", timeout_seconds=120)
    )
    assert verified


def running(flow: Flow) -> list[str]:
    """Jobs without an end: one that was made just now has no pod yet, and none that it counts as active."""
    found: list[str] = []
    for job in flow.cluster.list("Job", {"app.kubernetes.io/instance": LAKE}):
        conditions = {
            one["type"] for one in job.get("status", {}).get("conditions", []) if one["status"] == "True"
        }
        if not conditions & {"Complete", "Failed"}:
            found.append(job["metadata"]["name"])
    return found
