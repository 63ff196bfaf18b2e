"""What names and URLs may be, and what a server's refusal is taken for."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.store import BadAddress, Declared, Stored, measure
from crypto_lake.store.answers import error_of, is_transient, parse_answer
from crypto_lake.store.checksums import differences
from crypto_lake.store.names import GcsAddress, LocalAddress, full_name, name_problem, parse_url

segments = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=30)
names = st.lists(segments, min_size=1, max_size=6).map("/".join)


@given(st.one_of(names, st.text(max_size=50)))
def test_a_name_that_passes_stays_in_its_folder(name: str) -> None:
    if name_problem(name) is not None:
        with pytest.raises(BadAddress):
            full_name("", name, "gs://b")
        return
    path = PurePosixPath("/bucket") / name
    assert path.is_relative_to("/bucket")
    assert path != PurePosixPath("/bucket")
    assert str(path) == f"/bucket/{name}"
    assert ".." not in path.parts
    assert not any(ord(c) < 32 for c in name)


@given(names)
def test_urls_say_what_they_were_made_of(name: str) -> None:
    if name_problem(name) is None:
        assert parse_url(f"gs://my-lake/{name}") == GcsAddress("my-lake", name)
        assert parse_url(f"gs://my-lake/{name}/").url == f"gs://my-lake/{name}"
        assert parse_url("file:///" + quote(name)) == LocalAddress(f"/{name}")


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(BadAddress):
        address = parse_url(text)
        assert (
            parse_url(address.url if isinstance(address, GcsAddress) else f"file://{quote(address.path)}")
            == address
        )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("my-lake/prod", "Do you mean gs://my-lake/prod"),
        ("s3://my-lake", "there is no store for s3://"),
        ("gs://", "names no bucket"),
        ("gs://Lake", "can't be a bucket's name"),
        ("gs://ab", "can't be a bucket's name"),
        ("gs://my-lake/../x", ".. as a segment"),
        ("gs://my-lake//x", "segment"),
        ("file://data/lake", "file:///data/lake"),
        ("file:///data/../lake", "holds .."),
        ("file:///data?x", "%3F"),
        ("gs://my-lake/a\nb", "control character"),
        ("", "no URL of a store"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_url(url)
    assert says in str(caught.value)


@given(
    st.integers(300, 599),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["error", "errors", "message", "reason", "x"]), inner)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_answer_becomes_an_error_that_says_what_to_do(status: int, body: bytes) -> None:
    answer = parse_answer(status, body)
    assert len(answer.message) <= 400
    assert "\n" not in answer.message
    is_transient(answer)
    error = error_of(answer, at="gs://b/o", bucket="b", needed="storage.objects.create")
    assert len(error.hint) > 20
    assert str(error).startswith("gs://b/o: ")


def test_measuring_is_what_the_tools_of_cloud_storage_tell(tmp_path: Path) -> None:
    """The checksums of `123456789` and of nothing, as anybody computes them."""
    path = tmp_path / "x"
    path.write_bytes(b"123456789")
    assert measure(path) == Declared(
        9,
        "4waSgw==",  # 0xe3069283, the check value of CRC-32C
        "JfnnlDI7RTiF9RgfG2JNCw==",
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    )
    path.write_bytes(b"")
    assert measure(path).crc32c == "AAAAAA=="


def test_each_difference_is_told() -> None:
    declared = Declared(1, "a", "b", "c")
    same = Stored("x", 1, "a", "b", 7, {"sha256": "c"}, None)
    assert differences(declared, same) == ()
    assert differences(declared, Stored("x", 1, "a", None, 7, {}, None)) == ()
    other = Stored("x", 2, "A", "B", 7, {"sha256": "C"}, None)
    assert [one.split(":")[0] for one in differences(declared, other)] == ["bytes", "crc32c", "md5", "sha256"]
