"""What came of a stream, as far as one look after the other tells."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake.capture.routes import Route
from crypto_lake.exchanges.base import BestQuote, Present
from crypto_lake.model.market import Stream

# Two connections of a stream are not in step: what the slower one brings again within this is no repetition.
_OVERLAP_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = (
    60.0  # what is longer counts as so much: an outage must not make a busy stream look quiet
)


@dataclass(slots=True)
class Hearing:
    """What came of a stream, as far as one look after the other tells. `fresh`: messages of looks with something new.

    Times are those of the looks: the hot path of the messages notes no more than the last one.
    """

    messages: int = 0
    greatest_id: int = 0
    last_message: bytes = b""
    fresh: int = 0
    active_seconds: float = 0.0  # between the first and the last new message, without long silences
    fresh_at: float | None = None
    repeats: int = 0
    behind: float | None = None  # how old the last trade was when it came
    told_id: int = 0  # the greatest trade id that klines spoke of

    def look(self, route: Route, now: float, exchange_us: int | None = None) -> None:
        """exchange_us: the exchange's time, None where it can't be told."""
        messages = route.messages + route.lost_messages
        new, self.messages = messages - self.messages, messages
        if route.kind is Stream.TRADE:
            is_fresh = route.greatest_id > self.greatest_id
        else:
            is_fresh = route.last_message != self.last_message
        self.greatest_id, self.last_message = route.greatest_id, route.last_message
        if is_fresh:
            if self.fresh_at is not None:
                self.active_seconds += min(now - self.fresh_at, _LONGEST_PAUSE_SECONDS)
            self.fresh += new
            self.fresh_at = now
            self.repeats = 0
            traded_us = route.greatest_time_us
            self.behind = (exchange_us - traded_us) / 1e6 if exchange_us and traded_us else None
        elif self.fresh_at is not None and now - self.fresh_at > _OVERLAP_SECONDS:
            self.repeats += new

    @property
    def mean_pause(self) -> float | None:
        """Between two messages with something new, in seconds; None before there are some."""
        return self.active_seconds / (self.fresh - 1) if self.fresh > 1 and self.active_seconds else None

    def newest(self, route: Route, present: Present) -> tuple[int, BestQuote | None]:
        """What the stream told last, to be held against what the exchange says: a trade id (0: none yet), or a quote.

        A kline names its last trade; one of a second without a trade names none.
        """
        message = route.last_message
        match route.kind:
            case Stream.TRADE:
                return route.greatest_id, None
            case Stream.BOOK_TICKER:
                return 0, present.read_quote(message) if message else None
            case Stream.KLINE:
                if message and (kline := present.read_kline(message)) is not None:
                    self.told_id = max(self.told_id, kline.last_id)
                return self.told_id, None
