"""How long a visitor of the dashboard waits for its picture, in a real browser, and what the server needs meanwhile.

    python bench/dashboard.py [--hours 30] [--symbols 3] [--rounds 5] [--data gs://bucket/prefix]

Made-up bars of so many hours until now, in files as the transformer writes them, are served by `crypto-lake dashboard` and
looked at by headless Chromium (Debian's package, driven by playwright), from this machine:

- `right after the start`: the server answers its health page since a moment, the browser has never been here;
- `a new browser`: the same again on that server, with another new browser each time: nothing is cached;
- `a reload`: in the same tab;
- `another range`: until the picture of the range that was chosen is there.

A picture is there when its candles are in the page. From the address on, the browser itself runs already. Medians, least
and greatest of `--rounds` rounds, each with a server of its own. Beside them: from the command to a health page that
answers 200; what a new browser's picture takes of CPU time, in the browser and on the server (on a machine that others
use, the wall tells of them); and the memory (RSS) that the server holds in the end, and held at most.

Ends with 1 where a new browser has to wait for more than 2 s, or where there is no Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from crypto_lake.bars import table
from crypto_lake.lake.layout import Layout
from reading import day_of

TARGET_SECONDS = 2.0
RANGE, OTHER_RANGE = "6h", "1d"
NEW = "a new browser"
# The candles of a picture, as plotly draws them.
DRAWN = "document.querySelectorAll('.js-plotly-plot .boxes path').length > 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=int, default=30)
    parser.add_argument("--symbols", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="", help="A lake that is there, in place of made-up bars.")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on this machine (Debian's package chromium)", file=sys.stderr)
        raise SystemExit(1)
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder, sync_playwright() as api:
        data = options.data
        if not data:
            data = folder
            make(Path(folder), [f"COIN{n:02d}USDT" for n in range(options.symbols)], options.hours)
        for _ in range(options.rounds):
            for name, value in one_round(api, chromium, data).items():
                found.setdefault(name, []).append(value)
    print(f"{'':34}{'median':>9}{'least':>9}{'greatest':>9}")
    for name, values in found.items():
        digits = 0 if name.endswith("MB") else 2
        row = (statistics.median(values), min(values), max(values))
        print(f"{name:34}" + "".join(f"{value:>9.{digits}f}" for value in row))
    waited = statistics.median(found[f"{NEW}, s"])
    missed = waited > TARGET_SECONDS
    print(f"\n{NEW}: {waited:.2f} s of {TARGET_SECONDS:g} s{' MISSED' if missed else ''}")
    raise SystemExit(1 if missed else 0)


def one_round(api: Any, chromium: str, data: str) -> dict[str, float]:
    found: dict[str, float] = {}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    with serving(data, port) as process:
        found["command to health page, s"] = time.monotonic() - began
        with browser(api, chromium) as page:
            found["right after the start, s"] = picture(page, url)
        with browser(api, chromium) as page:
            used, used_here = cpu_seconds(process.pid), cpu_seconds_below(os.getpid(), process.pid)
            found[f"{NEW}, s"] = picture(page, url)
            found["its CPU time in the browser, s"] = cpu_seconds_below(os.getpid(), process.pid) - used_here
            found["its CPU time on the server, s"] = cpu_seconds(process.pid) - used
            found["a reload, s"] = picture(page, "")
            found["another range, s"] = choose(page)
        found["server's memory, MB"] = memory_mb(process.pid, "VmRSS")
        found["server's memory at most, MB"] = memory_mb(process.pid, "VmHWM")
    return found


@contextmanager
def serving(data: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """From the command on until its health page answers; ended by SIGTERM."""
    program = Path(sys.executable).parent / "crypto-lake"
    process = subprocess.Popen(
        [program, "dashboard", "--data", data, "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        while not answers(f"http://127.0.0.1:{port}/_stcore/health"):
            if process.poll() is not None:
                raise SystemExit(f"crypto-lake dashboard ended with {process.returncode}")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def browser(api: Any, chromium: str) -> Iterator[Any]:
    """A page of a browser that has never been anywhere."""
    flags = ["--no-sandbox", "--disable-dev-shm-usage"]
    with api.chromium.launch(executable_path=chromium, args=flags) as running:
        page = running.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.goto("about:blank")
        yield page


def picture(page: Any, url: str) -> float:
    """Seconds from the address, or the reload where there is none, to the candles."""
    began = time.monotonic()
    if url:
        page.goto(f"{url}/?range={RANGE}&refresh=off", wait_until="commit")
    else:
        page.reload(wait_until="commit")
    page.wait_for_function(DRAWN)
    return time.monotonic() - began


def choose(page: Any) -> float:
    page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
    before = page.evaluate("document.querySelector('.js-plotly-plot').data[0].x.length")
    page.locator('[data-testid="stSelectbox"]', has_text="Range").locator("input").click()
    choice = page.get_by_role("option", name=OTHER_RANGE, exact=True)
    choice.wait_for()
    began = time.monotonic()
    choice.click()
    page.wait_for_function(
        "before => document.querySelector('.js-plotly-plot')?.data[0].x.length !== before", arg=before
    )
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def cpu_seconds_below(pid: int, but: int) -> float:
    """Of all processes that this one started, and those started, but for one."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        children = [child for child, parent in parents.items() if parent == one and child != but]
        for child in children:
            with contextlib.suppress(OSError):
                total += cpu_seconds(child)
        waiting += children
    return total


def make(root: Path, symbols: list[str], hours: int) -> None:
    """Seconds with trades four times out of five, in a walk of prices, until now."""
    rng = np.random.default_rng(1)
    end = datetime.now(UTC).replace(microsecond=0)
    id_, price = 1000, 6_183_700_000_000
    frames: list[pl.DataFrame] = []
    days = -(-hours // 24)
    for number in range(days, 0, -1):
        rows, id_, price = day_of(rng, end - timedelta(days=number), id_, price)
        frames.append(rows)
    rows = pl.concat(frames).filter(pl.col("window_start") >= end - timedelta(hours=hours))
    for (day,), part in rows.group_by(pl.col("window_start").dt.date(), maintain_order=True):
        for symbol in symbols:
            path = Layout(root).bars("binance", symbol, str(day))
            table.write(path, part.with_columns(pl.lit(symbol).alias("symbol")), {})


if __name__ == "__main__":
    main()
