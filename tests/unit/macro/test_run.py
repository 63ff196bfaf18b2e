"""Runs on a provider that says what a test wants, with a real data directory and a real store (`file://`)."""

from __future__ import annotations

import threading
from collections import deque
from datetime import date

import polars as pl
import pytest

from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.macro_files import name_of
from crypto_lake.macro.provider import (
    ProviderError,
    RateLimited,
    Unavailable,
)
from crypto_lake.macro.run import Settings, check
from support.macro import START, Scripted, ask, trading_days, us, values


def limited(series: str = "^GSPC", retry_after_seconds: float | None = None) -> RateLimited:
    return RateLimited("too many", series=series, hint="Wait.", retry_after_seconds=retry_after_seconds)


def kept(layout: Layout, series: str = "^GSPC") -> pl.DataFrame:
    return pl.read_parquet([*layout.root.glob("parquet/macro/*/year=*/daily.parquet")]).filter(
        pl.col("series") == series
    ).sort("date", "version")  # fmt: skip


# --- what is kept ------------------------------------------------------------------------------------------------


def test_a_first_update_asks_for_all_and_keeps_what_is_over(layout: Layout) -> None:
    today = date(2024, 1, 5)
    provider = Scripted({"^GSPC": trading_days(START, today)})
    report = ask(provider, today, layout=layout)
    (one,) = report.series
    assert provider.asked == [("^GSPC", START, date(2024, 1, 6))]
    assert (one.outcome, one.new_days, one.revised_days) == ("updated", 12, 0)
    assert one.unfinished == [today], "today's day goes on"
    assert one.latest == date(2024, 1, 4)
    assert one.files == [str(layout.root / name_of("^GSPC", year)) for year in (2023, 2024)]
    rows = kept(layout)
    assert rows["date"].to_list() == sorted(day for day in provider.days["^GSPC"] if day < today)
    assert set(rows["known_at"].dt.epoch("us")) == {us(today, 12)}


def test_an_update_again_changes_no_byte(layout: Layout) -> None:
    today = date(2024, 1, 5)
    provider = Scripted({"^GSPC": trading_days(START, today)})
    ask(provider, today, layout=layout)
    before = {path: path.read_bytes() for path in layout.root.rglob("*.parquet")}
    report = ask(provider, date(2024, 1, 5), layout=layout)
    assert [(one.outcome, one.files) for one in report.series] == [("unchanged", [])]
    assert provider.asked[-1] == ("^GSPC", date(2023, 12, 30), date(2024, 1, 6)), (
        "five days before the latest"
    )
    assert {path: path.read_bytes() for path in layout.root.rglob("*.parquet")} == before


def test_a_revised_value_is_a_new_version_beside_the_old_one(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    ask(provider, date(2024, 1, 6), layout=layout)
    revised = date(2024, 1, 3)
    provider.days["^GSPC"][revised] = values(77.0, 5)
    report = ask(provider, date(2024, 1, 7), layout=layout)
    (one,) = report.series
    assert (one.new_days, one.revised_days) == (0, 1)
    assert [(r.day, r.close_before, r.close, r.fields) for r in one.revised] == [
        (revised, 114.0, 77.0, ("open", "high", "low", "close", "volume"))
    ]
    rows = kept(layout).filter(pl.col("date") == revised)
    assert rows.select("version", "close").rows() == [(1, 114.0), (2, 77.0)]
    assert rows["known_at"].dt.epoch("us").to_list() == [us(date(2024, 1, 6), 12), us(date(2024, 1, 7), 12)]


def test_a_backfill_finds_what_was_revised_long_ago(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    ask(provider, date(2024, 1, 9), layout=layout)
    provider.days["^GSPC"][START] = values(1.0)
    assert ask(provider, date(2024, 1, 9), layout=layout).series[0].outcome == "unchanged"
    report = ask(provider, date(2024, 1, 9), task="backfill", layout=layout)
    assert report.series[0].revised_days == 1


def test_a_day_that_the_provider_no_longer_tells_stays(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    ask(provider, date(2024, 1, 9), layout=layout)
    del provider.days["^GSPC"][date(2024, 1, 5)]
    assert ask(provider, date(2024, 1, 9), layout=layout).series[0].outcome == "unchanged"
    assert date(2024, 1, 5) in kept(layout)["date"].to_list()


def test_a_dry_run_tells_and_writes_nothing(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    report = ask(provider, date(2024, 1, 9), layout=layout, dry_run=True)
    (one,) = report.series
    assert (one.outcome, one.new_days, one.known_days, one.files) == ("planned", 14, 14, [])
    assert not list(layout.root.rglob("*"))


def test_holidays_and_gaps_are_told_apart(layout: Layout) -> None:
    christmas, lost, shared = date(2023, 12, 25), date(2023, 12, 28), date(2024, 1, 3)
    last = date(2024, 1, 8)
    provider = Scripted(
        {
            "^GSPC": trading_days(START, last, christmas, date(2024, 1, 1), lost, shared),
            "^VIX": trading_days(START, last, christmas, date(2024, 1, 1), shared),
        }
    )
    report = ask(provider, date(2024, 1, 9), "^GSPC", "^VIX", layout=layout)
    assert [(one.holidays, one.gaps, one.unconfirmed) for one in report.series] == [(2, 1, 1), (2, 0, 1)]
    assert [(one.day, one.kind, one.why) for one in report.series[0].absent] == [
        (lost, "gap", "^VIX had a trading day"),
        (shared, "unconfirmed", "no holiday is known, and no other series of this market has the day"),
    ]
    provider.empty = frozenset({shared})
    report = ask(provider, date(2024, 1, 9), "^GSPC", task="backfill", layout=layout)
    assert [one.kind for one in report.series[0].absent] == ["unconfirmed", "gap"]


def test_check_tells_the_same_of_what_is_kept(layout: Layout) -> None:
    lost = date(2023, 12, 28)
    holidays = (date(2023, 12, 25), date(2024, 1, 1))
    provider = Scripted(
        {
            "^GSPC": trading_days(START, date(2024, 1, 8), *holidays, lost),
            "^VIX": trading_days(START, date(2024, 1, 8), *holidays),
        }
    )
    ask(provider, date(2024, 1, 9), "^GSPC", "^VIX", layout=layout)
    report = check(("^GSPC", "^VIX", "GC=F"), layout=layout, now_us=lambda: us(date(2024, 1, 9)))
    assert [(one.series, one.outcome, one.holidays, one.gaps) for one in report.series] == [
        ("^GSPC", "unchanged", 2, 1),
        ("^VIX", "unchanged", 2, 0),
        ("GC=F", "failed", 0, 0),
    ]
    assert [one.day for one in report.series[0].absent] == [lost]


# --- errors --------------------------------------------------------------------------------------------------------


def test_one_series_that_is_not_there_does_not_stop_the_others(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    report = ask(provider, date(2024, 1, 9), "^NOPE", "^GSPC", layout=layout)
    assert [one.outcome for one in report.series] == ["failed", "updated"]
    assert "Look it up" in report.series[0].text


def test_a_limit_stops_asking_and_says_so(layout: Layout) -> None:
    provider = Scripted({"^GSPC": {}, "^VIX": {}}, deque([limited()]))
    report = ask(provider, date(2024, 1, 9), "^GSPC", "^VIX", layout=layout)
    assert [one.outcome for one in report.series] == ["waits", "not_asked"]
    assert len(provider.asked) == 1
    assert "limits" in report.series[1].text


@pytest.mark.parametrize(
    "error", [limited(retry_after_seconds=0.03), Unavailable("503", series="^GSPC", hint="")]
)
def test_what_may_pass_is_tried_again_after_a_wait_that_is_told(
    layout: Layout, error: ProviderError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crypto_lake.macro.plan.FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr("crypto_lake.macro.plan.FIRST_WAIT_WHEN_LIMITED_SECONDS", 0.02)
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))}, deque([error, error]))
    said: list[str] = []
    settings = Settings(START, patience_seconds=1.0)
    report = ask(provider, date(2024, 1, 9), layout=layout, settings=settings, say=said.append)
    assert [one.outcome for one in report.series] == ["updated"]
    assert len(provider.asked) == 3
    assert len(said) == 2
    assert all("next try in 0 s" in text for text in said)
    assert report.waited_seconds >= 0.03


def test_a_stop_ends_a_wait(layout: Layout) -> None:
    provider = Scripted({"^GSPC": {}, "^VIX": {}}, deque([limited(), limited()]))
    stop = threading.Event()
    settings = Settings(START, patience_seconds=3600.0)
    report = ask(
        provider,
        date(2024, 1, 9),
        "^GSPC",
        "^VIX",
        layout=layout,
        settings=settings,
        stop=stop,
        say=lambda _: stop.set(),
    )
    assert (report.stopped, len(provider.asked), [one.outcome for one in report.series]) == (
        True,
        1,
        ["waits"],
    )


def test_a_file_that_is_not_ours_is_never_overwritten(layout: Layout) -> None:
    path = layout.root / name_of("^GSPC", 2024)
    path.parent.mkdir(parents=True)
    pl.DataFrame({"close": [1.0]}).write_parquet(path)
    before = path.read_bytes()
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    report = ask(provider, date(2024, 1, 9), layout=layout)
    assert [one.outcome for one in report.series] == ["alert"]
    assert "Nothing was overwritten" in report.series[0].text
    assert path.read_bytes() == before


def test_a_second_writer_of_a_directory_is_refused(layout: Layout) -> None:
    provider = Scripted({"^GSPC": trading_days(START, date(2024, 1, 8))})
    with locks.hold(layout.locks, "macro"), pytest.raises(locks.LockHeldError):
        ask(provider, date(2024, 1, 9), layout=layout)


def test_neither_directory_nor_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        ask(Scripted({}), date(2024, 1, 9))
