"""What a real API server makes of the CustomResourceDefinition and of everything that is rendered."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import apiserver
from tests.support.apiserver import ApiServer, RefusedError
from tests.support.bad_lakes import BAD_LAKES, BadLake, spec
from tests.support.operator_lakes import GOLDEN_NAMES, NOW, SETTINGS, document, golden, golden_observed

from crypto_lake_operator import applied, cli, cluster, crd, drift, quantity
from crypto_lake_operator.actions import Apply, RemoveForeign
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.crd_apply import ClusterError
from crypto_lake_operator.decide import decide
from crypto_lake_operator.observed import Observed, child_of
from crypto_lake_operator.render import plan, render
from crypto_lake_operator.validate import read_lake

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))
LAKES = "/apis/cryptolake.io/v1alpha1/namespaces/lakes/cryptolakes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        pytest.skip(str(error))
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as running:
        running.request("POST", "/api/v1/namespaces", {"metadata": {"name": "lakes"}})
        install(running, crd.crd())
        yield running


def sent(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """As a user writes it: the server gives uid and generation."""
    written = document(fields, name)
    return written | {"metadata": {"name": name, "namespace": "lakes"}}


def write(server: ApiServer, lake: dict[str, Any], *, new: bool) -> None:
    """As a dry run."""
    if new:
        server.request("POST", f"{LAKES}?dryRun=All&fieldValidation=Strict", lake)
    else:
        server.apply(lake, dry_run=True)


def install(server: ApiServer, definition: dict[str, Any]) -> None:
    """Apply the definition, and wait until the server takes lakes by it."""
    server.apply(definition)
    deadline = time.monotonic() + 90
    while True:
        try:
            server.request("GET", LAKES)
            server.apply(sent(spec(), "probe"), dry_run=True)
            return
        except RefusedError:
            assert time.monotonic() < deadline, "the API server does not take CryptoLakes"
            time.sleep(0.1)


@pytest.mark.parametrize("bad", BAD_LAKES, ids=str)
def test_a_bad_lake_is_refused_with_words_that_help_and_the_mended_one_is_taken(
    server: ApiServer, bad: BadLake
) -> None:
    name = "bad"
    if bad.before is not None:
        server.apply(sent(bad.before, name))
    try:
        with pytest.raises(RefusedError) as caught:
            write(server, sent(bad.spec, name), new=bad.before is None)
        assert caught.value.code == 422
        assert bad.message in str(caught.value)
        server.apply(sent(bad.good, name), dry_run=True)
    finally:
        if bad.before is not None:
            server.request("DELETE", f"{LAKES}/{name}")


def test_every_rule_of_the_schema_is_in_the_table_of_bad_lakes() -> None:
    rules = [rule["message"] for rule in _rules(crd.spec_schema())]
    untested = [
        rule for rule in rules if not any(bad.message in rule for bad in BAD_LAKES if not bad.of_schema)
    ]
    assert [rule[:8] for rule in untested] == ["exchange"]  # there is but one exchange: see below


def _rules(schema: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from schema.get("x-kubernetes-validations", [])
    for inner in schema.get("properties", {}).values():
        yield from _rules(inner)
    if isinstance(schema.get("items"), dict):
        yield from _rules(schema["items"])


def test_the_exchange_of_a_lake_can_not_be_changed(server: ApiServer) -> None:
    definition = copy.deepcopy(crd.crd())
    properties = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
        "properties"
    ]
    properties["exchange"]["enum"].append("another")
    server.apply(definition)
    try:
        changed = sent(spec(exchange="another"), "fixed")
        deadline = time.monotonic() + 90
        while True:  # until the second name is known
            try:
                server.apply(changed, dry_run=True)
                break
            except RefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        server.apply(sent(spec(), "fixed"))
        with pytest.raises(RefusedError, match="exchange can't be changed"):
            server.apply(changed, dry_run=True)
        server.request("DELETE", f"{LAKES}/fixed")
    finally:
        install(server, crd.crd())


def test_a_field_that_is_not_known_is_refused(server: ApiServer) -> None:
    with pytest.raises(RefusedError, match="simbols"):
        server.apply(sent(spec(simbols=["X"]), "unknown"), dry_run=True)


def test_the_defaults_of_the_server_are_those_of_the_model(server: ApiServer) -> None:
    answer = server.apply(sent(spec(), "defaults"), dry_run=True)
    assert read_lake(answer).spec == read_lake(document(spec())).spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_taken_as_it_stands(server: ApiServer, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        manifest["metadata"]["namespace"] = "lakes"
        server.apply(manifest, dry_run=True)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_all_that_is_rendered_is_taken_and_is_then_left_alone(server: ApiServer, name: str) -> None:
    lake = read_lake(golden(name))
    server.apply(
        {**golden(name), "metadata": {"name": lake.metadata.name, "namespace": "lakes"}}, dry_run=True
    )
    observed = golden_observed(name)
    native = [m for m in render(lake, SETTINGS, observed) if "coreos" not in m["apiVersion"]]
    children = [child_of(server.apply(manifest, manager=drift.FIELD_MANAGER)) for manifest in native]
    seen = Observed(taken_at=NOW, children={child.key: child for child in children})
    assert decide(plan(lake, SETTINGS, seen), seen) == []
    for manifest in native:
        server.request("DELETE", apiserver.path_of(manifest))


def test_what_somebody_changes_or_adds_is_put_back(server: ApiServer) -> None:
    lake = read_lake(document(spec(bucket="gs://lake"), "edited"))
    manifests = {
        (m["kind"], m["metadata"]["name"]): m for m in render(lake, SETTINGS, Observed(taken_at=NOW))
    }
    edits: list[tuple[tuple[str, str], dict[str, Any]]] = [
        (("StatefulSet", "edited-a"), {"spec": {"replicas": 4}}),
        (
            ("StatefulSet", "edited-a"),
            {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": "collector",
                                    "env": [{"name": "MINE", "value": "x"}],
                                    "image": "other",
                                },
                                {"name": "sidecar", "image": "sidecar"},
                            ]
                        }
                    }
                }
            },
        ),
        (("ConfigMap", "edited-a-config"), {"data": {"shard-0.yml": "spoiled", "mine": "x"}}),
        (("CronJob", "edited-publish"), {"spec": {"schedule": "1 1 * * *", "suspend": True}}),
        (("Service", "edited"), {"spec": {"ports": [{"port": 9464, "targetPort": 1, "name": "http"}]}}),
        (("NetworkPolicy", "edited"), {"spec": {"egress": [{}]}}),
        (("PodDisruptionBudget", "edited"), {"spec": {"maxUnavailable": "50%"}}),
        (("ServiceAccount", "edited"), {"automountServiceAccountToken": True}),
    ]
    for manifest in manifests.values():
        server.apply(manifest, manager=drift.FIELD_MANAGER)
    assert _decided(server, lake, manifests) == []
    for key, patch in edits:
        path = apiserver.path_of(manifests[key])
        first = server.request("GET", path)
        query, merge = "?fieldManager=kubectl-edit", "application/strategic-merge-patch+json"
        edited = server.request("PATCH", path + query, patch, content_type=merge)
        assert _without_bookkeeping(edited) != _without_bookkeeping(first), "the edit changed nothing"
        actions = _decided(server, lake, manifests)
        assert {action.key for action in actions} == {key}, f"of {patch}"
        for action in actions:
            if isinstance(action, RemoveForeign):
                operations = [{"op": "remove", "path": pointer} for pointer in action.pointers]
                server.request("PATCH", path, operations, content_type="application/json-patch+json")
            else:
                server.apply(action.manifest, manager=drift.FIELD_MANAGER)
        assert _decided(server, lake, manifests) == []
        assert _without_bookkeeping(server.request("GET", path)) == _without_bookkeeping(first)
    for manifest in manifests.values():
        server.request("DELETE", apiserver.path_of(manifest))


def _decided(server: ApiServer, lake: CryptoLake, manifests: dict[Any, Any]) -> list[Apply | RemoveForeign]:
    children = [
        child_of(server.request("GET", apiserver.path_of(manifest))) for manifest in manifests.values()
    ]
    seen = Observed(taken_at=NOW, children={child.key: child for child in children})
    actions = decide(plan(lake, SETTINGS, seen), seen)
    assert all(isinstance(action, Apply | RemoveForeign) for action in actions), actions
    return actions  # pyright: ignore[reportReturnType]


def _without_bookkeeping(live: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in live.items() if key not in ("metadata", "status")}
    return kept | {"labels": live["metadata"]["labels"], "annotations": live["metadata"]["annotations"]}


def test_sizes_are_compared_as_the_server_compares_them(server: ApiServer) -> None:
    server.apply(sent(spec(storage={"size": "50Gi"}), "sizes"))
    for size in ("54G", "1Ti", "50Gi", "51200Mi", "53G", "49Gi"):
        grows = quantity.parse(size) >= quantity.parse("50Gi")
        try:
            server.apply(sent(spec(storage={"size": size}), "sizes"), dry_run=True)
            taken = True
        except RefusedError:
            taken = False
        assert taken is grows, size
    server.request("DELETE", f"{LAKES}/sizes")


NO_TIMES = {
    "schedules": dict.fromkeys(("transform", "upload", "publish", "cleanup")),
    "check": {"schedule": None},
    "macro": {"schedule": None},
}


@pytest.mark.parametrize("way", ["created", "server-side", "patched"])
def test_a_schedule_that_is_null_is_taken_as_one_that_is_absent(server: ApiServer, way: str) -> None:
    without = spec(bucket="gs://lake", macro={})
    lake = sent(spec(bucket="gs://lake") | NO_TIMES, "nulls")
    match way:
        case "created":
            server.request("POST", f"{LAKES}?fieldValidation=Strict", lake)
        case "server-side":
            server.apply(lake)
        case _:
            times = {
                "schedules": dict.fromkeys(NO_TIMES["schedules"], "1 * * * *"),
                "check": {"schedule": "1 2 * * *"},
                "macro": {"schedule": "1 2 * * *"},
            }
            server.apply(sent(spec(bucket="gs://lake") | times, "nulls"))
            server.request("PATCH", f"{LAKES}/nulls", {"spec": NO_TIMES}, content_type=applied.MERGE)
    stored = server.request("GET", f"{LAKES}/nulls")
    server.request("DELETE", f"{LAKES}/nulls")
    assert read_lake(stored).spec == read_lake(document(without)).spec


OLD_TIMES = {
    "schedules": {
        "transform": "*/5 * * * *",
        "upload": "12 * * * *",
        "publish": "32 * * * *",
        "cleanup": "42 * * * *",
    },
    "check": {"schedule": "22 3 * * *"},
}
FIELDS = spec(bucket="gs://lake", suspend=True)


@pytest.fixture(params=["server-side", "noted", "created"])
def old_lake(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A lake, with its children, in which another than who applied it wrote schedules, as an older definition did.

    noted: as `kubectl apply` writes it; created: by one who leaves no word of what was applied.
    """
    lake = sent(FIELDS, "old")
    if request.param == "server-side":
        server.apply(lake, manager="argocd-controller")
    else:
        body = copy.deepcopy(lake)
        if request.param == "noted":
            body["metadata"]["annotations"] = {
                "kubectl.kubernetes.io/last-applied-configuration": json.dumps(lake)
            }
        server.request("POST", f"{LAKES}?fieldManager=kubectl", body)
    stored = server.request(
        "PATCH", f"{LAKES}/old?fieldManager=another", {"spec": OLD_TIMES}, content_type=applied.MERGE
    )
    children = [
        server.apply(manifest, manager=drift.FIELD_MANAGER)
        for manifest in render(read_lake(stored), SETTINGS, Observed(taken_at=NOW))
    ]
    yield request.param
    for manifest in [*children, lake]:
        server.request("DELETE", apiserver.path_of(manifest))


def diff(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, file: Path, fields: dict[str, Any], name: str = "old"
) -> int:
    """The command's exit code; of the client alone its connection is another."""

    def asked(method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        try:
            return server.request(method, path, body, content_type=content_type)
        except RefusedError as error:
            raise ClusterError(error.code, str(error)) from None

    monkeypatch.setattr(cluster, "connect", lambda _: asked)
    file.write_text(yaml.safe_dump(sent(fields, name)))
    return cli.main(["diff", str(file), "--image", SETTINGS.image])


def test_diff_tells_what_applying_a_file_to_an_older_lake_would_change_and_nothing_else(
    server: ApiServer,
    old_lake: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = server.request("GET", f"{LAKES}/old")
    file = tmp_path / "lake.yaml"
    assert (diff(server, monkeypatch, file, FIELDS), *capsys.readouterr()) == (0, "", "")

    changed = FIELDS | {"schedules": {"upload": "5 * * * *"}}
    assert diff(server, monkeypatch, file, changed) == 1
    assert capsys.readouterr().out == "lakes/old: CronJob old-a-0-upload: differs at spec.schedule\n"

    # What is taken out of a file is taken out of the lake where it is known that it was once put in.
    awake = {key: value for key, value in FIELDS.items() if key != "suspend"}
    told = diff(server, monkeypatch, file, awake), capsys.readouterr().out
    if old_lake == "created":
        assert told == (0, "")
    else:
        assert told[0] == 1
        assert "lakes/old: StatefulSet old-a: differs at spec.replicas" in told[1]
        assert "spec.schedule" not in told[1]

    assert diff(server, monkeypatch, file, FIELDS | {"storage": {"size": "1Gi"}}) == 4
    assert "lakes/old: 422: " in (said := capsys.readouterr().err)
    assert "size can't shrink" in said
    assert server.request("GET", f"{LAKES}/old") == before


def test_diff_of_a_lake_that_is_not_there_tells_of_all_its_children(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff(server, monkeypatch, tmp_path / "lake.yaml", spec(), "new") == 1
    assert "lakes/new: StatefulSet new-a: would be created" in capsys.readouterr().out
