"""The figures beside a picture, as people read them: name, value, what it means. Pure. A dash: not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crypto_lake.dashboard.choice import Freshness, age_words
from crypto_lake.dashboard.series import Known, Series
from crypto_lake.dashboard.status import Live

UNKNOWN: Final = "–"

Figure = tuple[str, str, str]


def known_words(series: Series, fresh: Freshness | None) -> str:
    """How much of a window is there, what is not, and where the bars end."""
    known = series.known
    share = known.share
    parts = ["nothing of this range is there yet" if share is None else f"{percent(share)} known"]
    if known.missing:
        parts.append(f"{age_words(known.missing)} missing")
    if known.incomplete:
        parts.append(f"{age_words(known.incomplete)} incomplete")
    if known.healed:
        parts.append(f"{age_words(known.healed)} healed")
    # Less than an interval is the rounding of the window's end.
    if known.waiting >= series.seconds:
        parts.append(f"the last {age_words(known.waiting)} not there yet")
    if fresh is not None and fresh.known_until is not None:
        ago = "" if fresh.age_seconds is None else f", {age_words(fresh.age_seconds)} ago"
        parts.append(f"bars end {fresh.known_until:%Y-%m-%d %H:%M:%S}Z{ago}")
    return " · ".join(parts)


def percent(share: float) -> str:
    """Never rounded up to 100 % or down to 0 %: one missing second is one."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.01), 99.99):.2f} %"


def number(value: object, digits: int = 8) -> str:
    """A price or a size, without zeros that say nothing."""
    if not isinstance(value, int | float):
        return UNKNOWN
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def numbers_of(series: Series) -> list[Figure]:
    """Of the last interval that is there."""
    last = series.last or {}
    bid, ask = last.get("bid"), last.get("ask")
    spread = UNKNOWN
    if isinstance(bid, float) and isinstance(ask, float) and bid + ask > 0:
        spread = f"{(ask - bid) / (ask + bid) * 20_000:.3f} bps"
    volume = series.grid["volume_base"].sum() if series.last else None
    return [
        ("Close", number(last.get("close")), "of the last bar shown"),
        ("Best bid", number(bid), "at the end of the last bar shown"),
        ("Best ask", number(ask), "at the end of the last bar shown"),
        ("Spread", spread, "ask minus bid, in hundredths of a percent of their mean"),
        ("Volume", number(volume, 2), "of all bars shown, in the base asset"),
    ]


def figures_of(series: Sequence[Series], live: Live) -> list[Figure]:
    """Data quality: of the bars that are shown, and of the collectors that answered."""
    seconds = [sum(values) for values in zip(*(_good_and_due(one.known) for one in series), strict=True)]
    coverage = percent(seconds[0] / seconds[1]) if seconds and seconds[1] else UNKNOWN
    healed = sum(one.known.healed for one in series)
    missing = sum(one.known.missing + one.known.incomplete for one in series)
    disk = UNKNOWN if live.disk_percent is None else f"{live.disk_percent:.0f} %"
    full = "" if live.disk_full_in_seconds is None else f"; full in {age_words(live.disk_full_in_seconds)}"
    return [
        ("Coverage", coverage, "seconds of the range of which every trade is there"),
        ("Missing", age_words(missing), "seconds of the range that are missing or incomplete"),
        ("Healed", age_words(healed), "seconds of the range that are complete with trades fetched later"),
        (
            "Open gaps",
            UNKNOWN if live.gaps_open is None else f"{live.gaps_open:,}",
            f"holes in the ids of these symbols now; {_count(live.ids_missing)} trades; "
            f"{_count(live.gaps_healed)} holes were healed",
        ),
        (
            "Latency p95",
            UNKNOWN if live.latency_p95_ms is None else f"{live.latency_p95_ms:,.0f} ms",
            "receipt minus exchange time in the last minute, the worst stream's",
        ),
        (
            "Lag",
            UNKNOWN if live.lag_seconds is None else age_words(live.lag_seconds),
            "age of the last trade that the collector has, the oldest of these symbols",
        ),
        ("Disk", disk, f"used, the fullest collector's{full}"),
    ]


def _good_and_due(known: Known) -> tuple[int, int]:
    good = known.complete + known.healed + known.aggregated
    return good, good + known.incomplete + known.missing


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
