"""The running operator against a real API server: what it makes of a lake, and what it does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import apiserver
from tests.support.api_proxy import Proxy
from tests.support.operator_fixtures import collectors, here, operator, proxy, server
from tests.support.operator_world import (
    SETTINGS,
    Collectors,
    Running,
    World,
    eventually,
    fetch,
    files_of,
    play_lake,
    publish_pod,
    report_of,
    settle,
)

from crypto_lake.model.task_outcome import TaskOutcome, encode
from crypto_lake_operator import timetable
from crypto_lake_operator.drift import covers
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render import render
from crypto_lake_operator.report import Symbol
from crypto_lake_operator.validate import read_lake

__all__ = ["collectors", "here", "operator", "proxy", "server"]  # fixtures


def rendered(lake: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(lake["metadata"]["namespace"],))
    made = render(read_lake(lake), settings, Observed(taken_at=datetime.now(UTC)))
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in made}


def all_made(here: World, lake: dict[str, Any]) -> bool:
    """Every child is there and is as it was rendered, and no other is."""
    wanted, live = rendered(lake), here.children(lake["metadata"]["uid"])
    assert set(live) == set(wanted)
    for key, manifest in wanted.items():
        assert (key, covers(live[key], manifest)) == (key, "")
    return True


def is_another(here: World, kind: str, name: str, uid: str) -> bool:
    return here.get(kind, name)["metadata"]["uid"] != uid


def at_rest(proxy: Proxy, seconds: float = 1.5) -> float:
    """When nothing was written for so long: that moment."""

    def look() -> bool:
        return not proxy.writes(time.monotonic() - seconds)

    eventually(look, what="nothing is written any more")
    return time.monotonic()


def test_every_child_is_made_as_it_is_rendered_and_then_nothing_is_written(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    lake = here.lake("whole", symbols=["BTCUSDT", "ETHUSDT"], bucket="gs://lake/prod")
    eventually(lambda: all_made(here, lake))
    play_lake(here, "whole", collectors)
    here.until("whole", "Ready", "True", "AllLive")
    here.until("whole", "Reconciled", "True", "AsWanted")
    since = at_rest(proxy)
    asked = operator.metric('crypto_lake_operator_polls_total{outcome="ok"}')
    eventually(lambda: operator.metric('crypto_lake_operator_polls_total{outcome="ok"}') > asked + 5)
    assert proxy.writes(since) == []
    assert "kopf" not in str(here.get("CryptoLake", "whole"))
    assert "finalizers" not in here.get("CryptoLake", "whole")["metadata"]
    assert operator.page("/readyz")[0] == operator.page("/healthz")[0] == 200
    for event in here.list("Event"):
        assert event["regarding"]["name"] == "whole"
    assert {"Created", "Ready"} <= {event["reason"] for event in here.list("Event")}


def test_what_somebody_edits_or_deletes_is_put_back(here: World, proxy: Proxy, operator: Running) -> None:
    lake = here.lake("edited", bucket="gs://lake")
    eventually(lambda: all_made(here, lake))
    edits: list[tuple[str, str, dict[str, Any]]] = [
        ("StatefulSet", "edited-a", {"spec": {"replicas": 4}}),
        ("StatefulSet", "edited-a", {"spec": {"template": {"spec": {"hostNetwork": True}}}}),
        ("ConfigMap", "edited-a-config", {"data": {"shard-0.yml": "spoiled", "mine": "x"}}),
        ("CronJob", "edited-publish", {"spec": {"schedule": "1 1 * * *", "suspend": True}}),
        ("Service", "edited", {"spec": {"publishNotReadyAddresses": False}}),
        ("NetworkPolicy", "edited", {"spec": {"egress": [{}]}}),
        ("PodDisruptionBudget", "edited", {"spec": {"maxUnavailable": "50%"}}),
        ("ServiceAccount", "edited", {"automountServiceAccountToken": True}),
    ]
    for kind, name, patch in edits:
        before = here.get(kind, name)["metadata"]["resourceVersion"]
        assert here.patch(kind, name, patch)["metadata"]["resourceVersion"] != before, (
            "the edit changed nothing"
        )
        eventually(lambda: all_made(here, lake), what=f"{kind} {name} is put back")
        assert "mine" not in str(here.get("ConfigMap", "edited-a-config").get("data"))
    for kind, name in rendered(lake):
        uid = here.get(kind, name)["metadata"]["uid"]
        here.delete(kind, name)
        eventually(partial(is_another, here, kind, name, uid), what=f"{kind} {name} is made again")
    eventually(lambda: all_made(here, lake))
    at_rest(proxy)


def test_labels_and_owner_that_somebody_takes_away_come_back(here: World, operator: Running) -> None:
    lake = here.lake("stripped")
    eventually(lambda: all_made(here, lake))
    here.patch("ConfigMap", "stripped-a-config", {"metadata": {"labels": None}})
    eventually(lambda: here.get("ConfigMap", "stripped-a-config")["metadata"].get("labels"))
    eventually(lambda: all_made(here, lake))


def test_a_symbol_is_added_by_the_configuration_alone(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    lake = here.lake("live", symbols=["BTCUSDT"])
    collector = play_lake(here, "live", collectors)
    here.until("live", "Ready", "True")
    since = at_rest(proxy)
    before = here.get("StatefulSet", "live-a")["metadata"]["generation"]
    here.lake("live", symbols=["BTCUSDT", "ETHUSDT"])
    eventually(lambda: "ETHUSDT" in files_of(here, "live")["shard-0.yml"])
    text = files_of(here, "live")["shard-0.yml"]
    here.until("live", "Reconciled", "False", "ConfigurationPending")
    assert here.condition("live", "Ready")["status"] == "True"
    collector.report = report_of(text)
    here.until("live", "Reconciled", "True")
    assert here.get("StatefulSet", "live-a")["metadata"]["generation"] == before
    written = proxy.count(since)
    assert written["PATCH configmaps"] == 1
    assert {name for name in written if not name.startswith("GET")} <= {
        "PATCH configmaps",
        "PATCH cryptolakes/status",
        "POST events",
    }
    assert here.status("live")["symbols"] == 2
    assert lake["metadata"]["uid"] == here.get("CryptoLake", "live")["metadata"]["uid"]


def test_a_lake_that_holds_an_earlier_versions_times_keeps_them_until_they_are_taken_out(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    """By the patch that the documents show."""
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    (patch,) = re.findall(r"--type merge -p '(\{.*\"schedules\":null.*\})'", page)
    times = {"transform": "*/5 * * * *", "upload": "12 * * * *", "publish": "32 * * * *"}
    here.lake("timed", schedules=times, check={"schedule": "22 3 * * *"}, bucket="gs://lake")
    play_lake(here, "timed", collectors)
    here.until("timed", "Ready", "True")

    def schedules() -> dict[str, str]:
        return {job["metadata"]["name"]: job["spec"]["schedule"] for job in here.list("CronJob")}

    def own(name: str) -> str:
        return timetable.own(name.rpartition("-")[2], here.namespace, name)

    before = schedules()
    assert before["timed-a-0-check"] == "22 3 * * *"
    assert before["timed-publish"] == "32 * * * *"
    assert before["timed-a-0-cleanup"] == own("timed-a-0-cleanup"), "that was not said"
    since = at_rest(proxy)
    generation = here.get("StatefulSet", "timed-a")["metadata"]["generation"]
    here.patch("CryptoLake", "timed", json.loads(patch))
    eventually(lambda: schedules() == {name: own(name) for name in before})
    assert here.get("StatefulSet", "timed-a")["metadata"]["generation"] == generation
    assert proxy.count(since)["PATCH configmaps"] == 0, "collectors have nothing to take over"
    assert here.get("CryptoLake", "timed")["spec"]["check"] == {"enabled": True}


def test_a_suspended_lake_stops_and_keeps_everything(
    here: World, operator: Running, collectors: Collectors
) -> None:
    here.lake("off", bucket="gs://lake")
    play_lake(here, "off", collectors)
    here.until("off", "Ready", "True")
    names = set(here.children(here.get("CryptoLake", "off")["metadata"]["uid"]))
    lake = here.lake("off", bucket="gs://lake", suspend=True)
    eventually(lambda: here.get("StatefulSet", "off-a")["spec"]["replicas"] == 0)
    eventually(lambda: all(job["spec"]["suspend"] for job in here.list("CronJob")))
    settle(here, "off-a")
    here.delete("Pod", "off-a-0")
    here.until("off", "Collecting", "False", "Suspended")
    here.until("off", "Reconciled", "True")
    assert set(here.children(lake["metadata"]["uid"])) == names
    here.lake("off", bucket="gs://lake", suspend=False)
    eventually(lambda: here.get("StatefulSet", "off-a")["spec"]["replicas"] == 1)


def test_the_status_is_true_soon_after_a_figure_changes_and_waits_for_no_write(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    here.lake("figures", bucket="gs://lake")
    collector = play_lake(here, "figures", collectors)
    here.until("figures", "Complete", "True")
    since = at_rest(proxy)
    began = time.monotonic()
    collector.report = msgspec.structs.replace(
        collector.report, symbols=(Symbol("BTCUSDT", holes_open=2, holes_total=2, ids_missing=7),)
    )
    here.until("figures", "Complete", "False", "GapsOpen")
    assert here.status("figures")["tradesMissing"] == 7
    assert time.monotonic() - began < 30
    assert proxy.count(since)["PATCH cryptolakes/status"] == 1
    assert fetch(f"http://127.0.0.1:{operator.port}/metrics")[0] == 200


def test_what_publish_leaves_reaches_the_status_and_stays_when_its_pod_is_gone(
    here: World, proxy: Proxy, operator: Running, collectors: Collectors
) -> None:
    here.lake("daily", bucket="gs://lake")
    play_lake(here, "daily", collectors)
    here.until("daily", "Ready", "True")
    well = TaskOutcome(task="publish", ok=True, last_published_day="2024-08-08")

    def leaves(outcome: TaskOutcome, number: int, exit_code: int = 0) -> str:
        """As kubelet and job controller would have it: the pod ends, and is gone some time later."""
        at = datetime.now(UTC) + timedelta(seconds=number)
        pod = publish_pod(
            "daily",
            encode(outcome).decode(),
            exit_code=exit_code,
            at=at,
            number=number,
            namespace=here.namespace,
        )
        here.create("Pod", pod)
        here.patch("Pod", pod["metadata"]["name"], {"status": pod["status"]}, subresource="status")
        return pod["metadata"]["name"]

    name = leaves(well, 1)
    eventually(lambda: here.status("daily").get("lastPublishedDay") == "2024-08-08")
    assert here.condition("daily", "Uploaded")["status"] == "True"
    here.delete("Pod", name)
    leaves(TaskOutcome(task="publish", ok=False, problem="no such bucket"), 2, exit_code=1)
    found = here.until("daily", "Uploaded", "False", "UploadFailing")
    assert found["message"] == "publish: no such bucket"
    status = here.status("daily")
    assert status["lastPublishedDay"] == "2024-08-08"
    assert [(task["name"], task["ok"], task["problem"]) for task in status["tasks"]] == [
        ("publish", False, "no such bucket")
    ]
    told = {event["reason"]: event["note"] for event in here.list("Event")}
    assert told["Published"] == "bars up to 2024-08-08 are final in the bucket"
    assert told["UploadFailing"] == "publish: no such bucket"


def test_a_collector_that_does_not_answer_is_unknown_and_not_false(
    here: World, operator: Running, collectors: Collectors
) -> None:
    here.lake("silent")
    collector = play_lake(here, "silent", collectors)
    here.until("silent", "Ready", "True")
    collector.silent = True
    found = here.until("silent", "Collecting", "Unknown", "Unreachable")
    assert "silent-a-0 does not answer since" in found["message"]
    assert here.condition("silent", "Ready")["status"] == "Unknown"
    collector.silent = False
    here.until("silent", "Ready", "True")


def test_kubectl_can_wait_for_a_lake(
    here: World, operator: Running, collectors: Collectors, tmp_path: Path
) -> None:
    kubectl = shutil.which("kubectl") or str(apiserver.programs() / "kubectl")
    if not Path(kubectl).exists():
        pytest.skip("no kubectl")
    here.lake("waited")
    config = here.server.kubeconfig(tmp_path / "admin")
    command = [kubectl, "--kubeconfig", str(config), "-n", here.namespace]
    waiting = subprocess.Popen([*command, "wait", "--for=condition=Ready", "--timeout=60s", "cl/waited"])
    play_lake(here, "waited", collectors)
    assert waiting.wait(60) == 0
    shown = subprocess.run([*command, "get", "cl"], capture_output=True, text=True, check=True).stdout
    assert shown.split()[:3] == ["NAME", "READY", "SYMBOLS"]
    assert "True" in shown.splitlines()[1]


def test_diff_tells_what_a_file_would_change_and_writes_nothing(
    here: World, proxy: Proxy, operator: Running, tmp_path: Path
) -> None:
    lake = here.lake("shown", symbols=["BTCUSDT", "ETHUSDT"])
    eventually(lambda: all_made(here, lake))
    since = at_rest(proxy)
    file = tmp_path / "lake.yaml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_OPERATOR_")}
    environment |= {
        "KUBECONFIG": str(operator.kubeconfig),
        "CRYPTO_LAKE_OPERATOR_NAMESPACE": SETTINGS.namespace,
        "CRYPTO_LAKE_OPERATOR_IMAGE": SETTINGS.image,
    }

    def diff(**spec: Any) -> tuple[int, str]:
        document = {k: lake[k] for k in ("apiVersion", "kind")}
        document |= {"metadata": {"name": "shown", "namespace": here.namespace}, "spec": spec}
        file.write_bytes(msgspec.json.encode(document))
        command = [sys.executable, "-m", "crypto_lake_operator.cli", "diff", str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    assert diff(symbols=["BTCUSDT", "ETHUSDT"]) == (0, "")
    code, told = diff(symbols=["BTCUSDT", "XRPUSDT"], bucket="gs://lake")
    assert code == 1
    assert f"{here.namespace}/shown: ConfigMap shown-a-config: differs at data.shard-0.yml" in told
    assert f"{here.namespace}/shown: CronJob shown-publish: would be created" in told
    assert diff(symbols=["btcusdt"])[0] == 2
    environment["KUBECONFIG"] = str(tmp_path / "none")
    code, told = diff(symbols=["BTCUSDT"])
    assert code == 4
    assert "no cluster is configured" in told
    assert proxy.writes(since) == []
    # It asks what applying would come to, and the lake is as it was.
    assert [(seen.method, seen.code) for seen in proxy.seen if seen.dry_run] == [("PATCH", 200)] * 2
    now = here.get("CryptoLake", "shown")
    assert now["metadata"]["generation"] == 1
    assert now["spec"]["symbols"] == ["BTCUSDT", "ETHUSDT"]
