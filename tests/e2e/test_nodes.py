"""A worker is drained: the collector and its tasks land together on the other one.

Shown on a volume that both workers can mount at any time, so that nothing but the tasks' affinity holds them together.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import kind
from support.cluster import Cluster, Manifest

from .lakes import make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LAKE, CLASS = "moving", "shared"


@pytest.fixture(scope="module")
def moving(cluster: Cluster) -> Iterator[str]:
    """A lake on the second worker, on a volume without a place."""
    first, second = kind.workers(cluster.name)
    shared = cluster.kubeconfig.parent / "shared" / LAKE
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": LAKE},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "hostPath": {"path": f"{kind.SHARED_FOLDER}/{LAKE}", "type": "Directory"},
        },
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    cluster.apply(storage_class, volume)
    cluster.kubectl("cordon", first)
    try:
        make(cluster, LAKE, storage={"size": "1Gi", "storageClassName": CLASS})
    finally:
        cluster.kubectl("uncordon", first)
    assert node_of(cluster, f"{LAKE}-a-0") == second
    yield LAKE
    for node in (first, second):
        cluster.kubectl("uncordon", node)
    remove(cluster, LAKE)
    cluster.delete("PersistentVolume", LAKE, "")


def node_of(cluster: Cluster, pod: str) -> str:
    return cluster.need("Pod", pod)["spec"].get("nodeName", "")


def job_of(cluster: Cluster, cron_job: str, name: str, *, affinity: bool = True) -> None:
    """A Job as the CronJob would make it; without affinity: what it would be if nobody had thought of that."""
    made = cluster.need("CronJob", cron_job)["spec"]["jobTemplate"]
    spec = made["spec"]["template"]["spec"]
    assert spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    if not affinity:
        del spec["affinity"]
    job: Manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": made["metadata"]["labels"]},
        "spec": made["spec"],
    }
    cluster.apply(job)


def task_node(cluster: Cluster, job: str, seconds: float) -> str:
    """Where the job's pod was put; empty where it has found no place in that time."""

    def look() -> str:
        return next(iter(filter(None, (p["spec"].get("nodeName") for p in pods_of_job(cluster, job)))), "")

    try:
        return cluster.wait(f"a node for {job}", look, seconds)
    except AssertionError:
        return ""


def pods_of_job(cluster: Cluster, job: str) -> list[Manifest]:
    return cluster.list("Pod", {"job-name": job})


def test_collector_and_tasks_land_together_again(cluster: Cluster, moving: str) -> None:
    first, second = kind.workers(cluster.name)
    pod, transform = f"{moving}-a-0", f"{moving}-a-0-transform"
    before = cluster.need("Pod", pod)["metadata"]["uid"]
    cluster.kubectl(
        *("drain", second, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "120s"),
        *("--pod-selector", f"app.kubernetes.io/instance={moving}"),
        timeout_seconds=180,
    )
    cluster.wait(
        "the collector on the other node",
        lambda: (
            (found := cluster.get("Pod", pod)) is not None
            and found["metadata"]["uid"] != before
            and found["spec"].get("nodeName") == first
        ),
        60,
    )
    cluster.wait_for_condition(moving, "Ready", "True", 90)
    cluster.kubectl("uncordon", second)
    cluster.run_task(transform, f"{moving}-after-the-drain")
    assert task_node(cluster, f"{moving}-after-the-drain", 1) == first


def test_without_the_affinity_they_would_not(cluster: Cluster, moving: str) -> None:
    """Only the other node takes new pods: with it the task waits for the collector's, without it it goes astray."""
    pod, transform = f"{moving}-a-0", f"{moving}-a-0-transform"
    here = node_of(cluster, pod)
    (there,) = set(kind.workers(cluster.name)) - {here}
    cluster.kubectl("cordon", here)
    job_of(cluster, transform, f"{moving}-stray", affinity=False)
    assert task_node(cluster, f"{moving}-stray", 60) == there
    job_of(cluster, transform, f"{moving}-faithful")
    (waiting,) = cluster.wait("its pod", lambda: pods_of_job(cluster, f"{moving}-faithful"), 30)
    name = waiting["metadata"]["name"]
    cluster.wait("what the scheduler says of it", lambda: unschedulable(cluster, name), 30)
    assert not node_of(cluster, name)
    cluster.kubectl("uncordon", here)
    assert task_node(cluster, f"{moving}-faithful", 60) == here


def unschedulable(cluster: Cluster, pod: str) -> str:
    conditions = cluster.need("Pod", pod)["status"].get("conditions", [])
    return next((c["message"] for c in conditions if c.get("reason") == "Unschedulable"), "")
