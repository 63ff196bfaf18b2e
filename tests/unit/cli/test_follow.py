"""A configuration file that changes: what is taken over, what waits, and what is told of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_lake.cli import run_parts
from crypto_lake.cli.follow import ConfigFollower
from crypto_lake.config.live import TAKEN_OVER, is_taken_over, waiting
from crypto_lake.config.load import Loaded, changed, load
from crypto_lake.config.schema import Config
from crypto_lake.config.tree import leaves, sections

# Some of each kind, with values that are right and one that is not.
CHOICES: dict[str, list[Any]] = {
    "collector.symbols": [["BTCUSDT"], ["ETHUSDT", "BTCUSDT"]],
    "collector.idle": [False, True],
    "collector.rotate_seconds": [60.0, 5.0],
    "collector.port": [9464, 0],
    "alerting.repeat_minutes": [60.0, 5.0],
    "logging.console": ["WARNING", "INFO", "LOUD"],
    "retention.raw": ["7d", "1d", "soon"],
}
files = st.lists(st.fixed_dictionaries({key: st.sampled_from(values) for key, values in CHOICES.items()}), min_size=1, max_size=6)  # fmt: skip


def write(file: Path, values: dict[str, Any]) -> str:
    """As YAML; gives the sha256 of its bytes."""
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    file.write_text(yaml.safe_dump(nested))
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Following:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.calls: list[tuple[Config, tuple[str, ...]]] = []
        started = self.reload()
        self.started = started.config
        self.follower = ConfigFollower(started, self.reload, self.take, waiting)

    def reload(self) -> Loaded:
        return load(self.file, {})

    def take(self, config: Config, differing: Sequence[str]) -> None:
        self.calls.append((config, tuple(differing)))


def test_the_list_names_keys_and_sections_that_there_are() -> None:
    assert leaves().keys() | sections() >= TAKEN_OVER
    assert any(is_taken_over(path) for path in leaves())
    assert not is_taken_over("collector.port")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files)
def test_what_is_told_is_what_is_so(tmp_path: Path, changes: list[dict[str, Any]]) -> None:
    file = tmp_path / "config.yml"
    first = write(file, {key: values[0] for key, values in CHOICES.items()})
    following = Following(file)
    follower, applied = following.follower, following.started
    assert (follower.configuration.sha256, follower.configuration.problem) == (first, "")
    sha256 = first
    for values in changes:
        now = write(file, values)
        follower.apply()
        told = follower.configuration
        wrong = [key for key in CHOICES if values[key] in ("LOUD", "soon")]
        if wrong:
            assert all(key in told.problem for key in wrong)
        else:
            config = load(file, {}).config
            if differing := changed(applied, config):
                assert following.calls[-1] == (config, tuple(differing))
            applied = config
            needs = [path for path in changed(following.started, config) if not is_taken_over(path)]
            assert told.problem == (f"needs a restart: {', '.join(needs)}" if needs else "")
            sha256 = sha256 if needs else now
        assert told.sha256 == sha256
        calls = len(following.calls)
        follower.apply()  # again: nothing is new
        assert (len(following.calls), follower.configuration) == (calls, told)


def test_a_change_that_can_not_be_taken_over_is_told_and_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    first = write(file, {"alerting.name": "one"})
    following = Following(file)
    good = following.take
    following.follower._take_over = lambda *_: 1 / 0
    second = write(file, {"alerting.name": "two"})
    following.follower.apply()
    assert following.follower.configuration.sha256 == first
    assert "division" in following.follower.configuration.problem
    following.follower._take_over = good
    following.follower.apply()
    assert [config.alerting.name for config, _ in following.calls] == ["two"]
    assert (following.follower.configuration.sha256, following.follower.configuration.problem) == (second, "")


def test_a_file_that_is_gone_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    first = write(file, {"alerting.name": "one"})
    following = Following(file)
    file.unlink()
    following.follower.apply()
    assert following.follower.configuration.sha256 == first
    assert "there is no configuration file" in following.follower.configuration.problem
    assert write(file, {"alerting.name": "one"}) == first
    following.follower.apply()
    assert following.follower.configuration.problem == ""


def test_run_waits_for_its_own_restart_with_what_its_parts_are_started_by(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"

    def config(**values: Any) -> Config:
        write(file, {key.replace("__", "."): value for key, value in values.items()})
        return load(file, {}).config

    started = config()
    assert run_parts.waiting(started, config(alerting__name="x", collector__port=0)) == []
    assert run_parts.waiting(started, config(transform__every_minutes=5.0)) == ["transform.every_minutes"]
    assert run_parts.waiting(started, config(gcs__url="file:///bucket")) == ["gcs.url"]
    assert run_parts.waiting(started, config(retention__raw="1d")) == []
    assert run_parts.waiting(started, config(retention__raw="never")) == ["retention.raw"]
    assert run_parts.expected_tasks(started) == ("transform", "cleanup")
    assert run_parts.expected_tasks(config(gcs__url="file:///b")) == ("transform", "upload", "cleanup")
    assert run_parts.expected_tasks(config(retention__raw="never")) == ("transform",)
