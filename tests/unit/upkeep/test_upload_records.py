"""Records that a crash may cut: what is whole of them is read, and what comes after a cut."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.uploads import UploadRecord

URL = "gs://lake/prod"


def record(name: str, generation: int, url: str = URL) -> UploadRecord:
    return UploadRecord(url, name, generation, 10, "AAAAAA==", "ab" * 32, 1, f"raw/{name}")


names = st.sampled_from(["a", "b", "ü"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, st.integers(1, 9), st.booleans()), min_size=1, max_size=8), st.data())
def test_whole_lines_are_read_wherever_a_crash_cut_and_the_next_is_added_to_them(
    tmp_path_factory: object, added: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    layout = Layout(tmp_path_factory.mktemp("records"))  # pyright: ignore[reportAttributeAccessIssue]
    made = [record(name, generation, URL if ours else "gs://other") for name, generation, ours in added]
    for one in made:
        uploads.append(layout, "binance", "BTCUSDT", "2024-08-08", [one])
    path = uploads.path_of(layout, "binance", "BTCUSDT", "2024-08-08")
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    left = made[: whole[:cut].count(b"\n")]
    # A line without its newline is whole all the same, if all of it is there.
    if cut + 1 <= len(whole) and whole[cut : cut + 1] == b"\n":
        left = made[: len(left) + 1]
    wanted = {one.name: one for one in left if one.url == URL}
    assert uploads.read(layout, "binance", "BTCUSDT", "2024-08-08", URL) == wanted
    assert uploads.other_urls(layout, "binance", "BTCUSDT", "2024-08-08", URL).keys() == {
        one.name for one in left if one.url != URL
    }
    uploads.append(layout, "binance", "BTCUSDT", "2024-08-08", [record("new", 7)])
    found = uploads.read(layout, "binance", "BTCUSDT", "2024-08-08", URL)
    assert found == wanted | {"new": record("new", 7)}


def test_doubts_are_of_one_bucket_and_replace_those_before(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert uploads.read_doubts(layout, URL) == frozenset()
    uploads.write_doubts(layout, URL, {"a", "b"})
    assert uploads.read_doubts(layout, URL) == {"a", "b"}
    assert uploads.read_doubts(layout, "gs://other") == frozenset()
    uploads.write_doubts(layout, URL, set())
    assert uploads.read_doubts(layout, URL) == frozenset()
