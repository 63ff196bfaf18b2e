"""`crypto-lake publish` over a folder, as a user meets it, of raw that the other commands brought there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.cli.main import main
from crypto_lake.model.clock import Hour
from support import publishing as p
from support.publishing import DAY, END_NS, SECOND_NS, Machine

DAYS = (DAY, "2024-08-09", "2024-08-10")
LAST_NS = END_NS - 400_000


def test_what_is_missing_at_the_turn_of_days_is_told_of_each_that_it_may_be_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last trade of the first day is received after midnight, then nothing but quotes until the third day."""
    monkeypatch.chdir(tmp_path)
    machine, bucket = Machine(tmp_path / "collector", "a"), tmp_path / "bucket"
    bucket.mkdir()
    machine.receive([p.trade(900 + n, END_NS + (n - 100) * SECOND_NS) for n in range(100)])
    machine.receive([p.trade(1000, LAST_NS, LAST_NS + 3_000_000)])
    machine.receive([p.quote(n, Hour(DAYS[1], n).start_ns + SECOND_NS) for n in range(1, 24)])
    machine.receive([p.trade(1050 + n, Hour(DAYS[2], 0).start_ns + n * SECOND_NS) for n in range(10)])

    def run(command: str, *more: str) -> dict[str, Any]:
        capsys.readouterr()
        code = main([command, *more, "-o", "json"])
        told = capsys.readouterr()
        assert code == 0, told.err
        return json.loads(told.out)

    data, url = ("--data", str(machine.root)), ("--set", f"gcs.url=file://{bucket}")
    run("compact", *data)
    run("upload", *data, *url)
    report = run("publish", *url)
    assert [(day["day"], day["outcome"]) for day in report["days"]] == [(day, "published") for day in DAYS]
    assert [day["missing_ids"] for day in report["days"]] == [49, 49, 49]
    for day in DAYS:
        file = f"parquet/binance/BTCUSDT/year=2024/month=08/day={day[-2:]}/bars.parquet"
        made = json.loads((bucket / "manifests" / f"{file}.json").read_bytes())
        assert (made["final_because"], made["missing"]) == ("time", [[1001, 1049]])
        if day == DAY:
            bars = pl.read_parquet(bucket / file)
            assert bars.row(-1, named=True)["state"] == "incomplete"
    again = run("publish", *url)
    assert (again["up_to_date"], again["days"], again["bytes_read"]) == (3, [], 0)
