"""CryptoLakes for tests: the golden ones, any valid one, and what a collector would say of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml
from hypothesis import strategies as st

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import (
    API_PROMETHEUS_RULE,
    API_SERVICE_MONITOR,
    Claim,
    Key,
    Observed,
    Pod,
    child_of,
)
from crypto_lake_operator.render import plan, render
from crypto_lake_operator.report import Configuration, Disk, Latency, Report, Stream, Symbol
from crypto_lake_operator.shards import Assignment
from crypto_lake_operator.validate import read_lake

GOLDEN = Path(__file__).resolve().parents[1] / "unit" / "operator" / "golden"
NOW = datetime(2024, 8, 9, 12, 0, 30, tzinfo=UTC)
SETTINGS = OperatorSettings(image="crypto-lake:test")
GOLDEN_NAMES = sorted(folder.name for folder in GOLDEN.iterdir())


def document(spec: dict[str, Any], name: str = "lake", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cryptolake.io/v1alpha1",
        "kind": "CryptoLake",
        "metadata": {"name": name, "namespace": "lakes", "uid": "uid-1", "generation": 1} | metadata,
        "spec": spec,
    }


def lake(name: str = "lake", *, metadata: dict[str, Any] | None = None, **spec: Any) -> CryptoLake:
    return read_lake(document({"symbols": ["BTCUSDT"]} | spec, name, **(metadata or {})))


def golden(name: str) -> dict[str, Any]:
    return yaml.safe_load((GOLDEN / name / "lake.yaml").read_text())


def golden_observed(name: str) -> Observed:
    apis = frozenset({API_SERVICE_MONITOR, API_PROMETHEUS_RULE}) if name == "prometheus" else frozenset()
    return Observed(taken_at=NOW, apis=apis)


def _filled(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_lake_names = st.one_of(_names, st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,120}[a-z0-9])?", fullmatch=True))
_durations = st.from_regex(r"[1-9][0-9]{0,3}[smhdw]", fullmatch=True)
_crons = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "3,40 1-5 * * *", "0 0 1 * *", "15 6 * * 1-5", "59 23 * 12 0"]
)
_keys = st.from_regex(r"[a-z]{1,8}(\.example\.org/[a-z]{1,8})?", fullmatch=True)
_values = st.from_regex(r"[A-Za-z0-9]{0,20}", fullmatch=True)
_sizes = st.sampled_from(["100Mi", "1Gi", "50Gi", "2Ti", "500G"])
_resources = _filled(
    requests=st.dictionaries(
        st.sampled_from(["cpu", "memory"]), st.sampled_from([1, "2Gi", "1500M"]), max_size=2
    ),
    limits=st.dictionaries(st.just("memory"), st.sampled_from(["200Mi", "4Gi", 10**9]), max_size=1),
)
_pods = _filled(
    resources=_resources,
    taskResources=_resources,
    labels=st.dictionaries(_keys, _values, max_size=3),
    annotations=st.dictionaries(_keys, _values, max_size=3),
    nodeSelector=st.dictionaries(_keys, _values, max_size=3),
    tolerations=st.lists(
        _filled(key=_keys, operator=st.just("Exists"), effect=st.just("NoExecute")), max_size=2
    ),
    topologySpread=_filled(zones=st.sampled_from(["Required", "Ignored"]), nodes=st.just("Required")),
    priorityClassName=_names,
    serviceAccountName=_names,
    imagePullSecrets=st.lists(_names, max_size=2, unique=True),
    env=st.lists(
        st.builds(
            lambda name, value: {"name": name, "value": value},
            st.from_regex(r"X_[A-Z]{1,5}", fullmatch=True),
            _values,
        ),
        max_size=3,
        unique_by=lambda variable: variable["name"],
    ),
    terminationGracePeriodSeconds=st.integers(5, 600),
)
_symbols = st.lists(st.from_regex(r"[A-Z0-9]{2,8}", fullmatch=True), min_size=1, max_size=12, unique=True)
_specs = st.fixed_dictionaries(
    {"symbols": _symbols},
    optional={
        "streams": st.sampled_from([["trade"], ["bookTicker", "trade"], ["bookTicker"]]),
        "shards": st.integers(1, 6),
        "replicas": st.integers(1, 2),
        "bucket": st.sampled_from(["gs://bucket", "gs://my.bucket_1/a/b=c"]),
        "endpoint": st.sampled_from(
            [
                {},
                {"rest": "http://[::1]:8080"},
                {"websocket": "ws://s:1", "rest": "http://s:2", "clock": "exchange"},
            ]
        ),
        "retention": _filled(raw=st.one_of(st.just("never"), _durations), bars=st.sampled_from(["1d", "2w"])),
        "storage": _filled(
            size=_sizes, storageClassName=_names, whenDeleted=st.sampled_from(["Retain", "Delete"])
        ),
        "schedules": _filled(transform=_crons, upload=_crons, publish=_crons, cleanup=_crons),
        "alerts": _filled(
            webhookSecretRef=st.builds(lambda name: {"name": name}, _names),
            gap=_durations,
            disk=st.integers(1, 100).map(lambda percent: f"{percent}%"),
            repeat=_durations,
        ),
        "suspend": st.booleans(),
        "collector": _filled(
            fsync=st.sampled_from(["1s", "250ms"]),
            flush=st.just("100ms"),
            rotate=_durations,
            silence=_durations,
            streamsPerConnection=st.integers(1, 1024),
            logLevel=st.sampled_from(["DEBUG", "ERROR"]),
        ),
        "check": _filled(enabled=st.booleans(), schedule=_crons),
        "publish": _filled(scratch=_sizes, scratchStorageClassName=_names),
        "macro": _filled(
            series=st.lists(st.sampled_from(["^GSPC", "GC=F", "DX-Y.NYB", "X"]), min_size=1, unique=True),
            schedule=_crons,
        ),
        "networkPolicy": _filled(
            enabled=st.booleans(), egressPorts=st.lists(st.integers(1, 65535), max_size=3, unique=True)
        ),
        "pod": _pods,
        "image": st.just("registry.example:5000/a/b:tag"),
        "imagePullPolicy": st.sampled_from(["Always", "Never"]),
    },
)


def _made_valid(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the rules forbid is taken back, so that no example is thrown away."""
    spec = dict(spec)
    if "bucket" not in spec:
        spec |= {"shards": 1, "replicas": 1}
        spec.pop("macro", None)
    spec["shards"] = min(spec.get("shards", 1), len(spec["symbols"]))
    return document(spec, name)


documents = st.builds(_made_valid, _lake_names, _specs)
"""Any valid CryptoLake."""


def live_objects(lake: CryptoLake, observed: Observed | None = None) -> dict[Key, dict[str, Any]]:
    """All children as an API server would have them, right after they were applied: with uids, of generation 1, settled."""
    found: dict[Key, dict[str, Any]] = {}
    for number, manifest in enumerate(render(lake, SETTINGS, observed or Observed(taken_at=NOW))):
        metadata = manifest["metadata"] | {"uid": f"child-{number}", "resourceVersion": "1", "generation": 1}
        live = manifest | {"metadata": metadata}
        if manifest["kind"] == "StatefulSet":
            pods = manifest["spec"]["replicas"]
            live["status"] = {
                "observedGeneration": 1,
                "replicas": pods,
                "readyReplicas": pods,
                "updatedReplicas": pods,
                "currentRevision": "r1",
                "updateRevision": "r1",
            }
        found[Key(manifest["kind"], metadata["name"])] = live
    return found


def collecting(
    lake: CryptoLake, assignment: Assignment, files: Mapping[Slot, str], **fields: Any
) -> dict[str, Report]:
    """What collectors say that do all they are told. fields: of every report, instead."""
    reports: dict[str, Report] = {}
    for slot, symbols in assignment.collects.items():
        report = Report(
            streams=tuple(Stream(symbol, live=True, latency=Latency(120.0)) for symbol in sorted(symbols)),
            symbols=tuple(Symbol(symbol) for symbol in sorted(symbols)),
            configuration=Configuration(files[slot]),
            disk=Disk(31.0, 10**9),
            pending_bytes=0,
            last_verified_upload_ns=int(NOW.timestamp() - 600) * 10**9,
        )
        reports[naming.pod(lake.metadata.name, slot)] = msgspec.structs.replace(report, **fields)
    return reports


def observed_at_rest(lake: CryptoLake, before: Observed | None = None) -> Observed:
    """A lake that is as its spec wants it: every child applied, every collector live."""
    first = before or Observed(taken_at=NOW)
    made = plan(lake, SETTINGS, first)
    children = {key: child_of(live) for key, live in live_objects(lake, first).items()}
    names = [naming.pod(lake.metadata.name, slot) for slot in made.assignment.collects]
    slots = list(made.assignment.collects)
    return Observed(
        taken_at=NOW,
        children=children,
        claims={
            f"data-{name}": Claim(f"data-{name}", lake.spec.storage.size, lake.spec.storage.size)
            for name in names
        },
        pods={
            name: Pod(
                name, slot, f"pod-{name}", f"node-{slot}", "10.0.0.1", "Running", ready=True, revision="r1"
            )
            for name, slot in zip(names, slots, strict=True)
        },
        reports=collecting(lake, made.assignment, made.files),
    )
