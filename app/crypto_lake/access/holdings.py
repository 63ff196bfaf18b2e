"""What a lake has: exchange, symbols, days. And what is said where something is asked for that it has not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from crypto_lake.access.columns import chosen
from crypto_lake.access.errors import InvalidArgumentError, NoDataError, UnknownSymbolError
from crypto_lake.access.places import Place
from crypto_lake.access.reading import Question
from crypto_lake.access.times import Span, Time, as_seconds, as_span, whole_intervals
from crypto_lake.model.symbols import nearest

_SHOWN: Final = 20


class Holdings:
    """Looked up anew each time. `asked`: the exchange that was named, if one was."""

    def __init__(self, place: Place, asked: str | None) -> None:
        self._place = place
        self._asked = asked

    @property
    def exchange(self) -> str:
        """The exchange whose bars are read. LakeError where there are several, and none was named."""
        there, url = self._place.exchanges(), self._place.url
        if self._asked is not None:
            if there and self._asked not in there:
                raise UnknownSymbolError(
                    f"{url} has no bars of {self._asked}; there are those of {', '.join(there)}"
                )
            return self._asked
        if len(there) > 1:
            raise InvalidArgumentError(
                f"{url} has bars of {', '.join(there)}; say which: Lake(…, exchange={there[0]!r})"
            )
        if not there:
            raise NoDataError(
                f"{url} has no bars yet; `crypto-lake transform` makes them of what was collected"
            )
        return there[0]

    def symbols(self) -> list[str]:
        if self._asked is None and not self._place.exchanges():
            return []
        return self._place.symbols(self.exchange)

    def days(self, symbol: str, span: Span) -> list[str]:
        return [file.day for file in self._place.days(self.exchange, symbol, span)]

    def bounds(self, symbols: tuple[str, ...], span: Span) -> tuple[str, str] | None:
        """The first and the last day with a file; None where there is none."""
        days = [day for symbol in symbols for day in self.days(symbol, span)]
        return (min(days), max(days)) if days else None

    def check(self, symbols: tuple[str, ...]) -> None:
        """UnknownSymbolError names the first one without bars, and near ones."""
        there = self._place.symbols(self.exchange)
        for symbol in symbols:
            if symbol in there:
                continue
            near = nearest(str(symbol).upper(), there)
            some = ", ".join(there[:_SHOWN]) + (
                f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
            )
            hint = f"did you mean {near}?" if near else f"there are {some or 'none'}"
            raise UnknownSymbolError(f"{self._place.url} has no bars of {symbol!r}; {hint}")

    def range(self, symbols: tuple[str, ...], start: Time | None, end: Time | None) -> Span:
        """The span of a range, once its symbols are known to be there."""
        span = as_span(start, end)
        self.check(symbols)
        return span

    def question(
        self,
        symbols: str | Iterable[str],
        start: Time | None,
        end: Time | None,
        every: str | timedelta,
        columns: str | Iterable[str] | None,
        fill: str | None,
    ) -> Question:
        """What is asked for, and that there is any of it. LakeError says what there is instead."""
        names = named(symbols)
        wanted = chosen(columns)
        if fill not in (None, "previous"):
            raise InvalidArgumentError(
                f"fill {fill!r}: give 'previous', or None to have no row where nothing is known"
            )
        seconds = as_seconds(every)
        given = as_span(start, end)
        span = whole_intervals(given, seconds)
        if span.start is not None and span.start == span.end:
            raise InvalidArgumentError(f"no interval of {every} begins {given}")
        self.check(names)
        if self.bounds(names, span) is None:
            raise self.nothing(names, given)
        return Question(self.exchange, names, span, seconds, wanted, fill is not None)

    def nothing(self, symbols: tuple[str, ...], span: Span) -> NoDataError:
        """That the range has no bars, and which days there are."""
        lines = [f"{self._place.url} has no bars of {', '.join(symbols)} {span}"]
        for symbol in symbols[:_SHOWN]:
            days = self.days(symbol, Span())
            there = (
                f"{days[0]} to {days[-1]} ({len(days)} days)" if len(days) > 1 else (days or ["no day"])[0]
            )
            lines.append(f"{symbol}: {there}")
        return NoDataError("; ".join(lines))


def named(symbols: str | Iterable[str]) -> tuple[str, ...]:
    """Symbols as they were given, each once. InvalidArgumentError for none."""
    names = (symbols,) if isinstance(symbols, str) else tuple(dict.fromkeys(symbols))
    if not names:
        raise InvalidArgumentError("no symbol is asked for; lake.symbols() lists them")
    return names
