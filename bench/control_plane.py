"""The operator with hundreds of CryptoLakes: how soon all are reconciled, and a change applied, and what it takes.

    python bench/control_plane.py [--lakes 500] [--hold 60]

Against a real kube-apiserver and etcd (see tests/support/apiserver.py for where they are looked for), with a pod for each
collector and a server behind its address that answers /status. Prints figures; the exit code is 1 where a goal is
missed, and 0 with a line where the programs are not on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from aiohttp import web

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import apiserver  # noqa: E402
from tests.support.apiserver import ApiServer  # noqa: E402

from crypto_lake_operator import crd  # noqa: E402
from crypto_lake_operator.report import Configuration, Disk, Latency, Report, Stream, Symbol  # noqa: E402

NAMESPACE = "lakes"
LAKES = f"/apis/cryptolake.io/v1alpha1/namespaces/{NAMESPACE}/cryptolakes"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
SYMBOLS = [f"S{n}USDT" for n in range(20)]
GOALS = {"cold_seconds": 30.0, "p99_seconds": 1.0, "rss_mb": 150.0, "writes": 0.0}


class Api:
    """As the administrator, many calls at a time."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self.server, self.session = server, session

    async def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Authorization": f"Bearer {self.server.token}", "Content-Type": content_type}
        async with self.session.request(method, self.server.url + path, data=data, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return msgspec.json.decode(text)

    async def merge(self, path: str, patch: dict[str, Any]) -> Any:
        return await self.call("PATCH", path, patch, "application/merge-patch+json")

    async def all(self, path: str) -> list[dict[str, Any]]:
        return (await self.call("GET", path))["items"]


@asynccontextmanager
async def api_of(server: ApiServer) -> AsyncIterator[Api]:
    connector = aiohttp.TCPConnector(ssl=server.context(), limit=32)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(server, session)


async def each(items: list[Any], work: Callable[[Any], Awaitable[Any]], at_once: int = 16) -> None:
    gate = asyncio.Semaphore(at_once)

    async def one(item: Any) -> None:
        async with gate:
            await work(item)

    await asyncio.gather(*(one(item) for item in items))


def name_of(number: int) -> str:
    return f"lake-{number:04d}"


def address_of(number: int) -> str:
    return f"127.77.{number // 250}.{number % 250 + 2}"


def lake(number: int, symbols: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "cryptolake.io/v1alpha1",
        "kind": "CryptoLake",
        "metadata": {"name": name_of(number), "namespace": NAMESPACE},
        "spec": {"symbols": symbols, "bucket": "gs://lake/prod"},
    }


# Collectors: a process of their own


async def answer_status() -> None:
    """Answers at every address of loopback what was last PUT there. Prints its port."""
    answers: dict[str, bytes] = {}
    asked = 0

    async def status(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        body = answers.get(request.host.partition(":")[0])
        return web.Response(status=404) if body is None else web.Response(body=body)

    async def put(request: web.Request) -> web.Response:
        answers[request.match_info["address"]] = await request.read()
        return web.Response()

    async def count(_: web.Request) -> web.Response:
        return web.Response(text=str(asked))

    app = web.Application(client_max_size=2**24)
    app.router.add_get("/status", status)
    app.router.add_put("/answer/{address}", put)
    app.router.add_get("/asked", count)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def report_of(text: str) -> bytes:
    symbols = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["collector"]["symbols"]
    report = Report(
        version="bench",
        health="ok",
        streams=tuple(Stream(s, live=True, latency=Latency(100.0)) for s in symbols for _ in (0, 1)),
        symbols=tuple(Symbol(s) for s in symbols),
        configuration=Configuration(hashlib.sha256(text.encode()).hexdigest()),
        disk=Disk(31.0, 10**9),
        pending_bytes=0,
        last_verified_upload_ns=time.time_ns(),
    )
    return msgspec.json.encode(report)


async def play(api: Api, number: int, port: int) -> None:
    """What a StatefulSet's controller, a kubelet and a collector do."""
    name = name_of(number)
    live = await api.call("GET", f"{SETS}/{name}-a")
    text = (await api.call("GET", f"{CONFIG_MAPS}/{name}-a-config"))["data"]["shard-0.yml"]
    await answers(api, number, text, port)
    labels = live["spec"]["template"]["metadata"]["labels"] | {
        "statefulset.kubernetes.io/pod-name": f"{name}-a-0",
        "apps.kubernetes.io/pod-index": "0",
        "controller-revision-hash": "r1",
    }
    pod = {
        "metadata": {"name": f"{name}-a-0", "labels": labels},
        "spec": {"containers": [{"name": "collector", "image": "x"}], "nodeName": "node"},
    }
    await api.call("POST", PODS, pod)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {
        "phase": "Running",
        "podIP": address_of(number),
        "podIPs": [{"ip": address_of(number)}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
    }
    await api.merge(f"{PODS}/{name}-a-0/status", {"status": status})
    settled = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": 1,
        "readyReplicas": 1,
        "updatedReplicas": 1,
        "currentRevision": "r1",
        "updateRevision": "r1",
    }
    await api.merge(f"{SETS}/{name}-a/status", {"status": settled})


async def answers(api: Api, number: int, text: str, port: int) -> None:
    async with api.session.put(
        f"http://127.0.0.1:{port}/answer/{address_of(number)}", data=report_of(text), ssl=False
    ) as answer:
        answer.raise_for_status()


# The operator: a process of its own


async def operate(kubeconfig: Path, port: int) -> None:
    """Prints the port of its metrics."""
    from crypto_lake_operator.client_kube import configured
    from crypto_lake_operator.config import read_settings
    from crypto_lake_operator.run import run, set_up_logging

    set_up_logging("WARNING")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def login() -> Any:
        return await configured(kubeconfig)

    def listening(listens: int) -> None:
        print(listens, flush=True)

    await run(
        read_settings(os.environ), login, stop, host="127.0.0.1", on_listening=listening, collector_port=port
    )


class Operator:
    def __init__(self, kubeconfig: Path, port: int) -> None:
        self._command = [sys.executable, __file__, "--operate", str(kubeconfig), "--port", str(port)]
        self.port = 0

    async def __aenter__(self) -> Operator:
        environment = os.environ | {
            "CRYPTO_LAKE_OPERATOR_METRICS_PORT": "0",
            "CRYPTO_LAKE_OPERATOR_LEASE": "false",
            "CRYPTO_LAKE_OPERATOR_WATCH_NAMESPACES": NAMESPACE,
        }
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        self.port = int(await asyncio.to_thread(self.process.stdout.readline))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def figure(self, name: str) -> float:
        """In /proc; kB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1])
        raise KeyError(name)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metrics(self, api: Api) -> dict[str, float]:
        async with api.session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


def writes(metrics: dict[str, float]) -> float:
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith("crypto_lake_operator_api_requests_total")
        and any(f'verb="{verb}"' in name for verb in ("create", "patch", "delete"))
        and 'resource="leases"' not in name
    )


async def until(look: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await look():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.25)


def condition(lake: dict[str, Any], type_: str) -> dict[str, Any]:
    found = (lake.get("status") or {}).get("conditions", [])
    return next((each for each in found if each["type"] == type_), {})


async def measure(server: ApiServer, folder: Path, count: int, hold_seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    numbers = list(range(count))
    status_server = subprocess.Popen([sys.executable, __file__, "--answer"], stdout=subprocess.PIPE)
    assert status_server.stdout is not None
    try:
        port = int(await asyncio.to_thread(status_server.stdout.readline))
        kubeconfig = server.kubeconfig(folder / "kubeconfig")
        async with api_of(server) as api:
            await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            await each(numbers, lambda n: api.call("POST", LAKES, lake(n, SYMBOLS)))

            async def all_are(type_: str, *, reconciled: bool = False) -> bool:
                lakes = await api.all(LAKES)
                wanted = [condition(each, type_) for each in lakes]
                if reconciled:
                    return all(wanted)
                return all(each.get("status") == "True" for each in wanted)

            async with Operator(kubeconfig, port) as operator:
                began = time.monotonic()
                await until(
                    lambda: all_are("Reconciled", reconciled=True),
                    600,
                    "every lake has children and a status",
                )
                figures["first_seconds"] = time.monotonic() - began
                figures["first_cpu_seconds"] = operator.cpu_seconds()
                await each(numbers, lambda n: play(api, n, port))
                await until(lambda: all_are("Ready"), 600, "every lake is Ready")
                await until(lambda: all_are("Reconciled"), 600, "every lake is reconciled")
            async with Operator(kubeconfig, port) as operator:
                began = time.monotonic()

                async def settled() -> bool:
                    found = await operator.metrics(api)
                    done = found['crypto_lake_operator_reconciles_total{outcome="done"}']
                    polled = found['crypto_lake_operator_polls_total{outcome="ok"}']
                    return done >= count and polled >= count and not found["crypto_lake_operator_queue_depth"]

                await until(settled, 600, "an operator that starts anew has looked at every lake")
                figures["cold_seconds"] = time.monotonic() - began
                figures["cold_cpu_seconds"] = operator.cpu_seconds()
                figures["cold_writes"] = writes(await operator.metrics(api))
                await asyncio.sleep(5)
                before, cpu = writes(await operator.metrics(api)), operator.cpu_seconds()
                await asyncio.sleep(hold_seconds)
                figures["writes"] = writes(await operator.metrics(api)) - before
                figures["idle_cpu_percent"] = (operator.cpu_seconds() - cpu) / hold_seconds * 100
                applied = await changes(api, numbers, port)
                figures["p50_seconds"] = applied[len(applied) // 2]
                figures["p99_seconds"] = applied[int(len(applied) * 0.99)]
                figures["rss_mb"] = operator.figure("VmRSS") / 1000
                figures["peak_rss_mb"] = operator.figure("VmHWM") / 1000
    finally:
        status_server.terminate()
        status_server.wait()
        status_server.stdout.close()
    return figures


async def changes(
    api: Api, numbers: list[int], port: int, count: int = 200, a_second: float = 10.0
) -> list[float]:
    """Symbols of random lakes change, one lake after another; how long until each one's ConfigMap has them. Sorted."""
    chosen = random.Random(1).sample(numbers, min(count, len(numbers)))
    begun: dict[str, float] = {}
    applied: dict[str, float] = {}
    first = await api.call("GET", CONFIG_MAPS + "?limit=1")
    version = first["metadata"]["resourceVersion"]

    async def watch() -> None:
        headers = {"Authorization": f"Bearer {api.server.token}"}
        url = f"{api.server.url}{CONFIG_MAPS}?watch=true&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with api.session.get(url, headers=headers, timeout=timeout, read_bufsize=2**22) as answer:
            async for line in answer.content:
                config = msgspec.json.decode(line)["object"]
                name = config["metadata"]["name"].removesuffix("-a-config")
                text = config["data"].get("shard-0.yml", "")
                if name in begun and name not in applied and "NEWUSDT" in text:
                    applied[name] = time.monotonic() - begun[name]
                    await answers(api, int(name.rpartition("-")[2]), text, port)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.5)
    for number in chosen:
        begun[name_of(number)] = time.monotonic()
        await api.merge(f"{LAKES}/{name_of(number)}", {"spec": {"symbols": [*SYMBOLS, "NEWUSDT"]}})
        await asyncio.sleep(1 / a_second)

    async def all_applied() -> bool:
        return len(applied) == len(chosen)

    await until(all_applied, 120, "every change is applied")
    watching.cancel()
    return sorted(applied.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lakes", type=int, default=500)
    parser.add_argument("--hold", type=float, default=60.0, help="seconds in which figures hold")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--operate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        asyncio.run(answer_status())
        return 0
    if given.operate:
        asyncio.run(operate(given.operate, given.port))
        return 0
    if importlib.util.find_spec("kopf") is None or importlib.util.find_spec("kubernetes") is None:
        print("not measured: the operator's packages are not installed (pip install 'crypto-lake[operator]')")
        return 0
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        print(f"not measured: {error}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--max-requests-inflight=1000", "--max-mutating-requests-inflight=500")
        with apiserver.running(Path(folder), *flags) as server:
            server.apply(crd.crd())
            time.sleep(2)
            figures = asyncio.run(measure(server, Path(folder), given.lakes, given.hold))
    print(
        f"{given.lakes} lakes of {len(SYMBOLS)} symbols, a collector each; operator and API server share {os.cpu_count()} cores"
    )
    for name, value in figures.items():
        goal = GOALS.get(name)
        missed = goal is not None and value > goal
        print(
            f"{name:20} {value:10.2f}"
            + (f"  goal {goal:g}" if goal is not None else "")
            + (" MISSED" if missed else "")
        )
    return int(any(figures[name] > goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
