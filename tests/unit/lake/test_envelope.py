from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake import envelope

JSON = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.text() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.integers(0, 2**63 - 1), st.sampled_from([None, *envelope.SOURCES]))
def test_the_message_stays_as_it_came(value: object, received_ns: int, source: str | None) -> None:
    message = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if envelope.refusal(message):
        return
    line = envelope.encode(received_ns, "c-7f3a-12", message, source)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read = envelope.decode(line)
    assert bytes(read.message) == message
    assert (read.received_ns, read.connection, read.source) == (received_ns, "c-7f3a-12", source)


def test_what_may_not_become_a_line() -> None:
    assert envelope.refusal(b'{"a":\n1}') == "newline in message"
    assert envelope.refusal(b'{"a":"\xff"}') == "broken UTF-8"
    assert envelope.refusal('{"s":"这是测试币456"}'.encode()) is None
