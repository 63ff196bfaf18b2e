"""Debian's Chromium without a window, and the dashboard's page in it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium")
WAIT_MS = 60_000


def why_not() -> str:
    """Why there can be no browser here; empty: there can."""
    if CHROMIUM is None:
        return "Debian's package chromium is not installed"
    return "" if importlib.util.find_spec("playwright") else "playwright is not installed"


@contextmanager
def running() -> Iterator[Any]:
    """A browser, without a visit."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        # As root there is no sandbox; a container's shared memory is small.
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        with api.chromium.launch(executable_path=CHROMIUM, args=flags) as browser:
            yield browser


@contextmanager
def visit(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page with its picture drawn, all of whose requests went to the server itself."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    elsewhere: list[str] = []
    page.on("request", lambda sent: elsewhere.append(sent.url) if _is_elsewhere(sent.url, url) else None)
    try:
        page.goto(url)
        drawn(page)
        yield page
    finally:
        context.close()
    assert elsewhere == []


def _is_elsewhere(sent: str, url: str) -> bool:
    own = url.split("?")[0].rstrip("/").removeprefix("http")
    return not sent.startswith(("data:", "blob:", f"http{own}", f"ws{own}"))


def drawn(page: Any, count: int = 1) -> list[dict[str, Any]]:
    """The pictures as plotly holds them: by symbol's order, data by trace, and the layout."""
    page.wait_for_function(
        "n => document.querySelectorAll('.js-plotly-plot .boxes path').length > 0"
        " && document.querySelectorAll('.js-plotly-plot').length === n"
        " && document.querySelector('.stApp').dataset.testScriptState === 'notRunning'",
        arg=count,
    )
    script = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
      data: Object.fromEntries(plot.data.map(trace => [trace.name, {
        x: Array.from(trace.x), y: trace.close ? Array.from(trace.close) : trace.y && Array.from(trace.y)}])),
      shades: (plot.layout.shapes || []).map(shape => [shape.name, shape.x0, shape.x1]),
      range: plot.layout.xaxis.range.map(String),
      drawn: [...plot.querySelectorAll('.boxes path')].filter(box => box.getAttribute('d') !== 'M0,0Z').length}))"""
    found: list[dict[str, Any]] = page.evaluate(script)
    return found


def text(page: Any) -> str:
    return str(page.inner_text("body"))
