"""How a day of a symbol was, as one value, and as a page to read. Pure; the facts are gathered in `upkeep`.

The shape is a contract (`schema`): fields are added, never renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from crypto_lake.completeness.ledger import Account
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import US_PER_SECOND

SCHEMA: Final = 1
_GAPS_SHOWN: Final = 50


class Coverage(msgspec.Struct, frozen=True):
    """seconds: of the day that could be known, from the symbol's first bar on and up to its last. bars: that there are;
    states: of them. quoted: bars with a best bid and ask.
    """

    seconds: int
    bars: int
    states: dict[str, int]
    trades: int
    first_trade_id: int | None
    last_trade_id: int | None
    quoted: int
    quote_updates: int

    @property
    def percent(self) -> float:
        return 100.0 * self.bars / self.seconds if self.seconds else 0.0


class GapTold(msgspec.Struct, frozen=True):
    """A hole of the ledger that touches the day. Times are the trades' own before and after it, in us. Of its ids: how many
    came late, were healed, never existed, can't be had; open: nothing is known of them yet.
    """

    first_id: int
    last_id: int
    after_time_us: int
    before_time_us: int
    cause: str
    received_late: int
    healed: int
    never_existed: int
    unavailable: int
    open: int

    @property
    def ids(self) -> int:
        return self.last_id - self.first_id + 1


class Verdicts(msgspec.Struct, frozen=True):
    """Seconds by verdict; see docs/verdicts.md. unjudged: bars without a verdict: not checked yet."""

    verified: int = 0
    mismatched: int = 0
    explained: dict[str, int] = {}
    unexplained: int = 0
    unverifiable: int = 0
    unjudged: int = 0
    unlike: list[str] = []  # the first seconds that nothing explains, with what differs


class LatencyTold(msgspec.Struct, frozen=True):
    """Receipt minus the exchange's time of the event, corrected by the clock offset measured last before it.

    samples: messages that it was taken of, every so many of them.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    samples: int


class OffsetTold(msgspec.Struct, frozen=True):
    """The exchange's clock minus ours over the day."""

    least_ms: float
    median_ms: float
    most_ms: float
    round_trip_most_ms: float
    samples: int


class DayReport(msgspec.Struct, frozen=True):
    """latency and offset are None where nothing is left to take them from. disconnects: connections of the collector that
    ended in the day, by reason.
    """

    schema: int
    exchange: str
    symbol: str
    day: str
    coverage: Coverage
    gaps: list[GapTold]
    ids_missing: int  # open or unavailable, of all gaps
    ids_healed: int
    verdicts: Verdicts
    latency: LatencyTold | None
    clock_offset: OffsetTold | None
    disconnects: dict[str, int]
    has_ledger: bool


def gaps_of(account: Account, span_us: tuple[int, int]) -> list[GapTold]:
    """Holes of the ledger that touch a span of time (end excluded), in the order of their ids."""
    found: list[GapTold] = []
    for hole in account.holes:
        start, end = sorted((hole.after_time_us, hole.before_time_us))
        if end < span_us[0] or start >= span_us[1]:
            continue
        ids = Interval(hole.first_id, hole.last_id)
        found.append(
            GapTold(
                hole.first_id,
                hole.last_id,
                hole.after_time_us,
                hole.before_time_us,
                hole.cause,
                _within(account.received_late, ids),
                _within(account.healed, ids),
                _within(account.never_existed, ids),
                _within(account.unavailable, ids),
                _within(account.open_holes, ids),
            )
        )
    return sorted(found, key=lambda gap: gap.first_id)


def _within(ids: IntervalSet, of: Interval) -> int:
    return sum(len(part) for part in ids.shared_with(of))


def latency(samples_us: Sequence[int]) -> LatencyTold | None:
    if not samples_us:
        return None
    ordered = sorted(samples_us)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000

    return LatencyTold(at(0.5), at(0.95), at(0.99), ordered[-1] / 1000, len(ordered))


def offsets(measured: Sequence[tuple[int, int]]) -> OffsetTold | None:
    """Of (offset, round trip) in microseconds."""
    if not measured:
        return None
    ordered = sorted(offset for offset, _ in measured)
    return OffsetTold(
        ordered[0] / 1000,
        ordered[len(ordered) // 2] / 1000,
        ordered[-1] / 1000,
        max(trip for _, trip in measured) / 1000,
        len(measured),
    )


def markdown(report: DayReport) -> str:
    """The same, to read."""
    seen, verdicts = report.coverage, report.verdicts
    judged = verdicts.verified + verdicts.mismatched + verdicts.unverifiable
    lines = [
        f"# {report.symbol} ({report.exchange}), {report.day}",
        "",
        "| | |",
        "|---|---|",
        f"| seconds with a bar | {seen.bars:,} of {seen.seconds:,} ({seen.percent:.3f} %) |",
        f"| bars by state | {_counts(seen.states)} |",
        f"| trades | {seen.trades:,}{_ids(seen)} |",
        f"| quotes | {seen.quote_updates:,} updates, {seen.quoted:,} bars with a best bid and ask |",
        f"| gaps | {_gaps_line(report)} |",
        f"| verdicts | {verdicts.verified:,} of {judged:,} verified{_not_verified(verdicts)} |",
        f"| latency | {_latency_line(report.latency)} |",
        f"| clock offset | {_offset_line(report.clock_offset)} |",
        f"| connections that ended | {_counts(report.disconnects)} |",
    ]
    if report.gaps:
        lines += [
            "",
            "## Gaps",
            "",
            "| ids | trades | between (UTC) | cause | outcome |",
            "|---|--:|---|---|---|",
            *(_gap_row(gap) for gap in report.gaps[:_GAPS_SHOWN]),
        ]
        if len(report.gaps) > _GAPS_SHOWN:
            lines += ["", f"and {len(report.gaps) - _GAPS_SHOWN:,} more, all of them in the JSON report."]
    if verdicts.unlike:
        lines += ["", "## Bars that differ, unexplained", "", *(f"- {line}" for line in verdicts.unlike)]
    return "\n".join(lines) + "\n"


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in of.items()) or "none"


def _ids(seen: Coverage) -> str:
    if seen.first_trade_id is None or seen.last_trade_id is None:
        return ""
    return f", ids {seen.first_trade_id} to {seen.last_trade_id}"


def _gaps_line(report: DayReport) -> str:
    if not report.has_ledger:
        return "not known: there is no ledger"
    ids = sum(gap.ids for gap in report.gaps)
    if not ids:
        return "none"
    return (
        f"{len(report.gaps):,} with {ids:,} ids; {report.ids_healed:,} healed, {report.ids_missing:,} missing"
    )


def _not_verified(verdicts: Verdicts) -> str:
    notes = [f"{verdicts.unexplained:,} differ, unexplained"] if verdicts.unexplained else []
    notes += [f"{count:,} explained by {what}" for what, count in verdicts.explained.items()]
    notes += [f"{verdicts.unverifiable:,} unverifiable"] if verdicts.unverifiable else []
    notes += [f"{verdicts.unjudged:,} bars not checked yet"] if verdicts.unjudged else []
    return f"; {', '.join(notes)}" if notes else ""


def _latency_line(told: LatencyTold | None) -> str:
    if told is None:
        return "not known: no raw of the day is here"
    return (
        f"p50 {told.p50_ms:,.1f} ms, p95 {told.p95_ms:,.1f} ms, p99 {told.p99_ms:,.1f} ms, "
        f"greatest {told.max_ms:,.1f} ms (of {told.samples:,} messages)"
    )


def _offset_line(told: OffsetTold | None) -> str:
    if told is None:
        return "not known: no measurement of the day is here"
    return (
        f"{told.least_ms:+,.1f} to {told.most_ms:+,.1f} ms, median {told.median_ms:+,.1f} ms "
        f"({told.samples:,} measurements, round trips up to {told.round_trip_most_ms:,.1f} ms)"
    )


def _gap_row(gap: GapTold) -> str:
    outcome = _counts(
        {
            name: count
            for name, count in (
                ("healed", gap.healed),
                ("received late", gap.received_late),
                ("never existed", gap.never_existed),
                ("can't be had", gap.unavailable),
                ("open", gap.open),
            )
            if count
        }
    )
    span = " and ".join(_clock(us) for us in (gap.after_time_us, gap.before_time_us))
    return f"| {gap.first_id} to {gap.last_id} | {gap.ids:,} | {span} | {gap.cause} | {outcome} |"


def _clock(time_us: int) -> str:
    second, us = divmod(time_us, US_PER_SECOND)
    of_day = second % 86400
    return f"{of_day // 3600:02d}:{of_day // 60 % 60:02d}:{of_day % 60:02d}.{us // 1000:03d}"


def missing_of(gaps: Iterable[GapTold]) -> int:
    return sum(gap.open + gap.unavailable for gap in gaps)
