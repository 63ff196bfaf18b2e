"""A running Kubernetes cluster, as the end-to-end tests see it: kubectl for what a user does, HTTP for what is polled.

Pods are reached through the API server's proxy, so that no forwarded port has to be kept alive.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import yaml

Manifest = dict[str, Any]
Found = TypeVar("Found")

# kind -> (group and version, plural)
_KINDS: dict[str, tuple[str, str]] = {
    "Pod": ("v1", "pods"),
    "Service": ("v1", "services"),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Event": ("v1", "events"),
    "Node": ("v1", "nodes"),
    "Namespace": ("v1", "namespaces"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "PersistentVolume": ("v1", "persistentvolumes"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "Deployment": ("apps/v1", "deployments"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses"),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "CryptoLake": ("cryptolake.io/v1alpha1", "cryptolakes"),
}


class CommandFailedError(AssertionError):
    """A program did not end with 0; the message holds what it said."""


class ApiError(AssertionError):
    """An answer of the API server, or of a pod behind it, that is no success."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def run(*command: str, stdin: str | None = None, timeout_seconds: float = 300, check: bool = True) -> str:
    """What the program printed. Raises CommandFailedError."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
    )
    if check and done.returncode:
        raise CommandFailedError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@dataclass
class Cluster:
    """name: as kind knows it. node_names: the control plane first."""

    name: str
    kubeconfig: Path
    namespace: str = "lakes"
    _context: ssl.SSLContext | None = field(default=None, repr=False)
    _server: str = ""

    # What a user does

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout_seconds: float = 300
    ) -> str:
        return run(
            "kubectl",
            "--kubeconfig",
            str(self.kubeconfig),
            *arguments,
            stdin=stdin,
            check=check,
            timeout_seconds=timeout_seconds,
        )

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> str:
        """kubectl apply, as users do it: with strict validation. Raises CommandFailedError with what it said."""
        text = "---\n".join(yaml.safe_dump(manifest) for manifest in manifests)
        return self.kubectl("apply", "--namespace", namespace or self.namespace, "-f", "-", stdin=text)

    def helm(self, *arguments: str, program: str = "helm", timeout_seconds: float = 300) -> str:
        return run(program, "--kubeconfig", str(self.kubeconfig), *arguments, timeout_seconds=timeout_seconds)

    def exec(
        self, pod: str, *command: str, namespace: str | None = None, timeout_seconds: float = 60
    ) -> bytes:
        """What a command in a pod prints, as bytes."""
        done = subprocess.run(
            [
                *("kubectl", "--kubeconfig", str(self.kubeconfig), "exec", "--namespace"),
                *(namespace or self.namespace, pod, "--", *command),
            ],
            capture_output=True,
            timeout=timeout_seconds,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise CommandFailedError(
                f"{pod}: {' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}"
            )
        return done.stdout

    # What is polled

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = 30,
    ) -> bytes:
        """Ask the API server as the cluster's administrator. Raises ApiError, and OSError where it can't be reached."""
        if self._context is None:
            self._connect()
        request = urllib.request.Request(self._server + path, data=body, method=method)
        request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=timeout_seconds) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode(errors="replace")) from None

    def _connect(self) -> None:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            for key in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(user[key]))
            pem.flush()
            context.load_cert_chain(pem.name)
        self._server, self._context = cluster["server"], context

    def path(self, kind: str, name: str = "", namespace: str | None = None) -> str:
        version, plural = _KINDS[kind]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        inside = "" if namespace == "" else f"/namespaces/{namespace or self.namespace}"
        return f"{base}{inside}/{plural}{'/' + name if name else ''}"

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """An object; None where there is none. namespace "": of a kind that is in none."""
        try:
            return json.loads(self.request("GET", self.path(kind, name, namespace)))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def need(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        found = self.get(kind, name, namespace)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def list(
        self, kind: str, labels: Mapping[str, str] | None = None, namespace: str | None = None
    ) -> list[Manifest]:
        query = urlencode({"labelSelector": ",".join(f"{k}={v}" for k, v in (labels or {}).items())})
        return json.loads(self.request("GET", f"{self.path(kind, namespace=namespace)}?{query}"))["items"]

    def patch(self, kind: str, name: str, patch: object, namespace: str | None = None) -> Manifest:
        """A merge patch."""
        path = self.path(kind, name, namespace) + "?fieldManager=a-person"
        body = json.dumps(patch).encode()
        return json.loads(self.request("PATCH", path, body, "application/merge-patch+json"))

    def delete(
        self, kind: str, name: str, namespace: str | None = None, *, grace_seconds: int | None = None
    ) -> None:
        """Does not wait. What is gone already is no error."""
        query = "?propagationPolicy=Background"
        query += "" if grace_seconds is None else f"&gracePeriodSeconds={grace_seconds}"
        try:
            self.request("DELETE", self.path(kind, name, namespace) + query)
        except ApiError as error:
            if error.code != 404:
                raise

    def ask(
        self,
        service: str,
        port: int,
        path: str,
        body: object = None,
        *,
        namespace: str | None = None,
        kind: str = "services",
        method: str = "",
    ) -> bytes:
        """A request to a service (or, by kind, to one of the `pods`) through the API server. A body makes it a POST."""
        data = None if body is None else json.dumps(body).encode()
        at = f"/api/v1/namespaces/{namespace or self.namespace}/{kind}/{service}:{port}/proxy"
        return self.request(method or ("GET" if data is None else "POST"), at + path, data)

    def ask_json(self, service: str, port: int, path: str, body: object = None, **options: Any) -> Any:
        return json.loads(self.ask(service, port, path, body, **options))

    def logs(self, pod: str, namespace: str | None = None, lines: int = 2000) -> str:
        path = f"{self.path('Pod', pod, namespace)}/log?tailLines={lines}"
        return self.request("GET", path).decode(errors="replace")

    # What is waited for

    def wait(
        self, what: str, look: Callable[[], Found | None], seconds: float, every_seconds: float = 0.5
    ) -> Found:
        """The first truthy value of `look`. Raises AssertionError that says what never came and what was last seen."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found, trouble = look(), ""
            except (ApiError, OSError) as error:
                found, trouble = None, f" ({error})"
            if found:
                return found
            assert time.monotonic() < deadline, (
                f"{what} did not come in {seconds:g} s; last seen: {found!r}{trouble}"
            )
            time.sleep(every_seconds)

    def condition(self, lake: str, kind: str, namespace: str | None = None) -> Manifest:
        """A condition of a lake; {} where it has none yet."""
        found = self.get("CryptoLake", lake, namespace) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def wait_for_condition(
        self,
        lake: str,
        kind: str,
        status: str,
        seconds: float,
        reason: str = "",
        namespace: str | None = None,
    ) -> Manifest:
        """Until a lake's condition has this status (and reason), about its present generation."""

        def look() -> Manifest | None:
            found = self.need("CryptoLake", lake, namespace)
            condition = self.condition(lake, kind, namespace)
            current = condition.get("observedGeneration") == found["metadata"]["generation"]
            right = condition.get("status") == status and (not reason or condition.get("reason") == reason)
            last.clear()
            last.update(condition)
            return condition if current and right else None

        last: Manifest = {}
        try:
            return self.wait(f"{kind}={status} {reason} of {lake}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the condition is {last}") from None

    def run_task(self, cron_job: str, name: str, seconds: float = 120, namespace: str | None = None) -> str:
        """Make a Job of a CronJob and wait until it has succeeded; its log. A failure tells the log."""
        self.begin_task(cron_job, name, namespace)
        return self.end_task(name, seconds, namespace)

    def begin_task(self, cron_job: str, name: str, namespace: str | None = None) -> None:
        """Make a Job of a CronJob."""
        namespace = namespace or self.namespace
        self.kubectl("create", "job", "--namespace", namespace, name, f"--from=cronjob/{cron_job}")

    def end_task(self, name: str, seconds: float = 120, namespace: str | None = None) -> str:
        """Wait until a Job has succeeded; its log. A failure tells the log."""
        namespace = namespace or self.namespace
        job = self.wait(f"job {name}", lambda: self._ended(name, namespace), seconds)
        text = self.logs_of_job(name, namespace)
        assert job == "Complete", f"job {name} ended as {job}:\n{text}"
        return text

    def _ended(self, job: str, namespace: str) -> str | None:
        found = self.need("Job", job, namespace)
        conditions = found.get("status", {}).get("conditions", [])
        return next(
            (c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"),
            None,
        )

    def logs_of_job(self, job: str, namespace: str | None = None) -> str:
        pods = self.list("Pod", {"job-name": job}, namespace)
        return "\n".join(self.logs(pod["metadata"]["name"], namespace) for pod in pods)

    # What a person needs when something failed

    def told(self, namespaces: Iterable[str]) -> str:
        """Nodes, objects, events and the ends of all logs."""
        text = [self._said("get", "nodes,pv", "-o", "wide")]
        for namespace in namespaces:
            text.append(f"######## {namespace}")
            kinds = "cl,sts,deploy,po,job,cronjob,pvc,svc"
            text.append(self._said("get", kinds, "-n", namespace, "-o", "wide"))
            text.append(self._said("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"))
            text.append(self._said("describe", "cl", "-n", namespace))
            for pod in self.list("Pod", namespace=namespace):
                name = pod["metadata"]["name"]
                text.append(f"#### logs of {namespace}/{name}")
                text.append(self._said("logs", "-n", namespace, name, "--tail", "60"))
                if any(c.get("restartCount") for c in pod["status"].get("containerStatuses", [])):
                    text.append(self._said("logs", "-n", namespace, name, "--previous", "--tail", "40"))
        return "\n".join(text)

    def _said(self, *arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return f"$ kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"


def escaped(name: str) -> str:
    """For a path."""
    return quote(name, safe="")
