"""The lists of lakes: what happens while one is made, and when the API server does not give it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from kubernetes.aio.client.configuration import Configuration
from tests.support.operator_lakes import SETTINGS, document

from crypto_lake_operator import control
from crypto_lake_operator.client import Api, Page, UnavailableError
from crypto_lake_operator.control import Operator
from crypto_lake_operator.kinds import Kind
from crypto_lake_operator.metrics import Metrics
from crypto_lake_operator.queue import Key

KEY = Key("lakes", "lake")


def lake(version: int, uid: str = "1") -> dict[str, Any]:
    return document({"symbols": ["BTCUSDT"]}, uid=uid, resourceVersion=str(version))


class Lists:
    """Of the API as much as listing needs. on_list: called before each page is given."""

    def __init__(self, items: list[dict[str, Any]], on_list: Callable[[], None] = lambda: None) -> None:
        self.items, self.on_list, self.asked = items, on_list, 0

    async def list_page(self, kind: Kind, namespace: str, selector: str, **_: Any) -> Page:
        self.asked += 1
        self.on_list()
        return Page(self.items, "9")


def operator(client: Lists) -> Operator:
    async def login() -> Configuration:
        raise AssertionError("nothing is watched here")

    return Operator(cast("Api", client), login, SETTINGS, Metrics(), retry_seconds=0.01)


def resync(made: Operator) -> None:
    asyncio.run(made._resync())  # pyright: ignore[reportPrivateUsage]


def test_a_lake_that_a_list_lacks_is_gone() -> None:
    made = operator(Lists([]))
    made.synced = True
    made.lakes.put(lake(5))
    resync(made)
    assert made.lakes.get(KEY) is None


def test_a_lake_that_is_made_again_while_lakes_are_listed_is_not_lost() -> None:
    lists = Lists([])
    made = operator(lists)
    made.synced = True
    made.lakes.put(lake(5))
    # The watch tells of the new one after the list was made, in which neither is.
    lists.on_list = lambda: made._on_lake("ADDED", lake(12, "2"))  # pyright: ignore[reportPrivateUsage]
    resync(made)
    entry = made.lakes.get(KEY)
    assert lists.asked == 1
    assert entry is not None
    assert entry.uid == "2"


def test_an_api_server_that_does_not_list_at_first_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = 2

    def fail() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise UnavailableError("etcd is compacting", 503)

    made = operator(Lists([lake(5)], fail))
    asyncio.run(made._first_list())  # pyright: ignore[reportPrivateUsage]
    assert failures == 0
    assert made.lakes.get(KEY) is not None
    assert "the CryptoLakes can't be listed: etcd is compacting" in caplog.text
    assert caplog.records[0].name == control.__name__
