"""The tasks: on each claim transform, upload and cleanup; for the lake, publish."""

from __future__ import annotations

from typing import Any, Final

from crypto_lake_operator import cron, naming
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Manifest
from crypto_lake_operator.render import defaults, pods
from crypto_lake_operator.render.context import CONFIG_FOLDER, Context

# A task that hangs ends after its period, but has half an hour in any case: a long backlog takes more than 5 minutes.
LEAST_DEADLINE_SECONDS: Final = 1800
MOST_DEADLINE_SECONDS: Final = 6 * 3600
# How late a task may still start.
STARTING_DEADLINE_SECONDS: Final = 600
# Usage or configuration is wrong; a person must look: the same call would end the same (crypto_lake.cli.common).
EXIT_CODES_WITHOUT_RETRY: Final = [2, 3]


def of_slots(context: Context) -> list[Manifest]:
    """For every claim, also of a shard that goes: that is how it is drained."""
    return [
        _on_claim(context, slot, task)
        for slot in sorted(context.assignment.collects)
        for task in ("transform", "upload", "cleanup")
        if task != "upload" or context.spec.bucket
    ]


def of_lake(context: Context) -> list[Manifest]:
    """publish, where there is a bucket to publish to. It needs no claim, so it runs wherever there is room."""
    if not context.spec.bucket:
        return []
    publish = context.spec.publish
    if publish.scratch_storage_class_name is None:
        scratch: dict[str, Any] = {"emptyDir": {"sizeLimit": publish.scratch}}
    else:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": publish.scratch_storage_class_name,
            "resources": {"requests": {"storage": publish.scratch}},
        }
        scratch = {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    name = naming.publish(context.name)
    container = _container(context, "publish", ["publish", "--config", f"{CONFIG_FOLDER}/publish.yml"])
    volumes = [{"name": naming.CLAIM} | scratch, {"name": "config", "configMap": {"name": name}}]
    return [_cron_job(context, name, "publish", pods.pod_spec(context, [container], volumes), {})]


def _on_claim(context: Context, slot: Slot, task: str) -> Manifest:
    pod_name = naming.pod(context.name, slot)
    arguments = [task, "--config", f"{CONFIG_FOLDER}/{naming.config_file(slot.shard)}"]
    volumes = [
        {
            "name": naming.CLAIM,
            "persistentVolumeClaim": {"claimName": naming.claim(context.name, slot)},
        },
        {"name": "config", "configMap": {"name": naming.config_map(context.name, slot.replica)}},
    ]
    pod = pods.pod_spec(context, [_container(context, task, arguments)], volumes)
    # The volume's name (`state/collector`) is made by whoever is there first, and begins with the host's.
    pod["hostname"] = pod_name
    # The claim is mounted on one node: the collector's. No task bears that label, so no task is company for another.
    pod["affinity"] = {
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {naming.POD_NAME_LABEL: pod_name}},
                }
            ]
        }
    }
    return _cron_job(context, naming.task(context.name, slot, task), task, pod, {naming.LABEL_POD: pod_name})


def _container(context: Context, task: str, arguments: list[str]) -> dict[str, Any]:
    uses = context.spec.pod.task_resources or defaults.TASK
    return pods.container(context, task, arguments, uses=uses, env=[], mounts=[])


def _cron_job(context: Context, name: str, task: str, pod: pods.Pod, labels: dict[str, str]) -> Manifest:
    schedule: str = getattr(context.spec.schedules, task)
    template = {
        "metadata": pods.metadata(context, task, {}, **labels),
        "spec": pod | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 30},
    }
    body: dict[str, Any] = {
        "spec": {
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "suspend": context.spec.suspend,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": STARTING_DEADLINE_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": naming.labels(context.name, task) | labels},
                "spec": {
                    "activeDeadlineSeconds": deadline_seconds(schedule),
                    "backoffLimit": 2,
                    "ttlSecondsAfterFinished": 3600,
                    "podFailurePolicy": {
                        "rules": [
                            {
                                "action": "Ignore",
                                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                            },
                            {
                                "action": "FailJob",
                                "onExitCodes": {
                                    "containerName": task,
                                    "operator": "In",
                                    "values": EXIT_CODES_WITHOUT_RETRY,
                                },
                            },
                        ]
                    },
                    "template": template,
                },
            },
        }
    }
    return context.manifest("batch/v1", "CronJob", name, task, body, **labels)


def deadline_seconds(schedule: str) -> int:
    """When a task is given up. The time that its pod waits for a node counts."""
    period_seconds = cron.shortest_period_minutes(schedule) * 60
    return min(max(period_seconds - 60, LEAST_DEADLINE_SECONDS), MOST_DEADLINE_SECONDS)
