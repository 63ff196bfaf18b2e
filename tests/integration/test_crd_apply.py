"""`apply-crd` and `check` against a real API server, as processes and, where something must go wrong, within the test."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import apiserver
from tests.support.apiserver import ApiServer, RefusedError

from crypto_lake_operator import crd, crd_apply
from crypto_lake_operator.crd_apply import ClusterError, Outcome

COLLECTION = crd_apply.PATH.rpartition("/")[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        pytest.skip(str(error))
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture
def definition(server: ApiServer) -> Iterator[None]:
    """None is there before, nor after."""
    yield
    for _ in range(300):
        try:
            server.request("DELETE", crd_apply.PATH)
        except RefusedError as error:
            if error.code == 404:
                return
    raise AssertionError("the definition does not go")


def older() -> dict[str, Any]:
    """A definition without `suspend`, with a field and a rule that are gone since, that bears no version."""
    made = copy.deepcopy(crd.crd())
    del made["metadata"]["annotations"]
    spec = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["suspend"]
    spec["properties"]["gone"] = {"type": "string", "maxLength": 8}
    spec["x-kubernetes-validations"] = [{"rule": "!has(self.gone)", "message": "no"}]
    return made


def command(server: ApiServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kubeconfig = server.kubeconfig(folder / "kubeconfig")
    return subprocess.run(
        [sys.executable, "-m", "crypto_lake_operator.cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def within(server: ApiServer) -> crd_apply.Request:
    def request(method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        try:
            return server.request(method, path, body, content_type=content_type)
        except RefusedError as error:
            raise ClusterError(error.code, str(error)) from None

    return request


@pytest.mark.usefixtures("definition")
def test_an_older_definition_is_brought_up_to_date_by_the_command(server: ApiServer, tmp_path: Path) -> None:
    # As Helm 3 makes the files of crds/.
    server.request("POST", f"{COLLECTION}?fieldManager=helm", older())
    done = command(server, tmp_path, "apply-crd", "--field-manager", "helm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "was brought up to date" in done.stdout
    live = server.request("GET", crd_apply.PATH)
    assert live["spec"]["versions"] == crd.crd()["spec"]["versions"]
    lake = {"apiVersion": "cryptolake.io/v1alpha1", "kind": "CryptoLake", "metadata": {"name": "a"},
            "spec": {"symbols": ["A"], "suspend": True}}  # fmt: skip
    server.apply(lake, dry_run=True)
    # Nobody else owns anything of it: an apply by Helm 4 meets no conflict, whatever it changes.
    server.request("PATCH", f"{crd_apply.PATH}?fieldManager=helm", older(), content_type=apiserver.APPLY)
    assert "was brought up" in command(server, tmp_path, "apply-crd", "--field-manager", "helm").stdout
    assert "is up to date" in command(server, tmp_path, "apply-crd", "--field-manager", "helm").stdout
    done = command(server, tmp_path, "check")
    assert (done.returncode, done.stdout) == (0, "cryptolakes.cryptolake.io is served\n")


@pytest.mark.usefixtures("definition")
def test_a_newer_definition_is_left_alone(server: ApiServer) -> None:
    newer = older()
    newer["metadata"]["annotations"] = {crd.ANNOTATION_VERSION: "100.0.0"}
    server.apply(newer)
    before = server.request("GET", crd_apply.PATH)["spec"]
    assert crd_apply.apply(within(server)) is Outcome.NEWER
    assert server.request("GET", crd_apply.PATH)["spec"] == before


@pytest.mark.usefixtures("definition")
def test_without_a_definition_it_says_what_to_do(server: ApiServer, tmp_path: Path) -> None:
    done = command(server, tmp_path, "apply-crd")
    assert done.returncode == 1
    assert "kubectl apply --server-side -f manifests/crd.yaml" in done.stderr
    done = command(server, tmp_path, "check", "--lake", "default/none", "--operator", "http://127.0.0.1:1")
    assert done.returncode == 1
    for problem in (
        "there is no CustomResourceDefinition",
        "does not answer",
        "there is no CryptoLake default/none",
    ):
        assert problem in done.stderr
    assert command(server, tmp_path, "check", "--lake", "none").returncode == 2


def test_without_an_api_server_it_says_so(tmp_path: Path) -> None:
    (port,) = apiserver.free_ports(1)
    nobody = ApiServer(f"http://127.0.0.1:{port}", tmp_path / "none", "", tmp_path / "none")
    done = command(nobody, tmp_path, "check")
    assert done.returncode == 4
    assert "can't be reached" in done.stderr


@pytest.mark.usefixtures("definition")
def test_what_changes_it_meanwhile_is_met_again(server: ApiServer) -> None:
    """Somebody writes the definition between our look and our write, three times; the fourth time it is quiet."""
    server.request("POST", f"{COLLECTION}?fieldManager=helm", older())
    plain, disturbed = within(server), 0

    def request(method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        nonlocal disturbed
        if content_type == crd_apply.JSON_PATCH and disturbed < 3:
            disturbed += 1
            label = {"metadata": {"labels": {"disturbed": str(disturbed)}}}
            server.request("PATCH", crd_apply.PATH, label, content_type="application/merge-patch+json")
        return plain(method, path, body, content_type)

    assert crd_apply.apply(request, field_manager="helm", settle_seconds=0) is Outcome.UPDATED
    assert disturbed == 3
    live = server.request("GET", crd_apply.PATH)
    owners = {
        (e["manager"], e["operation"]) for e in live["metadata"]["managedFields"] if "subresource" not in e
    }
    assert owners == {("helm", "Apply")}


def test_one_that_never_is_served_is_told_in_the_end() -> None:
    stored = crd.crd() | {"status": {"conditions": [{"type": "Established", "status": "False"}]}}
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with pytest.raises(crd_apply.NotEstablishedError, match="kubectl describe crd"):
        crd_apply.apply(lambda *_: stored, wait_seconds=5, clock=lambda: now, sleep=sleep)
    assert now >= 5


@pytest.mark.parametrize(
    ("live", "ours", "newer"),
    [
        ("", "0.1.0", False),
        ("0.1.0", "0.1.0", False),
        ("0.2.0", "0.1.0", True),
        ("0.10.0", "0.9.1", True),
        ("0.9.1", "0.10.0", False),
        ("1", "0.10.0", True),
        ("garbage", "0.1.0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(live: str, ours: str, newer: bool) -> None:
    assert crd_apply.is_newer(live, ours) is newer
