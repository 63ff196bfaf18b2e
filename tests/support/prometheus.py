"""Prometheus and promtool, the real programs: rules tried out in a time of their own, and a server on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .apiserver import free_ports, program

HINT = "(Debian: package prometheus)"


def why_not(name: str) -> str:
    """Why a program can't be used here; empty where it can."""
    return "" if shutil.which(name) else f"{name} is not on this machine {HINT}"


@dataclass(frozen=True)
class Expectation:
    """After so many minutes a query gives these samples: labels as Prometheus writes them, to value."""

    minutes: float
    query: str
    samples: Mapping[str, float]


def promtool_check(rules: Path) -> str:
    """What `promtool check rules` finds wrong; empty where nothing is."""
    done = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def promtool_test(
    folder: Path, rules: Path, tests: Sequence[tuple[str, Mapping[str, str], Sequence[Expectation]]]
) -> str:
    """Play series (name with labels, to values in promtool's notation, one a minute) against rules; what differs.

    tests: a name for each, its series, and what is then expected.
    """
    document: dict[str, Any] = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expected.query,
                        "eval_time": f"{int(expected.minutes * 60)}s",
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in expected.samples.items()
                        ],
                    }
                    for expected in expectations
                ],
            }
            for name, series, expectations in tests
        ],
    }
    path = folder / "promtool-test.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """What its API answers, without the envelope. AssertionError with its words where it refuses."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Any]:
        return self.get("query", query=expression)["result"]


@contextlib.contextmanager
def running(
    folder: Path, scrapes: Sequence[dict[str, Any]], rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """A server that scrapes every second, with its data in `folder`, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": list(scrapes),
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with program(command, log) as process:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
        yield Prometheus(url)
