"""The tasks: on each claim transform, upload, cleanup and check; for the lake, publish and macro."""

from __future__ import annotations

from typing import Any, Final

from crypto_lake_operator import cron, naming, timetable
from crypto_lake_operator.api import CryptoLakeSpec
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Manifest
from crypto_lake_operator.render import defaults, pods
from crypto_lake_operator.render.context import CONFIG_FOLDER, Context

# A task that hangs ends after its period, but has half an hour in any case: a long backlog takes more than 5 minutes.
LEAST_DEADLINE_SECONDS: Final = 1800
MOST_DEADLINE_SECONDS: Final = 6 * 3600
# How late a task may still start: a tenth of its period, so that a daily one is not lost to an hour without a cluster.
LEAST_STARTING_SECONDS: Final = 600
# Usage or configuration is wrong; a person must look: the same call would end the same (crypto_lake.cli.common).
EXIT_CODES_WITHOUT_RETRY: Final = [2, 3]
OUTCOME_VARIABLE: Final = "TASK_OUTCOME"  # of crypto_lake.cli.outcome
TERMINATION_LOG: Final = "/dev/termination-log"
# Of a few kilobytes a series; what it has had so far is in the bucket.
MACRO_SCRATCH: Final = "256Mi"
# A day of a hundred symbols takes seven minutes of the whole weight that a lake may use, and healing goes on beside.
PATIENCE_VARIABLE: Final = "CHECK_PATIENCE"  # of crypto_lake.cli.check
PATIENCE_MINUTES: Final = 45

# By a variable, not a flag: an image that is older than the operator passes it over.
_OUTCOME: Final = {"name": OUTCOME_VARIABLE, "value": TERMINATION_LOG}


def of_slots(context: Context) -> list[Manifest]:
    """For every claim, also of a shard that goes: that is how it is drained."""
    return [
        _on_claim(context, slot, task)
        for slot in sorted(context.assignment.collects)
        for task in tasks_of_claims(context.spec)
    ]


def tasks_of_claims(spec: CryptoLakeSpec) -> list[str]:
    """In the order in which they are written."""
    tasks = ["transform", "upload", "cleanup"] if spec.bucket else ["transform", "cleanup"]
    return [*tasks, naming.CHECK] if spec.check.enabled else tasks


def of_lake(context: Context) -> list[Manifest]:
    """publish, where there is a bucket to publish to, and macro, where it is asked for. They need no claim, so they run
    wherever there is room.
    """
    spec = context.spec
    if not spec.bucket:
        return []
    made = [_without_claim(context, naming.PUBLISH, ["publish"], _scratch(context))]
    if spec.macro is not None:
        scratch: dict[str, Any] = {"emptyDir": {"sizeLimit": MACRO_SCRATCH}}
        made.append(_without_claim(context, naming.MACRO, ["macro", "update"], scratch))
    return made


def _scratch(context: Context) -> dict[str, Any]:
    publish = context.spec.publish
    if publish.scratch_storage_class_name is None:
        return {"emptyDir": {"sizeLimit": publish.scratch}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": publish.scratch_storage_class_name,
        "resources": {"requests": {"storage": publish.scratch}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _without_claim(context: Context, task: str, command: list[str], scratch: dict[str, Any]) -> Manifest:
    """A task of the whole lake. Its folder for data is gone with its pod, so it leaves its outcome as the pod's last
    words, which the operator reads.
    """
    name = {naming.PUBLISH: naming.publish, naming.MACRO: naming.macro}[task](context.name)
    arguments = [*command, "--config", f"{CONFIG_FOLDER}/{task}.yml"]
    container = _container(context, task, arguments, [_OUTCOME])
    volumes = [{"name": naming.CLAIM} | scratch, {"name": "config", "configMap": {"name": name}}]
    schedule = _schedule(context, task, name)
    return _cron_job(context, name, task, schedule, pods.pod_spec(context, [container], volumes), {})


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
    name = naming.task(context.name, slot, task)
    schedule = _schedule(context, task, name)
    env: list[dict[str, Any]] = []
    if task == naming.CHECK:
        env = [_OUTCOME, {"name": PATIENCE_VARIABLE, "value": str(patience_minutes(schedule))}]
    pod = pods.pod_spec(context, [_container(context, task, arguments, env)], volumes)
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
    return _cron_job(context, name, task, schedule, pod, {naming.LABEL_POD: pod_name})


def _schedule(context: Context, task: str, name: str) -> str:
    return timetable.schedule(context.spec, task, context.lake.metadata.namespace, name)


def _container(
    context: Context, task: str, arguments: list[str], env: list[dict[str, Any]]
) -> dict[str, Any]:
    uses = context.spec.pod.task_resources or defaults.TASK
    return pods.container(context, task, arguments, uses=uses, env=env, mounts=[])


def _cron_job(
    context: Context, name: str, task: str, schedule: str, pod: pods.Pod, labels: dict[str, str]
) -> Manifest:
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
            "startingDeadlineSeconds": starting_seconds(schedule),
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


def starting_seconds(schedule: str) -> int:
    return max(LEAST_STARTING_SECONDS, cron.shortest_period_minutes(schedule) * 60 // 10)


def patience_minutes(schedule: str) -> int:
    """How long a check may wait for weight in all: a run that is given up tells nothing of what it found."""
    return min(PATIENCE_MINUTES, deadline_seconds(schedule) * 3 // 4 // 60)


def deadline_seconds(schedule: str) -> int:
    """When a task is given up. The time that its pod waits for a node counts."""
    period_seconds = cron.shortest_period_minutes(schedule) * 60
    return min(max(period_seconds - 60, LEAST_DEADLINE_SECONDS), MOST_DEADLINE_SECONDS)
