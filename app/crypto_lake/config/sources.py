"""Where values come from: a YAML file, the environment, flags. Each reader gives paths with value and origin.

A reader tells all its problems, not the first alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import msgspec
import yaml

from crypto_lake.config.tree import VARIABLE_PREFIX, Leaf, leaves, sections
from crypto_lake.model.symbols import nearest

# Variables with our prefix that are no configuration: the file's place, the program's own, the tests'.
OTHER_VARIABLES = frozenset(
    {
        "CRYPTO_LAKE_CONFIG",
        "CRYPTO_LAKE_DEBUG",
        "CRYPTO_LAKE_PARENT_PID",
        "CRYPTO_LAKE_RECORDED_DATA",
        "CRYPTO_LAKE_SQL_HISTORY",
    }
)
ALIASES = {"LOG_LEVEL": "logging.console"}
# Kubernetes tells a pod of each Service by variables named after it; one named crypto-lake-collector gives
# CRYPTO_LAKE_COLLECTOR_PORT=tcp://10.0.0.7:9464, which is nobody's setting.
_SERVICE_LINK = re.compile(r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Origin:
    """kind, and which: `file` `config.yml:12`, `environment` `CRYPTO_LAKE_DATA`, `flag` `--data`."""

    kind: Literal["default", "file", "environment", "flag"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".strip()


@dataclass(slots=True)
class Layer:
    """What one source says. `problems` are lines for the user."""

    values: dict[str, tuple[object, Origin]] = field(default_factory=dict[str, tuple[object, Origin]])
    problems: list[str] = field(default_factory=list[str])


def unknown_key(path: str, where: str) -> str:
    """`unknown key collector.symbol (config.yml:3); did you mean collector.symbols?`"""
    known = [*leaves(), *(name for name in sections() if name)]
    near = nearest(path, known)
    if near is None:  # perhaps the right name in the wrong section
        last = path.rpartition(".")[2]
        near = next((other for other in known if other.rpartition(".")[2] == last), None)
    hint = f"did you mean {near}?" if near else "`crypto-lake config show` lists all"
    return f"unknown key {path} ({where}); {hint}"


def read_text_value(leaf: Leaf, text: str) -> object:
    """Text of a variable or flag, as far as its shape goes; its type is checked when it is converted.

    Raises ValueError where it can't be told.
    """
    if leaf.holds_sections:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(f"expected JSON: {error}") from None
    if leaf.is_list:
        return [piece.strip() for piece in text.split(",") if piece.strip()]
    return text


def read_flags(given: Mapping[str, tuple[str, str]]) -> Layer:
    """Flags: path -> (text, the flag as it was written)."""
    layer = Layer()
    for path, (text, flag) in given.items():
        _take_text(layer, path, text, Origin("flag", flag))
    return layer


def read_environment(environment: Mapping[str, str]) -> Layer:
    """Variables with our prefix, and LOG_LEVEL. An empty one counts as not set."""
    layer = Layer()
    by_variable = {leaf.variable: path for path, leaf in leaves().items()}
    for name, text in sorted(environment.items()):
        if not text or name in OTHER_VARIABLES:
            continue
        if name in ALIASES:
            layer.values.setdefault(ALIASES[name], (text, Origin("environment", name)))
        elif name.startswith(VARIABLE_PREFIX) and not _is_service_link(name, text):
            path = by_variable.get(name)
            if path is not None:
                _take_text(layer, path, text, Origin("environment", name))
            else:
                near = nearest(name, by_variable)
                hint = f"did you mean {near}?" if near else "`crypto-lake config show` lists all keys"
                layer.problems.append(f"unknown variable {name}; {hint}")
    return layer


def _is_service_link(name: str, text: str) -> bool:
    return _SERVICE_LINK.search(name) is not None or (
        name.endswith("_PORT") and _SERVICE_ADDRESS.match(text) is not None
    )


def _take_text(layer: Layer, path: str, text: str, origin: Origin) -> None:
    leaf = leaves().get(path)
    if leaf is None:
        layer.problems.append(unknown_key(path, str(origin)))
        return
    try:
        # Our own names win over aliases, whichever comes first.
        layer.values[path] = (read_text_value(leaf, text), origin)
    except ValueError as error:
        layer.problems.append(f"{path}: {error} ({origin})")


def read_yaml(text: str, name: str) -> Layer:
    """A configuration file. `name` is how it is called in messages and origins."""
    layer = Layer()
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        layer.problems.append(f"{name}: not valid YAML: {' '.join(str(error).split())}")
        return layer
    try:
        node = loader.get_single_node()
        if node is None or _is_null(node):
            return layer
        if not isinstance(node, yaml.MappingNode):
            layer.problems.append(f"{name}: expected keys and values, such as `data: /srv/lake`")
            return layer
        _walk(loader, node, "", name, layer)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        layer.problems.append(f"{name}{line}: not valid YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-40
        layer.problems.append(f"{name}: not valid YAML: {' '.join(str(error).split())}")
    finally:
        loader.dispose()
    return layer


def _walk(loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, name: str, layer: Layer) -> None:
    """Take the leaves of a section; sections below it are walked in turn."""
    for path, key, value in _pairs(loader, node, prefix, name, layer):
        where = f"{name}:{key.start_mark.line + 1}"
        leaf = leaves().get(path)
        if leaf is not None:
            layer.problems += _duplicates(value, path, name)
            plain = _construct(loader, value)
            if plain is None:
                layer.problems.append(f"{path} has no value ({where}); give it one or remove the line")
            else:
                layer.values[path] = (plain, Origin("file", where))
        elif path not in sections():
            layer.problems.append(unknown_key(path, where))
        elif isinstance(value, yaml.MappingNode):
            _walk(loader, value, path + ".", name, layer)
        elif not _is_null(value):
            layer.problems.append(f"{path} ({where}): expected keys below it, such as {_first_below(path)}")


def _pairs(
    loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, name: str, layer: Layer
) -> Iterable[tuple[str, yaml.Node, yaml.Node]]:
    seen: dict[str, int] = {}
    # Twice the same key: YAML's readers keep the last without a word.
    for key, _ in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        text = str(cast(object, key.value))
        if text in seen:
            layer.problems.append(
                f"{prefix}{text} stands twice ({name}:{seen[text]} and {name}:{key.start_mark.line + 1}); "
                "keep one of them"
            )
        seen[text] = key.start_mark.line + 1
    loader.flatten_mapping(node)
    taken: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        text = str(cast(object, key.value))
        taken[text] = (prefix + text, key, value)  # merged keys (<<) come first, so that own ones win
    return taken.values()


def _duplicates(node: yaml.Node, path: str, name: str) -> list[str]:
    """Keys that stand twice anywhere inside a leaf's value."""
    found: list[str] = []
    stack: list[yaml.Node] = [node]
    done: set[int] = set()
    while stack:
        at = stack.pop()
        if id(at) in done:
            continue
        done.add(id(at))
        if isinstance(at, yaml.SequenceNode):
            stack += cast("list[yaml.Node]", at.value)
        elif isinstance(at, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", at.value):
                text = str(cast(object, key.value))
                if text in seen:
                    found.append(
                        f"{path}: {text} stands twice ({name}:{key.start_mark.line + 1}); keep one of them"
                    )
                seen.add(text)
                stack.append(value)
    return found


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _first_below(path: str) -> str:
    return next(leaf for leaf in leaves() if leaf.startswith(path + "."))


def _construct(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    return cast("Callable[..., object]", getattr(loader, "construct_object"))(node, deep=True)  # noqa: B009
