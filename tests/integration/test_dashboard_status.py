"""The dashboard beside `crypto-lake run`: it finds the collector by the data directory, and says when it is gone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.dashboard import serve as script_of
from crypto_lake.dashboard.words import UNKNOWN

LIVE = ("Open gaps", "Latency p95", "Lag", "Disk")


def shown(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], list[str]]:
    """The figures by their names, and the warnings."""
    from streamlit.testing.v1 import AppTest

    script = str(Path(script_of.__file__).with_name("script.py"))
    monkeypatch.setattr(sys, "argv", ["script.py", str(data), "", "0"])
    page = AppTest.from_file(script, default_timeout=60).run()
    assert not page.exception
    return {metric.label: metric.value for metric in page.metric}, [one.value for one in page.warning]


@pytest.mark.faults
def test_figures_of_a_running_collector_come_and_go_with_it(
    simulate: Any, lake_on: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = simulate("--symbols", "BTCUSDT")
    lake = lake_on(market, collector_port="0", collector_symbols="BTCUSDT", collector_rotate_seconds="1")

    def has_bars() -> bool:
        lake.run("transform")
        return any((lake.data / "parquet").rglob("bars.parquet"))

    with lake.popen("run") as process:
        try:
            wait_for((lake.data / "state" / "collector.json").exists, 60, "the collector")
            # Two seconds behind the market, of parts that are closed.
            wait_for(lambda: list((lake.data / "raw").rglob("BTCUSDT/*/part_*.zst")), 60, "closed parts")
            wait_for(has_bars, 60, "bars")
            figures, warnings = shown(lake.data, monkeypatch)
            assert UNKNOWN not in [figures[name] for name in LIVE]
            assert figures["Open gaps"] == "0"
            assert figures["Latency p95"].endswith(" ms")
            assert figures["Lag"].endswith(" s")
            assert figures["Disk"].endswith(" %")
            assert not [text for text in warnings if "answer" in text]
        finally:
            process.terminate()
    assert process.returncode == 0
    figures, warnings = shown(lake.data, monkeypatch)
    assert [figures[name] for name in LIVE] == [UNKNOWN] * len(LIVE)
    assert [text for text in warnings if "no collector answers" in text]
