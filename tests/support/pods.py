"""What stands around a lake in a test cluster: exchanges, the object store, a webhook, a Prometheus.

They run from the project's own image, with the suite's files mounted from a ConfigMap: nothing more has to be built or
loaded. All of them meet the restricted Pod Security standard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from support.cluster import Manifest

SUPPORT = Path(__file__).parent
FILES = "test-pods"
GCS, GCS_PORT, BUCKET = "gcs", 4443, "lake"
WEBHOOK, WEBHOOK_PORT = "webhook", 8080
SIMULATOR_PORT = 9500
PROMETHEUS, PROMETHEUS_PORT = "prometheus", 9090
# These stay where they are while collectors are driven from node to node.
PLACE = "crypto-lake-test/place"
# A schedule must have a next time: that of this one is never today.
NEVER = "0 0 29 2 *"


def namespace(name: str, **labels: str) -> Manifest:
    """A namespace whose pods must meet the restricted Pod Security standard."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level | labels}}


def files() -> Manifest:
    """The ConfigMap with what the pods run."""
    paths = [*sorted((SUPPORT / "fake_gcs").glob("*.py")), SUPPORT / "webhook_pod.py"]
    data = {_key(path): path.read_text() for path in paths}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": FILES}, "data": data}


def _key(path: Path) -> str:
    return ".".join(path.relative_to(SUPPORT).parts)


def gcs(image: str) -> list[Manifest]:
    """The suite's strict fake of Cloud Storage, with one bucket."""
    command = ["python", "/pods/fake_gcs", "--bucket", BUCKET, "--address", f"0.0.0.0:{GCS_PORT}"]
    return _served(GCS, image, command, GCS_PORT)


def webhook(image: str) -> list[Manifest]:
    return _served(WEBHOOK, image, ["python", "/pods/webhook_pod.py", str(WEBHOOK_PORT)], WEBHOOK_PORT)


def simulator(image: str, name: str, *arguments: str) -> list[Manifest]:
    """An exchange of its own. It stays in one place: started anew, it would play its market again."""
    command = ["crypto-lake", "simulate", "--host", "0.0.0.0", "--port", str(SIMULATOR_PORT), *arguments]
    return _served(name, image, command, SIMULATOR_PORT)


def prometheus(image: str, scraped: str) -> list[Manifest]:
    """One that finds what it scrapes by Services, as a ServiceMonitor would have it; `scraped`: further namespaces."""
    command = [
        *("prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"),
        f"--web.listen-address=0.0.0.0:{PROMETHEUS_PORT}",
    ]
    deployment, service = _served(PROMETHEUS, image, command, PROMETHEUS_PORT)
    pod = deployment["spec"]["template"]["spec"]
    pod |= {"serviceAccountName": PROMETHEUS, "automountServiceAccountToken": True}
    pod["volumes"][0] = {"name": "pods", "configMap": {"name": PROMETHEUS}}
    pod["containers"][0]["volumeMounts"][0] = {"name": "pods", "mountPath": "/etc/prometheus"}
    deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] = "prometheus"
    configuration = {
        "global": {"scrape_interval": "3s", "scrape_timeout": "3s"},
        "scrape_configs": [
            {
                "job_name": "services",
                "kubernetes_sd_configs": [
                    {"role": "endpointslice", "namespaces": {"own_namespace": True, "names": [scraped]}}
                ],
                "relabel_configs": [_relabel(source, target) for source, target in _LABELS],
            }
        ],
    }
    # Only what says that it is to be scraped.
    keep = {
        "source_labels": ["__meta_kubernetes_service_annotation_prometheus_io_scrape"],
        "regex": "true",
        "action": "keep",
    }
    configuration["scrape_configs"][0]["relabel_configs"].insert(0, keep)
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PROMETHEUS},
        "data": {"prometheus.yml": yaml.safe_dump(configuration)},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": PROMETHEUS}}
    verbs = ["get", "list", "watch"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "test-prometheus"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "services"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-prometheus"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "test-prometheus",
        },
        "subjects": [{"kind": "ServiceAccount", "name": PROMETHEUS, "namespace": "lakes"}],
    }
    return [account, role, binding, config, deployment, service]


_LABELS = (
    ("__meta_kubernetes_namespace", "namespace"),
    ("__meta_kubernetes_service_name", "service"),
    ("__meta_kubernetes_pod_name", "pod"),
)


def _relabel(source: str, target: str) -> dict[str, Any]:
    return {"source_labels": [source], "target_label": target}


def _served(name: str, image: str, command: list[str], port: int) -> list[Manifest]:
    """A Deployment of one pod that is ready when its port answers, and its Service."""
    items = [
        {"key": _key(path), "path": "/".join(path.relative_to(SUPPORT).parts)}
        for path in (*sorted((SUPPORT / "fake_gcs").glob("*.py")), SUPPORT / "webhook_pod.py")
    ]
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "pods", "mountPath": "/pods"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {PLACE: "around"},
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "pods", "configMap": {"name": FILES, "items": items}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port}]},
    }
    return [deployment, service]


def lake(name: str, exchange: str = "simulator", **spec: Any) -> Manifest:
    """A CryptoLake on one of the exchanges above, its bucket the fake store's, small enough for a test cluster.

    spec: replaces fields of this; None leaves one out.
    """
    base: dict[str, Any] = {
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "endpoint": {
            "websocket": f"ws://{exchange}:{SIMULATOR_PORT}",
            "rest": f"http://{exchange}:{SIMULATOR_PORT}",
            "clock": "exchange",
        },
        "bucket": f"gs://{BUCKET}/{name}",
        "storage": {"size": "400Mi"},
        # By hand, but where a test asks for more: each run costs seconds of both cores.
        "schedules": dict.fromkeys(("transform", "upload", "publish", "cleanup"), NEVER),
        "check": {"schedule": NEVER},
        "publish": {"scratch": "100Mi"},
        "networkPolicy": {"egressPorts": [WEBHOOK_PORT]},
        "pod": {
            "env": [{"name": "STORAGE_EMULATOR_HOST", "value": f"http://{GCS}:{GCS_PORT}"}],
            "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "600Mi"}},
            "taskResources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "600Mi"}},
        },
    }
    merged = {key: value for key, value in (base | spec).items() if value is not None}
    return {
        "apiVersion": "cryptolake.io/v1alpha1",
        "kind": "CryptoLake",
        "metadata": {"name": name},
        "spec": merged,
    }
