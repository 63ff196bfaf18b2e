"""Every panel's query gives data, and every rule is understood, on a real Prometheus that scrapes a real lake."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.support import apiserver, prometheus
from tests.support.apiserver import free_ports
from tests.support.prometheus import Prometheus

from crypto_lake_operator import alert_rules, crd
from crypto_lake_operator.chart import dashboard, panels
from crypto_lake_operator.chart.panels_lake import LAKE
from crypto_lake_operator.chart.panels_operator import OPERATOR

SECONDS = 90.0
LABELS = {"namespace": "lakes", "service": "try", "pod": "try-a-0"}
CHOSEN = 'namespace=~"lakes",service=~"try"'
FACTS = alert_rules.LakeFacts(
    collectors=1,
    disk_percent=99.9,
    periods_minutes={"transform": 5, "upload": 60, "cleanup": 60},
)


def queries(board: panels.Board) -> list[tuple[str, str]]:
    """(panel, expression), as Grafana would send them for one lake."""
    document = json.loads(dashboard.text(board))
    return [
        (
            panel["title"],
            target["expr"]
            .replace("$namespace", LABELS["namespace"])
            .replace("$service", LABELS["service"])
            .replace("$__rate_interval", "10s"),
        )
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """`crypto-lake run --simulate`, with a bucket that is a folder, and a Prometheus that has scraped it for a while."""
    for name in ("prometheus", "promtool"):
        if reason := prometheus.why_not(name):
            pytest.skip(reason)
    folder = tmp_path_factory.mktemp("scraped")
    rules = folder / "rules.yml"
    made = [alert_rules.rule(alert, CHOSEN, {"lake": "try"}) for alert in alert_rules.of_lake(FACTS)]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "lake", "rules": made}]}))
    (port,) = free_ports(1)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_") and k != "LOG_LEVEL"}
    lake = subprocess.Popen(
        [sys.executable, "-m", "crypto_lake.cli.main", "run", "--simulate", "--data", str(folder / "data")],
        env=clean | {"CRYPTO_LAKE_COLLECTOR_PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        scrape = {
            "job_name": "lake",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": LABELS}],
        }
        with prometheus.running(folder / "prometheus", [scrape], [rules]) as server:
            until = time.monotonic() + SECONDS
            while not enough(server):
                assert lake.poll() is None, "the lake ended"
                assert time.monotonic() < until, "no trades were scraped"
                time.sleep(0.3)
            yield server
    finally:
        lake.send_signal(signal.SIGTERM)
        lake.wait(60)


def evaluated(server: Prometheus) -> list[dict[str, Any]]:
    """The rules, when each was evaluated."""
    until = time.monotonic() + 90
    while True:
        (group,) = server.get("rules")["groups"]
        if all(rule["health"] != "unknown" for rule in group["rules"]):
            return group["rules"]
        assert time.monotonic() < until, "the rules were not evaluated"
        time.sleep(0.2)


def enough(server: Prometheus) -> bool:
    """Three scrapes with trades in them: so that there are rates, and latencies."""
    found = server.query(f"count_over_time(crypto_lake_last_trade_timestamp_seconds{{{CHOSEN}}}[1m]) >= 4")
    latency = server.query(f"crypto_lake_stream_latency_p95_seconds{{{CHOSEN}}} > 0")
    return bool(found and latency)


@pytest.mark.slow
def test_every_query_of_the_lakes_dashboard_gives_data(scraped: Prometheus) -> None:
    empty: list[str] = []
    for title, expression in queries(LAKE):
        samples = scraped.query(expression)
        if not samples:
            empty.append(f"{title}: {expression}")
        for sample in samples:
            assert not math.isnan(float(sample["value"][1])), (title, sample)
    assert empty == []


@pytest.mark.slow
def test_what_the_dashboard_says_of_a_lake_that_is_well(scraped: Prometheus) -> None:
    values = {
        title: [float(sample["value"][1]) for sample in scraped.query(expression)]
        for title, expression in queries(LAKE)
    }
    assert values["Collectors ready"] == [1]
    assert values["Symbols"][0] > 1
    assert values["Streams live"][0] >= values["Symbols"][0]
    assert values["Gaps open"] == [0]
    assert sum(values["Messages"]) > 0
    assert values["Memory"][0] > 10e6
    assert 0 < values["Disk used"][0] <= 1


@pytest.mark.slow
def test_the_rules_of_a_lake_are_evaluated_without_a_fault_and_nothing_fires(scraped: Prometheus) -> None:
    rules = evaluated(scraped)
    assert {rule["name"] for rule in rules} == {alert.name for alert in alert_rules.of_lake(FACTS)}
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert rule["state"] != "firing", rule


@pytest.mark.slow
def test_the_variables_of_the_dashboard_find_the_lake(scraped: Prometheus) -> None:
    series = scraped.get("series", **{"match[]": LAKE.info})
    assert {(one["namespace"], one["service"]) for one in series} == {("lakes", "try")}
    # `All` also chooses what has no such label at all.
    assert scraped.query(f'prometheus_no_such or {LAKE.info}{{absent=~".*"}}')


@pytest.fixture(scope="module")
def scraped_operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """`crypto-lake-operator run` on a real API server with a lake, and a Prometheus that has scraped it for a while."""
    for name in ("prometheus", "promtool"):
        if reason := prometheus.why_not(name):
            pytest.skip(reason)
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("operator")
    rules = folder / "rules.yml"
    made = [alert_rules.rule(alert, CHOSEN, {}) for alert in alert_rules.OPERATOR]
    for rule in made:
        rule["expr"] = rule["expr"].replace(alert_rules.RESYNC, "600")
    rules.write_text(yaml.safe_dump({"groups": [{"name": "operator", "rules": made}]}))
    (port,) = free_ports(1)
    with apiserver.running(folder / "apiserver") as server:
        for namespace in ("lakes", "crypto-lake-system"):
            server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        server.apply(crd.crd())
        settings = {"NAMESPACE": "crypto-lake-system", "WATCH_NAMESPACES": "lakes", "METRICS_PORT": str(port)}
        kubeconfig = server.kubeconfig(folder / "kubeconfig")
        log = folder / "operator.log"
        with log.open("wb") as output:
            operator = subprocess.Popen(
                [sys.executable, "-m", "crypto_lake_operator.cli", "run", "--kubeconfig", str(kubeconfig)],
                env={"PATH": os.environ["PATH"], "HOME": str(folder)}
                | {f"CRYPTO_LAKE_OPERATOR_{name}": value for name, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            scrape = {
                "job_name": "operator",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": LABELS}],
            }
            with prometheus.running(folder / "prometheus", [scrape], [rules]) as scraper:
                until = time.monotonic() + SECONDS
                asked = False
                passes = f"sum(increase(crypto_lake_operator_reconciles_total{{{CHOSEN}}}[10s])) > 0"
                seen = f"count_over_time(crypto_lake_operator_build_info{{{CHOSEN}}}[1m]) >= 3"
                while not (asked and scraper.query(passes)):
                    assert operator.poll() is None, log.read_text()
                    assert time.monotonic() < until, log.read_text()
                    # Once it was scraped before there was anything to do: so that there is a rate.
                    if not asked and scraper.query(seen):
                        lake = {
                            "apiVersion": "cryptolake.io/v1alpha1",
                            "kind": "CryptoLake",
                            "metadata": {"name": "try", "namespace": "lakes"},
                            "spec": {"symbols": ["BTCUSDT"]},
                        }
                        server.apply(lake)
                        asked = True
                    time.sleep(0.3)
                yield scraper
        finally:
            operator.send_signal(signal.SIGTERM)
            operator.wait(30)


@pytest.mark.slow
def test_every_query_of_the_operators_dashboard_gives_data(scraped_operator: Prometheus) -> None:
    found = {
        (title, expression): scraped_operator.query(expression) for title, expression in queries(OPERATOR)
    }
    assert [key for key, samples in found.items() if not samples] == []
    values = {
        title: [float(sample["value"][1]) for sample in samples] for (title, _), samples in found.items()
    }
    assert values["Replicas up"] == values["Leaders"] == values["Lakes"] == [1]
    assert values["Lakes ready"] == [0]  # nobody makes its pods here
    assert values["Memory"][0] > 10e6
    # What nobody was asked for has no quantile.
    nan = {title for title, numbers in values.items() if any(math.isnan(number) for number in numbers)}
    assert nan <= {"Length of their answers"}


@pytest.mark.slow
def test_the_rules_of_the_operator_are_evaluated_without_a_fault(scraped_operator: Prometheus) -> None:
    rules = evaluated(scraped_operator)
    assert {rule["name"] for rule in rules} == {alert.name for alert in alert_rules.OPERATOR}
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert rule["state"] != "firing", rule
