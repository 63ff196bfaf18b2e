"""What the dashboards show: tables of panels, in panels_lake.py (with panels_complete.py and panels_volume.py) and panels_operator.py. Every one says what to look at, or do, when it is not as usual.

In an expression `{lake}` stands for the labels that choose the lakes, `{operator}` for those that choose the operator;
further labels come after a comma. docs/dashboards.md is made of the same tables.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["stat", "timeseries"]
Unit = Literal[
    "short", "percent", "s", "bytes", "Bps", "cps", "none", "bool_yes_no", "dateTimeAsIso", "percentunit"
]


class Query(NamedTuple):
    """legend: with Grafana's `{{label}}`."""

    expression: str
    legend: str = ""


class Panel(NamedTuple):
    """width: of 24. red_from, red_below: where a value is no longer well."""

    title: str
    queries: tuple[Query, ...]
    unit: Unit
    meaning: str
    kind: Kind = "timeseries"
    width: int = 8
    red_from: float | None = None
    red_below: float | None = None


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """info: a metric that every instance has; the variables are read off it."""

    name: str
    title: str
    word: str
    info: str
    rows: tuple[Row, ...]


def one(expression: str, legend: str = "") -> tuple[Query, ...]:
    """A panel's only query."""
    return (Query(expression, legend),)


def rate(metric: str, by: str, legend: str) -> tuple[Query, ...]:
    """The rate of a lake's counter, in sum by a label."""
    return one(f"sum by ({by}) (rate({metric}{{lake}}[$__rate_interval]))", legend)
