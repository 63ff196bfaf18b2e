"""Series in a bucket, alone and beside a data directory, with other writers in between (a real store, `file://`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.macro_files import name_of
from crypto_lake.macro import table
from crypto_lake.macro.homes import BucketHome, Home, LocalHome, RacedError
from crypto_lake.macro.keep import SeriesFiles
from crypto_lake.macro.plan import Span
from crypto_lake.store import Store
from crypto_lake.store import Unavailable as StoreUnavailable
from support.macro import START, Scripted, ask, trading_days, values


def in_bucket(store: Store, tmp_path: Path, series: str = "^GSPC", year: int = 2024) -> Mapping[date, Any]:
    return BucketHome(store, tmp_path).read(series, year).days


def test_a_bucket_alone_is_enough(store: Store, tmp_path: Path) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    report = ask(provider, date(2024, 1, 9), store=store)
    assert report.series[0].files == [f"{store.url}/{name_of('^GSPC', year)}" for year in (2023, 2024)]
    provider.days["^GSPC"][date(2024, 1, 8)] = values(5.0)
    report = ask(provider, date(2024, 1, 10), store=store)
    assert (report.series[0].outcome, report.series[0].revised_days) == ("updated", 1)
    assert [seen.values.close for seen in in_bucket(store, tmp_path)[date(2024, 1, 8)]] == [119.0, 5.0]
    assert provider.asked[-1][1] == date(2024, 1, 3), "the bucket tells the latest day"
    stored = store.stat(name_of("^GSPC", 2024))
    assert stored is not None
    assert (stored.metadata["kind"], stored.metadata["schema"]) == ("macro", "1")


def test_a_bucket_that_is_set_later_gets_what_is_here_and_gives_what_it_has(
    layout: Layout, store: Store, tmp_path: Path
) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 3))})
    ask(provider, date(2024, 1, 4), layout=layout)
    earlier = Scripted({"^GSPC": {date(2022, 5, 2): values(9.0)} | trading_days(START, date(2024, 1, 3))})
    earlier.days["^GSPC"][date(2024, 1, 2)] = values(50.0)
    ask(
        earlier, date(2024, 1, 5), task="backfill", store=store, span=Span(date(2022, 5, 1), date(2024, 1, 4))
    )
    report = ask(provider, date(2024, 1, 6), layout=layout, store=store)
    assert report.series[0].outcome == "updated"
    for year in (2022, 2023, 2024):
        here = table.read(layout.root / name_of("^GSPC", year), "^GSPC")
        assert here == in_bucket(store, tmp_path, year=year)
    closes = [seen.values.close for seen in in_bucket(store, tmp_path)[date(2024, 1, 2)]]
    assert closes == [113.0, 50.0, 113.0], "what each of the two was told, in the order of time"


@dataclass
class Meddled:
    """A home in which others write right before we do, so many times."""

    home: Home
    meddle: Callable[[int], None]
    times: int
    met: int = 0

    def years(self, series: str) -> Mapping[int, str]:
        return self.home.years(series)

    def read(self, series: str, year: int) -> Any:
        return self.home.read(series, year)

    def where(self, series: str, year: int) -> str:
        return self.home.where(series, year)

    def write(self, series: str, year: int, days: Any, token: int) -> bool:
        if self.met < self.times:
            self.met += 1
            self.meddle(self.met)
        return self.home.write(series, year, days, token)


@pytest.mark.parametrize("times", [1, 3])
def test_another_writer_in_between_loses_nothing(
    layout: Layout, store: Store, tmp_path: Path, times: int
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mine, theirs = date(2024, 1, 3), date(2024, 1, 4)

    def other(number: int) -> None:
        home = BucketHome(store, scratch)
        files = SeriesFiles("^GSPC", [home])
        files.keep({theirs: values(float(number)), mine: values(-1.0)}, 10 * number)

    meddled = Meddled(BucketHome(store, scratch), other, times)
    files = SeriesFiles("^GSPC", [LocalHome(layout.root), meddled])
    files.keep({mine: values(7.0)}, 1000)
    assert meddled.met == times
    now = in_bucket(store, scratch)
    assert [seen.values.close for seen in now[theirs]] == [float(n) for n in range(1, times + 1)]
    assert [(seen.known_us, seen.values.close) for seen in now[mine]] == [(10, -1.0), (1000, 7.0)]
    assert table.read(layout.root / name_of("^GSPC", 2024), "^GSPC") == now


def test_a_writer_that_is_always_late_gives_up_and_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    day = date(2024, 1, 3)

    def other(number: int) -> None:
        SeriesFiles("^GSPC", [BucketHome(store, tmp_path)]).keep({day: values(float(number))}, number)

    meddled = Meddled(BucketHome(store, tmp_path), other, 99)
    with pytest.raises(RacedError, match="other writers were faster"):
        SeriesFiles("^GSPC", [meddled]).keep({day: values(-7.0)}, 1000)
    assert -7.0 not in [seen.values.close for seen in in_bucket(store, tmp_path)[day]]


def test_a_merge_that_would_lose_a_version_writes_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    ask(provider, date(2024, 1, 9), layout=layout)
    before = {path: path.read_bytes() for path in layout.root.rglob("*.parquet")}
    monkeypatch.setattr("crypto_lake.macro.keep.merged", lambda one, other: dict(other))
    with pytest.raises(AssertionError, match="would lose"):
        SeriesFiles("^GSPC", [LocalHome(layout.root)]).keep({date(2024, 1, 8): values(5.0)}, 1)
    assert {path: path.read_bytes() for path in layout.root.rglob("*.parquet")} == before


def test_a_store_that_does_not_answer_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailable("no answer", at="there", hint="Try again.")

    monkeypatch.setattr(store, "put", refuse)
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8)), "^VIX": {}})
    report = ask(provider, date(2024, 1, 9), "^GSPC", "^VIX", store=store)
    assert (report.error, report.error_is_transient) == ("there: no answer. Try again.", True)
    assert len(provider.asked) == 1
