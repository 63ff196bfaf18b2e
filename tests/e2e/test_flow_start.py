"""A CryptoLake is applied: it collects at once. What becomes of its day is told by test_flow_day."""

from __future__ import annotations

import time

import pytest

from .flow import DAY, LAKE, POD, Flow

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_it_is_ready_and_writes(flow: Flow, figures: dict[str, float | str]) -> None:
    cluster, began = flow.cluster, time.monotonic()

    def written() -> bool:
        """Closed parts of both symbols, or what the first transformation, which comes at any moment, has made of them."""
        names = ("(", "-name", "part_23_*.jsonl.zst", "-o", "-name", "hour_23*.jsonl.zst", ")")
        found = cluster.exec(POD, "find", "/data/raw", *names).decode().split()
        return {path.split("/")[4] for path in found if DAY in path} >= {"BTCUSDT", "ETHUSDT"}

    # The simulator's minutes last two seconds, and a part is one of them.
    cluster.wait("parts of both symbols", written, 60)
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
        # Not before each column has its value: the lag is known with the first trades. Of a market at thirty times the
        # speed a busy machine's start is a lag of many seconds, which it makes up for.
        last[:] = line.split()
        told = dict(zip(head.split(), last, strict=False))
        return told if len(last) == 7 and told["LAG"] in ("<1s", "1s", "2s", "5s") else None

    # Figures are written within 30 s of a poll that takes place every 15.
    last: list[str] = []
    try:
        told = cluster.wait("a value in every column, and a small lag", row, 90, 2)
    except AssertionError as error:
        raise AssertionError(f"{error}; the row is {last}") from None
    assert (told["READY"], told["SYMBOLS"], told["GAPS"]) == ("True", "2", "0")
    status = cluster.need("CryptoLake", LAKE)["status"]
    assert status["collectors"] == "1/1"
    assert [shard["state"] for shard in status["shards"]] == ["Live"]
