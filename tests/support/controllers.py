"""kube-controller-manager beside the API server of a test: StatefulSets get pods and claims, owners take their own along."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.apiserver import ApiServer, program

CONTROLLERS = "statefulset-controller,garbage-collector-controller,cronjob-controller,job-controller"


class ControllersMissingError(Exception):
    """The program is not on this machine; the message says where it was looked for."""


def binary() -> str:
    """Raises ControllersMissingError."""
    folder = os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin")
    found = shutil.which("kube-controller-manager", path=f"{folder}:{os.environ.get('PATH', '')}")
    if found is None:
        raise ControllersMissingError(f"no kube-controller-manager in {folder} or in PATH")
    return found


@contextlib.contextmanager
def controlling(server: ApiServer, folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    config = server.kubeconfig(folder / "controllers.kubeconfig")
    command = [
        binary(),
        f"--kubeconfig={config}",
        f"--controllers={CONTROLLERS}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--concurrent-gc-syncs=4",
    ]
    with program(command, folder / "controllers.log"):
        yield
