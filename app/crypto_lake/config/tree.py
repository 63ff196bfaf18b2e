"""The configuration as a tree of named leaves: `collector.endpoint.rest` and its like. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin

import msgspec

from crypto_lake.config.schema import Config, Section

VARIABLE_PREFIX = "CRYPTO_LAKE_"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that can be set.

    annotation: its type with its limits, as msgspec takes it.
    is_list: whether text for it is split at commas.
    holds_sections: a list whose members have keys of their own; text for it is JSON.
    """

    path: str
    annotation: Any
    default: object
    is_list: bool
    holds_sections: bool

    @property
    def variable(self) -> str:
        """collector.symbols -> CRYPTO_LAKE_COLLECTOR_SYMBOLS."""
        return VARIABLE_PREFIX + self.path.replace(".", "_").upper()


@cache
def leaves() -> Mapping[str, Leaf]:
    """All leaves by path, in the order of the schema."""
    return MappingProxyType({leaf.path: leaf for leaf in _leaves_of(Config, Config(), "")})


@cache
def sections() -> frozenset[str]:
    """Paths that have values below them; the root is the empty one."""
    found = {""}
    for path in leaves():
        names = path.split(".")
        found.update(".".join(names[:depth]) for depth in range(1, len(names)))
    return frozenset(found)


def _leaves_of(section: type[Section], defaults: Section, prefix: str) -> list[Leaf]:
    found: list[Leaf] = []
    for field in msgspec.structs.fields(section):
        path, default = prefix + field.name, getattr(defaults, field.name)
        if isinstance(default, Section):
            found += _leaves_of(type(default), default, path + ".")
            continue
        plain = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        is_list = get_origin(plain) is tuple
        member: object = get_args(plain)[0] if is_list else None
        holds_sections = isinstance(member, type) and issubclass(member, Section)
        found.append(Leaf(path, field.type, default, is_list, holds_sections))
    return found


def nest(values: Mapping[str, object]) -> dict[str, Any]:
    """{"collector.port": 1} -> {"collector": {"port": 1}}."""
    root: dict[str, Any] = {}
    for path, value in values.items():
        *above, name = path.split(".")
        at = root
        for step in above:
            at = at.setdefault(step, {})
        at[name] = value
    return root


def flatten(config: Config) -> dict[str, object]:
    """Every leaf's value."""

    def get(path: str) -> object:
        value: object = config
        for name in path.split("."):
            value = getattr(value, name)
        return value

    return {path: get(path) for path in leaves()}
