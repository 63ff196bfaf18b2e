"""What the operator itself is told, by its environment: nothing of it concerns one lake alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

PREFIX: Final = "CRYPTO_LAKE_OPERATOR_"


class SettingsError(ValueError):
    """The environment can't be used; the message names each variable that is wrong."""


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the variable CRYPTO_LAKE_OPERATOR_<FIELD>; lists are separated by commas.

    image: of lakes that name none.
    namespace: the operator's own, for the lease and as the one that lakes let in.
    watch_namespaces: whose lakes it looks after; empty: all.
    prometheus_namespace, prometheus_labels: who may scrape, as a namespace's name (empty: any) and a pod's labels
        (`key=value`; empty: any pod).
    runbook_url: of a page with a heading for each alert rule; empty: alerts link to none.
    """

    image: Annotated[str, Meta(min_length=1)] = "crypto-lake:dev"
    namespace: str = "crypto-lake-system"
    watch_namespaces: tuple[str, ...] = ()
    workers: Annotated[int, Meta(ge=1, le=64)] = 8
    resync_seconds: Annotated[float, Meta(gt=0)] = 600.0
    poll_seconds: Annotated[float, Meta(gt=0)] = 15.0
    status_seconds: Annotated[float, Meta(ge=0)] = 30.0
    prometheus_namespace: str = ""
    prometheus_labels: tuple[str, ...] = ("app.kubernetes.io/name=prometheus",)
    runbook_url: str = ""
    log_level: str = "INFO"
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 9465
    lease: bool = True


def read_settings(environment: Mapping[str, str]) -> OperatorSettings:
    """Of the variables with our prefix; an empty one counts as not set. Raises SettingsError."""
    known = {PREFIX + field.name.upper(): field for field in msgspec.structs.fields(OperatorSettings)}
    given: dict[str, object] = {}
    problems: list[str] = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or not text:
            continue
        # A Service named crypto-lake-operator, or -metrics, gives every pod such variables.
        if text.startswith(("tcp://", "udp://", "sctp://")) or "_SERVICE_" in name:
            continue
        field = known.get(name)
        if field is None:
            if "_PORT_" not in name:
                problems.append(f"unknown variable {name}; known are {', '.join(sorted(known))}")
            continue
        if isinstance(field.default, tuple):
            value: object = [piece.strip() for piece in text.split(",") if piece.strip()]
        else:
            value = text
        try:
            given[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SettingsError("\n".join(problems))
    return OperatorSettings(**given)  # pyright: ignore[reportArgumentType]  # each was converted to its field's type
