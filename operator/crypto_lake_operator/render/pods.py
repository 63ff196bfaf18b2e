"""What collectors' and tasks' pods have in common: the restricted Pod Security standard, and what spec.pod says."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crypto_lake_operator import naming
from crypto_lake_operator.api_pod import Resources, Variable
from crypto_lake_operator.render.context import CONFIG_FOLDER, DATA_FOLDER, Context

USER: Final = 10001  # of the image
TMP_SIZE: Final = "64Mi"

Pod = dict[str, Any]


def security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",  # else each start walks through all files of the volume
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def variables(own: list[dict[str, Any]], given: tuple[Variable, ...]) -> list[dict[str, Any]]:
    """Ours first: a later variable may refer to an earlier one. A name stands once."""
    taken = {variable["name"] for variable in own}
    further: list[dict[str, Any]] = [
        msgspec.to_builtins(variable) for variable in given if variable.name not in taken
    ]
    return own + further


def resources(given: Resources) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.requests:
        found["requests"] = {key: str(value) for key, value in given.requests.items()}
    if given.limits:
        found["limits"] = {key: str(value) for key, value in given.limits.items()}
    return found


def pod_spec(context: Context, containers: list[dict[str, Any]], volumes: list[dict[str, Any]]) -> Pod:
    """With a writable /tmp and nothing else that is writable but what `volumes` brings."""
    pod = context.spec.pod
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": context.service_account,
        "securityContext": security(),
        "priorityClassName": pod.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        "nodeSelector": dict(pod.node_selector) or None,
        "tolerations": [msgspec.to_builtins(toleration) for toleration in pod.tolerations],
        "containers": containers,
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}],
    }


def container(
    context: Context,
    name: str,
    arguments: list[str],
    *,
    uses: Resources,
    env: list[dict[str, Any]],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "name": name,
        "image": context.image,
        "imagePullPolicy": context.spec.image_pull_policy,
        "command": ["crypto-lake"],
        "args": arguments,
        "env": variables(env, context.spec.pod.env),
        "resources": resources(uses),
        "securityContext": container_security(),
        # The end of the log says why it ended, without a look into the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": naming.CLAIM, "mountPath": DATA_FOLDER},
            # The folder, not a file of it: only so changes arrive while the pod runs.
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            *mounts,
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def labels(context: Context, component: str, **further: str) -> dict[str, str]:
    """The user's own first: the operator's are not to be replaced."""
    return dict(context.spec.pod.labels) | naming.labels(context.name, component) | further


def metadata(context: Context, component: str, annotations: dict[str, str], **further: str) -> dict[str, Any]:
    """`annotations` of ours win over the user's."""
    found: dict[str, Any] = {"labels": labels(context, component, **further)}
    all_annotations = dict(context.spec.pod.annotations) | annotations
    return found | ({"annotations": all_annotations} if all_annotations else {})
