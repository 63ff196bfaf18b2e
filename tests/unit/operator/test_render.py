"""What holds of every lake's children."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, SETTINGS, documents, lake

from crypto_lake.cli.check import command as check
from crypto_lake.cli.main import main
from crypto_lake.cli.publish import command as publish
from crypto_lake.config.live import is_taken_over
from crypto_lake.config.load import changed, load, merge
from crypto_lake.config.sources import read_yaml
from crypto_lake_operator import naming, timetable
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.config import OperatorSettings, SettingsError, read_settings
from crypto_lake_operator.decide import KINDS
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import API_PROMETHEUS_RULE, API_SERVICE_MONITOR, Observed, child_of
from crypto_lake_operator.render import files, plan, render
from crypto_lake_operator.render.context import Context
from crypto_lake_operator.validate import read_lake

EVERYTHING = Observed(taken_at=NOW, apis=frozenset({API_SERVICE_MONITOR, API_PROMETHEUS_RULE}))
NOTHING = Observed(taken_at=NOW)
lakes = documents.map(read_lake)
few = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All pod templates."""
    for manifest in manifests:
        if manifest["kind"] == "StatefulSet":
            yield manifest["spec"]["template"]
        if manifest["kind"] == "CronJob":
            yield manifest["spec"]["jobTemplate"]["spec"]["template"]


def restricted_problems(pod: dict[str, Any]) -> list[str]:
    """What the restricted Pod Security standard would refuse, as its own documents state it."""
    spec, found = pod["spec"], []
    security = spec["securityContext"]
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    if security.get("runAsUser") == 0 or not security.get("runAsNonRoot"):
        found.append("runs as root")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("seccomp")
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [f"volume {v['name']}" for v in spec["volumes"] if not (v.keys() - {"name"}) <= allowed]
    for container in spec["containers"] + spec.get("initContainers", []):
        own = container["securityContext"]
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append(f"{container['name']}: privileges")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append(f"{container['name']}: capabilities")
        found += [
            f"{container['name']}: port {p['hostPort']}"
            for p in container.get("ports", ())
            if "hostPort" in p
        ]
    return found


def empties(value: object, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in empties(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return (
            [path]
            if not value
            else [f for i, inner in enumerate(value) for f in empties(inner, f"{path}[{i}]")]
        )
    return [path] if value is None else []


@few
@given(lakes)
def test_names_are_valid_and_unique_and_pods_restricted(any_lake: CryptoLake) -> None:
    manifests = render(any_lake, SETTINGS, EVERYTHING)
    names = Counter((m["kind"], m["metadata"]["name"]) for m in manifests)
    assert max(names.values()) == 1
    assert {kind for kind, _ in names} <= set(KINDS)
    for (kind, name), _ in names.items():
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name), name
        # 11 characters come to a CronJob's jobs, as many to a StatefulSet's revisions; both end as labels.
        assert len(name) <= (52 if kind in ("CronJob", "StatefulSet") else 63)
    for slot in plan(any_lake, SETTINGS, EVERYTHING).assignment.collects:
        assert len(naming.pod(any_lake.metadata.name, slot)) <= 63
    for manifest in manifests:
        assert empties(manifest) == []
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert owner["uid"] == any_lake.metadata.uid
        assert owner["controller"] is True
    for pod in pods(manifests):
        assert restricted_problems(pod) == []
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            variables = [variable["name"] for variable in container["env"]] if "env" in container else []
            assert len(set(variables)) == len(variables)
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            # A set's pods have `data` of their claims.
            assert mounts == {"data"} | {volume["name"] for volume in pod["spec"]["volumes"]}
            assert all("subPath" not in mount for mount in container["volumeMounts"])
        ports = [
            (p["containerPort"], p["protocol"]) for c in pod["spec"]["containers"] for p in c.get("ports", ())
        ]
        assert len(set(ports)) == len(ports)


@few
@given(lakes)
def test_every_configuration_file_is_one_that_the_data_plane_takes(any_lake: CryptoLake) -> None:
    maps = [m for m in render(any_lake, SETTINGS, NOTHING) if m["kind"] == "ConfigMap"]
    collected: Counter[str] = Counter()
    for config_map in maps:
        for name, text in config_map["data"].items():
            config, _ = merge([read_yaml(text, name)])
            assert config.data == "/data"
            assert config.gcs.store_url == (any_lake.spec.bucket or "")
            if name == "macro.yml":
                assert any_lake.spec.macro is not None
                assert config.macro.series == any_lake.spec.macro.series
            elif name != "publish.yml":
                collected.update(config.collector.symbols)
                assert config.collector.port == 9464
                assert config.collector.idle is (not config.collector.symbols)
    assert collected == dict.fromkeys(any_lake.spec.symbols, any_lake.spec.replicas)


@few
@given(lakes)
def test_tasks_follow_their_collectors_claim(any_lake: CryptoLake) -> None:
    manifests = render(any_lake, SETTINGS, NOTHING)
    pods_of_sets = {
        f"{m['metadata']['name']}-{number}": m["spec"]["selector"]["matchLabels"]
        for m in manifests
        if m["kind"] == "StatefulSet"
        for number in range(any_lake.spec.shards)
    }
    tasks = Counter()
    for job in (m for m in manifests if m["kind"] == "CronJob"):
        pod = job["spec"]["jobTemplate"]["spec"]["template"]
        task = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        tasks[task] += 1
        assert job["spec"]["suspend"] is any_lake.spec.suspend
        # No task may pass for a collector, neither to a selector nor to another task's affinity.
        assert all(
            not selector.items() <= pod["metadata"]["labels"].items() for selector in pods_of_sets.values()
        )
        assert naming.POD_NAME_LABEL not in pod["metadata"]["labels"]
        if task in naming.LAKE_TASKS:
            assert "affinity" not in pod["spec"]
            assert not any("persistentVolumeClaim" in volume for volume in pod["spec"]["volumes"])
            continue
        (term,) = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        name = term["labelSelector"]["matchLabels"][naming.POD_NAME_LABEL]
        assert name in pods_of_sets
        assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == f"data-{name}"
    expected = len(pods_of_sets)
    with_bucket = expected if any_lake.spec.bucket else 0
    assert tasks["transform"] == tasks["cleanup"] == expected
    assert tasks["upload"] == with_bucket
    assert tasks["check"] == (expected if any_lake.spec.check.enabled else 0)
    assert tasks["publish"] == bool(any_lake.spec.bucket)
    assert tasks["macro"] == (any_lake.spec.macro is not None)


def test_every_pods_command_is_one_that_the_program_has(capsys: pytest.CaptureFixture[str]) -> None:
    """--help comes after all that is not known was refused."""
    made = lake(bucket="gs://lake", macro={})
    commands = {
        tuple(container["args"])
        for pod in pods(render(made, SETTINGS, NOTHING))
        for container in pod["spec"]["containers"]
        if container["command"] == ["crypto-lake"]
    }
    assert {arguments[0] for arguments in commands} == {
        *("collect", "transform", "upload", "cleanup", "check", "publish", "macro")
    }
    (job,) = [
        manifest
        for manifest in render(made, SETTINGS, NOTHING)
        if (manifest["kind"], manifest["metadata"]["name"]) == ("CronJob", naming.publish("lake"))
    ]
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (option,) = [option for option in publish.params if option.name == "outcome"]
    assert container["env"] == [{"name": option.envvar, "value": "/dev/termination-log"}]
    (checking,) = [
        container
        for pod in pods(render(made, SETTINGS, NOTHING))
        for container in pod["spec"]["containers"]
        if container["name"] == "check"
    ]
    by_variable = {option.envvar: option.name for option in check.params if option.envvar}
    assert [by_variable[variable["name"]] for variable in checking["env"]] == ["outcome", "patience_minutes"]
    for arguments in commands:
        assert main([*arguments, "--help"]) == 0
        assert main([*arguments, "--no-such-option", "--help"]) == 2, "else this shows nothing"
    capsys.readouterr()


def check_jobs(**fields: Any) -> list[Any]:
    manifests = render(lake(**fields), SETTINGS, NOTHING)
    return [m for m in manifests if m["kind"] == "CronJob" and m["metadata"]["name"].endswith("-check")]


def test_bars_are_checked_on_every_claim_with_the_collectors_own_part_of_the_weight() -> None:
    spec: dict[str, Any] = {"symbols": ["BTCUSDT", "ETHUSDT"], "shards": 2, "bucket": "gs://lake"}
    made = check_jobs(**spec)
    assert [job["metadata"]["name"] for job in made] == ["lake-a-0-check", "lake-a-1-check"]
    assert [job["spec"]["schedule"] for job in made] == [
        timetable.own("check", "lakes", job["metadata"]["name"]) for job in made
    ]
    (config,) = [
        m["data"] for m in render(lake(**spec), SETTINGS, NOTHING) if m["metadata"]["name"] == "lake-a-config"
    ]
    for shard, job in enumerate(made):
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        file = f"shard-{shard}.yml"
        assert container["args"] == ["check", "--config", f"/etc/crypto-lake/{file}"]
        # The account that the collector keeps on the same claim, and the part of it that is the claim's.
        assert yaml.safe_load(config[file])["collector"]["weight_per_minute"] == 1500
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == f"data-lake-a-{shard}"
    assert len(check_jobs()) == 1  # without a bucket, too
    assert check_jobs(check={"enabled": False}) == []
    (often,) = check_jobs(check={"schedule": "5 * * * *"})
    assert often["spec"]["schedule"] == "5 * * * *"


@pytest.mark.parametrize(
    ("schedule", "minutes"), [("22 3 * * *", 45), ("5 * * * *", 44), ("*/30 * * * *", 22), ("* * * * *", 22)]
)
def test_a_check_has_time_left_when_its_patience_ends(schedule: str, minutes: int) -> None:
    (job,) = check_jobs(check={"schedule": schedule})
    its = job["spec"]["jobTemplate"]["spec"]
    (container,) = its["template"]["spec"]["containers"]
    (patience,) = [one["value"] for one in container["env"] if one["name"] == "CHECK_PATIENCE"]
    assert patience == str(minutes)
    assert int(patience) * 60 <= its["activeDeadlineSeconds"] * 3 / 4


def test_a_collector_of_a_lake_that_checks_no_more_tells_nothing_of_its_last_check() -> None:
    def switched_off(**fields: Any) -> set[str]:
        (config,) = [
            m["data"]["shard-0.yml"]
            for m in render(lake(**fields), SETTINGS, NOTHING)
            if m["metadata"]["name"] == "lake-a-config"
        ]
        limits = merge([read_yaml(config, "shard-0.yml")])[0].alerting.conditions
        return {limit.type for limit in limits if not limit.enabled}

    assert switched_off() == set()
    assert switched_off(check={"enabled": False}) == {"bars_differ", "check_failed"}


def test_checks_open_no_door_that_was_closed() -> None:
    """They ask where the collectors are let out to anyway."""

    def policies(**fields: Any) -> list[Any]:
        manifests = render(lake(**fields), SETTINGS, NOTHING)
        return [m for m in manifests if m["kind"] == "NetworkPolicy"]

    for spec in ({}, {"endpoint": {"websocket": "ws://s:81", "rest": "http://s:82"}}):
        assert policies(**spec) == policies(**spec, check={"enabled": False})


@few
@given(lakes, st.lists(st.from_regex(r"[A-Z0-9]{2,8}", fullmatch=True), min_size=6, max_size=20, unique=True))
def test_other_symbols_restart_nothing(any_lake: CryptoLake, symbols: list[str]) -> None:
    import msgspec

    other = msgspec.structs.replace(
        any_lake, spec=msgspec.structs.replace(any_lake.spec, symbols=tuple(symbols))
    )
    before, after = (list(pods(render(each, SETTINGS, NOTHING))) for each in (any_lake, other))
    assert before == after


@pytest.mark.parametrize(
    ("change", "restarts"),
    [
        ({"collector": {"fsync": "2s"}}, True),
        ({"streams": ["trade"]}, False),
        ({"endpoint": {"rest": "http://other"}}, True),
        ({"alerts": {"gap": "6m", "repeat": "2h", "disk": "70%"}}, False),
        ({"image": "other"}, True),
        ({"schedules": {"transform": "*/10 * * * *"}}, False),
        ({"collector": {"logLevel": "DEBUG"}}, False),
        ({"schedules": {"upload": "*/10 * * * *", "cleanup": "1 * * * *"}}, False),
        ({"retention": {"raw": "2d", "bars": "4d"}}, False),
        ({"bucket": "gs://other"}, False),
        ({"publish": {"scratch": "20Gi"}}, False),
        ({"macro": {}}, False),
        ({"storage": {"size": "60Gi"}}, False),
        ({"replicas": 2}, False),
        ({"shards": 2}, False),
        ({"networkPolicy": {"enabled": False}}, False),
        ({"pod": {"taskResources": {"limits": {"memory": "4Gi"}}}}, False),
        ({"suspend": True}, False),
    ],
)
def test_only_what_a_running_collector_can_not_take_over_restarts_it(
    change: dict[str, Any], restarts: bool
) -> None:
    base = {"symbols": ["BTCUSDT", "ETHUSDT"], "bucket": "gs://lake"}

    def template(**spec: Any) -> dict[str, Any]:
        return next(
            pods([m for m in render(lake(**base | spec), SETTINGS, NOTHING) if m["kind"] == "StatefulSet"])
        )

    assert (template() != template(**change)) is restarts


@few
@given(lakes, lakes)
def test_pods_restart_for_what_their_collector_does_not_take_over_and_for_nothing_else(
    one: CryptoLake, other: CryptoLake
) -> None:
    loaded, hashes = [], []
    for each in (one, other):
        made = plan(each, SETTINGS, NOTHING)
        slot = Slot("a", 0)
        context = Context(each, SETTINGS, made.assignment, NOTHING.apis)
        hashes.append(files.restart_hash(files.settings_of(context, slot)))
        loaded.append(merge([read_yaml(files.collector_file(context, slot), "shard-0.yml")])[0])
    waiting = [path for path in changed(*loaded) if not is_taken_over(path)]
    assert (hashes[0] == hashes[1]) == (not waiting)


def test_the_rendered_file_loads_from_the_disk_and_only_symbols_differ_between_shards(tmp_path: Path) -> None:
    made = lake(symbols=["BTCUSDT", "SOLUSDT"], shards=2, bucket="gs://lake")
    data = next(m for m in render(made, SETTINGS, NOTHING) if m["kind"] == "ConfigMap")["data"]
    configs = []
    for name, text in data.items():
        (tmp_path / name).write_text(text)
        configs.append(load(tmp_path / name, {}).config)
    assert set(changed(*configs)) <= {"collector.symbols", "collector.idle", "alerting.name"}


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({}, [443]),
        ({"endpoint": {"websocket": "wss://s:9443", "rest": "https://s"}}, [443, 9443]),
        ({"endpoint": {"websocket": "ws://[::1]:9500", "rest": "http://s"}}, [80, 443, 9500]),
        ({"pod": {"env": [{"name": "STORAGE_EMULATOR_HOST", "value": "gcs:4443"}]}}, [443, 4443]),
        ({"networkPolicy": {"egressPorts": [8080, 443]}}, [443, 8080]),
    ],
)
def test_the_policy_lets_out_what_the_lake_needs(spec: dict[str, Any], ports: list[int]) -> None:
    policy = next(m for m in render(lake(**spec), SETTINGS, NOTHING) if m["kind"] == "NetworkPolicy")
    assert [port["port"] for port in policy["spec"]["egress"][1]["ports"]] == ports


def test_a_users_variable_never_replaces_ours_and_its_labels_never_the_operators() -> None:
    made = lake(pod={"labels": {"team": "data"}, "env": [{"name": "A", "value": "b"}]})
    (collector, *_) = pods([m for m in render(made, SETTINGS, NOTHING) if m["kind"] == "StatefulSet"])
    assert [v["name"] for v in collector["spec"]["containers"][0]["env"]] == ["SHARD", "A"]
    assert collector["metadata"]["labels"].items() >= naming.labels("lake", "collector").items() | {
        ("team", "data")
    }


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=253))
def test_lakes_of_different_names_have_different_children(name: str) -> None:
    made = naming.base(name)
    assert len(made) <= naming.MAX_BASE
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", made)
    if len(name) < 253:
        assert naming.base(name + "x") != made
    assert (made == name) == (
        len(name) <= naming.MAX_BASE and re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) is not None
    )


def test_a_spoiled_configuration_is_no_obstacle() -> None:
    made = lake()
    config = next(m for m in render(made, SETTINGS, NOTHING) if m["kind"] == "ConfigMap")
    for text in ("{", "[]", "", "collector: 3", "\x07"):
        spoiled = child_of({**config, "data": {"shard-0.yml": text, "mine": "x"}})
        observed = Observed(taken_at=NOW, children={spoiled.key: spoiled})
        assert plan(made, SETTINGS, observed).assignment.collects == {Slot("a", 0): frozenset({"BTCUSDT"})}


def test_settings_are_read_of_the_environment_and_all_problems_told() -> None:
    assert read_settings({}) == OperatorSettings()
    found = read_settings(
        {
            "CRYPTO_LAKE_OPERATOR_WORKERS": "3",
            "CRYPTO_LAKE_OPERATOR_WATCH_NAMESPACES": "a, b",
            "CRYPTO_LAKE_OPERATOR_LEASE": "false",
            "CRYPTO_LAKE_OPERATOR_IMAGE": "",
            "CRYPTO_LAKE_OPERATOR_METRICS_PORT": "tcp://10.0.0.1:9465",
            "CRYPTO_LAKE_OPERATOR_SERVICE_HOST": "10.0.0.1",
            "HOME": "/",
        }
    )
    assert (found.workers, found.watch_namespaces, found.lease) == (3, ("a", "b"), False)
    with pytest.raises(SettingsError) as caught:
        read_settings({"CRYPTO_LAKE_OPERATOR_WORKER": "3", "CRYPTO_LAKE_OPERATOR_WORKERS": "0"})
    assert "unknown variable CRYPTO_LAKE_OPERATOR_WORKER;" in str(caught.value)
    assert "CRYPTO_LAKE_OPERATOR_WORKERS: " in str(caught.value)


def test_files_are_read_by_people(tmp_path: Path) -> None:
    text = next(m for m in render(lake(), SETTINGS, NOTHING) if m["kind"] == "ConfigMap")["data"][
        "shard-0.yml"
    ]
    assert text.startswith("# Made by crypto-lake-operator")
    assert list(yaml.safe_load(text)) == [
        "data",
        "collector",
        "transform",
        "retention",
        "alerting",
        "logging",
    ]


def rule_groups() -> dict[str, Any]:
    made = lake(bucket="gs://lake", replicas=2, schedules={"upload": "5 */6 * * *"})
    return next(m for m in render(made, SETTINGS, EVERYTHING) if m["kind"] == "PrometheusRule")["spec"]


def test_rules_ask_for_metrics_that_there_are() -> None:
    root = Path(__file__).resolve().parents[3]
    described = (root / "docs" / "metrics.md").read_text()
    (group,) = rule_groups()["groups"]
    asked = {name for rule in group["rules"] for name in re.findall(r"crypto_lake_(\w+)", rule["expr"])}
    assert len(asked) >= 5
    for name in asked:
        assert f"crypto_lake_{name}`" in described, name


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine (Debian: package prometheus)")
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rule_groups()))
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"SUCCESS: [1-9]\d+ rules found", done.stdout)


def test_a_suspended_lake_alerts_nobody() -> None:
    manifests = render(lake(suspend=True), SETTINGS, EVERYTHING)
    assert "PrometheusRule" not in {manifest["kind"] for manifest in manifests}
