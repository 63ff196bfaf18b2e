"""Clusters made by kind, for tests: three nodes, two of them workers that share a folder, and an audit log.

CRYPTO_LAKE_KIND_IMAGE names the image of the nodes. Without it one that is here already is taken, else kind's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support.cluster import Cluster, run

VARIABLE = "CRYPTO_LAKE_KIND_IMAGE"
SHARED_FOLDER = "/shared"  # on each worker
AUDIT_FOLDER = "/var/log/kubernetes"
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    # Of service accounts: what the operator asks for, not what the cluster does by itself.
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:crypto-lake-system"]},
        {"level": "None"},
    ],
}


def why_not() -> str | None:
    """Why there can be no cluster here; None: there can."""
    for program in ("docker", "kind", "kubectl", "helm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True)
    return None if asked.returncode == 0 else "no Docker engine answers"


def node_image() -> str | None:
    """What the nodes are made of; None: what kind takes by itself."""
    if named := os.environ.get(VARIABLE):
        return named
    found = run("docker", "images", "kindest/node", "--format", "{{.Repository}}:{{.Tag}}").split()
    return next((image for image in found if not image.endswith("<none>")), None)


def _config(folder: Path) -> dict[str, Any]:
    audit = {
        "audit-policy-file": "/etc/kubernetes/audit/policy.yaml",
        "audit-log-path": f"{AUDIT_FOLDER}/audit.log",
        "audit-log-maxsize": "200",
    }
    volumes = [
        {
            "name": "audit-policy",
            "hostPath": "/etc/kubernetes/audit",
            "mountPath": "/etc/kubernetes/audit",
            "readOnly": True,
            "pathType": "Directory",
        },
        {
            "name": "audit-log",
            "hostPath": AUDIT_FOLDER,
            "mountPath": AUDIT_FOLDER,
            "pathType": "DirectoryOrCreate",
        },
    ]
    # kubeadm's configuration is of the one or the other version, by Kubernetes' own; a patch of another is left out.
    patches: list[dict[str, Any]] = [
        {
            "apiVersion": f"kubeadm.k8s.io/{version}",
            "kind": "ClusterConfiguration",
            "apiServer": {"extraArgs": arguments, "extraVolumes": volumes},
        }
        for version, arguments in (
            ("v1beta3", audit),
            ("v1beta4", [{"name": name, "value": value} for name, value in audit.items()]),
        )
    ]
    # Mounted ConfigMaps follow within seconds, so that tests of changed symbols do not wait for minutes.
    patches.append(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "syncFrequency": "10s",
        }
    )
    mounts = [{"hostPath": str(folder / "audit"), "containerPath": "/etc/kubernetes/audit", "readOnly": True}]
    worker = {
        "role": "worker",
        "extraMounts": [{"hostPath": str(folder / "shared"), "containerPath": SHARED_FOLDER}],
    }
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "kubeadmConfigPatches": [yaml.safe_dump(patch) for patch in patches],
        "nodes": [{"role": "control-plane", "extraMounts": mounts}, worker, worker],
    }


def create(name: str, folder: Path) -> Cluster:
    """A new cluster, ready; what it needs on this machine lies in the folder. Raises CommandFailedError."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "audit").mkdir(parents=True)
    (folder / "audit" / "policy.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o777)
    (folder / "kind.yaml").write_text(yaml.safe_dump(_config(folder)))
    kubeconfig = folder / "kubeconfig"
    image = node_image()
    run(
        *("kind", "create", "cluster", "--name", name, "--config", str(folder / "kind.yaml")),
        *("--kubeconfig", str(kubeconfig), "--wait", "120s", *(("--image", image) if image else ())),
        timeout_seconds=600,
    )
    return Cluster(name, kubeconfig)


def exists(name: str) -> bool:
    return name in run("kind", "get", "clusters").split()


def delete(name: str) -> None:
    run("kind", "delete", "cluster", "--name", name, check=False)


def workers(name: str) -> list[str]:
    return [f"{name}-worker", f"{name}-worker2"]


def load(name: str, image: str, nodes: list[str]) -> None:
    run(
        *("kind", "load", "docker-image", image, "--name", name, "--nodes", ",".join(nodes)),
        timeout_seconds=600,
    )


def audit_log(name: str) -> str:
    """What the API server wrote down: a line of JSON for each request of the operator."""
    return run("docker", "exec", f"{name}-control-plane", "cat", f"{AUDIT_FOLDER}/audit.log", check=False)
