"""The command line, as a process sees it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.operator_lakes import GOLDEN, NOW, SETTINGS, lake, live_objects

from crypto_lake_operator import crd
from crypto_lake_operator.cli import differences, main
from crypto_lake_operator.observed import Key, Observed
from crypto_lake_operator.render import render


def test_render_prints_the_children_without_what_a_cluster_alone_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["render", str(GOLDEN / "gke" / "lake.yaml"), "--image", SETTINGS.image]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    expected = list(yaml.safe_load_all((GOLDEN / "gke" / "children.yaml").read_text()))
    for manifest in expected:
        del manifest["metadata"]["ownerReferences"]
    assert printed == expected


def test_several_files_and_stdin_are_rendered_as_a_json_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO((GOLDEN / "minimal" / "lake.yaml").read_text()))
    assert main(["render", "-", str(GOLDEN / "gke" / "lake.yaml"), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "List"
    assert {"minimal-a", "gke-a"} <= {item["metadata"]["name"] for item in document["items"]}


def test_crds_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crds", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == [crd.crd()]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("kind: CryptoLake", ["kind: expected cryptolake.io/v1alpha1 CryptoLake"]),
        ("a: [", ["not valid YAML"]),
        ("kind: Pod", ["holds no CryptoLake"]),
        (
            "{apiVersion: cryptolake.io/v1alpha1, kind: CryptoLake, metadata: {name: x},"
            " spec: {symbols: [A, A], replicas: 2, simbols: 1}}",
            [
                "spec: replicas: 2 needs spec.bucket",
                "spec.symbols: A stands twice",
                "spec.simbols: unknown field",
            ],
        ),
    ],
)
def test_a_wrong_file_is_told_with_all_its_problems(
    text: str, problems: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text(text)
    assert main(["render", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for problem in problems:
        assert f"crypto-lake-operator: {path}: {problem}" in captured.err


@pytest.mark.parametrize("arguments", [[], ["render"], ["render", "/none"], ["renders"]])
def test_a_wrong_command_line_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_differences_name_what_is_missing_and_where_something_is_otherwise() -> None:
    wanted = lake()
    live = live_objects(wanted)
    manifests = render(wanted, SETTINGS, Observed(taken_at=NOW))
    del live[Key("Service", "lake")]
    live[Key("StatefulSet", "lake-a")]["spec"] = {"replicas": 3}

    def fetch(manifest: dict[str, Any]) -> dict[str, Any] | None:
        return live.get(Key(manifest["kind"], manifest["metadata"]["name"]))

    assert differences(manifests, fetch) == [
        "Service lake: would be created",
        "StatefulSet lake-a: differs at spec.replicas",
    ]


def test_the_pure_modules_import_neither_kopf_nor_kubernetes() -> None:
    """They are read by people's CI, where a second more or less is felt, and must not depend on a client."""
    code = (
        "import sys, crypto_lake_operator.cli, crypto_lake_operator.status, crypto_lake_operator.decide\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('kopf', 'kubernetes', 'aiohttp', 'asyncio')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_with_a_setting_that_is_wrong_tells_it_and_starts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTO_LAKE_OPERATOR_WORKERS", "many")
    assert main(["run"]) == 2
    assert "CRYPTO_LAKE_OPERATOR_WORKERS" in capsys.readouterr().err
