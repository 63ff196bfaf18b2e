"""CryptoLakes that are to be refused, each with words of the message that helps, and the same one mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BadLake:
    """spec: refused, with `message` in the answer. good: the nearest that is taken.

    before: the spec that stands when this one comes, for rules about a change; `good` is then a change that is allowed.
    of_schema: a bound or pattern of one field: there the API server's own words name the field and the pattern.
    """

    name: str
    spec: dict[str, Any]
    message: str
    good: dict[str, Any]
    before: dict[str, Any] | None = None
    of_schema: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def spec(**fields: Any) -> dict[str, Any]:
    return {"symbols": ["BTCUSDT", "ETHUSDT"]} | fields


BUCKET = "gs://lake/prod"
BAD_LAKES = [
    # Rules about a change.
    BadLake(
        "another storage class",
        spec(storage={"storageClassName": "fast"}),
        "storageClassName can't be changed, added or removed",
        spec(storage={"storageClassName": "slow", "size": "60Gi"}),
        before=spec(storage={"storageClassName": "slow"}),
    ),
    BadLake(
        "a storage class where there was none",
        spec(storage={"storageClassName": "fast"}),
        "storageClassName can't be changed, added or removed",
        spec(storage={"size": "51Gi"}),
        before=spec(),
    ),
    BadLake(
        "no storage class where there was one",
        spec(),
        "storageClassName can't be changed, added or removed",
        spec(storage={"storageClassName": "slow"}, suspend=True),
        before=spec(storage={"storageClassName": "slow"}),
    ),
    BadLake(
        "a smaller volume",
        spec(storage={"size": "49G"}),
        "size can't shrink",
        spec(storage={"size": "51200Mi"}),
        before=spec(storage={"size": "50Gi"}),
    ),
    BadLake(
        "fewer shards without a bucket",
        spec(shards=1),
        "shards and replicas can't be changed without spec.bucket",
        spec(shards=1, bucket="gs://lake/another"),
        before=spec(shards=2, bucket=BUCKET),
    ),
    BadLake(
        "one replica less without a bucket",
        spec(),
        "shards and replicas can't be changed without spec.bucket",
        spec(bucket=BUCKET),
        before=spec(replicas=2, bucket=BUCKET),
    ),
    # Rules about several fields.
    BadLake(
        "two replicas without a bucket",
        spec(replicas=2),
        "replicas: 2 needs spec.bucket",
        spec(replicas=2, bucket=BUCKET),
    ),
    BadLake(
        "shards without a bucket",
        spec(shards=2),
        "shards above 1 need spec.bucket",
        spec(shards=2, bucket=BUCKET),
    ),
    BadLake(
        "macro series without a bucket",
        spec(macro={"series": ["^GSPC"]}),
        "macro needs spec.bucket: its series are kept there",
        spec(macro={"series": ["^GSPC"]}, bucket=BUCKET),
    ),
    BadLake(
        "more shards than symbols",
        spec(shards=3, bucket=BUCKET),
        "there are more shards than symbols",
        spec(shards=2, bucket=BUCKET),
    ),
    BadLake(
        "a simulator's clock and no simulator",
        spec(endpoint={"clock": "exchange", "rest": "http://simulator:9501"}),
        "clock: exchange follows a simulator's time; set endpoint.websocket and endpoint.rest",
        spec(
            endpoint={
                "clock": "exchange",
                "rest": "http://simulator:9501",
                "websocket": "ws://simulator:9500",
            }
        ),
    ),
    BadLake(
        "a volume too small to start on",
        spec(storage={"size": "99Mi"}),
        "size is less than 100Mi",
        spec(storage={"size": "100Mi"}),
    ),
    BadLake(
        "a variable of the operator's",
        spec(pod={"env": [{"name": "CRYPTO_LAKE_COLLECTOR_SYMBOLS", "value": "X"}]}),
        "variables named CRYPTO_LAKE_… and SHARD are the operator's",
        spec(pod={"env": [{"name": "SHARDS", "value": "X"}]}),
    ),
    BadLake(
        "a variable with two values",
        spec(
            pod={
                "env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
            }
        ),
        "a variable has value or valueFrom, not both",
        spec(pod={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
    ),
    BadLake(
        "a value from nowhere",
        spec(pod={"env": [{"name": "A", "valueFrom": {}}]}),
        "valueFrom takes one of secretKeyRef and configMapKeyRef",
        spec(pod={"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}),
    ),
    BadLake(
        "a label of the operator's",
        spec(pod={"labels": {"app.kubernetes.io/name": "mine"}}),
        "labels with kubernetes.io/ or cryptolake.io/ in their key are the operator's",
        spec(pod={"labels": {"team": "data"}}),
    ),
    BadLake(
        "annotations for an account of the user's",
        spec(pod={"serviceAccountName": "mine", "serviceAccountAnnotations": {"a": "b"}}),
        "serviceAccountAnnotations are for the ServiceAccount that the operator makes",
        spec(pod={"serviceAccountAnnotations": {"a": "b"}}),
    ),
    # Bounds and patterns of one field.
    BadLake("no symbol", spec(symbols=[]), "spec.symbols", spec(symbols=["X"]), of_schema=True),
    BadLake(
        "small letters",
        spec(symbols=["btcusdt"]),
        "spec.symbols[0]",
        spec(symbols=["BTCUSDT"]),
        of_schema=True,
    ),
    BadLake(
        "a symbol twice",
        spec(symbols=["BTCUSDT", "BTCUSDT"]),
        "spec.symbols",
        spec(symbols=["BTCUSDT"]),
        of_schema=True,
    ),
    BadLake(
        "too many symbols",
        spec(symbols=[f"S{number}" for number in range(2001)]),
        "spec.symbols",
        spec(symbols=[f"S{number}" for number in range(2000)]),
        of_schema=True,
    ),
    BadLake(
        "a macro series in small letters",
        spec(macro={"series": ["^gspc"]}, bucket=BUCKET),
        "spec.macro.series[0]",
        spec(macro={"series": ["^GSPC", "DX-Y.NYB", "GC=F"], "schedule": "5 22 * * 1-5"}, bucket=BUCKET),
        of_schema=True,
    ),
    BadLake(
        "a macro series twice",
        spec(macro={"series": ["^GSPC", "^GSPC"]}, bucket=BUCKET),
        "spec.macro.series",
        spec(macro={}, bucket=BUCKET),
        of_schema=True,
    ),
    BadLake(
        "an unknown exchange",
        spec(exchange="kraken"),
        "spec.exchange",
        spec(exchange="binance"),
        of_schema=True,
    ),
    BadLake(
        "an unknown stream",
        spec(streams=["depth"]),
        "spec.streams[0]",
        spec(streams=["trade"]),
        of_schema=True,
    ),
    BadLake(
        "three replicas", spec(replicas=3, bucket=BUCKET), "spec.replicas", spec(replicas=1), of_schema=True
    ),
    BadLake(
        "a bucket of another cloud",
        spec(bucket="s3://lake"),
        "spec.bucket",
        spec(bucket="gs://lake"),
        of_schema=True,
    ),
    BadLake(
        "a folder for a bucket",
        spec(bucket="file:///lake"),
        "spec.bucket",
        spec(bucket="gs://lake/x"),
        of_schema=True,
    ),
    BadLake(
        "an address of no exchange",
        spec(endpoint={"websocket": "https://exchange"}),
        "spec.endpoint.websocket",
        spec(endpoint={"websocket": "wss://exchange:9443"}),
        of_schema=True,
    ),
    BadLake(
        "a schedule in words",
        spec(schedules={"upload": "@hourly"}),
        "spec.schedules.upload",
        spec(schedules={"upload": "0 * * * *"}),
        of_schema=True,
    ),
    BadLake(
        "a 61st minute",
        spec(schedules={"upload": "61 * * * *"}),
        "spec.schedules.upload",
        spec(schedules={"upload": "59 * * * *"}),
        of_schema=True,
    ),
    BadLake(
        "a duration in words",
        spec(retention={"raw": "a week"}),
        "spec.retention.raw",
        spec(retention={"raw": "1w"}),
        of_schema=True,
    ),
    BadLake(
        "a size without a unit",
        spec(storage={"size": "50"}),
        "spec.storage.size",
        spec(storage={"size": "50Gi"}),
        of_schema=True,
    ),
    BadLake(
        "a percentage of more than all",
        spec(alerts={"disk": "101%"}),
        "spec.alerts.disk",
        spec(alerts={"disk": "100%"}),
        of_schema=True,
    ),
    BadLake(
        "a quantity in words",
        spec(pod={"resources": {"limits": {"memory": "much"}}}),
        "spec.pod.resources.limits",
        spec(pod={"resources": {"limits": {"memory": 2000000000}}}),
        of_schema=True,
    ),
]
"""No entry about an unknown field: those are refused under strict validation, and dropped with a warning without it."""
