"""Names in the bucket say what an object is, and every kind of file has one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store.names import name_problem
from crypto_lake.upkeep import names
from crypto_lake.upkeep.names import (
    BarsObject,
    LakeObject,
    LedgerSegment,
    Manifest,
    RawObject,
    ReportObject,
    VerdictsObject,
    parse,
)

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
exchanges = st.sampled_from(["binance", "other_1"])
symbols = st.one_of(words, st.just("_control"))
collectors = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,40}", fullmatch=True)
days = st.dates(min_value=date(2000, 1, 1)).map(lambda day: day.isoformat())
hours = st.integers(0, 23)
files = st.one_of(
    st.builds("hour_{:02d}.jsonl.zst".format, hours),
    st.builds("hour_{:02d}_{}.jsonl.zst".format, hours, st.integers(2, 999)),
    st.builds(lambda h, a, n: f"healed_{h:02d}_{a}-{a + n}.jsonl.zst", hours, st.integers(0), st.integers(0)),
)
raws = st.builds(RawObject, exchanges, symbols, days, collectors, files)
segments = st.builds(
    LedgerSegment, exchanges, words, days, collectors, st.integers(1, 99), st.integers(0, 99)
)
bars = st.builds(BarsObject, exchanges, words, days)
verdicts = st.builds(VerdictsObject, exchanges, words, days, collectors)
reports = st.builds(ReportObject, exchanges, words, days, collectors, st.sampled_from(["json", "md"]))
objects = st.one_of(raws, segments, bars, verdicts, reports, st.builds(Manifest, st.one_of(raws, bars)))


@given(objects)
def test_a_name_says_what_it_names(made: LakeObject) -> None:
    assert parse(made.name) == made
    assert name_problem(made.name) is None


@given(st.lists(objects, max_size=20))
def test_no_two_objects_have_one_name(made: list[LakeObject]) -> None:
    assert len({one.name for one in made}) == len(set(made))


@given(raws)
def test_a_raw_file_and_its_manifest_have_the_paths_of_the_disk_with_the_collector_between(
    raw: RawObject,
) -> None:
    layout = Layout(Path("/lake"))
    path = layout.raw_day(raw.exchange, raw.symbol, raw.day) / raw.file
    assert names.raw_object(str(path.relative_to(layout.root)), raw.collector) == raw
    assert raw.local == str(path.relative_to(layout.root))
    assert Manifest(raw).local == str(layout.manifest(path).relative_to(layout.root))
    assert Manifest(raw).name == f"manifests/{raw.name}.json"


def test_bars_keep_the_path_of_the_disk() -> None:
    layout = Layout(Path("/lake"))
    made = BarsObject("binance", "BTCUSDT", "2024-08-08")
    assert str(layout.bars("binance", "BTCUSDT", "2024-08-08").relative_to(layout.root)) == made.name


@pytest.mark.parametrize(
    "path",
    [
        str(Layout(Path()).part("binance", "BTCUSDT", Hour("2024-08-08", 1), 3)),
        "raw/binance/BTCUSDT/2024-08-08/hour_24.jsonl.zst",
        "raw/binance/BTCUSDT/2024-13-08/hour_13.jsonl.zst",
        "raw/binance/BTCUSDT/2024-08-08/notes.txt",
        "raw/binance/hour_13.jsonl.zst",
        "raw/binance/../2024-08-08/hour_13.jsonl.zst",
    ],
)
def test_what_is_no_sealed_raw_has_no_name(path: str) -> None:
    with pytest.raises(ValueError, match="has no name in a bucket"):
        names.raw_object(path, "c-1")


@pytest.mark.parametrize("collector", ["", "a/b", "..", "a_2", "ä", "-x", "x" * 65])
def test_a_collector_that_can_not_stand_in_a_name_is_refused(collector: str) -> None:
    with pytest.raises(ValueError, match="state/collector"):
        names.raw_object("raw/binance/BTCUSDT/2024-08-08/hour_13.jsonl.zst", collector)


@given(st.text(alphabet="abraw/ledgrmnifst0123-_.jsonlz{}=yhdoubpqt", max_size=80))
def test_other_names_say_nothing_or_what_they_are(text: str) -> None:
    made = parse(text)
    assert made is None or made.name == text


def test_the_words_of_many_names_are_held_once() -> None:
    """Whoever lists a bucket holds a million of them."""
    first, second = (
        parse(f"manifests/raw/binance/BTCUSDT/2024-08-08/prod-0-9f3a/hour_{hour}.jsonl.zst.json")
        for hour in ("01", "02")
    )
    assert isinstance(first, Manifest)
    assert isinstance(second, Manifest)
    assert isinstance(first.of, RawObject)
    assert isinstance(second.of, RawObject)
    for word in ("exchange", "symbol", "day", "collector"):
        assert getattr(first.of, word) is getattr(second.of, word)
