"""A symbol's picture as plotly's data: candles, best bid and ask, volume, spread, and what is known. Pure.

No library is needed for it: a figure is a dict of lists, which the page hands to plotly in the browser.
Backgrounds and letters are the page's own, so that it fits light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from crypto_lake.dashboard.series import Kind, Series, Stretch

UP: Final = "#1fa37a"
DOWN: Final = "#e0524d"
_BID: Final = "#3b82c4"
_ASK: Final = "#c98a1b"
_SPREAD: Final = "#8a6fd1"
_GRID: Final = "rgba(128,128,128,0.18)"
_SHADES: Final[dict[Kind, str]] = {
    "missing": "rgba(224,82,77,0.22)",
    "partial": "rgba(230,160,30,0.22)",
    "waiting": "rgba(128,128,128,0.20)",
}
# From worst to best: the rank, what it is called, its colour.
_RANKS: Final = (
    ("nothing known", "#b3261e"),
    ("incomplete", "#e6a01e"),
    ("aggregated", "#7f8fd6"),
    ("healed", "#4aa3df"),
    ("complete", "#1fa37a"),
)
_MOST_SHADES: Final = 150
_FINE_SECONDS: Final = 5
HEIGHT: Final = 590


def figure_of(series: Series, revision: str = "") -> dict[str, Any]:
    """The figure. Where there is no bar, there is nothing to draw: lines break, and the time is shaded.

    `revision`: while it is the same, what a visitor zoomed to or switched on stays as bars come.
    """
    grid = series.grid
    x = [_time(at) for at in grid["window_start"]]
    data = [_candles(grid, x), *_quotes(series, x), _volume(grid, x), _spread(grid, x), _ranks(series, x)]
    return {"data": data, "layout": _layout(series) | {"uirevision": revision}}


def _time(at: datetime) -> str:
    # Without a zone: plotly would show another one in the zone of the browser.
    return at.replace(tzinfo=None).isoformat()


def _candles(grid: pl.DataFrame, x: list[str]) -> dict[str, Any]:
    return {
        "type": "candlestick",
        "name": "price",
        "x": x,
        **{name: grid[name].to_list() for name in ("open", "high", "low", "close")},
        "increasing": {"line": {"color": UP, "width": 1}, "fillcolor": UP},
        "decreasing": {"line": {"color": DOWN, "width": 1}, "fillcolor": DOWN},
        "showlegend": False,
        "xaxis": "x",
        "yaxis": "y",
    }


def _quotes(series: Series, x: list[str]) -> list[dict[str, Any]]:
    # On long bars bid and ask are one line: they wait in the legend.
    visible = True if series.seconds <= _FINE_SECONDS else "legendonly"
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"best {name}",
            "x": x,
            "y": series.grid[name].to_list(),
            "line": {"color": color, "width": 1, "shape": "hv"},
            "opacity": 0.7,
            "connectgaps": False,
            "visible": visible,
            "hovertemplate": f"{name} %{{y}}<extra></extra>",
            "xaxis": "x",
            "yaxis": "y",
        }
        for name, color in (("bid", _BID), ("ask", _ASK))
    ]


def _volume(grid: pl.DataFrame, x: list[str]) -> dict[str, Any]:
    rose = (grid["close"] >= grid["open"]).fill_null(value=True)
    return {
        "type": "bar",
        "name": "volume",
        "x": x,
        "y": grid["volume_base"].to_list(),
        "customdata": grid["trade_count"].to_list(),
        "marker": {"color": [UP if up else DOWN for up in rose], "line": {"width": 0}},
        "hovertemplate": "volume %{y}<br>%{customdata} trades<extra></extra>",
        "showlegend": False,
        "xaxis": "x",
        "yaxis": "y2",
    }


def spread_bps(grid: pl.DataFrame) -> list[float | None]:
    """Mean spread of the interval's updates in hundredths of a percent of the mid price; without one the standing."""
    return (
        grid.select(
            pl.coalesce("spread_mean", pl.col("ask") - pl.col("bid"))
            / (pl.col("ask") + pl.col("bid"))
            * 20_000
        )
        .to_series()
        .to_list()
    )


def _spread(grid: pl.DataFrame, x: list[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "spread",
        "x": x,
        "y": spread_bps(grid),
        "line": {"color": _SPREAD, "width": 1.2, "shape": "hv"},
        "connectgaps": False,
        "hovertemplate": "spread %{y:.3f} bps<extra></extra>",
        "showlegend": False,
        "xaxis": "x",
        "yaxis": "y3",
    }


def ranks_of(series: Series) -> list[int | None]:
    """Of each interval how well it is known, 0 (nothing) to 4 (complete); None where nothing is due yet."""
    found: list[int | None] = []
    columns = series.grid.select("aggregated_seconds", "healed_seconds").iter_rows()
    for kind, (aggregated, healed) in zip(series.kinds, columns, strict=True):
        if kind == "waiting":
            found.append(None)
        elif kind is not None:
            found.append(0 if kind == "missing" else 1)
        else:
            found.append(2 if aggregated else 3 if healed else 4)
    return found


def _ranks(series: Series, x: list[str]) -> dict[str, Any]:
    ranks = ranks_of(series)
    steps = len(_RANKS)
    scale = [
        [edge, color] for rank, (_, color) in enumerate(_RANKS) for edge in (rank / steps, (rank + 1) / steps)
    ]
    return {
        "type": "heatmap",
        "name": "known",
        "x": x,
        "y": [""],
        "z": [ranks],
        "text": [["" if rank is None else _RANKS[rank][0] for rank in ranks]],
        "zmin": -0.5,
        "zmax": steps - 0.5,
        "colorscale": scale,
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": "%{text}<extra></extra>",
        "xaxis": "x",
        "yaxis": "y4",
    }


def shades(stretches: Sequence[Stretch], most: int = _MOST_SHADES) -> list[Stretch]:
    """What to shade, no more than `most`: where there are more the longest, none of which is left out for a shorter."""
    if len(stretches) <= most:
        return list(stretches)
    longest = sorted(stretches, key=lambda one: one.end - one.start, reverse=True)[:most]
    return sorted(longest, key=lambda one: one.start)


def _layout(series: Series) -> dict[str, Any]:
    half = timedelta(seconds=series.seconds) / 2
    # Bars are drawn around their start: so is the shade of those that are not there.
    shapes = [
        {
            "type": "rect",
            "name": stretch.kind,
            "xref": "x",
            "yref": "paper",
            "x0": _time(stretch.start - half),
            "x1": _time(stretch.end - half),
            "y0": 0,
            "y1": 1,
            "fillcolor": _SHADES[stretch.kind],
            "line": {"width": 0},
            "layer": "below",
        }
        for stretch in shades(series.stretches)
    ]
    return {
        "height": HEIGHT,
        "margin": {"l": 8, "r": 8, "t": 28, "b": 38},  # below: a time, and its day in a second line
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "x",
        "dragmode": "zoom",
        "bargap": 0.15,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "shapes": shapes,
        "xaxis": {
            # Its range is that of the strip, which has each interval of the window. With one given here, a visitor's
            # zoom would end where that moves on.
            "type": "date",
            "anchor": "y4",
            "rangeslider": {"visible": False},
            "gridcolor": _GRID,
            "tickangle": 0,
            "nticks": 7,
        },
        "yaxis": _axis([0.44, 1.0], ""),
        "yaxis2": {**_axis([0.25, 0.41], "volume"), "rangemode": "tozero"},
        "yaxis3": {**_axis([0.07, 0.22], "bps"), "rangemode": "tozero"},
        "yaxis4": {
            **_axis([0.0, 0.035], ""),
            "visible": False,
            "fixedrange": True,
        },
    }


def _axis(domain: list[float], title: str) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "domain": domain,
        "side": "right",
        "automargin": True,
        "gridcolor": _GRID,
        "zeroline": False,
        "nticks": 6 if domain[1] - domain[0] > 0.3 else 3,
    }
    return axis | ({"title": {"text": title, "font": {"size": 11}}} if title else {})
