"""Whether a live object is as it was rendered. Pure.

Two questions. Is all that was rendered there, with the same value (`covers`)? What the API server adds by itself,
defaults, is no difference; `1000m` for 1 is none either. And has somebody set what was not rendered (`foreign_fields`,
`intruders`)? A default is set by nobody, so managedFields tell the two apart; without them an added container or
variable would pass for a default. Labels, annotations and what controllers write into status are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from crypto_lake_operator import quantity

FIELD_MANAGER: Final = "crypto-lake-operator"
# Keys under which texts are quantities.
_QUANTITIES: Final = frozenset({"requests", "limits", "sizeLimit", "storage", "capacity"})
# The parts of an object that are ours alone.
_OURS: Final = ("f:spec", "f:data", "f:rules", "f:automountServiceAccountToken")
Step = str  # f:name, k:{"name":"x"} or v:"x", as managedFields writes them
Path = tuple[Step, ...]


def covers(live: object, rendered: object, key: str = "") -> str:
    """The path of the first difference, empty where there is none. Lists must be of one length."""
    if isinstance(rendered, Mapping):
        if not isinstance(live, Mapping):
            return key or "."
        have = cast("Mapping[str, object]", live)
        for name, value in cast("Mapping[str, object]", rendered).items():
            below = f"{key}.{name}" if key else name
            if name not in have:
                return below
            if found := covers(have[name], value, below):
                return found
        return ""
    if isinstance(rendered, list):
        wanted = cast("list[object]", rendered)
        if not isinstance(live, list) or len(cast("list[object]", live)) != len(wanted):
            return key
        pairs = zip(cast("list[object]", live), wanted, strict=True)
        return next((d for i, (a, b) in enumerate(pairs) if (d := covers(a, b, f"{key}[{i}]"))), "")
    if live == rendered and isinstance(live, bool) == isinstance(rendered, bool):
        return ""
    if _is_quantity(key) and isinstance(live, str | int) and isinstance(rendered, str | int):
        return "" if quantity.same(live, rendered) else key
    return key


def _is_quantity(path: str) -> bool:
    return not _QUANTITIES.isdisjoint(path.split(".")[-2:])


def foreign_fields(managed: Iterable[Mapping[str, Any]]) -> tuple[Path, ...]:
    """Leaves of spec, data and the like that a manager other than we owns, and we do not. Of managedFields."""
    ours: set[Path] = set()
    theirs: set[Path] = set()
    for entry in managed:
        if entry.get("subresource"):
            continue
        fields = cast("dict[str, Any]", entry.get("fieldsV1") or {})
        leaves = {path for name in _OURS if name in fields for path in _leaves(fields[name], (name,))}
        (ours if entry.get("manager") == FIELD_MANAGER else theirs).update(leaves)
    return tuple(sorted(path for path in theirs - ours if not _is_metadata(path)))


def _is_metadata(path: Path) -> bool:
    """`kubectl rollout restart` and the like leave annotations on a template; they are to have their effect."""
    return "f:annotations" in path or "f:labels" in path


def _leaves(fields: Mapping[str, Any], path: Path) -> Iterable[Path]:
    below = {name: inner for name, inner in fields.items() if name != "."}
    if "." in fields or not below:
        yield path
    for name, inner in below.items():
        yield from _leaves(inner, (*path, name))


def intruders(live: Mapping[str, Any], rendered: Mapping[str, Any], foreign: Iterable[Path]) -> list[str]:
    """JSON pointers of what others added to the live object and was not rendered, so that each can be removed.

    Only what stands alone: of a container that was added, the container. Later elements of a list come first, so that
    removing them one after another leaves the pointers of the rest right.
    """
    found: set[tuple[str | int, ...]] = set()
    for path in foreign:
        at: object = live
        ours: object = rendered
        pointer: tuple[str | int, ...] = ()
        for step in path:
            where = _locate(at, step)
            if where is None:  # gone since
                break
            index, at = where
            pointer = (*pointer, index)
            mine = _locate(ours, step)
            if mine is None:
                found.add(pointer)
                break
            ours = mine[1]
    tops = [p for p in found if not any(p[:size] in found for size in range(1, len(p)))]
    tops.sort(
        key=lambda p: tuple((isinstance(s, int), s if isinstance(s, int) else 0, str(s)) for s in p),
        reverse=True,
    )
    return ["/" + "/".join(str(s).replace("~", "~0").replace("/", "~1") for s in p) for p in tops]


def _locate(container: object, step: Step) -> tuple[str | int, object] | None:
    """The key or index that a step of managedFields means, and what is there."""
    kind, _, rest = step.partition(":")
    if kind == "f":
        if not isinstance(container, Mapping):
            return None
        have = cast("Mapping[str, object]", container)
        return (rest, have[rest]) if rest in have else None
    if not isinstance(container, list):
        return None
    items = cast("list[object]", container)
    try:
        wanted: object = msgspec.json.decode(rest)
    except msgspec.DecodeError:
        return None
    for index, item in enumerate(items):
        if kind == "v" and item == wanted:
            return index, item
        if kind == "k" and isinstance(item, Mapping) and isinstance(wanted, Mapping):
            have, keys = cast("Mapping[str, object]", item), cast("Mapping[str, object]", wanted)
            # A key that the API fills in by itself (a port's protocol) need not stand in what was rendered.
            if all(have.get(key, value) == value for key, value in keys.items()) and any(
                k in have for k in keys
            ):
                return index, have
    return None


def remove(live: Any, pointer: str) -> None:
    """What the API server does for a `remove` of this JSON pointer. The object is changed in place."""
    *above, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    at: Any = live
    for step in above:
        at = at[_index(at, step)]
    del at[_index(at, last)]


def _index(container: object, step: str) -> str | int:
    return int(step) if isinstance(container, list) else step
