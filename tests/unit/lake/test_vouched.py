"""A manifest tells by itself whether it is what was written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake.vouched import changed, vouched

objects = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=70), st.lists(st.integers(0, 9), max_size=3)),
    min_size=1,
    max_size=5,
)


def written(content: dict[str, object]) -> bytes:
    return vouched(msgspec.json.format(msgspec.json.encode(content), indent=1))


@given(objects)
def test_what_was_written_is_not_changed_and_reads_as_it_did(content: dict[str, object]) -> None:
    data = written(content)
    assert not changed(data)
    read = msgspec.json.decode(data)
    assert len(read.pop("manifest_sha256")) == 64
    assert read == content


@given(objects, st.data())
def test_a_changed_bit_is_found_or_leaves_no_manifest(
    content: dict[str, object], data: st.DataObject
) -> None:
    whole = bytearray(written(content))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        msgspec.json.decode(bytes(whole))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert changed(bytes(whole))


@given(objects)
def test_one_of_an_earlier_version_is_taken_as_it_is(content: dict[str, object]) -> None:
    content.pop("manifest_sha256", None)
    earlier = msgspec.json.format(msgspec.json.encode({**content, "md5": "x"}), indent=1)
    assert not changed(earlier + b"\n")


def test_nothing_is_no_manifest() -> None:
    with pytest.raises(ValueError, match="not empty"):
        vouched(b"{}")
