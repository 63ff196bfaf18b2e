"""Each bar against the exchange's own kline of its second. Pure.

A second is compared only where the exchange told its kline, or was asked for it and answered. What differs is looked up in the ledger: a
hole that is known there explains it, a bar that claims to be whole has no excuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import polars as pl

from crypto_lake.completeness.entries import Hole, Seen
from crypto_lake.completeness.klines import FIELDS, Source
from crypto_lake.model.decimals import SCALE
from crypto_lake.model.market import US_PER_SECOND, BarState

# 1: without `source`.
VERDICTS_SCHEMA_VERSION: Final = 2


class Verdict(StrEnum):
    """verified: every field equals the exchange's. mismatch: one does not, or one of the two has no such second.
    unverifiable: the exchange could not be asked for this second, or did not answer.
    """

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNVERIFIABLE = "unverifiable"


class Why(StrEnum):
    """What a mismatch is, or why nothing can be said.

    fields: both have the second, and fields differ. no_bar: the exchange has it, we don't. no_kline: the other way
    round. not_answered: the exchange was not asked, or gave no answer.
    """

    FIELDS = "fields"
    NO_BAR = "no_bar"
    NO_KLINE = "no_kline"
    NOT_ANSWERED = "not_answered"


class Explained(StrEnum):
    """What explains a mismatch, "" where nothing does.

    hole: the ledger knows ids that are missing there, and the bar says that it is incomplete (or there is none).
    before_first: it is the second of the first trade that the ledger has; what came before in it nobody saw.
    after_last: it is the last bar, and no later trade is known yet.
    aggregated: known by aggregates alone; volume_quote and taker_buy_quote differ in their last digits.
    halt: an empty bar where the exchange has none: trading was halted.
    """

    NOT = ""
    HOLE = "hole"
    BEFORE_FIRST = "before_first"
    AFTER_LAST = "after_last"
    AGGREGATED = "aggregated"
    HALT = "halt"


_NUMBER: Final = pl.Decimal(38, SCALE)
_QUOTE_FIELDS: Final = ("volume_quote", "taker_buy_quote")
# The ids of a bar's trades, against its own count: they follow each other without a hole.
_IDS: Final = "trade_ids"
COMPARED: Final = (*FIELDS, _IDS)


def difference(field: str) -> str:
    """The column with ours minus theirs; null where they are equal or one is not there."""
    return f"{field}_difference"


def differences_of(row: Mapping[str, object]) -> dict[str, str]:
    """Of a row of verdicts: the fields that differ, with ours minus theirs."""
    told: dict[str, str] = {}
    for name in COMPARED:
        value = row[difference(name)]
        if isinstance(value, int | Decimal):
            told[name] = f"{value:+d}" if isinstance(value, int) else f"{value:+f}"
    return told


VERDICT_SCHEMA: Final = pl.Schema(
    {
        "exchange": pl.String(),
        "symbol": pl.String(),
        "window_start": pl.Datetime("us", "UTC"),
        "state": pl.String(),  # the bar's, null where there is none
        "verdict": pl.String(),
        "reason": pl.String(),  # of Why, "" where it is verified
        "fields": pl.String(),  # those that differ, separated by commas
        "explained": pl.String(),  # of Explained
        "source": pl.String(),  # of klines.Source: whose word the verdict goes by; "" where there is none
    }
    | {difference(name): pl.Int64() if name in ("trade_count", _IDS) else _NUMBER for name in COMPARED}
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger and the lake know of what is missing.

    holes: spans of time (us, both ends included) in which ids are, or were, missing. first_second: of the first trade
    that was ever seen; None without a ledger. last_second: of the last bar; None: it is not among these.
    """

    holes: tuple[tuple[int, int], ...] = ()
    first_second: int | None = None
    last_second: int | None = None


def known(lines: Iterable[object], last_second: int | None = None) -> Known:
    """From the ledger's lines; of other kinds than these it takes no notice."""
    holes: list[tuple[int, int]] = []
    first: Seen | None = None
    for line in lines:
        match line:
            case Hole():
                # A clock of the exchange that went back must not make a span of nothing.
                holes.append(
                    (
                        min(line.after_time_us, line.before_time_us),
                        max(line.after_time_us, line.before_time_us),
                    )
                )
            case Seen() if first is None or line.first_id < first.first_id:
                first = line
            case _:
                pass
    return Known(
        tuple(holes), first.first_time_us // US_PER_SECOND if first is not None else None, last_second
    )


def judge(
    bars: pl.DataFrame,
    klines: pl.DataFrame,
    answered: Sequence[tuple[int, int]],
    span: tuple[int, int],
    of: Known,
) -> pl.DataFrame:
    """VERDICT_SCHEMA, a row for each second of `span` that either side has.

    bars: rows of bars of one symbol. klines: KLINE_SCHEMA. answered: spans of Unix seconds (end excluded) for which the
    exchange was asked and answered: of these it is known, too, where it has none. span: the seconds that are judged, end
    excluded.
    """
    ours = _within(bars, span).select(
        "exchange", "symbol", "window_start", "state", "first_trade_id", "last_trade_id", *FIELDS
    )
    theirs = _within(klines, span).rename({name: f"{name}_theirs" for name in FIELDS})
    both = ours.join(theirs, on="window_start", how="full", coalesce=True, maintain_order="left_right")
    second = pl.col("window_start").dt.epoch("us") // US_PER_SECOND
    here, there = pl.col("state").is_not_null(), pl.col("open_theirs").is_not_null()
    told = there | _any_span(second, answered)
    source = (
        pl.when(there)
        .then(pl.col("source"))
        .when(told)
        .then(pl.lit(Source.REST.value))
        .otherwise(pl.lit(""))
        .alias("source")
    )
    differences = [
        pl.when(here & there & (pl.col(name) != pl.col(f"{name}_theirs")))
        .then(pl.col(name) - pl.col(f"{name}_theirs"))
        .alias(difference(name))
        for name in FIELDS
    ]
    counted = pl.col("last_trade_id") - pl.col("first_trade_id") + 1 - pl.col("trade_count")
    whole = pl.col("state") != BarState.INCOMPLETE.value
    differences.append(
        pl.when(here & whole & (pl.col("trade_count") > 0) & (counted != 0))
        .then(counted)
        .alias(difference(_IDS))
    )
    differs = pl.any_horizontal(pl.col(difference(name)).is_not_null() for name in COMPARED)
    reason = (
        pl.when(~told)
        .then(pl.lit(Why.NOT_ANSWERED.value))
        .when(~here)
        .then(pl.lit(Why.NO_BAR.value))
        .when(~there)
        .then(pl.lit(Why.NO_KLINE.value))
        .when(differs)
        .then(pl.lit(Why.FIELDS.value))
        .otherwise(pl.lit(""))
    )
    verdict = (
        pl.when(pl.col("reason") == "")
        .then(pl.lit(Verdict.VERIFIED.value))
        .when(pl.col("reason") == Why.NOT_ANSWERED.value)
        .then(pl.lit(Verdict.UNVERIFIABLE.value))
        .otherwise(pl.lit(Verdict.MISMATCH.value))
    )
    judged = (
        both.with_columns(differences)
        .with_columns(reason.alias("reason"), source)
        .with_columns(
            verdict.alias("verdict"),
            pl.concat_str(
                [pl.when(pl.col(difference(name)).is_not_null()).then(pl.lit(name)) for name in COMPARED],
                separator=",",
                ignore_nulls=True,
            )
            .fill_null("")
            .alias("fields"),
            pl.col("trade_count").alias("trades"),
        )
    )
    name = ours.select("exchange", "symbol").head(1)
    if name.height:
        exchange, symbol = name.row(0)
        judged = judged.with_columns(
            pl.col("exchange").fill_null(exchange), pl.col("symbol").fill_null(symbol)
        )
    return explain(judged, of).sort("window_start").match_to_schema(VERDICT_SCHEMA, extra_columns="ignore")


def in_doubt(judged: pl.DataFrame) -> list[int]:
    """Unix seconds that differ from the stream's kline and that nothing explains. The exchange closes that kline a few
    milliseconds after its second; what it knew later its REST tells, and no bar is called wrong before that was asked.
    """
    doubtful = judged.filter(
        (pl.col("verdict") == Verdict.MISMATCH.value)
        & (pl.col("explained") == Explained.NOT.value)
        & (pl.col("source") == Source.STREAM.value)
    )
    return (doubtful["window_start"].dt.epoch("us") // US_PER_SECOND).to_list()


def explain(judged: pl.DataFrame, of: Known) -> pl.DataFrame:
    """Fill `explained` anew. `judged`: verdicts, with `trades` (the bar's count) where they are just made."""
    second = pl.col("window_start").dt.epoch("us") // US_PER_SECOND
    mismatch = pl.col("verdict") == Verdict.MISMATCH.value
    absent = pl.col("state").is_null()
    incomplete = absent | (pl.col("state") == BarState.INCOMPLETE.value)
    seconds = judged.select(second.min().alias("first"), second.max().alias("last")).row(0)
    first, last = (0 if at is None else int(at) for at in seconds)
    holes = [(start // US_PER_SECOND, end // US_PER_SECOND + 1) for start, end in of.holes]
    in_hole = _any_span(second, [hole for hole in holes if hole[0] <= last and hole[1] > first])
    if "trades" in judged.columns:
        halt = (pl.col("reason") == Why.NO_KLINE.value) & (pl.col("trades") == 0)
        aggregated = _aggregated(pl.col("trades"))
    else:  # of an earlier run: what it was then, it is still
        halt = pl.col("explained") == Explained.HALT.value
        aggregated = pl.col("explained") == Explained.AGGREGATED.value
    return judged.with_columns(
        pl.when(~mismatch)
        .then(pl.lit(Explained.NOT.value))
        .when(halt)
        .then(pl.lit(Explained.HALT.value))
        .when(aggregated)
        .then(pl.lit(Explained.AGGREGATED.value))
        .when(incomplete & in_hole)
        .then(pl.lit(Explained.HOLE.value))
        .when(incomplete & (second == (-1 if of.first_second is None else of.first_second)))
        .then(pl.lit(Explained.BEFORE_FIRST.value))
        .when(incomplete & ~absent & (second == (-1 if of.last_second is None else of.last_second)))
        .then(pl.lit(Explained.AFTER_LAST.value))
        .otherwise(pl.lit(Explained.NOT.value))
        .alias("explained")
    )


def _aggregated(trades: pl.Expr) -> pl.Expr:
    """Only the two fields of price x size differ. An aggregate's product is truncated once, its trades' each: ours is the
    greater, by less than 0.00000001 a trade.
    """
    others = [name for name in COMPARED if name not in _QUOTE_FIELDS]
    small = [
        pl.col(difference(name)).is_null()
        | ((pl.col(difference(name)) > 0) & (pl.col(difference(name)).to_physical() < trades.cast(pl.Int128)))
        for name in _QUOTE_FIELDS
    ]
    equal = pl.all_horizontal(pl.col(difference(name)).is_null() for name in others)
    is_aggregated = pl.col("state") == BarState.AGGREGATED.value
    fields = pl.col("reason") == Why.FIELDS.value
    return is_aggregated & fields & equal & pl.all_horizontal(small)


def _within(rows: pl.DataFrame, span: tuple[int, int]) -> pl.DataFrame:
    second = pl.col("window_start").dt.epoch("us") // US_PER_SECOND
    return rows.filter((second >= span[0]) & (second < span[1]))


def _any_span(second: pl.Expr, spans: Sequence[tuple[int, int]]) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *((second >= start) & (second < end) for start, end in spans))


class Counted:
    """How many seconds of each kind there are in verdicts."""

    def __init__(self, verdicts: pl.DataFrame) -> None:
        kinds = dict(verdicts.group_by("verdict").len().iter_rows())
        self.verified: int = kinds.get(Verdict.VERIFIED.value, 0)
        self.mismatched: int = kinds.get(Verdict.MISMATCH.value, 0)
        self.unverifiable: int = kinds.get(Verdict.UNVERIFIABLE.value, 0)
        wrong = verdicts.filter(pl.col("verdict") == Verdict.MISMATCH.value)
        by = dict(wrong.group_by("explained").len().iter_rows())
        self.explained: dict[str, int] = {name: by[name] for name in sorted(by) if name}
        self.unexplained: int = by.get(Explained.NOT.value, 0)
        self.by_stream: int = verdicts.filter(pl.col("source") == Source.STREAM.value).height
