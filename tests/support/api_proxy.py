"""A road to the API server that can be made bad: it answers errors, cuts connections, or lets nobody through; it counts.

It speaks HTTP on loopback and passes everything on to the server's TLS port, watches line by line.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from tests.support.apiserver import ApiServer


@dataclass
class Fault:
    """What becomes of requests that match, `times` of them. code 0: the connection is cut. after: it is passed on first,
    so that the answer alone is lost. `fired`: how many it met.
    """

    method: str
    path: str
    code: int
    times: int = 1
    after: bool = False
    retry_after: str = ""
    watch: bool | None = None
    fired: int = 0

    def meets(self, request: web.Request) -> bool:
        is_watch = "watch" in request.query
        return (
            self.fired < self.times
            and re.fullmatch(self.method, request.method) is not None
            and re.search(self.path, request.path) is not None
            and (self.watch is None or self.watch is is_watch)
        )


@dataclass(frozen=True)
class Seen:
    """A request: when (monotonic), what, and the code that was answered."""

    at: float
    method: str
    path: str
    code: int
    watch: bool
    dry_run: bool = False  # asked for: the API server keeps nothing of it


@dataclass
class Proxy:
    """url: where clients are to go. faults: looked through in order, may be changed any time."""

    server: ApiServer
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    # Nobody gets through: connections are cut at once.
    away: bool = False
    # Whom the administrator is to play; empty: nobody.
    user: str = ""
    _watches: set[web.StreamResponse] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def kubeconfig(self, path: Path, token: str = "") -> Path:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": token or self.server.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_bytes(msgspec.json.encode(document))
        return path

    def writes(self, since: float = 0.0, but: str = "/leases") -> list[Seen]:
        """Requests that change something, but those of paths with `but`, and dry runs."""
        return [
            seen
            for seen in tuple(self.seen)
            if seen.at >= since
            and seen.method not in ("GET", "HEAD")
            and not seen.dry_run
            and but not in seen.path
        ]

    def count(self, since: float = 0.0, but: str = "/leases") -> Counter[str]:
        """Requests by method and kind of thing."""
        return Counter(
            f"{seen.method} {_plural(seen.path)}"
            for seen in tuple(self.seen)
            if seen.at >= since and but not in seen.path
        )

    def cut_watches(self) -> int:
        """Ends all watches that stand, without a word. How many."""
        watches = tuple(self._watches)
        assert self._loop is not None
        for watch in watches:
            self._loop.call_soon_threadsafe(_cut, watch)
        return len(watches)

    def go_away(self) -> None:
        self.away = True
        self.cut_watches()

    async def handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        watch = "watch" in request.query
        fault = next((fault for fault in tuple(self.faults) if fault.meets(request)), None)
        if fault is not None:
            fault.fired += 1
        if self.away or (fault is not None and not fault.after):
            code = 0 if self.away or fault is None else fault.code
            self._note(request, code, watch)
            return self._failed(request, code, fault)
        body = await request.read()
        headers = {
            k: v for k, v in request.headers.items() if k in ("Accept", "Content-Type", "Authorization")
        }
        if self.user:
            headers["Impersonate-User"] = self.user
            headers["Impersonate-Group"] = "system:authenticated"
        async with session.request(
            request.method, f"{self.server.url}{request.rel_url}", data=body or None, headers=headers
        ) as answer:
            if fault is not None:
                await answer.read()
                self._note(request, fault.code, watch)
                return self._failed(request, fault.code, fault)
            self._note(request, answer.status, watch)
            kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Retry-After")}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if watch:
                self._watches.add(response)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (ConnectionError, aiohttp.ClientError):
                _cut(response)
            finally:
                self._watches.discard(response)
            return response

    def _note(self, request: web.Request, code: int, watch: bool) -> None:
        dry_run = request.query.get("dryRun") == "All"
        self.seen.append(Seen(time.monotonic(), request.method, request.path, code, watch, dry_run))

    def _failed(self, request: web.Request, code: int, fault: Fault | None) -> web.Response:
        if code == 0:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        headers = {"Retry-After": fault.retry_after} if fault is not None and fault.retry_after else {}
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "code": code,
            "message": f"a fault of the test: {code}",
        }
        return web.json_response(status, status=code, headers=headers)


def _cut(response: web.StreamResponse) -> None:
    request = getattr(response, "_req", None)
    if request is not None and request.transport is not None:
        request.transport.abort()


def _plural(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if "namespaces" in parts and len(parts) > parts.index("namespaces") + 2:
        return parts[parts.index("namespaces") + 2] + (
            f"/{parts[-1]}" if parts[-1] in ("status", "eviction") else ""
        )
    return parts[-1] if parts else ""


@contextlib.contextmanager
def proxying(server: ApiServer) -> Iterator[Proxy]:
    """In a thread of its own."""
    proxy = Proxy(server)
    up = threading.Event()
    stop: asyncio.Event | None = None

    async def main() -> None:
        nonlocal stop
        stop = asyncio.Event()
        proxy._loop = asyncio.get_running_loop()
        async with _session(server) as session:
            app = web.Application(client_max_size=64 * 2**20)

            async def handler(request: web.Request) -> web.StreamResponse:
                return await proxy.handle(request, session)

            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            up.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="api-proxy", daemon=True)
    thread.start()
    assert up.wait(60)
    try:
        yield proxy
    finally:
        assert proxy._loop is not None
        assert stop is not None
        proxy._loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive()


@contextlib.asynccontextmanager
async def _session(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    sockets: list[socket.socket] = []

    def make_socket(address: Any) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    connector: Any = aiohttp.TCPConnector(ssl=server.context(), limit=0, socket_factory=make_socket)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True) as session:
        yield session
    # TLS takes leave of the server before a socket is closed. One that was still open when the loop ends would be a
    # warning in whichever test comes next.
    async with asyncio.timeout(30):
        while any(one.fileno() >= 0 for one in sockets):
            await asyncio.sleep(0.01)
