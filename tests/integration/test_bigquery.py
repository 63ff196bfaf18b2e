"""`crypto-lake bigquery`, as a user calls it, against a server that answers as BigQuery's REST interface does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from crypto_lake.cli.main import main
from crypto_lake.lake.layout import Layout
from support.bar_rows import Second, write_days
from support.bigquery_server import FakeBigQuery
from support.fake_gcs import FakeGcs
from support.fake_gcs.state import Digest
from support.macro import Scripted, ask, trading_days

ASKED = ("--bucket", "gs://lake/prod", "--dataset", "my-project.lake")
SYMBOLS = ("--symbols", "BTCUSDT,ETHUSDT")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBigQuery]:
    with FakeBigQuery() as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield server


def names(sql: list[str]) -> list[str]:
    return [one.split("`")[1].rpartition(".")[2] for one in sql]


def test_the_statements_are_those_that_are_run(
    server: FakeBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bigquery", "ddl", *ASKED, *SYMBOLS, "-o", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == 1
    assert main(["bigquery", "ddl", *ASKED, *SYMBOLS]) == 0
    assert capsys.readouterr().out == "\n\n".join(f"{one['sql']};" for one in printed["statements"]) + "\n"
    assert not server.ran
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 0
    out, err = capsys.readouterr()
    assert server.ran == [one["sql"] for one in printed["statements"]]
    assert "2 tables and 22 views are there: my-project.lake in EU" in out
    assert "created       view bars_1m" in out
    assert err == ""


def test_again_it_makes_the_same_again(server: FakeBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, "-o", "json"]) == 0
    first = json.loads(capsys.readouterr().out)
    there, ran = dict(server.made), list(server.ran)
    assert {one["outcome"] for one in first["applied"]} == {"created"}
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, "-o", "json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert {one["outcome"] for one in second["applied"]} == {"replaced"}
    assert (server.made, server.ran) == (there, ran * 2)


def test_a_dry_run_changes_nothing(server: FakeBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert names(server.dry) == ["files_binance_BTCUSDT", "files_binance_ETHUSDT"]
    assert "would create  table files_binance_BTCUSDT\n" in out
    assert "would create  view bars_1m (not checked: what it reads is not there yet)" in out
    assert (server.made, server.ran) == ({}, [])
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 0
    there, server.dry = dict(server.made), []
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, "--dry-run"]) == 0
    assert len(server.dry) == len(there) == len(server.ran)
    assert "not checked" not in capsys.readouterr().out
    del server.datasets["lake"]
    made = ("--create-dataset", "EU", "--dry-run")
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, *made]) == 0
    assert "the dataset is new" in capsys.readouterr().out
    assert "lake" not in server.datasets


def test_symbols_are_those_with_published_days(
    server: FakeBigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())
    for symbol in ("BTCUSDT", "SOLUSDT"):
        write_days(tmp_path, symbol, [Second(start, 5, ((1, 5, 7, True),))])
    days = {"^GSPC": trading_days(date(2024, 8, 1), date(2024, 8, 7))}
    ask(Scripted(days), date(2024, 8, 8), layout=Layout(tmp_path))
    with FakeGcs() as bucket:
        for path in tmp_path.rglob("*.parquet"):
            digest = Digest()
            digest.update(data := path.read_bytes())
            bucket.state.make("lake", {"name": f"prod/{path.relative_to(tmp_path)}"}, None, digest, data)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.url)
        assert main(["bigquery", "ddl", *ASKED]) == 0
        text = capsys.readouterr().out
        assert text.count("CREATE OR REPLACE EXTERNAL TABLE") == 3
        assert "gs://lake/prod/parquet/macro/*" in text
        assert main(["bigquery", "ddl", *ASKED, "--no-macro"]) == 0
        assert "files_macro" not in capsys.readouterr().out
        assert "gs://lake/prod/parquet/binance/SOLUSDT/*" in text
        assert main(["bigquery", "ddl", "--bucket", "gs://lake/other", "--dataset", "lake"]) == 1
        assert "has no bars yet" in capsys.readouterr().err


def test_a_missing_dataset_is_told_or_made(server: FakeBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    other = ("--bucket", "gs://lake/prod", "--dataset", "my-project.other", *SYMBOLS)
    assert main(["bigquery", "apply", *other]) == 2
    assert "there is no dataset my-project.other; make it where the bucket is, with --create-dataset" in (
        capsys.readouterr().err
    )
    assert main(["bigquery", "apply", *other, "--create-dataset", "EU"]) == 0
    assert server.datasets["other"] == "EU"
    assert main(["bigquery", "apply", *other, "--create-dataset", "US"]) == 2
    assert "is there already, in EU and not in US" in capsys.readouterr().err


def test_what_is_not_ours_is_not_replaced(server: FakeBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    server.made["coverage"] = ("VIEW", {})
    server.made["unrelated"] = ("TABLE", {})
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 2
    assert "my-project.lake has coverage, and crypto-lake did not make that" in capsys.readouterr().err
    assert server.ran == []
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS, "--replace"]) == 0
    assert server.made["coverage"] == ("VIEW", {"crypto_lake": "view"})
    assert server.made["unrelated"] == ("TABLE", {})


@pytest.mark.parametrize(
    ("request_", "status", "message", "code", "said"),
    [
        (
            "POST .*/jobs",
            403,
            "Access Denied: Project my-project: User does not have bigquery.jobs.create permission in project my-project.",
            1,
            "bigquery.jobs.create is missing: grant roles/bigquery.jobUser on the project",
        ),
        (
            "POST .*/jobs",
            403,
            "Access Denied: Table my-project:lake.bars_1s: Permission bigquery.tables.create denied on dataset",
            1,
            "bigquery.tables.create is missing: grant roles/bigquery.dataEditor on the dataset",
        ),
        (
            "POST .*/jobs",
            403,
            "Access Denied: BigQuery BigQuery: Permission denied while globbing file pattern. x does not have "
            "storage.objects.list access to the Google Cloud Storage bucket.",
            1,
            "storage.objects.list is missing: grant roles/storage.objectViewer on gs://lake",
        ),
        (
            "GET .*/datasets/lake\\?",
            403,
            "Access Denied",
            1,
            "Needed are roles/bigquery.jobUser on the project",
        ),
        (
            "POST .*/jobs",
            400,
            "Error while reading table: files, error message: matched no files. File: gs://lake/prod/*",
            2,
            "There are no published days of it: `crypto-lake publish` puts them there",
        ),
        ("POST .*/jobs", 400, "Syntax error: Unexpected keyword", 1, "BigQuery refuses it: "),
    ],
)
def test_a_refusal_says_what_to_do(
    server: FakeBigQuery,
    capsys: pytest.CaptureFixture[str],
    request_: str,
    status: int,
    message: str,
    code: int,
    said: str,
) -> None:
    refusal = server.refuse(request_, status, message)
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == code
    error = capsys.readouterr().err
    assert refusal.fired == 1
    assert said in error
    assert message.split(".")[0] in error  # in Google's own words, too
    assert len(error.splitlines()) == 1


def test_another_location_than_the_bucket_s(server: FakeBigQuery, capsys: pytest.CaptureFixture[str]) -> None:
    server.bucket_location = "US"
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 2
    error = capsys.readouterr().err
    assert "source: US, destination: EU" in error
    assert "Dataset and bucket must be in the same location" in error
    assert server.ran == []


def test_what_passes_is_tried_again(server: FakeBigQuery) -> None:
    refusal = server.refuse("GET .*/datasets/lake\\?", 503, "Try again", times=1)
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 0
    assert refusal.fired == 1


def test_a_server_that_does_not_answer_is_unavailable(
    server: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from crypto_lake.access import bigquery_apply

    monkeypatch.setattr(bigquery_apply, "_PATIENCE_SECONDS", 0.5)
    refusal = server.refuse("GET .*/datasets/lake\\?", 503, "Try again")
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 4
    assert refusal.fired >= 1
    assert "BigQuery does not answer" in capsys.readouterr().err


def test_without_the_extra_it_is_named(
    server: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    import google.cloud

    monkeypatch.delattr(google.cloud, "bigquery", raising=False)
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 2
    assert "pip install 'crypto-lake[bigquery]'" in capsys.readouterr().err
    assert main(["bigquery", "ddl", *ASKED, *SYMBOLS]) == 0  # which needs none of it


def test_without_credentials_it_says_how_to_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert main(["bigquery", "apply", *ASKED, *SYMBOLS]) == 1
    error = capsys.readouterr().err
    assert "no credentials for BigQuery" in error
    assert "gcloud auth application-default login" in error
