"""The HTTP side of the fake: http.server with a thread a connection."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .faults import Fault, Faults, flip
from .state import GRAIN, Digest, FakeBucket, FakeObject, Refused, Sent, Session, State

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_MESSAGES = {
    401: ("Invalid Credentials", "authError"),
    403: (
        "writer@project.iam.gserviceaccount.com does not have {permission} access to the Google Cloud Storage object. "
        "Permission '{permission}' denied on resource (or it may not exist).",
        "forbidden",
    ),
    404: ("The specified bucket does not exist.", "notFound"),
    410: ("The upload session is gone.", "gone"),
    429: ("The rate of change requests to the object exceeds the rate limit.", "rateLimitExceeded"),
    503: ("We encountered an internal error. Please try again.", "backendError"),
}
_PERMISSIONS = {
    "get": "storage.objects.get",
    "media": "storage.objects.get",
    "list": "storage.objects.list",
    "bucket": "storage.buckets.get",
    "delete": "storage.objects.delete",
}


class _Dropped(Exception):  # noqa: N818
    """No answer: the connection is closed."""


@dataclass
class _Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class FakeGcs:
    """See the package's docstring. `token`: the bearer token to be sent with each request; None: none is looked at."""

    def __init__(
        self,
        *,
        buckets: Iterable[str] = ("lake",),
        token: str | None = None,
        discard: bool = False,
        stall_seconds: float = 30.0,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.state = State(list(buckets), discard)
        self.faults = Faults()
        self.token = token
        self.requests: list[Sent] = []
        self.stall_seconds = stall_seconds
        self.stopping = threading.Event()
        self._server = _Server(address, _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FakeGcs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.drop_connections()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def objects(self) -> dict[str, FakeObject]:
        """Of the first bucket."""
        return next(iter(self.state.buckets.values())).objects

    @property
    def bucket(self) -> Any:
        return next(iter(self.state.buckets.values()))

    def fail(
        self,
        step: str,
        kind: str | int,
        *,
        times: int = 1,
        after: int = 0,
        body: bytes | None = None,
        seed: int | None = None,
    ) -> Fault:
        return self.faults.add(Fault(step, str(kind), times, after, body, seed))

    def deny(self, prefix: str, *permissions: str) -> None:
        """Take permissions (create, get, list, delete; or whole names) away below a prefix of the first bucket."""
        self.bucket.denied += [(prefix, p if "." in p else f"storage.objects.{p}") for p in permissions]

    def sent(self, step: str) -> list[Sent]:
        """The requests of a step, in the order of their ends."""
        return [one for one in self.requests if one.step == step]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    fake: FakeGcs

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's."""
        import sys

        if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    # One request

    def _serve(self, method: str) -> None:
        fake = self.server.fake
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/_fake/"):
            self._send(self._control(url.path.removeprefix("/_fake/")))
            return
        try:
            step, arguments = self._route(method, url.path, query)
        except Refused as refused:
            self._body()
            self._send(_Answer(refused.status, refused.body()))
            return
        fault = fake.faults.strike(step)
        kind = None if fault is None else fault.kind
        status = 0
        try:
            answer = self._struck(fault, step, arguments)
            status = answer.status
            fake.requests.append(
                Sent(step, method, arguments.get("name"), arguments.get("match"), status, kind)
            )
            self._send(answer)
        except _Dropped:
            fake.requests.append(Sent(step, method, arguments.get("name"), arguments.get("match"), 0, kind))
            self._reset()

    def _struck(self, fault: Fault | None, step: str, arguments: dict[str, Any]) -> _Answer:
        fake = self.server.fake
        if fault is None:
            return self._handle(step, arguments, self._body())
        if fault.kind == "reset_before":
            raise _Dropped
        body = self._body()
        if fault.status is not None:
            message, reason = _MESSAGES.get(fault.status, ("Injected.", "injected"))
            message = message.format(permission=_PERMISSIONS.get(step, "storage.objects.create"))
            return _Answer(fault.status, fault.body or Refused(fault.status, message, reason).body())
        if fault.kind == "stall":
            fake.stopping.wait(fake.stall_seconds)
            raise _Dropped
        if fault.kind == "reset_half" and step == "media":
            answer = self._handle(step, arguments, body)
            self._send(answer, len(answer.body) // 2)
            raise _Dropped
        if fault.kind == "reset_half":
            half = len(body) // 2
            if arguments["first"] is not None:
                self._handle(step, {**arguments, "half": True}, body[:half])
            raise _Dropped
        answer = self._handle(step, arguments, flip(body, fault) if fault.kind == "flip_up" else body)
        if fault.kind == "reset_after":
            raise _Dropped
        if fault.kind == "stall_after":
            fault.fired += 1
            fake.stopping.wait(fake.stall_seconds)
            raise _Dropped
        if fault.kind == "flip_down":
            return _Answer(answer.status, flip(answer.body, fault), answer.headers)
        return answer

    def _route(self, method: str, path: str, query: dict[str, str]) -> tuple[str, dict[str, Any]]:
        match = int(query["ifGenerationMatch"]) if "ifGenerationMatch" in query else None
        if found := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            arguments: dict[str, Any] = {"bucket": found[1], "match": match}
            if "upload_id" not in query:
                return ("start" if query.get("uploadType") == "resumable" else "multipart"), arguments
            content_range = _CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", "").strip())
            if content_range is None:
                raise Refused(400, "Failed to parse Content-Range header.", "badRequest")
            first, last, size = content_range.groups()
            arguments |= {
                "upload": query["upload_id"],
                "first": first and int(first),
                "last": last and int(last),
            }
            arguments["size"] = None if size == "*" else int(size)
            if first is None:
                return "query", arguments
            final = arguments["size"] is not None and int(last) + 1 == arguments["size"]
            return ("finalise" if final else "chunk"), arguments
        if found := re.fullmatch(r"/(?:download/)?storage/v1/b/([^/]+)/o/([^/]+)", path):
            generation = int(query["generation"]) if "generation" in query else None
            arguments = {
                "bucket": found[1],
                "name": unquote(found[2]),
                "generation": generation,
                "match": match,
            }
            if method == "DELETE":
                return "delete", arguments
            return ("media" if query.get("alt") == "media" else "get"), arguments
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
            limit = int(query.get("maxResults", "1000"))
            return "list", {
                "bucket": found[1],
                "prefix": query.get("prefix", ""),
                "token": query.get("pageToken", ""),
                "limit": limit,
                "offsets": query,
            }
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            return "bucket", {"bucket": found[1]}
        raise Refused(404, f"No such method: {method} {path}", "notFound")

    def _handle(self, step: str, arguments: dict[str, Any], body: bytes) -> _Answer:
        fake = self.server.fake
        try:
            if fake.token is not None and self.headers.get("Authorization") != f"Bearer {fake.token}":
                raise Refused(401, "Invalid Credentials", "authError")
            with fake.state.lock:
                return getattr(self, f"_{step}")(fake.state, arguments, body)
        except Refused as refused:
            return _Answer(refused.status, refused.body())

    # Uploads

    def _multipart(self, state: State, arguments: dict[str, Any], body: bytes) -> _Answer:
        boundary = re.search(r'boundary="?([^";]+)"?', self.headers.get("Content-Type", ""))
        parts = [] if boundary is None else body.split(b"--" + boundary[1].encode())
        if len(parts) != 4:
            raise Refused(400, "Malformed multipart body.", "badContent")
        resource = _resource(parts[1].partition(b"\r\n\r\n")[2].strip())
        media = parts[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        arguments["name"] = resource["name"]
        state.bucket(arguments["bucket"])
        digest = Digest()
        digest.update(media)
        made = state.make(
            arguments["bucket"], resource, arguments["match"], digest, None if state.discard else media
        )
        return _json(made.resource(arguments["bucket"]))

    def _start(self, state: State, arguments: dict[str, Any], body: bytes) -> _Answer:
        resource = _resource(body)
        arguments["name"] = resource["name"]
        state.bucket(arguments["bucket"])
        state.check_create(arguments["bucket"], resource["name"], arguments["match"])
        size = self.headers.get("X-Upload-Content-Length")
        upload = uuid.uuid4().hex
        state.sessions[upload] = Session(
            arguments["bucket"],
            resource,
            arguments["match"],
            None if size is None else int(size),
            data=None if state.discard else bytearray(),
        )
        # Where the client reached it: in a cluster that is no address of its own.
        host = self.headers.get("Host") or self.server.fake.url.removeprefix("http://")
        location = f"http://{host}/upload/storage/v1/b/{arguments['bucket']}/o?uploadType=resumable"
        return _Answer(200, b"", {"Location": f"{location}&upload_id={upload}"})

    def _query(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        session = self._session(state, arguments)
        if session.made is not None:
            return _json(session.made.resource(session.bucket))
        if session.size == 0:
            return self._complete(state, arguments, session)
        return _held(session)

    def _chunk(self, state: State, arguments: dict[str, Any], body: bytes) -> _Answer:
        session = self._session(state, arguments)
        if session.made is not None:
            return _json(session.made.resource(session.bucket))
        first, size = arguments["first"], arguments["size"]
        final = size is not None and arguments["last"] + 1 == size
        half = arguments.get("half", False)
        if not half and len(body) != arguments["last"] - first + 1:
            raise Refused(400, "The body's length is not that of Content-Range.", "badRequest")
        if not final and not half and len(body) % GRAIN:
            raise Refused(400, f"A chunk that is not the last is a multiple of {GRAIN} bytes.", "badRequest")
        if session.size is not None and size not in (None, session.size):
            raise Refused(400, "Another size than the upload was started with.", "badRequest")
        if first > session.digest.size:
            raise Refused(400, f"Bytes are missing before {first}.", "badRequest")
        fresh = body[session.digest.size - first :]  # what is held already is left out
        session.digest.update(fresh)
        if session.data is not None:
            session.data += fresh
        if final and not half and session.digest.size == size:
            return self._complete(state, arguments, session)
        return _held(session)

    _finalise = _chunk

    def _complete(self, state: State, arguments: dict[str, Any], session: Session) -> _Answer:
        try:
            data = None if session.data is None else bytes(session.data)
            session.made = state.make(session.bucket, session.resource, session.match, session.digest, data)
        except Refused as refused:
            if refused.status == 400:
                del state.sessions[arguments["upload"]]
            raise
        session.data = None
        return _json(session.made.resource(session.bucket))

    def _session(self, state: State, arguments: dict[str, Any]) -> Session:
        session = state.sessions.get(arguments["upload"])
        if session is None:
            raise Refused(404, "Not found", "notFound")
        arguments["name"] = session.resource["name"]
        arguments["match"] = session.match
        return session

    # Reading and the rest

    def _get(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        found = state.existing(arguments["bucket"], arguments["name"], arguments["generation"])
        return _json(found.resource(arguments["bucket"]))

    def _media(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        found = state.existing(arguments["bucket"], arguments["name"], arguments["generation"])
        data = found.data or b""
        hashes = f"crc32c={found.crc32c}" + ("" if found.md5 is None else f",md5={found.md5}")
        headers = {"X-Goog-Hash": hashes, "X-Goog-Generation": str(found.generation)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return _Answer(200, data, headers)
        first = int(wanted[1])
        last = min(int(wanted[2]) if wanted[2] else len(data) - 1, len(data) - 1)
        if first > last:
            raise Refused(416, "The requested range cannot be satisfied.", "requestedRangeNotSatisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return _Answer(206, data[first : last + 1], headers)

    def _list(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        state.require(arguments["bucket"], "storage.objects.list", arguments["prefix"])
        objects = state.bucket(arguments["bucket"]).objects
        query: dict[str, str] = arguments.get("offsets", {})
        prefix, delimiter = arguments["prefix"], query.get("delimiter", "")
        end = query.get("endOffset", "")
        names = sorted(
            name
            for name in objects
            if name.startswith(prefix)
            and name > arguments["token"]
            and name >= query.get("startOffset", "")
            and (not end or name < end)
        )
        found: dict[str, Any] = {"kind": "storage#objects"}
        if delimiter:  # names with one behind the prefix are told by what stands before it
            deeper = [name for name in names if delimiter in name[len(prefix) :]]
            found["prefixes"] = sorted(
                {prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter for name in deeper}
            )
            names = [name for name in names if name not in set(deeper)]
        page = names[: arguments["limit"]]
        if page:
            found["items"] = [objects[name].resource(arguments["bucket"]) for name in page]
        if len(names) > len(page):
            found["nextPageToken"] = page[-1]
        return _json(found)

    def _bucket(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        bucket = state.bucket(arguments["bucket"])
        state.require(arguments["bucket"], "storage.buckets.get", "")
        found: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": arguments["bucket"],
            "name": arguments["bucket"],
            "location": "EUROPE-WEST4",
            "versioning": {"enabled": bucket.versioning},
            "softDeletePolicy": {"retentionDurationSeconds": str(bucket.soft_delete_seconds)},
        }
        if bucket.retention_seconds:
            found["retentionPolicy"] = {
                "retentionPeriod": str(bucket.retention_seconds),
                "effectiveTime": "2024-01-01T00:00:00.000Z",
            }
        return _json(found)

    def _delete(self, state: State, arguments: dict[str, Any], _: bytes) -> _Answer:
        state.require(arguments["bucket"], "storage.objects.delete", arguments["name"])
        found = state.bucket(arguments["bucket"]).objects.get(arguments["name"])
        if found is None:
            raise Refused(404, f"No such object: {arguments['bucket']}/{arguments['name']}", "notFound")
        if arguments["match"] not in (None, found.generation):
            raise Refused(
                412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet"
            )
        state.check_delete(arguments["bucket"], arguments["name"])
        del state.bucket(arguments["bucket"]).objects[arguments["name"]]
        return _Answer(204)

    def _control(self, what: str) -> _Answer:
        fake = self.server.fake
        body = self._body()
        if what == "fail":
            asked = json.loads(body)
            fake.fail(asked.pop("step"), asked.pop("kind"), **asked)
            return _json({})
        if what == "objects":
            return _json({name: one.resource("") for name, one in fake.objects.items()})
        if what == "data":
            return _Answer(200, fake.objects[json.loads(body)["name"]].data or b"")
        if what == "remove":
            del fake.objects[json.loads(body)["name"]]
            return _json({})
        if what == "bucket":
            fake.state.buckets.setdefault(json.loads(body)["name"], FakeBucket())
            return _json({})
        if what == "requests":
            return _json([vars(one) for one in fake.requests])
        return _Answer(404)

    # The wire

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, answer: _Answer, only: int | None = None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.body:
            self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:only])

    def _reset(self) -> None:
        """End the connection at once: with RST where the system lets."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _json(found: Any) -> _Answer:
    return _Answer(200, json.dumps(found).encode())


def _held(session: Session) -> _Answer:
    size = session.digest.size
    return _Answer(308, b"", {"Range": f"bytes=0-{size - 1}"} if size else {})


def _resource(data: bytes) -> dict[str, Any]:
    try:
        resource = json.loads(data)
        if not isinstance(resource["name"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "Parse Error", "parseError") from None
    return resource
