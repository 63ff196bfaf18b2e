"""The schema's rules again, for a lake that came past an older schema, or from a file. Pure.

A lake with problems gets no change: what runs goes on as it is, and its status names them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from crypto_lake_operator import api, cron, quantity
from crypto_lake_operator.api import CryptoLake, CryptoLakeSpec, Metadata
from crypto_lake_operator.api_base import Part

_PATH = re.compile(r" - at `\$\.?([^`]*)`")
_OPERATORS_LABEL = re.compile(r"kubernetes\.io/|^cryptolake\.io/")


class Problem(NamedTuple):
    """`path`: of the field, from spec on."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SpecError(ValueError):
    """A lake that can't be taken. `problems`: all that were found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def read_lake(document: Mapping[str, Any]) -> CryptoLake:
    """A lake of its JSON. Unknown fields are passed over: the API server refuses or drops them (see crd.unknown_fields).

    Raises SpecError.
    """
    if document.get("kind") != api.KIND or document.get("apiVersion") != api.API_VERSION:
        found = f"{document.get('apiVersion')} {document.get('kind')}"
        raise SpecError([Problem("kind", f"expected {api.API_VERSION} {api.KIND}, found {found}")])
    try:
        metadata = msgspec.convert(_without_none(document.get("metadata") or {}), Metadata)
    except msgspec.ValidationError as error:
        raise SpecError([_of_msgspec("metadata", error)]) from None
    if not metadata.name:
        raise SpecError([Problem("metadata.name", "is empty; a lake needs a name")])
    try:
        spec = msgspec.convert(_without_none(document.get("spec") or {}), CryptoLakeSpec)
    except msgspec.ValidationError as error:
        raise SpecError([_of_msgspec("spec", error)]) from None
    lake = CryptoLake(metadata=metadata, spec=spec)
    if problems := problems_of(lake):
        raise SpecError(problems)
    return lake


def _without_none(value: object) -> object:
    """Kubernetes takes null for absent."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return {key: _without_none(inner) for key, inner in pairs if inner is not None}
    if isinstance(value, list):
        return [_without_none(inner) for inner in cast("list[object]", value)]
    return value


def _of_msgspec(top: str, error: msgspec.ValidationError) -> Problem:
    text = str(error)
    found = _PATH.search(text)
    path = f"{top}.{found[1]}" if found and found[1] else top
    message = _PATH.sub("", text)
    return Problem(path, message[:1].lower() + message[1:].replace("`", ""))


def problems_of(lake: CryptoLake) -> list[Problem]:
    """What the fields' types can't say. Bounds and patterns were looked at when the lake was read."""
    return list(_walk(lake.spec, "spec")) + list(_more(lake.spec))


# A rule's message -> whether it holds; those about a change need the old lake, which only the API server has.
_HOLDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "clock: exchange": lambda endpoint: (
        endpoint.clock != "exchange" or (endpoint.websocket is not None and endpoint.rest is not None)
    ),
    "size is less": lambda storage: quantity.parse(storage.size) >= quantity.parse("100Mi"),
    "valueFrom takes": lambda source: (source.secret_key_ref is None) != (source.config_map_key_ref is None),
    "variables named": lambda variable: (
        not (variable.name.startswith("CRYPTO_LAKE_") or variable.name == "SHARD")
    ),
    "a variable has": lambda variable: variable.value is None or variable.value_from is None,
    "labels with": lambda pod: not any(_OPERATORS_LABEL.search(key) for key in pod.labels),
    "serviceAccountAnnotations are": lambda pod: (
        pod.service_account_name is None or not pod.service_account_annotations
    ),
    "replicas: 2": lambda spec: spec.replicas == 1 or spec.bucket is not None,
    "shards above": lambda spec: spec.shards == 1 or spec.bucket is not None,
    "macro needs": lambda spec: spec.macro is None or spec.bucket is not None,
    "there are more": lambda spec: spec.shards <= len(spec.symbols),
}


def holds(message: str) -> Callable[[Any], bool] | None:
    """The twin of the rule with this message, or None where it is about a change."""
    return next((test for start, test in _HOLDS.items() if message.startswith(start)), None)


def _walk(part: Part, path: str) -> Iterator[Problem]:
    for rule in part.RULES:
        test = holds(rule.message)
        if test is not None and not test(part):
            yield Problem(f"{path}.{rule.on}" if rule.on else path, rule.message)
    for field in msgspec.structs.fields(part):
        value: object = getattr(part, field.name)
        at = f"{path}.{field.encode_name}"
        if isinstance(value, Part):
            yield from _walk(value, at)
        elif isinstance(value, tuple):
            for number, item in enumerate(cast("tuple[object, ...]", value)):
                if isinstance(item, Part):
                    yield from _walk(item, f"{at}[{number}]")


def _more(spec: CryptoLakeSpec) -> Iterator[Problem]:
    """What no schema can say, or only clumsily."""
    sets: dict[str, tuple[str, ...]] = {"symbols": spec.symbols, "streams": spec.streams}
    schedules: dict[str, str | None] = {
        f"schedules.{field.name}": getattr(spec.schedules, field.name)
        for field in msgspec.structs.fields(spec.schedules)
    }
    schedules["check.schedule"] = spec.check.schedule
    if spec.macro is not None:
        sets["macro.series"] = spec.macro.series
        schedules["macro.schedule"] = spec.macro.schedule
    for name, values in sets.items():
        for twice in sorted(value for value, times in Counter(values).items() if times > 1):
            yield Problem(f"spec.{name}", f"{twice} stands twice")
    for name, schedule in schedules.items():
        if schedule is None:
            continue
        try:
            cron.shortest_period_minutes(schedule)
        except cron.InvalidCronError as error:
            yield Problem(f"spec.{name}", str(error))
