"""Whether a symbol of which the exchange gives no klines is gone: by the exchange's own word alone. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# Trades of it that are younger than this speak against the exchange's word, as where REST and streams are of two exchanges.
CONTRADICTED_SECONDS: Final = 3600


class Standing(StrEnum):
    """What the exchange's list of symbols says of one.

    unknown: the exchange has no such symbol. closed: it has it, and it does not trade. trading: it does. untold: the
    list could not be had, or says nothing of it.
    """

    UNKNOWN = "unknown"
    CLOSED = "closed"
    TRADING = "trading"
    UNTOLD = "untold"


_SAID: Final = {
    Standing.UNKNOWN: "the exchange has no such symbol",
    Standing.CLOSED: "the exchange gives no klines of it, and says that it does not trade",
    Standing.TRADING: "the exchange gives no klines of it, and says that it trades",
    Standing.UNTOLD: "the exchange gives no klines of it, and whether it trades is not known",
}


def said(standing: Standing) -> str:
    return _SAID[standing]


def is_gone(*, klines_say_unknown: bool, standing: Standing, last_trade_ago_seconds: int | None) -> bool:
    """klines_say_unknown: asked for klines it answered that there is no such symbol; any other refusal may be a fault of the
    question. last_trade_ago_seconds: how old the newest bar with a trade is here; None: there is none.
    """
    agrees = standing in (Standing.UNKNOWN, Standing.CLOSED)
    traded_of_late = last_trade_ago_seconds is not None and last_trade_ago_seconds < CONTRADICTED_SECONDS
    return klines_say_unknown and agrees and not traded_of_late
