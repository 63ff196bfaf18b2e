"""The part of BigQuery's REST interface that making tables and views uses, on loopback, with refusals on demand.

It holds datasets and what statements made in them, and runs none: what a statement says is not looked at but for what it
makes and reads. A view on what is not there is refused, as by BigQuery.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MADE = re.compile(r"CREATE OR REPLACE (EXTERNAL TABLE|VIEW) `(?:([^.`]+)\.)?([^.`]+)\.([^.`]+)`")
_READ = re.compile(r"(?:FROM|JOIN) `(?:[^.`]+\.)?[^.`]+\.([^.`]+)`")
_REASONS = {400: "invalid", 403: "accessDenied", 404: "notFound", 503: "backendError"}


@dataclass
class Refusal:
    """Answers `status` with `message` to requests whose method and path match, until `times` are used up."""

    pattern: str
    status: int
    message: str
    times: int = 10**6
    reason: str = ""
    fired: int = 0


@dataclass
class FakeBigQuery:
    """With `with`. `datasets`: name -> location. `made`: name -> (type, labels). `ran`: statements that were not dry."""

    datasets: dict[str, str] = field(default_factory=lambda: {"lake": "EU"})
    made: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict[str, tuple[str, dict[str, str]]])
    ran: list[str] = field(default_factory=list[str])
    dry: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    bucket_location: str = "EU"

    def refuse(
        self, pattern: str, status: int, message: str, *, times: int = 10**6, reason: str = ""
    ) -> Refusal:
        self.refusals.append(Refusal(pattern, status, message, times, reason))
        return self.refusals[-1]

    def __enter__(self) -> FakeBigQuery:
        world = self

        class Handler(_Handler):
            server_world = world

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._jobs: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for refusal in self.refusals:
            if refusal.fired < refusal.times and re.search(
                refusal.pattern, f"{method} {path} {json.dumps(body)}"
            ):
                refusal.fired += 1
                return _error(refusal.status, refusal.message, refusal.reason)
        parts = path.partition("?")[0].strip("/").split("/")[2:]  # after bigquery/v2
        match method, parts:
            case "GET", ["projects", project, "datasets", name]:
                if name not in self.datasets:
                    return _error(404, f"Not found: Dataset {project}:{name}")
                return 200, _dataset(project, name, self.datasets[name])
            case "POST", ["projects", project, "datasets"]:
                name = body["datasetReference"]["datasetId"]
                self.datasets[name] = body["location"]
                return 200, _dataset(project, name, body["location"])
            case "GET", ["projects", project, "datasets", name, "tables"]:
                tables = [
                    {
                        "id": f"{project}:{name}.{table}",
                        "tableReference": {"projectId": project, "datasetId": name, "tableId": table},
                        "type": kind,
                        "labels": labels,
                    }
                    for table, (kind, labels) in sorted(self.made.items())
                ]
                return 200, {"tables": tables, "totalItems": len(tables)}
            case "POST", ["projects", project, "jobs"]:
                return self._job(project, body)
            case "GET", ["projects", _, "jobs" | "queries", id_]:
                return 200, self._jobs[id_] | {
                    "jobComplete": True,
                    "schema": {"fields": []},
                    "totalRows": "0",
                }
            case _:
                return _error(404, f"Not found: {method} {path}")

    def _job(self, project: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        reference = body.get("jobReference", {})
        sql = body["configuration"]["query"]["query"]
        match = _MADE.match(sql)
        assert match is not None, sql
        kind, _, dataset, name = match.groups()
        if reference.get("location") != self.datasets[dataset]:
            return _error(
                404,
                f"Not found: Dataset {project}:{dataset} was not found in location {reference.get('location')}",
            )
        if kind == "EXTERNAL TABLE" and self.bucket_location != self.datasets[dataset]:
            return _error(
                400,
                f"Cannot read and write in different locations: source: {self.bucket_location}, "
                f"destination: {self.datasets[dataset]}",
            )
        missing = [one for one in _READ.findall(sql) if one not in self.made]
        if missing:
            return _error(
                404, f"Not found: Table {project}:{dataset}.{missing[0]} was not found in location EU"
            )
        if body["configuration"].get("dryRun"):
            self.dry.append(sql)
        else:
            self.ran.append(sql)
            labels = dict(re.findall(r"\('(\w+)', '(\w+)'\)", sql))
            self.made[name] = ("EXTERNAL" if kind == "EXTERNAL TABLE" else "VIEW", labels)
        job = body | {
            "kind": "bigquery#job",
            "id": f"{project}:EU.{reference['jobId']}",
            "jobReference": reference,
            "status": {"state": "DONE"},
            "statistics": {
                "query": {"statementType": f"CREATE_{kind.replace(' ', '_')}", "totalBytesProcessed": "0"}
            },
        }
        self._jobs[reference["jobId"]] = job
        return 200, job


class _Handler(BaseHTTPRequestHandler):
    server_world: FakeBigQuery
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        with self.server_world.lock:
            status, answer = self.server_world.answer(self.command, self.path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base's
        pass


def _dataset(project: str, name: str, location: str) -> dict[str, Any]:
    return {
        "kind": "bigquery#dataset",
        "datasetReference": {"projectId": project, "datasetId": name},
        "location": location,
    }


def _error(status: int, message: str, reason: str = "") -> tuple[int, dict[str, Any]]:
    reason = reason or _REASONS.get(status, "invalid")
    return status, {
        "error": {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    }
