"""A webhook that keeps what it is sent: POST anything, GET /messages. Runs by itself, in a pod or elsewhere.

POST /answer {"status": 503} sets what it answers from then on.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

messages: list[object] = []
status = 200


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        global status
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/answer":
            status = int(json.loads(body)["status"])
            return self._send(200, {})
        messages.append({"path": self.path, "body": json.loads(body)})
        return self._send(status, {})

    def do_GET(self) -> None:
        self._send(200, messages)

    def _send(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


if __name__ == "__main__":
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait(ends)
