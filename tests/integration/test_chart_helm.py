"""The chart by the real Helm 3 and 4, and what a real API server makes of what they render, install and upgrade."""

from __future__ import annotations

import copy
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.support import apiserver
from tests.support.apiserver import ApiServer, RefusedError
from tests.support.helm import CHART, ROOT, Helm, HelmError, Hooks, why_not

from crypto_lake_operator import access, crd, crd_apply
from crypto_lake_operator.config import read_settings

NAMESPACES = ("lakes", "more-lakes", "other", "restricted")
LAKE = {"enabled": True, "name": "prod", "spec": {"symbols": ["BTCUSDT"], "bucket": "gs://my-lake/prod"}}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "two-replicas": {"replicas": 2, "priorityClassName": "high"},
    "all-namespaces": {"watch": {"all": True}},
    "some-namespaces": {"watch": {"namespaces": ["more-lakes", "lakes"]}},
    "lake": {"lake": LAKE},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "stack"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "stack"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Lakes"}},
        "runbookUrl": "https://example.org/runbook",
        "prometheus": {"namespace": "monitoring", "podLabels": ["app=prometheus"]},
    },
    "least": {
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "crd": {"upgrade": False},
        "networkPolicy": {"enabled": False},
        "prometheus": {"podLabels": []},
    },
    "every-option": {
        "fullnameOverride": "a" * 48,
        "commonLabels": {"team": "data"},
        "image": {
            "repository": "registry.example:5000/lake",
            "digest": "sha256:" + "0" * 64,
            "pullPolicy": "Always",
        },
        "imagePullSecrets": [{"name": "registry"}],
        "operator": {
            "logLevel": "DEBUG",
            "workers": 4,
            "resyncSeconds": 60,
            "pollSeconds": 5,
            "statusSeconds": 0.5,
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        },
        "podLabels": {"sidecar.istio.io/inject": "false"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "networkPolicy": {"egressPorts": [16443]},
        "lake": {**LAKE, "labels": {"x": "z"}, "annotations": {"x": "z"}},
        "dashboard": {
            "enabled": True,
            "data": "gs://my-lake",
            "exchange": "binance",
            "status": ["http://prod-a-0.prod.lakes:9464/status", "http://prod-a-1.prod.lakes:9464/status"],
            "staleAfter": "1h30m",
            "port": 80,
            "env": [{"name": "STORAGE_EMULATOR_HOST", "value": "http://gcs.lakes:4443"}],
            "resources": {"requests": {"memory": "1Gi"}},
            "podLabels": {"sidecar.istio.io/inject": "false"},
            "podAnnotations": {"a": "b"},
            "priorityClassName": "high",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "serviceAccount": {"name": "reader", "annotations": {"a": "b"}},
            "networkPolicy": {
                "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "ingress"}}}],
                "egressPorts": [443, 3128],
            },
        },
    },
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key that there is not": ({"replicaCount": 2}, "replicaCount"),
    "a key below that there is not": ({"image": {"tagg": "1"}}, "tagg"),
    "three replicas": ({"replicas": 3}, "/replicas"),
    "a lake without symbols": ({"lake": {"enabled": True}}, "symbols"),
    "a field that no lake has": ({"lake": {**LAKE, "spec": {"symbols": ["A"], "simbols": []}}}, "simbols"),
    "a lake in another namespace": (
        {"lake": LAKE, "watch": {"namespaces": ["other"]}},
        "would not look after it",
    ),
    "a symbol in small letters": ({"lake": {**LAKE, "spec": {"symbols": ["btcusdt"]}}}, "/lake/spec/symbols"),
    "no account": ({"serviceAccount": {"create": False}}, "serviceAccount.name must name one"),
    "a dashboard of nothing": ({"dashboard": {"enabled": True}}, "dashboard.data must name the bucket"),
    "a dashboard of a folder": (
        {"dashboard": {"enabled": True, "data": "/data"}},
        "/dashboard/data",
    ),
    "a dashboard's account": (
        {"dashboard": {"enabled": True, "data": "gs://a-b/c", "serviceAccount": {"create": False}}},
        "dashboard.serviceAccount.name must name one",
    ),
    "a level of logs": ({"operator": {"logLevel": "LOUD"}}, "/operator/logLevel"),
}
MAJORS = [
    pytest.param(
        major, marks=pytest.mark.skipif(bool(why_not(major)), reason=why_not(major) or "there is one")
    )
    for major in (3, 4)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        pytest.skip(str(error))
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as running:
        for name in NAMESPACES:
            labels = {"pod-security.kubernetes.io/enforce": "restricted"} if name == "restricted" else {}
            running.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        for kind in ("ServiceMonitor", "PrometheusRule"):
            running.apply(any_kind("monitoring.coreos.com", kind))
        running.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
                      | {"metadata": {"name": "high"}})  # fmt: skip
        yield running


def any_kind(group: str, kind: str) -> dict[str, Any]:
    """A definition that takes whatever stands in an object of it."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }


def path_of(manifest: dict[str, Any]) -> str:
    """As apiserver.path_of, with the kinds of RBAC that have no namespace."""
    if manifest["kind"] == "ClusterRoleBinding":
        return f"/apis/{manifest['apiVersion']}/clusterrolebindings/{manifest['metadata']['name']}"
    return apiserver.path_of(manifest)


def dry_run(server: ApiServer, manifest: dict[str, Any]) -> None:
    query = "?fieldManager=test&force=true&fieldValidation=Strict&dryRun=All"
    server.request("PATCH", path_of(manifest) + query, manifest, content_type=apiserver.APPLY)


def pods_of(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name to spec, of all pods that these manifests make."""
    found: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        name = f"{manifest['kind']}-{manifest['metadata']['name']}".lower()
        if manifest["kind"] == "Pod":
            found[name] = manifest["spec"]
        elif manifest["kind"] in ("Deployment", "Job"):
            found[name] = manifest["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("name", VALUES)
def test_what_is_rendered_is_taken_by_the_api_server(
    server: ApiServer, tmp_path: Path, name: str, major: int
) -> None:
    helm = Helm(major, tmp_path)
    helm.run(
        "lint", "--strict", str(CHART), "--kube-version", "1.34.0", "--values", helm.values(VALUES[name])
    )
    manifests = helm.template(VALUES[name])
    server.apply(crd.crd())
    for manifest in manifests:
        if manifest["kind"] == "CryptoLake":
            wait_for_lakes(server)
        dry_run(server, manifest)
    pods = pods_of(manifests)
    assert pods
    for pod, spec in pods.items():
        # In a namespace of the restricted standard, which looks at pods alone.
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod[:60].rstrip("-")}, "spec": spec}
        query = "?dryRun=All&fieldValidation=Strict"
        server.request("POST", f"/api/v1/namespaces/restricted/pods{query}", body)


@pytest.mark.parametrize("major", MAJORS)
def test_a_schedule_that_is_set_to_null_is_taken(server: ApiServer, tmp_path: Path, major: int) -> None:
    manifests = Helm(major, tmp_path).template(
        {"lake": LAKE}, "--set", "lake.spec.schedules.upload=null,lake.spec.check.schedule=null"
    )
    (lake,) = [manifest for manifest in manifests if manifest["kind"] == "CryptoLake"]
    assert lake["spec"]["schedules"] == {"upload": None}
    assert lake["spec"]["check"] == {"schedule": None}
    server.apply(crd.crd())
    wait_for_lakes(server)
    dry_run(server, lake)


def wait_for_lakes(server: ApiServer) -> None:
    probe = {"apiVersion": "cryptolake.io/v1alpha1", "kind": "CryptoLake", "metadata": {"name": "probe"}}
    for _ in range(100):
        try:
            server.request(
                "POST",
                "/apis/cryptolake.io/v1alpha1/namespaces/lakes/cryptolakes?dryRun=All",
                probe | {"spec": {"symbols": ["A"]}},
            )
            return
        except RefusedError:
            threading.Event().wait(0.1)
    raise AssertionError("the API server does not take CryptoLakes")


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("wrong", WRONG)
def test_values_that_are_wrong_are_refused_with_their_name(tmp_path: Path, wrong: str, major: int) -> None:
    values, message = WRONG[wrong]
    with pytest.raises(HelmError) as caught:
        Helm(major, tmp_path).template(values)
    assert message in str(caught.value)


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("name", [name for name in VALUES if name != "least"])
def test_the_operator_understands_the_settings_it_is_given(tmp_path: Path, name: str, major: int) -> None:
    manifests = Helm(major, tmp_path).template(VALUES[name])
    (deployment,) = [
        m
        for m in manifests
        if m["kind"] == "Deployment"
        and m["metadata"]["labels"]["app.kubernetes.io/name"] != "crypto-lake-dashboard"
    ]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    settings = read_settings({e["name"]: e.get("value", "lakes") for e in container["env"]})
    watch = VALUES[name].get("watch", {})
    expected = () if watch.get("all") else tuple(sorted(watch.get("namespaces", ["lakes"])))
    assert settings.watch_namespaces == expected
    assert settings.image == container["image"]
    assert settings.namespace == "lakes"
    if name == "every-option":
        assert (settings.log_level, settings.workers, settings.status_seconds) == ("DEBUG", 4, 0.5)
    if name == "monitoring":
        assert settings.prometheus_labels == ("app=prometheus",)
        assert settings.runbook_url == "https://example.org/runbook"
    # What a collector's NetworkPolicy tells the operator by.
    assert (
        deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        == "crypto-lake-operator"
    )


@pytest.mark.parametrize("major", MAJORS)
def test_links_to_the_runbook_are_made_whole(tmp_path: Path, major: int) -> None:
    manifests = Helm(major, tmp_path).template(VALUES["monitoring"])
    (made,) = [m for m in manifests if m["kind"] == "PrometheusRule"]
    rules = made["spec"]["groups"][0]["rules"]
    assert rules
    for rule in rules:
        expected = f"https://example.org/runbook#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == expected
        assert 'namespace="lakes",service="rel-crypto-lake-operator"' in rule["expr"]
        assert not [word for word in ("{operator", "{resync") if word in rule["expr"]]
    dashboards = [m for m in manifests if m["kind"] == "ConfigMap"]
    assert len(dashboards) == 2
    for dashboard in dashboards:
        (text,) = dashboard["data"].values()
        assert msgspec.json.decode(text)["panels"]


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def operator() -> Iterator[str]:
    """Something on loopback whose /readyz says 200; its host and port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def older_chart(folder: Path) -> Path:
    """The chart as it was before lakes had `suspend`."""
    chart = folder / "older"
    shutil.copytree(CHART, chart)
    definition = copy.deepcopy(crd.crd())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del schema["properties"]["suspend"]
    definition["metadata"]["annotations"] = {}
    (chart / "crds" / "cryptolakes.yaml").write_text(yaml.safe_dump(definition))
    values = msgspec.json.decode((chart / "values.schema.json").read_bytes())
    del values["properties"]["lake"]["properties"]["spec"]["properties"]["suspend"]
    (chart / "values.schema.json").write_bytes(msgspec.json.encode(values))
    return chart


@pytest.mark.slow
@pytest.mark.parametrize("major", MAJORS)
def test_install_test_upgrade_and_uninstall(
    server: ApiServer, tmp_path: Path, major: int, operator: str
) -> None:
    """From a chart without a field of lakes to one that has it, with that field set in values."""
    forget_definition(server)
    namespace = f"release-{major}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    helm = Helm(major, tmp_path, server.kubeconfig(tmp_path / "kubeconfig"))
    service = f"lake-crypto-lake-operator.{namespace}:9465"
    hooks = Hooks(server, tmp_path, namespace, replace={service: operator})
    lake_path = f"/apis/cryptolake.io/v1alpha1/namespaces/{namespace}/cryptolakes/prod"
    common = ("lake", "--namespace", namespace)

    # The first install makes definition and lake at once. Its own hook would bring the definition up to date.
    first = helm.values({"lake": LAKE, "crd": {"upgrade": False}})
    said = helm.run("install", common[0], str(older_chart(tmp_path)), *common[1:], "--values", first)
    assert "kubectl" in said
    assert server.request("GET", lake_path)["spec"]["bucket"] == "gs://my-lake/prod"
    assert crd_apply.differs(server.request("GET", crd_apply.PATH), crd.crd())

    suspended = {"lake": {**LAKE, "spec": {**LAKE["spec"], "suspend": True}}}
    with hooks.playing():
        helm.run("upgrade", common[0], str(CHART), *common[1:], "--values", helm.values(suspended))
    assert [(kind, code) for kind, _, _, code, _ in hooks.ran] == [("Job", 0)], hooks.ran
    assert not crd_apply.differs(server.request("GET", crd_apply.PATH), crd.crd())
    assert server.request("GET", lake_path)["spec"]["suspend"] is True

    # Hooks leave nothing behind.
    for path in (
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ):
        names = [item["metadata"]["name"] for item in server.request("GET", path)["items"]]
        assert not [name for name in names if name.endswith(("-crd", "-test"))]

    # The lake is not Ready: nobody makes it so. Then somebody does.
    status = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "AllLive",
              "message": "", "lastTransitionTime": "2024-08-08T00:00:00Z"}]}}  # fmt: skip
    hooks.ran.clear()
    hooks.replace = {service: operator, "--wait=240": "--wait=0"}
    with hooks.playing(), pytest.raises(HelmError):
        helm.run("test", *common)
    assert "has no status yet" in hooks.ran[-1][4]
    server.request("PATCH", f"{lake_path}/status", status, content_type="application/merge-patch+json")
    with hooks.playing():
        helm.run("test", *common)
    assert hooks.ran[-1][3] == 0
    assert f"the lake {namespace}/prod is Ready" in hooks.ran[-1][4]

    helm.run("uninstall", *common)
    with pytest.raises(RefusedError) as caught:
        server.request("GET", lake_path)
    assert caught.value.code == 404
    assert server.request("GET", crd_apply.PATH)["spec"]["group"] == "cryptolake.io"

    # Again, over a definition that stayed and is older: now it is the hook of the install that counts.
    definition = yaml.safe_load((tmp_path / "older" / "crds" / "cryptolakes.yaml").read_text())
    if major == 4:
        server.apply(definition, manager="helm")
    else:  # which creates, and applies nothing
        forget_definition(server)
        collection = crd_apply.PATH.rpartition("/")[0]
        server.request("POST", f"{collection}?fieldManager=helm", definition)
        wait_for_lakes(server)
    hooks.ran.clear()
    with hooks.playing():
        helm.run("install", common[0], str(CHART), *common[1:], "--values", helm.values(suspended))
    assert [code for _, _, _, code, _ in hooks.ran] == [0]
    assert server.request("GET", lake_path)["spec"]["suspend"] is True
    helm.run("uninstall", *common)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
def test_the_plain_install_is_taken_by_kubectl_and_a_lake_after_it(server: ApiServer, tmp_path: Path) -> None:
    forget_definition(server)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "KUBECONFIG": str(server.kubeconfig(tmp_path / "kubeconfig")),
    }

    def kubectl(*arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (arguments, done.stderr)
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    kubectl("apply", "--server-side", "-f", "manifests/install.yaml")
    kubectl("wait", "--for=condition=Established", "crd/cryptolakes.cryptolake.io", "--timeout=30s")
    wait_for_lakes(server)
    namespace = ("--namespace", "crypto-lake-system")
    kubectl(*namespace, "apply", "-f", "manifests/examples/minimal.yaml")
    assert "minimal" in kubectl(*namespace, "get", "cryptolake")
    growing = '{"spec":{"storage":{"size":"200Gi"}}}'
    kubectl(*namespace, "patch", "cryptolake", "minimal", "--type", "merge", "-p", growing)
    kubectl(*namespace, "delete", "cryptolake", "minimal")
    kubectl("delete", "--wait=false", "-f", "manifests/install.yaml")


def forget_definition(server: ApiServer) -> None:
    """Delete it and wait until it is gone."""
    for _ in range(300):
        try:
            server.request("DELETE", crd_apply.PATH)
        except RefusedError as error:
            if error.code == 404:
                return
        threading.Event().wait(0.1)
    raise AssertionError("the definition does not go")


@pytest.mark.parametrize("name", ["defaults", "all-namespaces", "some-namespaces"])
def test_the_operator_may_do_what_its_code_calls_and_nothing_else(
    server: ApiServer, tmp_path: Path, name: str
) -> None:
    major = 4 if not why_not(4) else 3
    if why_not(major):
        pytest.skip(why_not(major))
    manifests = [
        manifest
        for manifest in Helm(major, tmp_path).template(VALUES[name], "--no-hooks")
        if manifest["apiVersion"].startswith("rbac") or manifest["kind"] == "ServiceAccount"
    ]
    for manifest in manifests:
        query = "?fieldManager=test&force=true"
        server.request("PATCH", path_of(manifest) + query, manifest, content_type=apiserver.APPLY)
    try:
        account = "/api/v1/namespaces/lakes/serviceaccounts/rel-crypto-lake-operator/token"
        token = server.request("POST", account, {"spec": {"expirationSeconds": 600}})["status"]["token"]
        operator = ApiServer(server.url, server.ca_file, token, server.audit_log)
        watch = VALUES[name].get("watch", {})
        watched = NAMESPACES if watch.get("all") else watch.get("namespaces", ["lakes"])
        for namespace in ("lakes", "more-lakes", "other"):
            # A ClusterRole's rights hold in every namespace.
            rules = [*access.CLUSTER, *(access.IN_NAMESPACE if namespace in watched else ())]
            rules += access.IN_OWN if namespace == "lakes" else ()
            assert rights(operator, namespace) == access.allowed(rules), namespace
    finally:
        for manifest in manifests:
            server.request("DELETE", path_of(manifest))


def rights(one: ApiServer, namespace: str) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of all that this account may do there, but for what everybody may: asking who it is."""
    body = {"spec": {"namespace": namespace}}
    answer = one.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)["status"]
    assert not answer.get("incomplete"), answer
    assert not [rule for rule in answer["resourceRules"] if rule.get("resourceNames")]
    return {
        (group, resource, verb)
        for rule in answer["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in ("authorization.k8s.io", "authentication.k8s.io")
    }
