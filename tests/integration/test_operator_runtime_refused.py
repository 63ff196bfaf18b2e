"""What the API server does not take becomes a condition that says why and what to do, is not asked all the time, and
heals when it is mended.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import msgspec
from tests.support.api_proxy import Proxy
from tests.support.apiserver import ApiServer, RefusedError
from tests.support.operator_fixtures import collectors, here, operator, proxy, server
from tests.support.operator_world import (
    SETTINGS,
    Collectors,
    Running,
    World,
    eventually,
    install,
    operating,
    play_lake,
)

from crypto_lake_operator import access, crd
from crypto_lake_operator.access import Rule

# Of a CronJob that is only asked about.
PROBE_SPEC = {
    "schedule": "1 1 * * *",
    "jobTemplate": {
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}
        }
    },
}

__all__ = ["collectors", "here", "operator", "proxy", "server"]  # fixtures


def asked_rarely(proxy: Proxy, plural: str, *, seconds: float = 2.0, most: int = 6) -> None:
    """No hot loop: in `seconds` a thing is written few times, though the backoff of these tests is short."""
    since = time.monotonic()
    time.sleep(seconds)
    found = [seen for seen in proxy.writes(since) if f"/{plural}" in seen.path]
    assert len(found) <= most, proxy.count(since)


def test_an_object_of_somebody_else_is_told_and_left_alone(
    here: World, proxy: Proxy, operator: Running
) -> None:
    theirs = here.create("ConfigMap", {"metadata": {"name": "taken-a-config"}, "data": {"mine": "x"}})
    here.lake("taken")
    found = here.until("taken", "Reconciled", "False", "NameTaken")
    assert "there is already a ConfigMap taken-a-config" in found["message"]
    assert here.condition("taken", "Ready")["status"] == "False"
    asked_rarely(proxy, "configmaps")
    assert (
        here.get("ConfigMap", "taken-a-config")["metadata"]["resourceVersion"]
        == (theirs["metadata"]["resourceVersion"])
    )
    here.delete("ConfigMap", "taken-a-config")
    eventually(lambda: "shard-0.yml" in here.get("ConfigMap", "taken-a-config")["data"])
    eventually(lambda: here.condition("taken", "Reconciled")["reason"] != "NameTaken")


def test_a_missing_secret_and_class_are_told_and_heal(
    here: World, operator: Running, collectors: Collectors
) -> None:
    here.lake(
        "lacking",
        alerts={"webhookSecretRef": {"name": "hook"}},
        storage={"storageClassName": f"fast-{here.namespace}"},
    )
    play_lake(here, "lacking", collectors)
    found = here.until("lacking", "Reconciled", "False", "StorageClassMissing")
    assert "there is no Secret hook with a key url" in found["message"]
    assert f"there is no StorageClass fast-{here.namespace}" in found["message"]
    here.server.request(
        "POST",
        "/apis/storage.k8s.io/v1/storageclasses",
        {"metadata": {"name": f"fast-{here.namespace}"}, "provisioner": "test.invalid/none"},
    )
    here.create("Secret", {"metadata": {"name": "hook"}, "stringData": {"url": "https://example.invalid/x"}})
    here.until("lacking", "Reconciled", "True", seconds=60)


def test_a_quota_is_told_and_heals(here: World, proxy: Proxy, operator: Running) -> None:
    here.create(
        "ResourceQuota", {"metadata": {"name": "none"}, "spec": {"hard": {"count/statefulsets.apps": "0"}}}
    )
    here.patch(
        "ResourceQuota",
        "none",
        {"status": {"hard": {"count/statefulsets.apps": "0"}, "used": {"count/statefulsets.apps": "0"}}},
        subresource="status",
    )
    here.lake("poor")
    found = here.until("poor", "Reconciled", "False", "QuotaExceeded")
    assert "StatefulSet poor-a" in found["message"]
    assert "exceeded quota: none" in found["message"]
    # All else is made.
    assert here.get("CronJob", "poor-a-0-transform")
    asked_rarely(proxy, "statefulsets")
    here.delete("ResourceQuota", "none")
    eventually(lambda: here.get("StatefulSet", "poor-a"))
    eventually(lambda: here.condition("poor", "Reconciled")["reason"] != "QuotaExceeded")


def test_a_refused_admission_is_told_in_its_own_words_and_heals(
    here: World, proxy: Proxy, operator: Running
) -> None:
    root = "/apis/admissionregistration.k8s.io/v1"
    name = f"no-cronjobs-{here.namespace}"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.namespace}},
                "resourceRules": [
                    {
                        "apiGroups": ["batch"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["cronjobs"],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": "no tasks at night"}],
        },
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    server = here.server
    server.request("POST", f"{root}/validatingadmissionpolicies", policy)
    server.request("POST", f"{root}/validatingadmissionpolicybindings", binding)
    probe = {
        "metadata": {"name": "probe"},
        "spec": PROBE_SPEC,
    }

    def holds() -> bool:
        try:
            server.request("POST", here.path("CronJob") + "?dryRun=All", probe)
        except RefusedError as error:
            return "no tasks at night" in str(error)
        return False

    eventually(holds)
    here.lake("night")
    found = here.until("night", "Reconciled", "False", "Refused")
    assert "no tasks at night" in found["message"]
    assert here.get("StatefulSet", "night-a")
    asked_rarely(proxy, "cronjobs", most=18)  # three tasks each time
    server.request("DELETE", f"{root}/validatingadmissionpolicybindings/{name}")
    eventually(lambda: here.get("CronJob", "night-a-0-transform"))
    eventually(lambda: here.condition("night", "Reconciled")["reason"] != "Refused")


def test_a_webhook_of_admission_that_does_not_answer_is_told_and_holds_up_no_other_lake(
    here: World, proxy: Proxy, operator: Running
) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    name = f"dead-{here.namespace}"
    hook = {
        "name": "dead.example.org",
        "clientConfig": {"url": "https://127.0.0.1:9/dead"},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 1,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.namespace}},
        "objectSelector": {"matchLabels": {"app.kubernetes.io/instance": "blocked"}},
        "rules": [
            {
                "apiGroups": ["batch"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["cronjobs"],
            }
        ],
    }
    here.server.request("POST", path, {"metadata": {"name": name}, "webhooks": [hook]})
    probe = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "probe", "labels": {"app.kubernetes.io/instance": "blocked"}},
        "spec": PROBE_SPEC,
    }

    def holds() -> bool:
        try:
            here.server.request("POST", here.path("CronJob") + "?dryRun=All", probe)
        except RefusedError as error:
            return "failed calling webhook" in str(error)
        return False

    eventually(holds)
    here.lake("blocked")
    found = here.until("blocked", "Reconciled", "False", "Refused")
    assert "an admission webhook does not answer" in found["message"]
    assert "dead.example.org" in found["message"]
    assert here.get("StatefulSet", "blocked-a")
    asked_rarely(proxy, "cronjobs", most=18)  # two tasks each time
    unavailable = 'crypto_lake_operator_reconciles_total{outcome="unavailable"}'
    assert operator.metric(unavailable) == 0, "it is no outage of the API server"
    here.lake("other")
    eventually(lambda: here.get("CronJob", "other-a-0-cleanup"))
    here.server.request("DELETE", f"{path}/{name}")
    eventually(lambda: here.get("CronJob", "blocked-a-0-cleanup"))
    eventually(lambda: here.condition("blocked", "Reconciled")["reason"] != "Refused")


def test_a_lake_that_came_past_an_older_definition_is_told_and_nothing_is_done(
    here: World, proxy: Proxy, operator: Running
) -> None:
    older = copy.deepcopy(crd.crd())
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema.pop("x-kubernetes-validations")
    schema["properties"]["symbols"].pop("items")
    schema["properties"]["symbols"].update(items={"type": "string"})
    here.server.apply(older)
    try:
        bad: dict[str, Any] = {"symbols": ["btc/usdt"], "shards": 3}

        def taken() -> bool:
            here.lake("old", **bad)
            return True

        eventually(taken, what="the older definition takes the lake")
        found = here.until("old", "Reconciled", "False", "InvalidSpec")
        assert "spec.symbols" in found["message"]
        assert here.children(here.get("CryptoLake", "old")["metadata"]["uid"]) == {}
        asked_rarely(proxy, "cryptolakes", most=0)
        here.lake("old", symbols=["BTCUSDT"])
        eventually(lambda: here.get("StatefulSet", "old-a"))
        eventually(lambda: here.condition("old", "Reconciled")["reason"] != "InvalidSpec")
    finally:
        install(here.server)


# RBAC


def role(server: ApiServer, namespace: str, user: str, rules: tuple[Rule, ...]) -> None:
    """What the user may do there: exactly these rules."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    name = f"{user}-{namespace}"
    kind = "ClusterRole" if not namespace else "Role"
    within = f"/namespaces/{namespace}" if namespace else ""
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "rules": [rule.as_rbac() for rule in rules],
    }
    plural, bindings = f"{kind.lower()}s", f"{kind.lower()}bindings"
    query = "?fieldManager=test&force=true"
    server.request(
        "PATCH", f"{root}{within}/{plural}/{name}{query}", body, content_type="application/apply-patch+yaml"
    )
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    server.request(
        "PATCH",
        f"{root}{within}/{bindings}/{name}{query}",
        binding,
        content_type="application/apply-patch+yaml",
    )


def as_user(proxy: Proxy, path: Path, user: str) -> Path:
    """A kubeconfig of somebody whom the administrator plays."""
    config = proxy.kubeconfig(path)
    proxy.user = user
    return config


def test_the_rules_of_access_are_enough_and_what_is_taken_from_them_is_told(
    here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path
) -> None:
    user = f"operator-{here.namespace}"
    role(here.server, here.namespace, user, access.IN_NAMESPACE)
    role(here.server, "", user, access.CLUSTER)
    role(here.server, "default", user, access.IN_OWN)
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,), lease=True)
    with operating(as_user(proxy, tmp_path / "config", user), settings, collector_port=collectors.port):
        here.lake("small", bucket="gs://lake", alerts={"webhookSecretRef": {"name": "hook"}})
        here.create(
            "Secret", {"metadata": {"name": "hook"}, "stringData": {"url": "https://example.invalid/x"}}
        )
        play_lake(here, "small", collectors)
        here.until("small", "Ready", "True")
        here.until("small", "Reconciled", "True", seconds=60)
        forbidden = [seen for seen in proxy.seen if seen.code == 403 and "monitoring" not in seen.path]
        assert forbidden == []
        without = tuple(rule for rule in access.IN_NAMESPACE if rule.resource != "cronjobs")
        role(
            here.server,
            here.namespace,
            user,
            (*without, Rule("batch", "cronjobs", ("get", "list", "watch"), "")),
        )
        time.sleep(0.5)  # the API server's own look at Roles
        here.delete("CronJob", "small-a-0-upload")
        found = here.until("small", "Reconciled", "False", "Forbidden")
        assert "CronJob small-a-0-upload: the operator may not" in found["message"]
        assert user in found["message"]
        asked_rarely(proxy, "cronjobs")
        role(here.server, here.namespace, user, access.IN_NAMESPACE)
        eventually(lambda: here.get("CronJob", "small-a-0-upload"))
        here.until("small", "Reconciled", "True")
