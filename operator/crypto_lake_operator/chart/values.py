"""values.yaml as documentation: of each value its path, default, and the comment above it."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, cast

import msgspec
import yaml

BEGIN: Final = "<!-- generated: begin (make chart) -->"
END: Final = "<!-- generated: end -->"
_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):(?P<rest>.*)$")
_COMMENT: Final = re.compile(r"^ *# ?(?P<text>.*)$")


class Value(NamedTuple):
    """`path` without dots in its keys; `default` as YAML gives it."""

    path: tuple[str, ...]
    default: Any
    text: str

    @property
    def name(self) -> str:
        return ".".join(self.path)


class UndocumentedError(ValueError):
    """A value without a comment `# --` above it; the message names it."""


def read(text: str) -> list[Value]:
    """The values that have a comment `# -- …` above them. Keys without one are sections, and hold such.

    Raises UndocumentedError where neither holds.
    """
    document = cast("dict[str, Any]", yaml.safe_load(text))
    found: list[Value] = []
    above: list[tuple[int, str]] = []  # the sections around the line, with their indents
    comment: list[str] = []
    leaf_indent: int | None = None  # of the value whose lines these are
    for line in text.splitlines():
        if not line.strip():
            comment = []
            continue
        if said := _COMMENT.match(line):
            words = said["text"]
            if words.startswith("-- "):
                comment = [words[3:]]
            elif comment:
                comment.append(words)
            continue
        key = _KEY.match(line)
        indent = len(line) - len(line.lstrip())
        if leaf_indent is not None and indent > leaf_indent:
            continue
        leaf_indent = None
        if key is None:
            raise UndocumentedError(f"can't be read: {line}")
        above = [(at, name) for at, name in above if at < indent]
        path = (*(name for _, name in above), key["key"])
        if comment:
            found.append(Value(path, _at(document, path), " ".join(comment)))
            leaf_indent = indent
        elif key["rest"].strip():
            raise UndocumentedError(f"{'.'.join(path)}: no comment `# -- …` above it")
        else:
            above.append((indent, key["key"]))
        comment = []
    return found


def _at(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = document
    for key in path:
        value = value[key]
    return value


def table(values: list[Value]) -> str:
    """For README.md."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        default = msgspec.json.encode(value.default).decode()
        lines.append(f"| `{value.name}` | `{default}` | {value.text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def page(text: str, made: str) -> str:
    """A page with what is between its marks made anew. ValueError where the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
