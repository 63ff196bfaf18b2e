"""The collectors: a StatefulSet for each replica, a pod and a claim for each shard of it."""

from __future__ import annotations

from typing import Any, Final

from crypto_lake_operator import naming
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Manifest
from crypto_lake_operator.render import defaults, pods
from crypto_lake_operator.render.context import (
    ANNOTATION_RESTART,
    CONFIG_FOLDER,
    HTTP_PORT,
    WEBHOOK_FOLDER,
    Context,
    hash_of,
)
from crypto_lake_operator.render.files import restart_hash, settings_of

COMPONENT: Final = "collector"
_HOST: Final = "kubernetes.io/hostname"
_ZONE: Final = "topology.kubernetes.io/zone"
_SPREAD: Final = {"Required": "DoNotSchedule", "Preferred": "ScheduleAnyway"}


def sets(context: Context) -> list[Manifest]:
    return [_set(context, replica) for replica in context.assignment.replicas()]


def _set(context: Context, replica: str) -> Manifest:
    spec, name = context.spec, naming.stateful_set(context.name, replica)
    replica_label = {naming.LABEL_REPLICA: replica}
    selector = naming.selector(context.name, COMPONENT) | replica_label
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": naming.CLAIM, "labels": selector},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": spec.storage.storage_class_name,
            "resources": {"requests": {"storage": spec.storage.size}},
        },
    }
    body: dict[str, Any] = {
        "spec": {
            "replicas": 0 if spec.suspend else context.assignment.pods(replica),
            "serviceName": context.base,
            # Shards know nothing of each other. One after another, a pod that can't start would hold up all after it.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "minReadySeconds": 10,
            "revisionHistoryLimit": 5,
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": spec.storage.when_deleted,
                "whenScaled": "Retain",
            },
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": pods.metadata(
                    context,
                    COMPONENT,
                    {ANNOTATION_RESTART: _settings_hash(context, replica)},
                    **replica_label,
                ),
                "spec": _pod(context, replica),
            },
            "volumeClaimTemplates": [claim],
        }
    }
    return context.manifest("apps/v1", "StatefulSet", name, COMPONENT, body, **replica_label)


def _settings_hash(context: Context, replica: str) -> str:
    """Of what needs a restart: the same for all pods of a set, whose files differ in their symbols alone."""
    return hash_of(restart_hash(settings_of(context, Slot(replica, 0))))


def _pod(context: Context, replica: str) -> pods.Pod:
    spec, webhook = context.spec, context.spec.alerts.webhook_secret_ref
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": naming.config_map(context.name, replica)}}
    ]
    mounts: list[dict[str, Any]] = []
    if webhook is not None:
        # Optional: a missing secret is told by a condition, and is no reason to collect nothing.
        items = [{"key": webhook.key, "path": "url"}]
        secret = {"secretName": webhook.name, "items": items, "optional": True}
        volumes.append({"name": "webhook", "secret": secret})
        mounts.append({"name": "webhook", "mountPath": WEBHOOK_FOLDER, "readOnly": True})
    collector = pods.container(
        context,
        "collector",
        ["collect", "--config", f"{CONFIG_FOLDER}/{naming.config_file('$(SHARD)')}"],
        uses=spec.pod.resources or defaults.COLLECTOR,
        env=[
            {
                "name": "SHARD",
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{naming.POD_INDEX_LABEL}']"}},
            }
        ],
        mounts=mounts,
    )
    collector |= {
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        # The first start of a large volume salvages before it listens.
        "startupProbe": _probe("/healthz", period=5, failures=60),
        # It answers while the event loop turns; two minutes without a turn and only a restart helps.
        "livenessProbe": _probe("/healthz", period=20, failures=6),
        # Subscribed, and writing.
        "readinessProbe": _probe("/readyz", period=5, failures=3),
    }
    return pods.pod_spec(context, [collector], volumes) | {
        "terminationGracePeriodSeconds": spec.pod.termination_grace_period_seconds,
        "affinity": _affinity(context, replica),
        "topologySpreadConstraints": _spread(context),
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _affinity(context: Context, replica: str) -> dict[str, Any]:
    """A shard's two copies are on different nodes; other pods of the replicas may share one.

    It stands there with one replica, too: so that a second one restarts nothing.
    """
    term = {
        "topologyKey": _HOST,
        "labelSelector": {
            "matchLabels": naming.selector(context.name, COMPONENT),
            "matchExpressions": [{"key": naming.LABEL_REPLICA, "operator": "NotIn", "values": [replica]}],
        },
        "matchLabelKeys": [naming.POD_INDEX_LABEL],
    }
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _spread(context: Context) -> list[dict[str, Any]]:
    wanted = context.spec.pod.topology_spread
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": _SPREAD[how],
            "labelSelector": {"matchLabels": naming.selector(context.name, COMPONENT)},
        }
        for key, how in ((_ZONE, wanted.zones), (_HOST, wanted.nodes))
        if how in _SPREAD
    ]
