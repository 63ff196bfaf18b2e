"""What the exchange does not have: when that is believed, and giving the ids up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from crypto_lake.completeness.entries import Outcome
from crypto_lake.completeness.heal import Road, Told, Wanted
from crypto_lake.completeness.heal_patience import Patience
from crypto_lake.completeness.heal_rest import RefusedError, Reply
from crypto_lake.lake.control import RestAnswer
from crypto_lake.model.clock import Clock
from crypto_lake.model.intervals import Interval
from crypto_lake.model.market import NS_PER_SECOND

log = logging.getLogger(__name__)

_TRIES: Final = 5  # and more, before ids of which the exchange says nothing are given up
_OLD_NS: Final = 24 * 3600 * NS_PER_SECOND  # of a hole of which the exchange has said nothing for so long

KeepAnswer = Callable[[RestAnswer], int]


class Doubts:
    """`settled` takes what became of ids that are given up; `keep_answer` is the healer's. never_existed, unavailable:
    how many ids were given up as such.
    """

    def __init__(
        self,
        patience: Patience,
        clock: Clock,
        settled: Callable[[str, Sequence[Outcome]], None],
        keep_answer: KeepAnswer,
    ) -> None:
        self.never_existed = self.unavailable = 0
        self._patience, self._clock = patience, clock
        self._settled, self._keep_answer = settled, keep_answer

    def not_all(self, left: Wanted, road: Road, told: Told, reply: Reply) -> str:
        """The exchange has not all of it. It must say so twice, a minute apart, to be believed. Gives the problem to tell,
        where there is one.
        """
        if not told.skipped and told.older is None:
            return self._silent(left, road, reply)
        skipped = bool(told.skipped)
        ids = told.skipped[0] if skipped else told.older
        assert ids is not None
        if self._patience.is_certain(left.symbol, ids, "skipped" if skipped else "older", time.monotonic()):
            answer_ns = self._keep(left.symbol, road, ids, reply.status, _around(reply, ids))
            if skipped:
                self._give_up(left.symbol, ids, road, "never_existed", "", answer_ns)
            else:
                why = f"the exchange's history begins at id {reply.rows[0].first_id}"
                self._give_up(left.symbol, ids, road, "unavailable", why, answer_ns)
        return ""

    def _silent(self, left: Wanted, road: Road, reply: Reply) -> str:
        """It says nothing of ids that are gone by: perhaps it is behind. After a day of it they can't be had."""
        tries = self._patience.put_off(left, time.monotonic())
        if tries >= _TRIES and self._clock.now_ns() - left.before_time_us * 1000 >= _OLD_NS:
            answer_ns = self._keep(left.symbol, road, left.ids, reply.status, reply.body)
            why = "the exchange has nothing of them"
            self._give_up(left.symbol, left.ids, road, "unavailable", why, answer_ns)
        return f"{road.name} has nothing of {left.symbol} from id {left.ids.first} on"

    def refused(self, left: Wanted, road: Road, error: RefusedError) -> None:
        """A symbol that the exchange does not have (any more): the same answer a minute later makes it certain."""
        if self._patience.is_certain(left.symbol, left.ids, "refused", time.monotonic()):
            answer_ns = self._keep(left.symbol, road, left.ids, error.status, error.body)
            self._give_up(left.symbol, left.ids, road, "unavailable", str(error)[:200], answer_ns)

    def _keep(self, symbol: str, road: Road, ids: Interval, status: int, body: bytes) -> int:
        text = body.decode(errors="replace")
        return self._keep_answer(RestAnswer(symbol, road.call.source, ids.first, ids.last, status, text))

    def _give_up(
        self, symbol: str, ids: Interval, road: Road, outcome: str, reason: str, answer_ns: int
    ) -> None:
        log.warning("trades %d to %d of %s: %s %s", ids.first, ids.last, symbol, outcome, reason)
        if outcome == "never_existed":
            self.never_existed += len(ids)
        else:
            self.unavailable += len(ids)
        self._patience.forget(symbol, ids.first)
        line = Outcome(
            first_id=ids.first,
            last_id=ids.last,
            action=road.call.source,
            outcome=outcome,
            reason=reason,
            answer_ns=answer_ns,
        )
        self._settled(symbol, [line])


def _around(reply: Reply, ids: Interval) -> bytes:
    """The rows of an answer, verbatim, that stand around what it does not have: the last before it, the first after."""
    before = [row for row in reply.rows if row.last_id < ids.first][-1:]
    after = [row for row in reply.rows if row.first_id > ids.last][:1]
    return b"[" + b",".join(row.message for row in (*before, *after)) + b"]"
