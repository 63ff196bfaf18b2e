"""The page: controls, and below them a picture that is read anew with each refresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from crypto_lake.access.errors import LakeError
from crypto_lake.access.lake import Lake
from crypto_lake.access.times import Span, as_seconds
from crypto_lake.dashboard import choice, reading, status
from crypto_lake.dashboard.chart import show_figure
from crypto_lake.dashboard.choice import AUTO, OWN_RANGE, Freshness
from crypto_lake.dashboard.figure import figure_of
from crypto_lake.dashboard.series import Series
from crypto_lake.dashboard.serve import Settings
from crypto_lake.dashboard.words import figures_of, known_words, numbers_of

_STYLE: Final = """<style>
.block-container {padding: 1.2rem 1rem 2rem; max-width: 1500px}
[data-testid="stMetricValue"] {font-size: 1.1rem}
[data-testid="stMetricLabel"] {opacity: .75}
</style>"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the controls say. `span`: the two times, where the range is one's own."""

    symbols: tuple[str, ...]
    range_name: str
    span: Span | None
    every: str


def show(settings: Settings) -> None:
    st.set_page_config(page_title="crypto-lake", page_icon="🌊", layout="wide")
    st.html(_STYLE)
    try:
        lake = reading.lake_of(settings.where, settings.exchange)
        symbols = lake.symbols()
        exchange = lake.exchange if symbols else ""
    except LakeError as error:
        st.error(str(error))
        return
    st.markdown(f"#### crypto-lake · {exchange or 'no bars yet'}")
    if not symbols:
        st.info(
            f"{settings.where} has no bars yet; `crypto-lake transform` makes them of what was collected."
        )
    asked, refresh = _controls(symbols, _first_range(lake, symbols))
    every = None if refresh == choice.REFRESHES[0] else as_seconds(refresh)
    if asked is not None:
        st.fragment(_picture, run_every=every)(settings, lake, asked)


def _first_range(lake: Lake, symbols: Sequence[str]) -> str:
    """Once for a visit: a control keeps what it began with, while the lake grows."""
    if "first_range" not in st.session_state:
        known = reading.known_seconds(lake, symbols[0], datetime.now(UTC)) if symbols else None
        st.session_state["first_range"] = choice.first_range(known)
    return str(st.session_state["first_range"])


def _controls(symbols: Sequence[str], first_range: str) -> tuple[Asked | None, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Symbols",
            symbols,
            default=list(symbols[:1]),
            max_selections=choice.MOST_SYMBOLS,
            key="symbols",
            bind="query-params",
            width=300,
        )
        range_name = st.selectbox(
            "Range",
            [*choice.RANGES, OWN_RANGE],
            index=choice.RANGES.index(first_range),
            key="range",
            bind="query-params",
            width=110,
        )
        every = st.selectbox("Bars", [AUTO, *choice.INTERVALS], key="every", bind="query-params", width=90)
        refresh = st.selectbox(
            "Refresh", choice.REFRESHES, index=2, key="refresh", bind="query-params", width=90
        )
    span: Span | None = None
    if range_name == OWN_RANGE:
        with st.container(horizontal=True):
            start = st.text_input(
                "From (UTC)", key="from", placeholder="2024-08-08T13:00", bind="query-params", width=220
            )
            end = st.text_input(
                "To (UTC), excluded", key="to", placeholder="2024-08-09", bind="query-params", width=220
            )
        try:
            span = choice.own_range(start, end)
        except LakeError as error:
            st.warning(str(error))
            return None, refresh
    if not chosen:
        if symbols:
            st.info("Choose a symbol.")
        return None, refresh
    return Asked(tuple(chosen), range_name, span, every), refresh


def _picture(settings: Settings, lake: Lake, asked: Asked) -> None:
    try:
        _read_and_draw(settings, lake, asked)
    except LakeError as error:
        st.error(str(error))


def _read_and_draw(settings: Settings, lake: Lake, asked: Asked) -> None:
    own = status.own_url(settings.where)
    answers = status.ask(settings.statuses or ((own,) if own else ()))
    live = status.together(answers, asked.symbols)
    until = reading.known_until(lake, asked.symbols)
    now = live.now or datetime.now(UTC)
    if asked.span is not None and asked.span.start is not None and asked.span.end is not None:
        chosen = choice.choose((asked.span.end - asked.span.start).total_seconds(), asked.every)
        window = choice.window_of(asked.span, chosen.seconds)
    else:
        length = as_seconds(asked.range_name)
        chosen = choice.choose(length, asked.every)
        known = [at for at in until.values() if at is not None]
        window = choice.latest_window(length, chosen.seconds, max(known, default=now), now)
    picture = reading.read(lake, asked.symbols, window, chosen.seconds, until)

    stale_seconds = settings.stale_seconds or (
        choice.STALE_SECONDS_IN_A_BUCKET if settings.where.startswith("gs://") else choice.STALE_SECONDS
    )
    fresh = choice.freshness(until, now, stale_seconds)
    stale = choice.stale_words(fresh)
    if stale:
        st.warning(f"**Stale.** {stale}", icon="⏳")
    if chosen.told:
        st.info(chosen.told)
    for one, its in zip(picture.series, fresh, strict=True):
        _symbol(one, its, f"{asked.range_name} {asked.span} {chosen.name}")
    _below(settings, picture, live, asked)
    st.caption(
        f"{window.start:%Y-%m-%d %H:%M:%S} to {window.end:%Y-%m-%d %H:%M:%S} UTC, bars of {chosen.name}; "
        f"read {datetime.now(UTC):%H:%M:%S} UTC"
    )


def _symbol(series: Series, fresh: Freshness, revision: str) -> None:
    st.markdown(f"**{series.symbol}** · {known_words(series, fresh)}")
    _metrics(numbers_of(series))
    show_figure(figure_of(series, revision), key=f"chart-{series.symbol}")


def _metrics(pairs: Sequence[tuple[str, str, str]]) -> None:
    with st.container(horizontal=True, gap="xsmall"):
        for label, value, text in pairs:
            st.metric(label, value, help=text or None, width=112)


def _below(settings: Settings, picture: reading.Picture, live: status.Live, asked: Asked) -> None:
    st.markdown("**Data quality**")
    _metrics(figures_of(picture.series, live))
    if not live.asked:
        st.caption(
            "No collector is asked: latency, lag and disk are not known. Name one by `--status http://host:9464/status`."
        )
    for problem in live.problems:
        st.warning(problem)
    _gaps(picture)
    st.download_button(
        "CSV of what is shown",
        reading.csv_of(picture),
        file_name=reading.csv_name(picture, asked.symbols),
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        disabled=picture.bars.is_empty(),
    )
    # What shows code is a third as large as plotly: a visitor who does not open this does not load it.
    shell = st.expander("The same from a shell", key="shell", on_change="rerun")
    if shell.open:
        shell.code(
            reading.command_for(picture, asked.symbols, settings.where, settings.exchange),
            language="shell",
            wrap_lines=True,
        )


def _gaps(picture: reading.Picture) -> None:
    gaps = picture.gaps
    if gaps.is_empty():
        if picture.gaps_whole:
            st.caption("No gap between two seconds that are there.")
    else:
        shown = gaps.select("symbol", "gap_start", "gap_end", "missing_seconds", "missing_trades")
        at = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
        st.dataframe(
            shown,
            hide_index=True,
            height=min(260, 38 + 35 * shown.height),
            column_config={
                "gap_start": at,
                "gap_end": at,
                "missing_seconds": "seconds",
                "missing_trades": "trades",
            },
        )
    if not picture.gaps_whole:
        st.caption("There are more gaps than are listed: choose a shorter range.")
