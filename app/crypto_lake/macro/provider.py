"""What a provider of daily series is, and what can go wrong with one.

ProviderError        what happened, and in `hint` what to do
├── NoSuchSeries     the provider does not have it, or no longer
├── NothingThere     it has the series, and told no day of those that were asked for
├── Refused          another refusal; the same question will be refused again
└── Unavailable      no answer, or none that can be read; it may come later
    └── RateLimited  too many questions: all of them wait
"""

# ruff: noqa: N818  a name that says what is wrong needs no Error behind it

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from crypto_lake.macro.days import Values


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider told of a series.

    `empty`: days that it lists without a price. `session`: its latest trading day, and when that ends (Unix us); None
    where it does not say.
    """

    series: str
    timezone: str
    days: Mapping[date, Values]
    empty: frozenset[date] = frozenset()
    session: tuple[date, int] | None = None


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    def daily(self, series: str, first: date, last: date) -> Answer:
        """The days from `first` to `last`, both among them; it may tell fewer. Raises ProviderError."""
        ...

    def close(self) -> None: ...


class ProviderError(Exception):
    """What happened to which series, and what to do. `transient`: the same question may be answered later."""

    transient = False

    def __init__(self, what: str, *, series: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.series = series
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.series}: {self.what}. {self.hint}"


class NoSuchSeries(ProviderError):
    pass


class NothingThere(ProviderError):
    pass


class Refused(ProviderError):
    pass


class Unavailable(ProviderError):
    transient = True


class RateLimited(Unavailable):
    """`retry_after_seconds`: how long the provider asks to wait; None where it does not say."""

    def __init__(
        self, what: str, *, series: str, hint: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(what, series=series, hint=hint)
        self.retry_after_seconds = retry_after_seconds
