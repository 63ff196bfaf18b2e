"""What is heard of streams, what the exchange says, and what is thought of them: the terms of `liveness`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from crypto_lake.exchanges.base import BestQuote
from crypto_lake.model.market import Stream


class Liveness(StrEnum):
    """How a stream is. Names are a contract: they stand in the status.

    not_subscribed: no connection carries it yet.
    live: something new came within its patience.
    suspect: silent beyond its patience; the exchange is being asked.
    quiet: silent, and the exchange has nothing newer.
    halted: quiet, and the exchange says that the symbol does not trade.
    unknown: silent beyond its patience, and the exchange can't be asked.

    Dead:
    never_spoke: acknowledged, and nothing ever came of it over this connection.
    stream_silent: it alone went silent; another stream of its symbol speaks.
    symbol_silent: all streams of its symbol went silent; others of its connection speak.
    connection_silent: every stream of its connection went silent.
    repeating: what comes is what came before.
    behind: what comes is old.
    """

    NOT_SUBSCRIBED = "not_subscribed"
    LIVE = "live"
    SUSPECT = "suspect"
    QUIET = "quiet"
    HALTED = "halted"
    UNKNOWN = "unknown"
    NEVER_SPOKE = "never_spoke"
    STREAM_SILENT = "stream_silent"
    SYMBOL_SILENT = "symbol_silent"
    CONNECTION_SILENT = "connection_silent"
    REPEATING = "repeating"
    BEHIND = "behind"

    @property
    def dead(self) -> bool:
        return self in DEAD

    @property
    def at_rest(self) -> bool:
        """Its silence is the market's: the exchange was asked."""
        return self in (Liveness.QUIET, Liveness.HALTED)


DEAD = frozenset(
    {
        Liveness.NEVER_SPOKE,
        Liveness.STREAM_SILENT,
        Liveness.SYMBOL_SILENT,
        Liveness.CONNECTION_SILENT,
        Liveness.REPEATING,
        Liveness.BEHIND,
    }
)


@dataclass(frozen=True, slots=True)
class Rules:
    """All in seconds but `times`.

    Patience is `times` the stream's mean pause, within `patience_least` and `patience_most`; one that has not spoken
    over its connection is given `patience_first`. grace: between the two answers that prove a stream dead.
    again_first, again_most: until a quiet stream is asked about again; doubled each time. unproven: so many times its
    patience a stream is silent before the others' speaking alone counts, where the exchange can't be asked.
    halted: a silence after which it is asked whether the symbol trades.
    """

    patience_least: float = 10.0
    patience_most: float = 60.0
    patience_first: float = 20.0
    times: float = 20.0
    grace: float = 3.0
    again_first: float = 15.0
    again_most: float = 120.0
    unproven: float = 4.0
    behind: float = 30.0
    behind_hold: float = 5.0
    halted: float = 60.0

    def scaled(self, factor: float) -> Rules:
        """All times so many times as long."""
        names = (name for name in self.__slots__ if name not in ("times", "unproven"))
        return replace(self, **{name: getattr(self, name) * factor for name in names})


@dataclass(frozen=True, slots=True)
class Heard:
    """A stream, as the collector hears it.

    connection: that carries it, "" for none; `since` when it was acknowledged there. fresh_at: when something new came
    last, over any connection. repeats: messages since, none of them new. mean_pause: between two new ones.
    last_id: the greatest trade id, 0 before the first; of klines, the greatest that one of them names. behind: how old the last trade was when it came, by the exchange's
    clock. handed_over: another connection is taking over from this one, and may bring its streams already.
    """

    name: str
    symbol: str
    kind: Stream
    connection: str
    since: float = 0.0
    fresh_at: float | None = None
    repeats: int = 0
    mean_pause: float | None = None
    last_id: int = 0
    quote: BestQuote | None = None
    behind: float | None = None
    handed_over: bool = False

    @property
    def by_id(self) -> bool:
        """Whether trade ids tell what it has not brought; of a stream of quotes the quote does."""
        return self.kind is not Stream.BOOK_TICKER


@dataclass(frozen=True, slots=True)
class Answer:
    """What the exchange said of a symbol. at: when it was asked. last_id: -1 for no trade in a day. row: verbatim."""

    at: float
    last_id: int
    quote: BestQuote
    row: bytes = b""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known from REST: by symbol the latest answer, and whether it trades; why the last asking failed."""

    answers: Mapping[str, Answer] = field(default_factory=dict[str, Answer])
    trading: Mapping[str, bool] = field(default_factory=dict[str, bool])
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`since`: when it began to be so. `evidence`: what it rests on, for people."""

    kind: Liveness
    since: float
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a stream from one look to the next.

    silent_from: the silence that the rest is about. base: of a stream that never spoke, the first answer. newer: the
    first answer that had something newer. quiet: the last one that had not; `again_at` when to ask again.
    """

    judgement: Judgement
    silent_from: float = 0.0
    base: Answer | None = None
    newer: Answer | None = None
    quiet: Answer | None = None
    again_after: float = 0.0
    again_at: float = 0.0
    proven: str = ""
    behind_since: float | None = None
