"""The dashboard of the chart: what its pod is given is what the command takes, and its way to collectors is open at both ends."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.helm import PROGRAMS, Helm
from tests.support.operator_lakes import NOW, SETTINGS, lake

from crypto_lake.cli.dashboard import command
from crypto_lake.dashboard.serve import HEALTH, PORT
from crypto_lake_operator import naming
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render import render
from crypto_lake_operator.render.context import HTTP_PORT
from crypto_lake_operator.render.stateful import COMPONENT

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no Helm on this machine")
STATUS = ("http://prod-a-0.prod.lakes:9464/status", "http://prod-b-0.prod.lakes:9464/status")
VALUES: dict[str, Any] = {
    "enabled": True,
    "data": "gs://my-lake/prod",
    "exchange": "binance",
    "status": list(STATUS),
    "staleAfter": "1h30m",
    "env": [
        {"name": "OTHER", "value": "http://elsewhere:1234"},
        {"name": "STORAGE_EMULATOR_HOST", "value": "http://gcs.lakes:4443/"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")


def template(folder: Path, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By kind, what is the dashboard's of what is rendered."""
    return by_kind(Helm(max(PROGRAMS), folder).template({"dashboard": values}, namespace=SETTINGS.namespace))


def by_kind(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        manifest["kind"]: manifest
        for manifest in manifests
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "crypto-lake-dashboard"
    }


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, dict[str, Any]]:
    return template(folder, VALUES)


def container_of(made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (container,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    return container


def test_it_is_off_by_default(folder: Path) -> None:
    assert template(folder, {}) == {}


@pytest.mark.parametrize("major", sorted(PROGRAMS))
def test_a_release_whose_values_know_nothing_of_it_can_be_upgraded(folder: Path, major: int) -> None:
    """As `helm upgrade --reuse-values` of a chart that had none gives them."""
    assert by_kind(Helm(major, folder).template({"dashboard": None})) == {}


def test_what_the_pod_is_given_is_what_was_asked_for(made: dict[str, dict[str, Any]]) -> None:
    container = container_of(made)
    assert container["command"] == ["crypto-lake"]
    name, *arguments = container["args"]
    assert name == "dashboard"
    given = command.make_context("dashboard", arguments).params
    assert given["data"] == "gs://my-lake/prod"
    assert given["exchange"] == "binance"
    assert given["statuses"] == STATUS
    assert given["stale_after"] == 5400
    assert (given["listen"], given["port"]) == ("0.0.0.0", PORT)
    assert container["env"] == VALUES["env"]
    assert [port["containerPort"] for port in container["ports"]] == [PORT]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert set(probes) == {HEALTH}


def test_what_was_not_asked_for_is_not_given(folder: Path) -> None:
    container = container_of(template(folder, {"enabled": True, "data": "gs://my-lake"}))
    given = command.make_context("dashboard", container["args"][1:]).params
    assert given["data"] == "gs://my-lake"
    assert (given["exchange"], given["statuses"], given["stale_after"]) == (None, (), None)
    assert "env" not in container


def test_the_values_that_the_page_shows_are_ones(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"```yaml\n(dashboard:\n.*?)```", page, re.DOTALL)
    shown = template(folder, yaml.safe_load(block)["dashboard"])
    assert shown["ServiceAccount"]["metadata"]["annotations"]
    given = command.make_context("dashboard", container_of(shown)["args"][1:]).params
    assert given["data"] == "gs://my-lake/prod"
    assert len(given["statuses"]) == 1


def test_the_flags_that_the_page_of_kind_shows_are_ones(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "kind.md").read_text()
    (line,) = re.findall(r"^helm upgrade .*dashboard.*$", page.replace("\\\n", ""), re.MULTILINE)
    words = shlex.split(line)
    flags = [word for flag, value in pairwise(words) if flag == "--set" for word in (flag, value)]
    shown = by_kind(Helm(max(PROGRAMS), folder).template({}, *flags))
    container = container_of(shown)
    given = command.make_context("dashboard", container["args"][1:]).params
    assert given["statuses"] == ("http://demo-a-0.demo.lakes:9464/status",)
    assert container["env"] == [{"name": "STORAGE_EMULATOR_HOST", "value": "http://gcs.lakes:4443"}]


def test_it_may_ask_a_collector_and_a_collector_lets_it(made: dict[str, dict[str, Any]]) -> None:
    """The two policies are of two programs: each names the other's pods."""
    pod = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    collector = naming.labels("prod", COMPONENT)
    (out,) = [
        rule["to"][0]["podSelector"]["matchLabels"]
        for rule in made["NetworkPolicy"]["spec"]["egress"]
        if rule["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}]
    ]
    assert out.items() <= collector.items()
    policy = next(m for m in render(lake(), SETTINGS, Observed(taken_at=NOW)) if m["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert [
        peer["namespaceSelector"]["matchLabels"]
        for peer in rule["from"]
        if peer["podSelector"].get("matchLabels", {"": ""}).items() <= pod.items()
    ] == [{"kubernetes.io/metadata.name": made["Deployment"]["metadata"]["namespace"]}]


def test_the_port_of_an_emulator_is_open_and_no_other(made: dict[str, dict[str, Any]]) -> None:
    ports = [
        port["port"]
        for rule in made["NetworkPolicy"]["spec"]["egress"]
        if "to" not in rule
        for port in rule["ports"]
    ]
    assert ports == [53, 53, 443, 4443]


def test_its_service_and_its_policy_are_of_its_pods(made: dict[str, dict[str, Any]]) -> None:
    pod = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
        made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= pod.items()
    account = made["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == made["ServiceAccount"]["metadata"]["name"]


def test_nobody_is_let_in_where_nobody_is_named(folder: Path) -> None:
    values = {"enabled": True, "data": "gs://my-lake", "networkPolicy": {"from": []}}
    spec = template(folder, values)["NetworkPolicy"]["spec"]
    assert "Ingress" in spec["policyTypes"]
    assert not spec.get("ingress")
    assert "NetworkPolicy" not in template(folder, values | {"networkPolicy": {"enabled": False}})
