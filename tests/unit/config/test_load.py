"""Configuration: precedence, origins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.config.durations import InvalidDurationError, parse_duration
from crypto_lake.config.load import MASK, ConfigError, changed, load, merge, shown
from crypto_lake.config.schema import SECRETS, Config
from crypto_lake.config.sources import Layer, read_environment, read_flags, read_yaml
from crypto_lake.config.tree import flatten, leaves, nest, sections

# Values that differ from the defaults and are valid, as text for a variable or flag.
GOOD: dict[str, str] = {
    "data": "elsewhere",
    "collector.exchange": "other",
    "collector.symbols": "ETHBTC,BTCUSDC",
    "collector.streams": "trade",
    "collector.endpoint.websocket": "ws://127.0.0.1:1",
    "collector.endpoint.rest": "http://127.0.0.1:2",
    "collector.endpoint.archive": "https://127.0.0.1:3",
    "collector.endpoint.ca_file": "ca.pem",
    "collector.idle": "true",
    "collector.clock": "exchange",
    "collector.streams_per_connection": "7",
    "collector.coalesce_ms": "0",
    "collector.silence_seconds": "1.5",
    "collector.handover_seconds": "60",
    "collector.clock_probe_seconds": "5",
    "collector.flush_ms": "10",
    "collector.flush_bytes": "1000",
    "collector.fsync_ms": "20",
    "collector.rotate_seconds": "30",
    "collector.hole_grace_seconds": "0",
    "collector.queue_bytes": "1000000",
    "collector.heal": "false",
    "collector.weight_per_minute": "500",
    "collector.listen": "::1",
    "collector.port": "0",
    "transform.every_minutes": "2",
    "transform.memory_mb": "300",
    "check.enabled": "false",
    "check.every_minutes": "30",
    "retention.raw": "2w",
    "retention.every_minutes": "15",
    "gcs.bucket_name": "bucket",
    "gcs.prefix": "prod",
    "gcs.url": "gs://bucket/prod",
    "gcs.every_minutes": "15",
    "gcs.workers": "2",
    "gcs.bandwidth_mb_per_s": "0.5",
    "gcs.upload_retention_days": "1",
    "disk.shed_percent": "50",
    "disk.stop_derived_percent": "91",
    "disk.limit_gb": "100",
    "alerting.webhook_url": "https://example.org/canary-secret",
    "alerting.webhook_url_file": "/run/secrets/webhook",
    "alerting.format": "slack",
    "alerting.name": "prod",
    "alerting.repeat_minutes": "30",
    "alerting.every_seconds": "5",
    "alerting.conditions": '[{"type":"quarantine","threshold":1}]',
    "alerting.expected_tasks": "transform,cleanup",
    "macro.series": "^GSPC,GC=F",
    "macro.start": "2020-01-01",
    "macro.revisit_days": "30",
    "macro.patience_seconds": "60",
    "macro.proxy": "http://user:secret@proxy.example:3128",
    "macro.ca_file": "proxy.pem",
    "logging.console": "debug",
    "logging.file": "ERROR",
    "logging.file_bytes": "1000",
    "logging.file_count": "2",
}
paths = st.sampled_from(sorted(leaves()))


def problems_of(*layers: Layer) -> str:
    with pytest.raises(ConfigError) as caught:
        merge(layers)
    return str(caught.value)


def as_yaml_value(text: str) -> Any:
    return json.loads(text) if text.startswith("[") else yaml.safe_load(text)


def file_layer(values: dict[str, str]) -> Layer:
    plain = {
        p: v.split(",") if leaves()[p].is_list and v[0] != "[" else as_yaml_value(v)
        for p, v in values.items()
    }
    return read_yaml(yaml.safe_dump(nest(plain)), "config.yml")


def test_there_is_a_good_value_for_every_leaf() -> None:
    assert GOOD.keys() == leaves().keys()


def test_variables_of_leaves_are_distinct() -> None:
    assert len({leaf.variable for leaf in leaves().values()}) == len(leaves())


def test_without_sources_all_is_default() -> None:
    config, origins = merge([])
    assert config == Config()
    assert {str(origin) for origin in origins.values()} == {"default"}


@given(st.sets(paths), st.sets(paths), st.sets(paths))
def test_the_later_source_wins_leaf_by_leaf(
    in_file: set[str], in_environment: set[str], in_flags: set[str]
) -> None:
    # All three say the same values: what is told apart is the origin, and that untouched leaves stay default.
    layers = [
        file_layer({path: GOOD[path] for path in in_file}),
        read_environment({leaves()[path].variable: GOOD[path] for path in in_environment}),
        read_flags({path: (GOOD[path], f"--set {path}") for path in in_flags}),
    ]
    chosen = in_file | in_environment | in_flags
    config, origins = merge(layers)
    values, defaults = flatten(config), flatten(Config())
    for path in leaves():
        expected = (
            "flag" if path in in_flags
            else "environment" if path in in_environment
            else "file" if path in in_file
            else "default"
        )  # fmt: skip
        assert origins[path].kind == expected
        assert (values[path] != defaults[path]) == (path in chosen), path


def test_each_source_overrides_with_its_own_value() -> None:
    layers = [
        read_yaml("collector: {port: 1, rotate_seconds: 1, fsync_ms: 1}", "config.yml"),
        read_environment({"CRYPTO_LAKE_COLLECTOR_PORT": "2", "CRYPTO_LAKE_COLLECTOR_FSYNC_MS": "2"}),
        read_flags({"collector.port": ("3", "--port")}),
    ]
    collector = merge(layers)[0].collector
    assert (collector.port, collector.fsync_ms, collector.rotate_seconds) == (3, 2.0, 1.0)


@given(paths)
def test_every_source_gives_the_same_value(path: str) -> None:
    text = GOOD[path]
    from_file = merge([file_layer({path: text})])[0]
    from_environment = merge([read_environment({leaves()[path].variable: text})])[0]
    from_flag = merge([read_flags({path: (text, "--set")})])[0]
    assert from_file == from_environment == from_flag != Config()


@given(paths, st.integers(0, 30))
def test_a_misspelt_key_is_refused_with_the_right_one(path: str, at: int) -> None:
    name = path.rpartition(".")[2]
    at %= len(name)
    wrong = path[: -len(name)] + name[:at] + name[at] + name[at:]  # a letter twice
    said = problems_of(read_flags({wrong: ("1", "--set")}))
    assert f"unknown key {wrong} (flag --set); did you mean {path}?" in said
    variable = "CRYPTO_LAKE_" + wrong.replace(".", "_").upper()
    said = problems_of(read_environment({variable: "1"}))
    assert f"unknown variable {variable}; did you mean {leaves()[path].variable}?" in said


def test_unknown_keys_of_a_file_are_named_with_their_line() -> None:
    said = problems_of(read_yaml("data: d\ncollector:\n  simbols: [A]\nretension: {raw: 1d}\n", "my.yml"))
    assert "unknown key collector.simbols (my.yml:3); did you mean collector.symbols?" in said
    assert "unknown key retension (my.yml:4); did you mean retention?" in said


def test_a_key_in_the_wrong_section_is_found() -> None:
    assert "did you mean collector.rotate_seconds?" in problems_of(read_yaml("rotate_seconds: 1", "c.yml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("collector: {port: 1}\ncollector: {port: 2}", "collector stands twice (c.yml:1 and c.yml:2)"),
        ("collector:\n  port: 1\n  port: 1", "collector.port stands twice (c.yml:2 and c.yml:3)"),
        ("alerting: {conditions: [{type: data_gap, type: quarantine}]}", "type stands twice"),
        ("- a\n- b", "expected keys and values"),
        ("just text", "expected keys and values"),
        ("a: [", "not valid YAML"),
        ("a: b: c", "c.yml:1: not valid YAML"),
        ("collector: 3", "collector (c.yml:1): expected keys below it, such as collector.exchange"),
        ("collector: {port: }", "collector.port has no value (c.yml:1)"),
        ("collector: {port: text}", "collector.port: expected int, got str: 'text' (file c.yml:1)"),
        ("data: 3", "data: expected str, got int: 3; put it in quotes (file c.yml:1)"),
        ("collector: {symbols: BTCUSDT}", "collector.symbols: expected array, got str"),
        ("collector: {symbols: [BTCUSDT, BTCUSDT]}", "BTCUSDT stands twice"),
        ("collector: {symbols: [btcusdt]}", "must be in upper case: BTCUSDT"),
        ("collector: {symbols: [../../etc]}", "letters and digits only"),
        ("collector: {symbols: []}", "collector.symbols: is empty"),
        ("collector: {streams: [trades]}", "collector.streams: invalid enum value 'trades'"),
        ("collector: {port: 65536}", "collector.port: expected int <= 65535"),
        ("collector: {fsync_ms: 0}", "collector.fsync_ms: expected float > 0"),
        ("collector: {clock: sundial}", "collector.clock: invalid enum value 'sundial'"),
        ("collector: {endpoint: {rest: example.org}}", "collector.endpoint.rest: expected an address such as https://"),
        ("collector: {endpoint: {websocket: 'wss://h/stream'}}", "without a path"),
        ("collector: {endpoint: {rest: 'https://h:port'}}", "is no address"),
        ("retention: {raw: 7}", "retention.raw: expected str, got int"),
        ("retention: {raw: 7 days}", "'7 days' is not a duration"),
        ("retention: {raw: 0s}", "must be more than nothing"),
        ("logging: {console: LOUD}", "LOUD is no level; expected one of DEBUG"),
        ("alerting: {conditions: [{typ: data_gap}]}", "unknown key typ; did you mean type?"),
        ("alerting: {conditions: [{type: disk_usge}]}", "alerting.conditions: unknown type disk_usge; did you mean disk_usage?"),
        ("alerting: {conditions: [{type: disk_usage}, {type: disk_usage}]}", "disk_usage stands twice"),
        ("alerting: {conditions: [{type: data_gap, threshold: 5}]}", "data_gap takes threshold_minutes (minutes), not threshold"),
        ("alerting: {conditions: [{type: disk_full_in, threshold_hours: 0}]}", "threshold_hours must be more than 0"),
        ("alerting: {conditions: [{type: disk_usage, threshold: 101}]}", "100 at most"),
        ("alerting: {format: teams}", "alerting.format: invalid enum value 'teams'"),
        ("data: ''", "data: is empty"),
        ("d: !!python/object/apply:os.system [true]", "unknown key d"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said(text: str, expected: str) -> None:
    assert expected in problems_of(read_yaml(text, "c.yml"))


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_of_files_fail_otherwise(text: str) -> None:
    layer = read_yaml(text, "c.yml")
    if not layer.problems and not layer.values:
        assert merge([layer])[0] == Config()


@given(paths, st.text(min_size=1, max_size=40))
def test_any_text_for_any_leaf_is_a_value_or_a_named_problem(path: str, text: str) -> None:
    try:
        merge([read_flags({path: (text, f"--set {path}")})])
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
    assert all(problem.startswith(("collector.", path)) for problem in problems)


def test_all_problems_are_told_at_once() -> None:
    said = problems_of(
        read_yaml("collector: {port: x}", "c.yml"),
        read_environment({"CRYPTO_LAKE_DTA": "1"}),
        read_flags({"retention.raw": ("soon", "--set retention.raw")}),
    )
    assert len(said.splitlines()) == 3


def test_variables_that_are_nobodys_setting_are_passed_over() -> None:
    kubernetes = {
        # Of a Service named crypto-lake-collector: the second one bears the name of a setting of ours.
        "CRYPTO_LAKE_COLLECTOR_SERVICE_HOST": "10.0.0.7",
        "CRYPTO_LAKE_COLLECTOR_PORT": "tcp://10.0.0.7:9464",
        "CRYPTO_LAKE_COLLECTOR_SERVICE_PORT": "9464",
        "CRYPTO_LAKE_COLLECTOR_SERVICE_PORT_METRICS": "9464",
        "CRYPTO_LAKE_COLLECTOR_PORT_9464_TCP": "tcp://10.0.0.7:9464",
        "CRYPTO_LAKE_COLLECTOR_PORT_9464_TCP_ADDR": "10.0.0.7",
        "CRYPTO_LAKE_COLLECTOR_PORT_9464_TCP_PROTO": "tcp",
        "CRYPTO_LAKE_COLLECTOR_PORT_9464_TCP_PORT": "9464",
    }
    config, origins = merge([read_environment(kubernetes | {"PATH": "/bin", "CRYPTO_LAKE_DEBUG": "1"})])
    assert config == Config()
    assert origins["collector.port"].kind == "default"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert merge([read_environment({"CRYPTO_LAKE_DATA": ""})])[0] == Config()


def test_log_level_is_an_alias_and_our_own_name_wins() -> None:
    config, origins = merge([read_environment({"LOG_LEVEL": "info"})])
    assert config.logging.console == "INFO"
    assert str(origins["logging.console"]) == "environment LOG_LEVEL"
    both = {"LOG_LEVEL": "info", "CRYPTO_LAKE_LOGGING_CONSOLE": "error"}
    assert merge([read_environment(both)])[0].logging.console == "ERROR"


def test_a_secret_is_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("alerting: {webhook_url: 'https://example.org/canary-secret'}\n")
    loaded = load(file, {})
    assert loaded.config.alerting.webhook_url.endswith("canary-secret")
    assert shown(loaded)["alerting.webhook_url"][0] == MASK
    assert "canary" not in str(shown(loaded))
    for wrong in (
        "{webhook_url: 'canary-secret'}",
        "{webhook_url: [canary-secret]}",
        "{webhook_url: {a: canary}}",
        "{webhook_url: 'https://host:canary/secret'}",
        "{webhook_url: 'https://[canary/secret'}",
    ):
        assert "canary" not in problems_of(read_yaml(f"alerting: {wrong}", "c.yml"))
    assert set(leaves()) >= SECRETS


def test_yaml_merge_keys_work_and_own_keys_win() -> None:
    text = "collector:\n  <<: {port: 1, rotate_seconds: 9}\n  port: 2\n"
    collector = merge([read_yaml(text, "c.yml")])[0].collector
    assert (collector.port, collector.rotate_seconds) == (2, 9.0)


def test_load_reads_config_yml_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).file is None
    Path("config.yml").write_text("data: lake\n")
    loaded = load(None, {})
    assert loaded.config.data == "lake"
    assert str(loaded.origins["data"]) == "file config.yml:1"
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load(Path("other.yml"), {})
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path, {})
    Path("bad.yml").write_bytes(b"data: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(Path("bad.yml"), {})
    Path("empty.yml").write_text("# nothing\n")
    assert load(Path("empty.yml"), {}).config == Config()


@given(st.dictionaries(paths, st.just(None)))
def test_changed_names_what_differs(chosen: dict[str, None]) -> None:
    new = merge([read_flags({path: (GOOD[path], "--set") for path in chosen})])[0]
    assert set(changed(Config(), new)) == set(chosen)
    assert changed(new, new) == []


def test_sections_are_what_has_leaves_below() -> None:
    assert sections() == {"", "collector", "collector.endpoint", *msgspec.structs.asdict(Config())} - {"data"}


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhdw")), min_size=1, max_size=4))
def test_durations_add_up(pieces: list[tuple[int, str]]) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    text = "".join(f"{number}{unit}" for number, unit in pieces)
    assert parse_duration(text) == sum(number * seconds[unit] for number, unit in pieces)


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1 d", "1y", "1d!", "1e3s", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidDurationError, match="is not a duration"):
        parse_duration(text)
