"""`crypto-lake dashboard` in a real browser: Debian's chromium, without a window."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.cli.dashboard import command as dashboard_command
from crypto_lake.cli.main import main
from crypto_lake.dashboard import serve as script_of
from support import browser as a_browser
from support.bar_rows import Second, write_days
from support.browser import drawn, text, visit
from support.fake_gcs import FakeGcs
from support.fake_gcs.state import Digest
from support.lakes import command

needs_chromium = pytest.mark.skipif(bool(a_browser.why_not()), reason=a_browser.why_not() or "there is one")

PRICE = 50_000 * 10**8
HOURS = 2
# Where a symbol's bars lack seconds, counted from their end: within the last hour, whole intervals and more.
GAP_FROM, GAP_TO = 1500, 900

SHOWN_TRACES = """() => Object.fromEntries(document.querySelector('.js-plotly-plot')._fullData
  .filter(trace => trace.name.startsWith('best')).map(trace => [trace.name, trace.visible]))"""


def rows(end: datetime, price: int, hours: int = HOURS, *, gap: bool = True) -> list[Second]:
    """Bars up to `end`, a trade a second, rising and falling by the minute."""
    first = int(end.timestamp()) - hours * 3600
    found: list[Second] = []
    for n in range(hours * 3600):
        left = hours * 3600 - n
        if gap and GAP_TO < left <= GAP_FROM:
            continue
        at = price + (n % 120 if n % 240 < 120 else 120 - n % 120) * 10**8
        quote = (at - 10**6, 10**8, at + 10**6, 10**8)
        found.append(Second(first + n, at, ((n + 1, at, 10**7, True),), quote=quote, spreads=(2 * 10**6,)))
    return found


@dataclass(frozen=True)
class Served:
    url: str
    data: Path
    end: datetime


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(data: Path | str, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[str]:
    """The command as a container runs it: no home, no terminal. It must write nothing and end at SIGTERM."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "DISPLAY")}
    process = subprocess.Popen(
        [
            *before,
            *(sys.executable, "-m", "crypto_lake.cli.main", "dashboard"),
            *("--data", str(data), "--port", str(port), *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        printed, told = process.communicate(timeout=90)
    assert printed == ""  # a pipe gets nothing
    assert told.strip() in ("", "Stopping...")
    assert process.returncode == 0


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("lake")
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    write_days(data, "BTCUSDT", rows(end, PRICE))
    write_days(data, "ETHUSDT", rows(end, PRICE // 20, gap=False))
    with serving(data, "--stale-after", "2m") as url:
        yield Served(url, data, end)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with a_browser.running() as running:
        yield running


def choose(page: Any, label: str, value: str) -> None:
    box = page.locator('[data-testid="stSelectbox"]', has_text=label).locator("input")
    box.click()
    page.get_by_role("option", name=value, exact=True).click()


@needs_chromium
def test_what_is_there_is_drawn_and_what_is_not_is_a_hole(served: Served, browser: Any) -> None:
    # What is drawn and what is downloaded is compared: the window may not move in between.
    with visit(browser, f"{served.url}/?range=1h&refresh=off") as page:
        (shown,) = drawn(page)
        page.wait_for_function("() => document.body.innerText.includes('Stale.')")
        closes = shown["data"]["price"]
        assert len(closes["x"]) == 240  # an hour of 15 s bars
        holes = [x for x, y in zip(closes["x"], closes["y"], strict=True) if y is None]
        begin = served.end - timedelta(seconds=GAP_FROM)
        end = served.end - timedelta(seconds=GAP_TO)
        inside = [x for x in holes if begin <= at(x) < end]
        assert len(inside) in (39, 40)  # ten minutes, less what its ends share with bars that are there
        assert [name for name, *_ in shown["shades"] if name != "partial"] == ["missing", "waiting"]
        assert shown["drawn"] == sum(y is not None for y in closes["y"])
        assert "BTCUSDT" in text(page)
        assert "10 min missing" in text(page)

        # Another range, another symbol beside it.
        choose(page, "Range", "15m")
        page.wait_for_function("() => document.querySelector('.js-plotly-plot').data[0].x.length === 180")
        chooser = page.locator('[data-testid="stMultiSelect"] input')
        chooser.click()
        page.get_by_role("option", name="ETHUSDT", exact=True).click()
        page.keyboard.press("Escape")  # an open list hides the rest from who looks by role
        first, second = drawn(page, 2)
        assert first["range"] == second["range"]
        assert max(y for y in second["data"]["price"]["y"] if y) < 3000
        assert "range=15m" in page.url

        check_csv(page, served)


def at(x: str) -> datetime:
    return datetime.fromisoformat(x).replace(tzinfo=UTC)


def check_csv(page: Any, served: Served) -> None:
    """The file equals what the command that the page names prints."""
    page.get_by_text("The same from a shell").click()
    code = page.locator('[data-testid="stCode"] code')
    code.wait_for()
    drawn(page, 2)  # opening it read the lake once more
    with page.expect_download() as download:
        page.locator('[data-testid="stDownloadButton"] button').click()
    saved = Path(download.value.path()).read_text()
    words = code.inner_text().split()
    assert words[0] == "crypto-lake"
    done = command(*words[1:])
    assert done.returncode == 0, done.stderr
    assert saved == done.stdout
    assert saved.count("\n") > 100


@needs_chromium
@pytest.mark.faults
def test_new_bars_come_by_themselves(served: Served, browser: Any, tmp_path: Path) -> None:
    data = tmp_path / "lake"
    shutil.copytree(served.data, data)
    with serving(data) as url, visit(browser, f"{url}/?range=1h&refresh=15s") as page:
        (first,) = drawn(page)
        before, zoomed = last_close(first), zoom(page, first)
        later = served.end + timedelta(minutes=4)
        write_days(data, "BTCUSDT", rows(later, PRICE * 2))
        page.wait_for_function(
            "() => document.querySelector('.js-plotly-plot').data[0].close.some(price => price > 90000)"
        )
        (second,) = drawn(page)
        assert second["range"] == zoomed["range"]
        after = last_close(second)
        assert after[0] > before[0]
        assert after[1] > 90_000 > before[1]


def last_close(shown: dict[str, Any]) -> tuple[str, float]:
    price = shown["data"]["price"]
    return [(x, y) for x, y in zip(price["x"], price["y"], strict=True) if y is not None][-1]


@needs_chromium
def test_a_zoom_and_what_was_switched_on_stay_while_bars_come(
    served: Served, browser: Any, tmp_path: Path
) -> None:
    data = tmp_path / "lake"
    shutil.copytree(served.data, data)
    with serving(data) as url, visit(browser, f"{url}/?range=1h&refresh=off") as page:
        (before,) = drawn(page)
        page.locator(".legendtoggle").first.click()
        # Plotly waits whether it becomes a double click.
        page.wait_for_function(f"() => ({SHOWN_TRACES})()['best bid'] === true")
        zoomed = zoom(page, before)
        assert shown_traces(page) == {"best bid": True, "best ask": "legendonly"}

        later = served.end + timedelta(minutes=4)
        write_days(data, "BTCUSDT", rows(later, PRICE * 2))
        choose(page, "Refresh", "15s")
        page.wait_for_function(
            "() => document.querySelector('.js-plotly-plot').data[0].close.some(price => price > 90000)"
        )
        (after,) = drawn(page)
        assert last_close(after)[1] > 90_000 > last_close(zoomed)[1]
        assert after["range"] == zoomed["range"]
        assert shown_traces(page) == {"best bid": True, "best ask": "legendonly"}

        # Another range is another picture: all of it is shown.
        choose(page, "Range", "15m")
        page.wait_for_function("() => document.querySelector('.js-plotly-plot').data[0].x.length === 180")
        (other,) = drawn(page)
        first, *_, last = other["data"]["price"]["x"]
        assert at(other["range"][0]) < at(first) < at(last) < at(other["range"][1])


def zoom(page: Any, before: dict[str, Any]) -> dict[str, Any]:
    """Drag over the middle of the picture."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    y = box["y"] + box["height"] * 0.5
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "range => String(document.querySelector('.js-plotly-plot').layout.xaxis.range) !== String(range)",
        arg=before["range"],
    )
    (zoomed,) = drawn(page)
    outer, inner = ([at(x) for x in shown["range"]] for shown in (before, zoomed))
    assert outer[0] < inner[0] < inner[1] < outer[1]
    return zoomed


def shown_traces(page: Any) -> dict[str, Any]:
    """Of the traces that wait in the legend, which are shown."""
    found: dict[str, Any] = page.evaluate(SHOWN_TRACES)
    return found


@needs_chromium
@pytest.mark.faults
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(served: Served, browser: Any, scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    with visit(browser, f"{served.url}/?range=1h", **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        width = page.evaluate("document.querySelector('.js-plotly-plot').getBoundingClientRect().width")
        assert 330 < width <= 390
        background = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        levels = [int(level) for level in background.removeprefix("rgb(").rstrip(")").split(",")]
        assert (sum(levels) < 200) == (scheme == "dark")


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_it_writes_no_file(served: Served, tmp_path: Path) -> None:
    """So that it runs with a read-only root file system."""
    seen = tmp_path / "strace"
    calls = "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2"
    before = ("env", "PYTHONDONTWRITEBYTECODE=1", "strace", "-D", "-f", "-qq", "-e", calls, "-o", str(seen))
    with serving(served.data, before=before) as url, urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.status == 200
    lines = seen.read_text().splitlines()
    assert any("bars.parquet" in line or "streamlit" in line for line in lines)  # it was watched
    wrote = [
        line
        for line in lines
        if (
            "O_CREAT" in line or "O_WRONLY" in line or "O_RDWR" in line or "mkdir" in line or "rename" in line
        )
        and '"/dev/' not in line
        and '"/proc/' not in line
    ]
    assert wrote == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "none"), 4, "there is no data directory"),
        (("--status", "localhost"), 2, "expected an address"),
        (("--listen", "192.0.2.1"), 4, "can't listen on 192.0.2.1"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRYPTO_LAKE_DATA", str(tmp_path))
    assert main(["dashboard", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words in printed.err


def test_a_bucket_is_shown_as_a_directory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    write_days(tmp_path, "BTCUSDT", rows(datetime(2024, 8, 8, 12, tzinfo=UTC), PRICE))
    script = str(Path(script_of.__file__).with_name("script.py"))
    said: list[list[str]] = []
    with FakeGcs() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        for path in (tmp_path / "parquet").rglob("*.parquet"):
            digest = Digest()
            digest.update(data := path.read_bytes())
            server.state.make("lake", {"name": f"prod/{path.relative_to(tmp_path)}"}, None, digest, data)
        for where in (str(tmp_path), "gs://lake/prod"):
            monkeypatch.setattr(sys, "argv", ["script.py", where, "", "0"])
            page = AppTest.from_file(script, default_timeout=60).run()
            assert not page.exception
            assert "Stale." in page.warning[0].value
            # What is said of the symbol, but for the age at its end, which goes on.
            said.append(
                [page.markdown[1].value.rpartition(",")[0], *(metric.value for metric in page.metric)]
            )
        assert server.sent("media")
    assert said[0] == said[1]
    assert "10 min missing" in said[0][0]


def test_the_documented_commands_are_ones() -> None:
    document = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()
    lines = [line[2:].split() for line in document.splitlines() if line.startswith("$ crypto-lake ")]
    assert len(lines) == 3
    for words in lines:
        assert words[:2] == ["crypto-lake", "dashboard"]
        dashboard_command.make_context("dashboard", words[2:])


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """As where the two are not installed: importing one fails by its name."""
    code = (
        "import sys; sys.modules['streamlit'] = None; sys.modules['plotly'] = None; "
        "from crypto_lake.cli.main import main; "
        f"sys.exit(main(['dashboard', '--data', {str(tmp_path)!r}, '--port', '{free_port()}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'crypto-lake[dashboard]'" in done.stderr
