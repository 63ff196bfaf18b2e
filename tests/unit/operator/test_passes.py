"""Passes over a lake against an API server that is played: what must not go on for ever, and what is nobody's any more."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from tests.support.operator_lakes import NOW, SETTINGS, document, lake, live_objects

from crypto_lake_operator import kinds
from crypto_lake_operator.actions import Apply
from crypto_lake_operator.alerts_send import Alerts
from crypto_lake_operator.api_status import ShardStatus, Status
from crypto_lake_operator.cache import Cache, Owner
from crypto_lake_operator.client import Api, NotFoundError, Page
from crypto_lake_operator.events import Teller
from crypto_lake_operator.execute import Executed, Executor
from crypto_lake_operator.kinds import Kind
from crypto_lake_operator.lakes import Lakes
from crypto_lake_operator.metrics import Metrics
from crypto_lake_operator.observe import Observer
from crypto_lake_operator.observed import API_SERVICE_MONITOR, Key, Observed
from crypto_lake_operator.queue import Done
from crypto_lake_operator.queue import Key as LakeKey
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.reconcile import REFUSALS, Pass, Reconciler
from crypto_lake_operator.render import plan
from crypto_lake_operator.watch import Watch

SET = Key("StatefulSet", "lake-a")


class Played:
    """As much of the API as a pass needs. admission: what becomes of an object on its way. gone: its kind is."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []
        self.admission: Callable[[dict[str, Any]], None] = lambda _: None
        self.items: list[dict[str, Any]] = []
        self.gone = False

    async def apply(self, manifest: dict[str, Any], *, create_only: bool = False) -> dict[str, Any]:
        self.written.append(("apply", manifest["metadata"]["name"]))
        live = copy.deepcopy(manifest)
        live["metadata"] |= {"uid": "u", "resourceVersion": "7"}
        self.admission(live)
        return live

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Any, **_: Any) -> Any:
        self.written.append(("patch", name))
        return document({"symbols": ["BTCUSDT"]}, resourceVersion="6")

    async def create(self, kind: Kind, namespace: str, body: Any) -> Any:
        self.written.append(("create", kind.plural))
        return body

    async def list_page(self, kind: Kind, namespace: str, selector: str, **_: Any) -> Page:
        if self.gone:
            raise NotFoundError("the server could not find the requested resource", 404)
        self.gone = True
        return Page(self.items, "9")

    def watch(self, *_: Any) -> Any:
        raise NotFoundError("the server could not find the requested resource", 404)


def applied(client: Played) -> Executed:
    wanted = lake()
    manifest = next(
        m for m in plan(wanted, SETTINGS, Observed(taken_at=NOW)).manifests if m["kind"] == SET.kind
    )
    actions = [Apply(manifest, known=True, why="it is to be otherwise")]
    return asyncio.run(Executor(cast("Api", client), Cache()).execute(wanted, actions))


def test_what_admission_changes_is_told_and_not_put_back_once_a_second() -> None:
    client = Played()
    client.admission = lambda live: live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    result = applied(client)
    (wait,) = result.waits
    assert wait.reason is Reason.CHANGED_BY_ADMISSION
    assert wait.reason in REFUSALS, "later and later"
    assert (
        "StatefulSet lake-a: it was applied and came back otherwise at spec.template.spec.containers"
        in wait.message
    )


def test_what_the_api_server_fills_in_and_what_another_set_before_is_no_change_of_admission() -> None:
    client = Played()
    assert applied(client).waits == []
    client.admission = lambda live: live["spec"]["template"]["spec"].update(dnsPolicy="ClusterFirst")
    assert applied(client).waits == []

    def edited(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["containers"].append({"name": "theirs"})
        path = {
            "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"theirs"}': {"f:name": {}}}}}}
        }
        live["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": path}]

    client.admission = edited
    assert applied(client).waits == [], "the next pass takes it out"


def reconciler(client: Played, lakes: Lakes) -> Reconciler:
    api, cache = cast("Api", client), Cache()
    observer = Observer(api, cache, lambda *_: {}, frozenset)
    return Reconciler(api, lakes, observer, Executor(api, cache), Teller(api), SETTINGS)


@pytest.mark.parametrize(("uid", "writes"), [("uid-1", True), ("another", False)])
def test_what_was_found_of_a_lake_is_not_written_to_another_of_its_name(uid: str, writes: bool) -> None:
    client, lakes, wanted = Played(), Lakes(), lake()
    lakes.put(document({"symbols": ["BTCUSDT"]}, uid=uid, resourceVersion="5"))
    observed = Observed(taken_at=NOW)
    found = Pass(wanted, plan(wanted, SETTINGS, observed), observed, ())
    made = reconciler(client, lakes)
    outcome = asyncio.run(made._tell(LakeKey("lakes", "lake"), found))  # pyright: ignore[reportPrivateUsage]
    assert (("patch", "lake") in client.written) is writes
    assert isinstance(outcome, Done)
    assert (outcome.again_seconds is not None) is writes


def test_a_lake_has_nothing_of_the_silence_of_another_that_had_its_name() -> None:
    client = Played()
    alerts = Alerts(cast("Api", client), Metrics(), after_seconds=300.0)

    def later_of(uid: str, minutes: int, since: str) -> float | None:
        wanted = lake(
            metadata={"uid": uid},
            alerts={"webhookSecretRef": {"name": "hook"}},
        )
        observed = Observed(taken_at=NOW + timedelta(minutes=minutes))
        shard = ShardStatus(name="a-0", pod="lake-a-0", state="Missing", silent_since=since)
        return asyncio.run(
            alerts.look(wanted, plan(wanted, SETTINGS, observed), observed, Status(shards=(shard,)))
        )[1]

    assert later_of("1", 0, "2024-08-09T12:00:30Z") == 300.0
    # The status could not be written: what this process knows counts.
    assert later_of("1", 1, "2024-08-09T12:01:30Z") == 240.0
    assert later_of("2", 2, "2024-08-09T12:02:30Z") == 300.0


def test_a_kind_that_the_cluster_no_longer_has_is_forgotten_and_its_watch_ends() -> None:
    kind = kinds.OPTIONAL[API_SERVICE_MONITOR]
    cache, changed = Cache(), list[Owner]()
    client = Played()
    service = next(live for key, live in live_objects(lake()).items() if key.kind == "Service")
    metadata = service["metadata"] | {"resourceVersion": "5"}
    client.items = [service | {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}]
    watch = Watch(cast("Api", client), cache, kind, "", changed.append, optional=True)
    asyncio.run(asyncio.wait_for(watch.run(), 60))
    assert changed == [Owner("lakes", "lake")] * 2, "it came, and went"
    assert len(cache) == 0
