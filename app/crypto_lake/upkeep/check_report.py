"""What a check of bars found. Fields are added under the same `schema`, none is renamed or taken away."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SCHEMA = 1


class Unlike(msgspec.Struct, frozen=True):
    """A second that differs and that the ledger does not explain. fields: those that differ, with ours minus theirs."""

    second: str  # UTC, ISO 8601
    reason: str
    fields: dict[str, str]


class DayCheck(msgspec.Struct, frozen=True):
    """A day of a symbol. seconds: that are judged. explained: mismatches by what explains them. asked: seconds that the
    exchange was asked for now; the others stand from an earlier run, or go by klines that were streamed. finished:
    nothing of it will be asked again unless its bars change. by_stream: seconds whose verdict goes by a kline of the
    stream. revised: of those asked for now, seconds of which REST told another kline than the stream had.
    """

    exchange: str
    symbol: str
    day: str
    seconds: int
    verified: int
    mismatched: int
    unverifiable: int
    unexplained: int
    explained: dict[str, int]
    asked: int
    finished: bool
    unlike: list[Unlike]  # the first of those that nothing explains
    by_stream: int = 0
    revised: int = 0


class CheckReport(msgspec.Struct, frozen=True):
    """problem: why the exchange was not asked for all, "" where it was, or where it has no more of it to tell. gone: symbols
    that it no longer has, and what it says of them.
    """

    schema: int
    exchange: str
    seconds: float
    requests: int
    weight: int
    days: list[DayCheck]
    failed: dict[str, str]  # symbol and day -> why it could not be checked
    problem: str = ""
    archives: list[str] = []  # symbols and days that the exchange's archive was read of first
    gone: dict[str, str] = {}

    @property
    def unexplained(self) -> int:
        return sum(day.unexplained for day in self.days)

    @property
    def note(self) -> str:
        """What a person may want to know though it is no problem, "" where there is nothing."""
        return "; ".join(f"{symbol}: {what}" for symbol, what in self.gone.items())


def figures(reports: Sequence[CheckReport]) -> dict[str, int]:
    """For the task's report: what status and alerts go by."""
    days = [day for report in reports for day in report.days]
    return {
        "days": len(days),
        "bars_verified": sum(day.verified for day in days),
        "bars_mismatched": sum(day.mismatched for day in days),
        "bars_unexplained": sum(day.unexplained for day in days),
        "bars_unverifiable": sum(day.unverifiable for day in days),
        "bars_by_stream": sum(day.by_stream for day in days),
        "klines_revised": sum(day.revised for day in days),
        "weight": sum(report.weight for report in reports),
        "symbols_gone": sum(len(report.gone) for report in reports),
    }
