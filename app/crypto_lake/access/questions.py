"""SQL with values in place of parameters: what `Lake` runs itself, and what it hands out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from crypto_lake.access.columns import chosen
from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.macro import VIEW_NAMES
from crypto_lake.access.macros import MACROS
from crypto_lake.access.statements import VIEWS, asked, literal, rollup
from crypto_lake.access.times import Span, as_seconds, whole_intervals
from crypto_lake.model.symbols import nearest


def bars_statement(
    what: str,
    symbols: tuple[str, ...],
    span: Span,
    rows: str,
    columns: Iterable[str] | str | None,
    *,
    every: str | timedelta | None = None,
    **parameters: Any,
) -> str:
    """Bars of a view, or of `every` for `bars`, over `rows`; in order where the columns tell it."""
    if parameters or (every is not None and what in VIEWS):
        raise InvalidArgumentError(
            f"{what} takes no {', '.join(parameters) or 'every'}; ask for 'bars' with every="
        )
    seconds = VIEWS[what] if what in VIEWS else as_seconds(every or "1m")
    names = chosen(columns)
    statement = rollup(rows, asked(symbols, whole_intervals(span, seconds), seconds), names)
    keys = ", ".join(key for key in ("window_start", "symbol") if key in names)
    return f"{statement}\nORDER BY {keys}" if keys else statement


def macro_statement(
    name: str,
    symbols: tuple[str, ...],
    span: Span,
    rows: str,
    *,
    every: str | timedelta | None = None,
    **parameters: Any,
) -> str:
    """A macro's body over `rows`."""
    macro = MACROS.get(name)
    if macro is None:
        known = [*VIEWS, *VIEW_NAMES, *MACROS]
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
        raise InvalidArgumentError(f"there is no view or macro {name!r}; {hint}")
    values = dict(macro.parameters)
    for key, value in {**parameters, **({} if every is None else {"every": every})}.items():
        if key not in values:
            raise InvalidArgumentError(f"{name} takes no {key}; it takes {', '.join(values)}")
        if key != "every":
            if not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(f"{key} {value!r}: give a whole number from 1 on")
            values[key] = str(value)
    seconds = as_seconds(every or values["every"].strip("'")) if "every" in values else 1
    whole = whole_intervals(span, seconds)
    values["since"] = "NULL" if whole.start is None else literal(whole.start.isoformat(sep=" "))
    values["until"] = "NULL" if whole.end is None else literal(whole.end.isoformat(sep=" "))
    return macro.body(rows, asked(symbols, whole, seconds), values)


def unknown_days(exchange: str, symbol: str, span: Span) -> str:
    """`coverage` of a range in which there is no file; it has both ends."""
    begin, end = (f"epoch_us(TIMESTAMPTZ {literal(str(at))})" for at in (span.start, span.end))
    return f"""WITH days AS (
  SELECT unnest(generate_series(DATE '{span.first_day}', DATE '{span.last_day}', INTERVAL 1 DAY))::DATE AS day
),
spans AS (
  SELECT day, (least({end}, epoch_us(day::TIMESTAMP) + 86400000000) + 999999) // 1000000
    - (greatest({begin}, epoch_us(day::TIMESTAMP)) + 999999) // 1000000 AS seconds FROM days
)
SELECT {literal(exchange)} AS exchange, {literal(symbol)} AS symbol, day, seconds,
  0::BIGINT AS complete_seconds, 0::BIGINT AS healed_seconds, 0::BIGINT AS aggregated_seconds,
  0::BIGINT AS incomplete_seconds, seconds AS missing_seconds, 0::BIGINT AS trade_count,
  NULL::BIGINT AS missing_trades, NULL::TIMESTAMPTZ AS first_second, NULL::TIMESTAMPTZ AS last_second
FROM spans ORDER BY day"""
