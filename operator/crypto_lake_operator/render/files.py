"""The configuration files of the collectors and tasks, in the form that crypto_lake.config reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, cast

import yaml

from crypto_lake.config.durations import parse_duration
from crypto_lake.config.live import is_taken_over
from crypto_lake.config.schema import CollectorConfig
from crypto_lake_operator import naming, quantity, timetable
from crypto_lake_operator.api import CryptoLakeSpec
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Manifest
from crypto_lake_operator.render import defaults
from crypto_lake_operator.render.context import DATA_FOLDER, HTTP_PORT, WEBHOOK_FOLDER, Context, hash_of

HEADER: Final = "# Made by crypto-lake-operator of the CryptoLake; what is changed here is put back.\n"
LEAST_TRANSFORM_MB: Final = 200
LEAST_WEIGHT: Final = 25  # of one request for single trades
# When a task is late: after three of its periods, but not before so many minutes.
LATE_LEAST_MINUTES: Final = {"transform": 15, "upload": 180, "cleanup": 180}


def collector_file(context: Context, slot: Slot) -> str:
    """What one collector, and the tasks on its claim, are to do."""
    return _written(settings_of(context, slot))


def publish_file(context: Context) -> str:
    """The publish task's. Its data folder is scratch space; clock and endpoint tell it the lake's time."""
    spec = context.spec
    settings: dict[str, Any] = {
        "data": DATA_FOLDER,
        "collector": {
            "exchange": spec.exchange,
            "symbols": sorted(spec.symbols),
            "endpoint": _endpoint(spec),
            "clock": spec.endpoint.clock,
        },
        "gcs": {"url": spec.bucket},
        "logging": {"console": spec.collector.log_level},
    }
    return _written(_filled(settings))


def macro_file(context: Context, series: tuple[str, ...]) -> str:
    """The macro task's. It follows no market, so neither exchange nor its clock are in it."""
    settings: dict[str, Any] = {
        "data": DATA_FOLDER,
        "gcs": {"url": context.spec.bucket},
        "macro": {"series": list(series)},
        "logging": {"console": context.spec.collector.log_level},
    }
    return _written(_filled(settings))


def _written(settings: dict[str, Any]) -> str:
    # libyaml's, where it is there: the one in Python takes ten times as long, for each lake.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(settings, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)  # pyright: ignore[reportUnknownMemberType]
    return HEADER + text


def settings_of(context: Context, slot: Slot) -> dict[str, Any]:
    spec = context.spec
    collects = context.assignment.collects[slot]
    collector = spec.collector
    settings: dict[str, Any] = {
        "data": DATA_FOLDER,
        "collector": {
            "exchange": spec.exchange,
            "symbols": sorted(collects),
            "idle": None if collects else True,
            "streams": [stream.value for stream in spec.streams],
            "endpoint": _endpoint(spec),
            "clock": spec.endpoint.clock,
            "streams_per_connection": collector.streams_per_connection,
            "fsync_ms": _ms(collector.fsync),
            "flush_ms": _ms(collector.flush),
            "rotate_seconds": parse_duration(collector.rotate),
            "silence_seconds": parse_duration(collector.silence),
            "weight_per_minute": _weight_share(len(context.assignment.collects)),
            "listen": "0.0.0.0",  # noqa: S104  # the operator, Prometheus and the kubelet ask from outside
            "port": HTTP_PORT,
        },
        "transform": {
            "every_minutes": float(timetable.longest_period_minutes(spec, "transform")),
            "memory_mb": _transform_memory_mb(spec),
        },
        "retention": {"raw": spec.retention.raw},
        "gcs": {"url": spec.bucket, "upload_retention_days": _days(spec.retention.bars)}
        if spec.bucket
        else None,
        "alerting": _alerting(context, slot),
        "logging": {"console": collector.log_level},
    }
    return _filled(settings)


def _endpoint(spec: CryptoLakeSpec) -> dict[str, Any] | None:
    endpoint = spec.endpoint
    if endpoint.websocket is None and endpoint.rest is None:
        return None
    return {"websocket": endpoint.websocket, "rest": endpoint.rest}


def _alerting(context: Context, slot: Slot) -> dict[str, Any]:
    alerts, metadata = context.spec.alerts, context.lake.metadata
    conditions: list[dict[str, Any]] = [
        {"type": "data_gap", "threshold_minutes": parse_duration(alerts.gap) / 60},
        {"type": "disk_usage", "threshold": float(alerts.disk.removesuffix("%"))},
    ]
    tasks = ["transform", "upload", "cleanup"] if context.spec.bucket else ["transform", "cleanup"]
    for task in tasks:
        period_minutes = timetable.longest_period_minutes(context.spec, task)
        late_minutes = max(LATE_LEAST_MINUTES[task], 3 * period_minutes)
        conditions.append({"type": f"{task}_late", "threshold_minutes": float(late_minutes)})
    if not context.spec.check.enabled:
        # What the last check left stays on the volume, and would be told for good.
        conditions += [{"type": type_, "enabled": False} for type_ in ("bars_differ", "check_failed")]
    return {
        "webhook_url_file": f"{WEBHOOK_FOLDER}/url" if alerts.webhook_secret_ref else None,
        "name": f"{metadata.namespace}/{metadata.name} {slot}",
        "repeat_minutes": parse_duration(alerts.repeat) / 60,
        "conditions": conditions,
        "expected_tasks": tasks,
    }


def _weight_share(collectors: int) -> int | None:
    """An equal part of what one lake takes by default: the exchange counts by address, and pods may share one."""
    return max(LEAST_WEIGHT, CollectorConfig().weight_per_minute // collectors) if collectors > 1 else None


def _ms(duration: str) -> float:
    return round(parse_duration(duration) * 1000, 3)


def _days(duration: str | None) -> int | None:
    return None if duration is None else ceil(parse_duration(duration) / 86400)


def _transform_memory_mb(spec: CryptoLakeSpec) -> int:
    resources = spec.pod.task_resources or defaults.TASK
    limit = resources.limits.get("memory", defaults.TASK.limits["memory"])
    return max(LEAST_TRANSFORM_MB, int(float(quantity.parse(limit)) * 0.6 / 1e6))


def _filled(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what is not set: the configuration's own defaults stand there."""
    kept = {
        key: _filled(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for key, value in settings.items()
    }
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def restart_hash(settings: dict[str, Any]) -> str:
    """Of what takes effect at a restart only: a change of it restarts the pods."""

    def pruned(section: dict[str, Any], prefix: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in section.items():
            path = f"{prefix}{key}"
            if not is_taken_over(path):
                kept[key] = (
                    pruned(cast("dict[str, Any]", value), path + ".") if isinstance(value, dict) else value
                )
        return kept

    return hash_of(pruned(settings, ""))


def digest(text: str) -> str:
    """sha256 of a file's bytes; /status names that of the configuration applied."""
    return hashlib.sha256(text.encode()).hexdigest()


def config_maps(context: Context, texts: Mapping[Slot, str]) -> list[Manifest]:
    """One for each replica, with its collectors' files (`texts`), and one for each task of the lake."""
    made: list[Manifest] = []
    for replica in context.assignment.replicas():
        slots = sorted(slot for slot in texts if slot.replica == replica)
        data = {naming.config_file(slot.shard): texts[slot] for slot in slots}
        made.append(
            context.manifest(
                "v1",
                "ConfigMap",
                naming.config_map(context.name, replica),
                "configuration",
                {"data": data},
                **{naming.LABEL_REPLICA: replica},
            )
        )
    spec = context.spec
    of_tasks: dict[str, dict[str, str]] = {}
    if spec.bucket:
        of_tasks[naming.publish(context.name)] = {"publish.yml": publish_file(context)}
    if spec.bucket and spec.macro is not None:
        of_tasks[naming.macro(context.name)] = {"macro.yml": macro_file(context, spec.macro.series)}
    return made + [
        context.manifest("v1", "ConfigMap", name, "configuration", {"data": data})
        for name, data in of_tasks.items()
    ]
