"""The operator against a real API server: run in a thread or as a process, with collectors that are played."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from tests.support.apiserver import ApiServer, RefusedError

from crypto_lake_operator import crd, naming
from crypto_lake_operator.client_kube import configured
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.kinds import CHILDREN
from crypto_lake_operator.queue import Backoff
from crypto_lake_operator.report import Configuration, Disk, Latency, Report, Stream, Symbol
from crypto_lake_operator.run import run

T = TypeVar("T")
# How fast a busy machine is, is not what tests show.
WAIT_SECONDS = 90.0


def eventually(look: Callable[[], T], *, seconds: float = WAIT_SECONDS, what: str = "") -> T:
    """What `look` gives once it is true; its AssertionError, or that it never was, after `seconds`."""
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (AssertionError, RefusedError, KeyError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what or 'it'}; last: {last!r}")
        time.sleep(0.05)


@dataclass
class World:
    """A namespace of an API server."""

    server: ApiServer
    namespace: str

    def path(self, kind: str, name: str = "") -> str:
        found = {each.kind: each for each in CHILDREN}
        extra = {
            "CryptoLake": "/apis/cryptolake.io/v1alpha1/namespaces/{}/cryptolakes",
            "Pod": "/api/v1/namespaces/{}/pods",
            "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
            "Secret": "/api/v1/namespaces/{}/secrets",
            "Event": "/apis/events.k8s.io/v1/namespaces/{}/events",
            "Job": "/apis/batch/v1/namespaces/{}/jobs",
            "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
        }
        base = found[kind].path(self.namespace) if kind in found else extra[kind].format(self.namespace)
        return f"{base}/{name}" if name else base

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.server.request("GET", self.path(kind, name))

    def list(self, kind: str) -> list[dict[str, Any]]:
        return self.server.request("GET", self.path(kind))["items"]

    def delete(self, kind: str, name: str) -> None:
        self.server.request("DELETE", self.path(kind, name))

    def patch(self, kind: str, name: str, patch: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
        path = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        return self.server.request(
            "PATCH", f"{path}?fieldManager=kubectl-edit", patch, content_type="application/merge-patch+json"
        )

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.server.request("POST", self.path(kind), body)

    def lake(self, name: str, **spec: Any) -> dict[str, Any]:
        """Apply a lake."""
        document = {
            "apiVersion": "cryptolake.io/v1alpha1",
            "kind": "CryptoLake",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"symbols": ["BTCUSDT"]} | spec,
        }
        return self.server.apply(document)

    def children(self, uid: str) -> dict[tuple[str, str], dict[str, Any]]:
        """All that a lake controls."""
        return {
            (kind.kind, item["metadata"]["name"]): item | {"kind": kind.kind, "apiVersion": kind.api_version}
            for kind in CHILDREN
            for item in self.list(kind.kind)
            if any(
                o["uid"] == uid and o.get("controller") for o in item["metadata"].get("ownerReferences", [])
            )
        }

    def status(self, name: str) -> dict[str, Any]:
        return self.get("CryptoLake", name).get("status") or {}

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """Raises KeyError where it is not there yet."""
        for condition in self.status(name).get("conditions", []):
            if condition["type"] == type_:
                return condition
        raise KeyError(type_)

    def until(self, name: str, type_: str, status: str, reason: str = "", **options: Any) -> dict[str, Any]:
        """The condition, once it is so."""

        def look() -> dict[str, Any]:
            found = self.condition(name, type_)
            assert (found["status"], found["reason"] if reason else "") == (status, reason), found
            return found

        return eventually(look, what=f"{type_} of {name} is {status} {reason}", **options)


_numbers = itertools.count(1)


def world(server: ApiServer) -> World:
    """A new namespace."""
    name = f"lakes-{next(_numbers)}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return World(server, name)


def install(server: ApiServer) -> None:
    """The definition of CryptoLake, served."""
    server.apply(crd.crd())
    eventually(lambda: server.request("GET", "/apis/cryptolake.io/v1alpha1/cryptolakes"))


SETTINGS = OperatorSettings(
    image="crypto-lake:test",
    namespace="default",
    metrics_port=0,
    poll_seconds=0.3,
    lease=False,
    log_level="INFO",
)


@dataclass
class Running:
    """An operator in a thread. port: of its metrics. error: what it ended with."""

    port: int = 0
    error: BaseException | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    kubeconfig: Path = Path()

    def page(self, path: str) -> tuple[int, str]:
        return fetch(f"http://127.0.0.1:{self.port}{path}")

    def metric(self, line: str) -> float:
        """Of the series with exactly these labels; 0 where there is none."""
        for each in self.page("/metrics")[1].splitlines():
            name, _, value = each.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0


def fetch(url: str) -> tuple[int, str]:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def operating(kubeconfig: Path, settings: OperatorSettings = SETTINGS, **options: Any) -> Iterator[Running]:
    """Until the block ends. settings.watch_namespaces should be the test's own."""
    running = Running(kubeconfig=kubeconfig)
    up = threading.Event()
    loop: asyncio.AbstractEventLoop | None = None
    stop: asyncio.Event | None = None

    async def main() -> None:
        nonlocal loop, stop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def listening(port: int) -> None:
            running.port = port
            up.set()

        async def login() -> Any:
            return await configured(kubeconfig)

        given = {"backoff": Backoff(0.5, 3.0), "good_seconds": 1.0, "wait_seconds": 1.0} | options
        await run(settings, login, stop, host="127.0.0.1", on_listening=listening, **given)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # told by the one who waits
            running.error = error
        finally:
            running.stopped.set()
            up.set()

    thread = threading.Thread(target=work, name="operator", daemon=True)
    thread.start()
    assert up.wait(WAIT_SECONDS), "the operator does not listen"
    if running.error is not None:
        raise running.error
    try:
        yield running
    finally:
        if loop is not None and stop is not None and not running.stopped.is_set():
            loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "the operator does not end"
    if running.error is not None:
        raise running.error


def process(kubeconfig: Path, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    """`crypto-lake-operator run`, as it is started in a pod."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_OPERATOR_")}
    environment |= {"CRYPTO_LAKE_OPERATOR_METRICS_PORT": "0", "CRYPTO_LAKE_OPERATOR_NAMESPACE": "default"}
    environment |= {f"CRYPTO_LAKE_OPERATOR_{name.upper()}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "crypto_lake_operator.cli", "run", "--kubeconfig", str(kubeconfig)]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


# Collectors


@dataclass
class Collector:
    """What a pod would be: its address, and what it answers at /status. `silent`: it answers nothing."""

    address: str
    report: Report = field(default_factory=Report)
    silent: bool = False
    asked: int = 0

    def body(self) -> bytes:
        return msgspec.json.encode(self.report)


class Collectors:
    """One HTTP server for all addresses of loopback, on one port. `new` gives an address nobody has."""

    def __init__(self) -> None:
        self._by_address: dict[str, Collector] = {}
        by_address = self._by_address

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                collector = by_address.get(self.headers.get("Host", "").partition(":")[0])
                if collector is not None:
                    collector.asked += 1
                if collector is None or collector.silent or self.path != "/status":
                    self.close_connection = True
                    self.connection.close()
                    return
                body = collector.body()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # of connections that were closed on purpose

        self._net = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        self._server = Server(("0.0.0.0", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="collectors", daemon=True)
        self._thread.start()
        self._next = itertools.count(2)

    def new(self) -> Collector:
        collector = Collector(f"{self._net}.{next(self._next)}")
        self._by_address[collector.address] = collector
        return collector

    def at(self, address: str) -> Collector:
        return self._by_address[address]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def files_of(world: World, lake: str, replica: str = "a") -> dict[str, str]:
    return world.get("ConfigMap", f"{lake}-{replica}-config")["data"]


def report_of(text: str, **fields: Any) -> Report:
    """What a collector says that does all its file tells it."""
    symbols = yaml.safe_load(text)["collector"]["symbols"]
    report = Report(
        version="test",
        health="ok",
        streams=tuple(Stream(symbol, live=True, latency=Latency(120.0)) for symbol in symbols),
        symbols=tuple(Symbol(symbol) for symbol in symbols),
        configuration=Configuration(hashlib.sha256(text.encode()).hexdigest()),
        disk=Disk(31.0, 10**9),
        pending_bytes=0,
        last_verified_upload_ns=time.time_ns(),
    )
    return msgspec.structs.replace(report, **fields)


def play_pod(world: World, lake: str, collector: Collector, *, shard: int = 0, replica: str = "a") -> str:
    """The pod of a slot as a kubelet would have it, running and ready, and its StatefulSet settled. The pod's name."""
    set_name = f"{lake}-{replica}"
    name = f"{set_name}-{shard}"
    live = world.get("StatefulSet", set_name)
    template = live["spec"]["template"]
    labels = template["metadata"]["labels"] | {
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(shard),
        "controller-revision-hash": "r1",
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "collector", "image": "x"}], "nodeName": "node-1"},
    }
    with contextlib.suppress(RefusedError):
        world.create("Pod", pod)
    set_pod(world, name, collector.address)
    settle(world, set_name)
    return name


def publish_pod(
    lake: str,
    message: str,
    *,
    task: str = "publish",
    exit_code: int = 0,
    at: datetime | None = None,
    number: int = 1,
    namespace: str = "lakes",
) -> dict[str, Any]:
    """The pod of a task of the whole lake, ended, with its last words."""
    finished = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{lake}-{task}-{number}"
    terminated = {
        "exitCode": exit_code,
        "reason": "OOMKilled" if exit_code == 137 else "Error" if exit_code else "Completed",
        "message": message,
        "startedAt": finished,
        "finishedAt": finished,
    }
    container = {"name": task, "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-x",
            "namespace": namespace,
            "labels": naming.labels(lake, task),
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": f"uid-{name}"}
            ],
        },
        "spec": {
            "containers": [{"name": task, "image": "x"}],
            "nodeName": "node-1",
            "restartPolicy": "Never",
        },
        "status": {
            "phase": "Failed" if exit_code else "Succeeded",
            "containerStatuses": [container | {"state": {"terminated": terminated}}],
        },
    }


def set_pod(world: World, name: str, address: str, *, ready: bool = True) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [condition],
        "containerStatuses": [
            {
                "name": "collector",
                "image": "x",
                "imageID": "x",
                "ready": ready,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
        ],
    }
    world.patch("Pod", name, {"status": status}, subresource="status")


def settle(world: World, set_name: str) -> None:
    live = world.get("StatefulSet", set_name)
    count = live["spec"]["replicas"]
    status = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": count,
        "readyReplicas": count,
        "updatedReplicas": count,
        "currentRevision": "r1",
        "updateRevision": "r1",
    }
    world.patch("StatefulSet", set_name, {"status": status}, subresource="status")


def play_lake(world: World, lake: str, collectors: Collectors, **fields: Any) -> Collector:
    """Its one collector, live and doing what its file says."""
    collector = collectors.new()
    text = eventually(lambda: files_of(world, lake), what=f"the configuration of {lake}")["shard-0.yml"]
    collector.report = report_of(text, **fields)
    eventually(lambda: world.get("StatefulSet", f"{lake}-a"))
    play_pod(world, lake, collector)
    return collector
