"""A CryptoLake is applied: it collects at once. What becomes of its day is told by test_flow_day."""

from __future__ import annotations

import time

import pytest

from .flow import DAY, LAKE, POD, Flow

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_it_is_ready_and_writes(flow: Flow, figures: dict[str, float | str]) -> None:
    cluster, began = flow.cluster, time.monotonic()

    def parts() -> list[str]:
        found = cluster.exec(POD, "find", "/data/raw", "-name", "part_23_*.jsonl.zst").decode().split()
        return [path for path in found if DAY in path and "_control" not in path]

    # The simulator's minutes last two seconds, and a part is one of them.
    found = cluster.wait("parts of both symbols", lambda: parts() if len(parts()) >= 2 else None, 30)
    assert {path.split("/")[4] for path in found} == {"BTCUSDT", "ETHUSDT"}
    figures["market's start to closed parts on the claim, s"] = time.monotonic() - began


def test_kubectl_wait_and_the_columns_tell_it(flow: Flow) -> None:
    cluster = flow.cluster
    said = cluster.kubectl(
        *("wait", f"cl/{LAKE}", "-n", cluster.namespace, "--for=condition=Ready", "--timeout", "30s")
    )
    assert "condition met" in said

    def row() -> dict[str, str] | None:
        head, line = cluster.kubectl("get", "cl", LAKE, "-n", cluster.namespace).splitlines()
        assert head.split() == ["NAME", "READY", "SYMBOLS", "LAG", "GAPS", "UNUPLOADED", "AGE"]
        # Not before each column has its value: the lag is known with the first trades.
        cells = line.split()
        return dict(zip(head.split(), cells, strict=True)) if len(cells) == 7 else None

    # Figures are written within 30 s of a poll that takes place every 15.
    told = cluster.wait("a value in every column", row, 60, 2)
    assert (told["READY"], told["SYMBOLS"], told["GAPS"]) == ("True", "2", "0")
    assert told["LAG"] in ("<1s", "1s", "2s", "5s")
    status = cluster.need("CryptoLake", LAKE)["status"]
    assert status["collectors"] == "1/1"
    assert [shard["state"] for shard in status["shards"]] == ["Live"]
