"""What a client may ask over a connection, and the exchange's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.simulator.requests import MAX_STREAMS, Answer, answer


def ask(request: Any, subscribed: tuple[str, ...] = (), *, combined: bool = True) -> tuple[Answer, Any]:
    found = answer(json.dumps(request), subscribed, combined=combined)
    return found, json.loads(found.payload)


ids = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text("abcXYZ019", max_size=36))
names = st.lists(st.sampled_from(["btcusdt@trade", "ethusdt@bookTicker", "nonsense"]), max_size=4)


@given(ids, names)
def test_subscribing_is_acknowledged_with_its_id(id_: Any, streams: list[str]) -> None:
    found, reply = ask({"method": "SUBSCRIBE", "params": streams, "id": id_})
    assert reply == {"result": None, "id": id_}
    assert found.subscribe == tuple(streams)
    found, reply = ask({"method": "UNSUBSCRIBE", "params": streams, "id": id_})
    assert reply == {"result": None, "id": id_}
    assert found.unsubscribe == tuple(streams)


@given(ids, names)
def test_subscriptions_are_listed(id_: Any, streams: list[str]) -> None:
    _, reply = ask({"method": "LIST_SUBSCRIPTIONS", "id": id_}, tuple(streams))
    assert reply == {"result": streams, "id": id_}


def test_the_combined_property_is_set_and_read() -> None:
    found, reply = ask({"method": "SET_PROPERTY", "params": ["combined", False], "id": 5})
    assert (found.combined, reply) == (False, {"result": None, "id": 5})
    _, reply = ask({"method": "GET_PROPERTY", "params": ["combined"], "id": 2}, combined=False)
    assert reply == {"result": False, "id": 2}


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ({"method": "SET_PROPERTY", "params": ["colour", True], "id": 1}, 0, "Unknown property"),
        ({"method": "GET_PROPERTY", "params": ["colour"], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
        ({"method": "SET_PROPERTY", "params": ["combined"], "id": 1}, 1, "expected Boolean"),
        ({"method": "GET_PROPERTY", "params": [1], "id": 1}, 2, "property name must be a string"),
        ({"method": "GET_PROPERTY", "id": 1}, 2, "property name must be a string"),
        ({"method": "GET_PROPERTY", "params": ["combined", 1], "id": 1}, 2, "too many parameters"),
        ({"method": "SUBSCRIBE", "params": ["a"]}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "params": ["a"], "id": 1.5}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "params": ["a"], "id": "x" * 37}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "params": ["a"], "id": 2**63}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "params"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "must be a string"),
        ({"method": "SUSBCRIBE", "params": [], "id": 1}, 2, "unknown variant `SUSBCRIBE`"),
        ({"params": [], "id": 1}, 2, "missing field `method`"),
        ({"method": "LIST_SUBSCRIPTIONS", "params": ["a"], "id": 1}, 2, "too many parameters"),
        ([], 2, "expected an object"),
    ],
)
def test_errors_have_the_exchanges_codes(request_: Any, code: int, text: str) -> None:
    found, reply = ask(request_)
    assert reply["code"] == code
    assert text in reply["msg"]
    assert reply.get("id") == (1 if isinstance(request_, dict) and request_.get("id") == 1 else None)
    assert found == Answer(found.payload)  # nothing changes


def test_1024_streams_are_the_most() -> None:
    full = tuple(f"s{i}@trade" for i in range(MAX_STREAMS))
    _, reply = ask({"method": "SUBSCRIBE", "params": [full[0]], "id": 1}, full)
    assert reply == {"result": None, "id": 1}
    found, reply = ask({"method": "SUBSCRIBE", "params": ["more@trade"], "id": 1}, full)
    assert reply["code"] == 2
    assert found.subscribe == ()


@pytest.mark.parametrize("request_", [{"method": "LIST_SUBSCRIPTIONS"}, {"method": "\ud800"}])
def test_half_a_surrogate_pair_is_answered_in_utf8(request_: Any) -> None:
    text = json.dumps(request_ | {"id": "\ud800"})
    payload = answer(text, ("\ud800@trade",), combined=True).payload
    assert json.loads(payload.decode("utf-8"))["id"] == "\ud800"


@given(st.one_of(st.text(), st.binary()))
def test_anything_else_is_answered_too(text: str | bytes) -> None:
    reply = json.loads(answer(text, (), combined=True).payload)
    try:
        json.loads(text)
    except ValueError:
        assert reply["code"] == 3
        assert reply["msg"].startswith("Invalid JSON")
    else:
        assert reply["code"] in (2, 3)
