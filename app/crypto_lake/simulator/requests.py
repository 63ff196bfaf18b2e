"""What a client asks over a WebSocket connection, and what the exchange answers: pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

MAX_STREAMS = 1024
_MAX_ID_LENGTH = 36
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply, and what changes on the connection. combined None: it stays as it is."""

    payload: bytes
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    combined: bool | None = None


class _RefusedError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def answer(text: str | bytes, subscribed: Collection[str], *, combined: bool) -> Answer:
    """Answer one message of a client whose connection has these subscriptions. It never raises."""
    id_: int | str | None = None
    try:
        request = _parse(text)
        id_ = _request_id(request)
        return _act(request, id_, subscribed, combined)
    except _RefusedError as refused:
        error: dict[str, Any] = {"code": refused.code, "msg": str(refused)}
        if id_ is not None:
            error["id"] = id_
        return Answer(_encode(error))


def _encode(reply: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(reply, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(reply, separators=(",", ":")).encode()


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise _RefusedError(
            3, f"Invalid JSON: expected value at line {error.lineno} column {error.colno}"
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError):
        raise _RefusedError(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict):
        raise _RefusedError(2, "Invalid request: expected an object")
    return cast(dict[str, Any], request)


def _request_id(request: Mapping[str, Any]) -> int | str | None:
    id_ = request.get("id", False)
    as_number = isinstance(id_, int) and not isinstance(id_, bool) and -(2**63) <= id_ < 2**63
    as_text = isinstance(id_, str) and len(id_) <= _MAX_ID_LENGTH
    if id_ is None or as_number or as_text:
        return id_
    raise _RefusedError(2, "Invalid request: request ID must be an unsigned integer")


def _act(
    request: Mapping[str, Any], id_: int | str | None, subscribed: Collection[str], combined: bool
) -> Answer:
    if "method" not in request:
        raise _RefusedError(2, "Invalid request: missing field `method` at line 1 column 1")
    method = request["method"]
    params: Any = request.get("params")
    match method:
        case "SUBSCRIBE":
            names = _names(params)
            if len(set(subscribed) | set(names)) > MAX_STREAMS:
                raise _RefusedError(
                    2, f"Invalid request: too many parameters, at most {MAX_STREAMS} streams a connection"
                )
            return Answer(_encode({"result": None, "id": id_}), subscribe=names)
        case "UNSUBSCRIBE":
            return Answer(_encode({"result": None, "id": id_}), unsubscribe=_names(params))
        case "LIST_SUBSCRIPTIONS":
            if params:
                raise _RefusedError(2, "Invalid request: too many parameters")
            return Answer(_encode({"result": list(subscribed), "id": id_}))
        case "SET_PROPERTY":
            values = _property(params, 2)
            if not isinstance(values[1], bool):
                raise _RefusedError(1, "Invalid value type: expected Boolean")
            return Answer(_encode({"result": None, "id": id_}), combined=values[1])
        case "GET_PROPERTY":
            _property(params, 1)
            return Answer(_encode({"result": combined, "id": id_}))
        case _:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            raise _RefusedError(
                2,
                f"Invalid request: unknown variant `{method}`, expected one of {expected} at line 1 column 1",
            )


def _names(params: Any) -> tuple[str, ...]:
    if not isinstance(params, list):
        raise _RefusedError(2, "Invalid request: missing field `params` at line 1 column 1")
    names = cast(list[Any], params)
    if not all(isinstance(name, str) for name in names):
        raise _RefusedError(2, "Invalid request: a stream name must be a string")
    return tuple(cast(list[str], names))


def _property(params: Any, count: int) -> list[Any]:
    values = cast(list[Any], params) if isinstance(params, list) else []
    if not values or not isinstance(values[0], str):
        raise _RefusedError(2, "Invalid request: property name must be a string")
    if values[0] != "combined":
        raise _RefusedError(0, "Unknown property")
    if len(values) > count:
        raise _RefusedError(2, "Invalid request: too many parameters")
    return values if len(values) == count else [*values, None]
