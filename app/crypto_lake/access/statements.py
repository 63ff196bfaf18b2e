"""The SQL of rollups: one text, whether a view, a macro, Python or another program runs it. Pure.

It is DuckDB's SQL. A source has the files' columns and `day` (DATE); it names each second once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from crypto_lake.access.columns import BY_NAME, NAMES
from crypto_lake.access.times import DAY_SECONDS, Span, interval_name

# Those of the exchange's klines that divide a day: each of their intervals lies in one file.
VIEW_SECONDS: Final = (1, 60, 180, 300, 900, 1800, 3600, 7200, 14400, 21600, 28800, 43200, DAY_SECONDS)
VIEWS: Final = {f"bars_{interval_name(seconds)}": seconds for seconds in VIEW_SECONDS}
NUMBER: Final = "interval_number"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows of a source: a condition for each restriction, and the length of an interval as SQL (a number).

    Texts and not values, since a macro has its parameters in their place.
    """

    conditions: tuple[str, ...]
    seconds: str
    # Of keys that have but one value: it, as SQL. Not to group by them saves a tenth of the time.
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])

    def where(self, *more: str) -> str:
        both = [*self.conditions, *more]
        return "WHERE " + "\n  AND ".join(both) if both else ""


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def asked(symbols: Sequence[str], span: Span, seconds: int, *, exchange: str | None = None) -> Asked:
    """By values. `span` is taken as it is: see `times.whole_intervals`."""
    found: list[str] = []
    fixed: dict[str, str] = {}
    if exchange is not None:
        fixed["exchange"] = literal(exchange)
        found.append(f"exchange = {literal(exchange)}")
    if len(symbols) == 1:
        fixed["symbol"] = literal(symbols[0])
    if symbols:
        found.append(f"symbol IN ({', '.join(map(literal, symbols))})")
    if span.start is not None:
        found.append(f"day >= DATE '{span.first_day}'")
        found.append(f"window_start >= TIMESTAMPTZ '{span.start.isoformat(sep=' ')}'")
    if span.end is not None:
        found.append(f"day <= DATE '{span.last_day}'")
        found.append(f"window_start < TIMESTAMPTZ '{span.end.isoformat(sep=' ')}'")
    return Asked(tuple(found), str(seconds), fixed)


def rollup(source: str, want: Asked, columns: Iterable[str] = NAMES, *, by_day: bool = False) -> str:
    """SELECT of an interval's columns, not ordered. `by_day`: for intervals that divide a day; adds `day`.

    With `day` a condition on it reaches the files, so that no other day is opened.
    """
    names = list(columns)
    if want.seconds == "1":
        parts = [f"{BY_NAME[name].second} AS {name}" if BY_NAME[name].second else name for name in names]
        if by_day:
            parts.append("day")
        return f"SELECT\n  {_listed(parts)}\nFROM {source}\n{want.where()}".rstrip()
    parts = [
        f"{want.fixed[name]} AS {name}" if name in want.fixed else _of_interval(name, want.seconds)
        for name in names
    ]
    if by_day:
        parts.append("day")
    keys = [name for name in ("exchange", "symbol") if name not in want.fixed]
    keys += ["day", NUMBER] if by_day else [NUMBER]
    return (
        f"SELECT\n  {_listed(parts)}\n"
        f"FROM (\n{_indented(numbered(source, want))}\n)\n"
        f"GROUP BY {', '.join(keys)}"
    )


def numbered(source: str, want: Asked, *more: str) -> str:
    """The source's rows with the number of their interval, counted from 1970 on."""
    us = f"{int(want.seconds) * 1_000_000}" if want.seconds.isdigit() else f"({want.seconds} * 1000000)"
    return (
        f"SELECT *, epoch_us(window_start) // {us} AS {NUMBER}\nFROM {source}\n{want.where(*more)}".rstrip()
    )


def start_of_interval(seconds: str) -> str:
    return f"to_timestamp({NUMBER} * {seconds}) AS window_start"


def _of_interval(name: str, seconds: str) -> str:
    if name == "window_start":
        return start_of_interval(seconds)
    expression = BY_NAME[name].rollup
    return f"{expression.replace('{seconds}', seconds)} AS {name}" if expression else name


def _listed(parts: Sequence[str]) -> str:
    return ",\n  ".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def elsewhere(root: str, symbols: Sequence[str], exchange: str) -> str:
    """A source for any DuckDB: the files by their paths, with the day that their folders name."""
    paths = [
        literal(f"{root}/parquet/{exchange}/{symbol}/year=*/month=*/day=*/bars.parquet")
        for symbol in (symbols or ("*",))
    ]
    return (
        "(\n  SELECT * EXCLUDE (year, month, day), make_date(year, month, day) AS day\n"
        f"  FROM read_parquet([{', '.join(paths)}], hive_partitioning = true,\n"
        "    hive_types = {'year': BIGINT, 'month': BIGINT, 'day': BIGINT})\n)"
    )
