"""Helm 3 and 4, and what a cluster would do for their hooks where there is an API server alone.

`Hooks` plays kubelet and job controller: it runs the command of each hook's pod on this machine, as that pod's
ServiceAccount and with no more rights than that has, and reports how it ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .apiserver import ApiServer, RefusedError

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "crypto-lake"
KUBE_VERSION = "1.34.0"
MERGE = "application/merge-patch+json"


def programs() -> dict[int, str]:
    """Major version to program, of those that are on this machine."""
    found: dict[int, str] = {}
    for name in ("helm", "helm3", "helm4"):
        if path := shutil.which(name):
            said = subprocess.run([path, "version", "--short"], capture_output=True, text=True).stdout
            if version := re.match(r"v(\d+)\.", said):
                found.setdefault(int(version[1]), path)
    return found


PROGRAMS = programs()


def why_not(major: int) -> str:
    """Why a version of Helm can't be used here; empty where it can."""
    return "" if major in PROGRAMS else f"no Helm {major} on this machine (looked for helm, helm3, helm4)"


class HelmError(Exception):
    """What Helm said as it failed."""


@dataclass(frozen=True)
class Helm:
    """One version, with a home of its own; `kubeconfig` where it is to talk to a cluster."""

    major: int
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """Raises HelmError."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            **{f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }
        if self.kubeconfig is not None:
            environment["KUBECONFIG"] = str(self.kubeconfig)
        done = subprocess.run(
            [PROGRAMS[self.major], *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
        if done.returncode != 0:
            raise HelmError(f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def template(
        self, values: Mapping[str, Any], *flags: str, namespace: str = "lakes", chart: Path = CHART
    ) -> list[dict[str, Any]]:
        """The manifests that it renders, hooks and tests among them."""
        text = self.run(
            *("template", "rel", str(chart), "--namespace", namespace, "--kube-version", KUBE_VERSION),
            *("--values", self.values(values), *flags),
        )
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]

    def values(self, values: Mapping[str, Any]) -> str:
        """A file of these values."""
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / f"values-{time.monotonic_ns()}.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        return str(path)


@dataclass
class Hooks:
    """What was run: (kind, name, arguments, exit code, what it printed)."""

    server: ApiServer
    folder: Path
    namespace: str
    ran: list[tuple[str, str, list[str], int, str]] = field(default_factory=list)
    replace: Mapping[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Run what waits."""
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        for job in self.server.request("GET", jobs)["items"]:
            if not job.get("status", {}).get("conditions"):
                code = self._run("Job", job["metadata"]["name"], job["spec"]["template"]["spec"])
                self._report(f"{jobs}/{job['metadata']['name']}", _job_status(code))
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.server.request("GET", pods)["items"]:
            if pod.get("status", {}).get("phase") in (None, "Pending"):
                code = self._run("Pod", pod["metadata"]["name"], pod["spec"])
                self._report(
                    f"{pods}/{pod['metadata']['name']}", {"phase": "Failed" if code else "Succeeded"}
                )

    def _report(self, path: str, status: dict[str, Any]) -> None:
        with contextlib.suppress(RefusedError):  # helm may have deleted it meanwhile
            self.server.request("PATCH", f"{path}/status", {"status": status}, content_type=MERGE)

    def _run(self, kind: str, name: str, spec: dict[str, Any]) -> int:
        (container,) = spec["containers"]
        assert container["command"] == ["crypto-lake-operator"]
        arguments = [self._replaced(argument) for argument in container["args"]]
        account = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{spec['serviceAccountName']}/token"
        token = self.server.request("POST", account, {"spec": {"expirationSeconds": 600}})["status"]["token"]
        as_account = ApiServer(self.server.url, self.server.ca_file, token, self.server.audit_log)
        kubeconfig = as_account.kubeconfig(self.folder / f"{name}.json")
        done = subprocess.run(
            [sys.executable, "-m", "crypto_lake_operator.cli", *arguments],
            env={"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.ran.append((kind, name, arguments, done.returncode, done.stdout + done.stderr))
        return done.returncode

    def _replaced(self, argument: str) -> str:
        for old, new in self.replace.items():
            argument = argument.replace(old, new)
        return argument

    @contextlib.contextmanager
    def playing(self) -> Iterator[None]:
        """In a thread, until the block ends."""
        over = threading.Event()
        problems: list[BaseException] = []

        def play() -> None:
            while not over.wait(0.1):
                try:
                    self.look()
                except Exception as error:
                    problems.append(error)
                    return

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(130)
        if problems:
            raise problems[0]


def _job_status(code: int) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if code:
        kinds = ("FailureTarget", "Failed")
        return {
            "startTime": now,
            "failed": 1,
            "conditions": [
                {"type": kind, "status": "True", "reason": "BackoffLimitExceeded"} for kind in kinds
            ],
        }
    kinds = ("SuccessCriteriaMet", "Complete")
    return {
        "startTime": now,
        "completionTime": now,
        "succeeded": 1,
        "conditions": [{"type": kind, "status": "True"} for kind in kinds],
    }
