"""The server of the page: Streamlit's application with plotly's library beside it, run by uvicorn until a signal."""

from __future__ import annotations

import gzip
import signal
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import streamlit as st
import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from streamlit import file_util

from crypto_lake.dashboard.chart import Library, library

_FOR_GOOD: Final = {"Cache-Control": "public, immutable, max-age=31536000", "Vary": "Accept-Encoding"}
_GRACE_SECONDS: Final = 5
# The library is loaded from the beginning, and run when the page has asked for its picture, which it would keep waiting
# else: so that goes on while the picture is made.
_EARLY: Final = """<link rel="preload" as="script" href="{address}"><script>
addEventListener("load", () => setTimeout(() => {{
  const script = document.createElement("script");
  script.src = "{address}";
  script.onerror = () => script.remove();
  document.head.append(script);
}}, 50));
</script>"""

Stopping = Callable[[], bool]


def run(
    script: Path, listen: str, port: int, *, warm_up: Callable[[Stopping], None], opens_browser: bool
) -> None:
    """Until SIGTERM or Ctrl-C. `warm_up`: what is done before the first visitor is let in."""
    app = st.App(script, routes=routes(library(), _index()))
    host = "localhost" if listen in ("0.0.0.0", "::") else listen  # noqa: S104  a comparison
    config = uvicorn.Config(
        app,
        host=listen,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, f"http://{host}:{port}" if opens_browser else "")
    # uvicorn has handlers of its own while it serves, and raises what they caught once more at its end: here it ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    warm_up(lambda: server.should_exit)
    server.run()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, opened: str) -> None:
        super().__init__(config)
        self._opened = opened

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self._opened:
            webbrowser.open(self._opened)


def _index() -> str:
    """Streamlit's own page."""
    return (Path(file_util.get_static_dir()) / "index.html").read_text(encoding="utf-8")


def routes(found: Library, index: str) -> list[Route]:
    """The page, and plotly's library, which it names, so that a browser does not first hear of it with the picture."""
    page = index.replace("</head>", _EARLY.format(address=f".{found.path}") + "</head>", 1)

    def of_page(_: Request) -> Response:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    def of_library(request: Request) -> Response:
        takes_packed = "gzip" in request.headers.get("Accept-Encoding", "")
        headers = _FOR_GOOD | ({"Content-Encoding": "gzip"} if takes_packed else {})
        content = found.packed if takes_packed else gzip.decompress(found.packed)
        return Response(content, headers=headers, media_type="text/javascript")

    return [Route("/", of_page), Route(found.path, of_library)]
