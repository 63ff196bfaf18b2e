"""Days on which the markets of the United States are closed, by the rules that pandas has, and by name.

Other markets are not known here: a weekday that a series of theirs lacks is `unconfirmed` (see `absences`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from crypto_lake.macro.plan import Span

if TYPE_CHECKING:
    from pandas.tseries.holiday import Holiday

_UNITED_STATES: Final = frozenset({"America/New_York", "America/Chicago"})
# Yields rest with the bond market, which keeps two holidays more than the stock exchanges.
_YIELDS: Final = frozenset({"^IRX", "^FVX", "^TNX", "^TYX"})
# Closings of the New York Stock Exchange that follow no rule.
_ONCE: Final[Mapping[date, str]] = MappingProxyType(
    {
        date(1994, 4, 27): "funeral of President Nixon",
        date(2001, 9, 11): "attacks of September 11",
        date(2001, 9, 12): "attacks of September 11",
        date(2001, 9, 13): "attacks of September 11",
        date(2001, 9, 14): "attacks of September 11",
        date(2004, 6, 11): "funeral of President Reagan",
        date(2007, 1, 2): "funeral of President Ford",
        date(2012, 10, 29): "Hurricane Sandy",
        date(2012, 10, 30): "Hurricane Sandy",
        date(2018, 12, 5): "funeral of President Bush",
        date(2025, 1, 9): "funeral of President Carter",
    }
)


def market_of(timezone: str) -> str:
    """Series of one market have their trading days in common: the United States, or else the time zone."""
    return "US" if timezone in _UNITED_STATES else timezone


def holidays_of(series: str, timezone: str, span: Span) -> Mapping[date, str] | None:
    """Holidays by day; None for a market whose calendar is not known here."""
    if timezone not in _UNITED_STATES:
        return None
    found = {day: why for day, why in _ONCE.items() if day in span}
    for rule in _rules(yields=series in _YIELDS):
        for stamp in rule.dates(span.first.isoformat(), span.last.isoformat()):
            found[stamp.date()] = str(rule.name)
    return found


@cache
def _rules(*, yields: bool) -> tuple[Holiday, ...]:
    from pandas.tseries import holiday as us
    from pandas.tseries.holiday import Holiday, nearest_workday, sunday_to_monday

    rules = (
        # Of a New Year's Day on a Saturday, the Friday before is a trading day: the last one of the year.
        Holiday("New Year's Day", month=1, day=1, observance=sunday_to_monday),
        us.USMartinLutherKingJr,
        us.USPresidentsDay,
        us.GoodFriday,
        us.USMemorialDay,
        Holiday("Juneteenth", month=6, day=19, start_date="2022-01-01", observance=nearest_workday),
        Holiday("Independence Day", month=7, day=4, observance=nearest_workday),
        us.USLaborDay,
        us.USThanksgivingDay,
        Holiday("Christmas Day", month=12, day=25, observance=nearest_workday),
    )
    if not yields:
        return rules
    return (
        *rules,
        us.USColumbusDay,
        Holiday("Veterans Day", month=11, day=11, observance=sunday_to_monday),
    )
