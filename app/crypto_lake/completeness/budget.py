"""How much of the exchange's REST a lake may use now: pure, on times that are passed in.

The exchange counts the weight of requests by address, in minutes of its own clock, which is not ours; and a request is
counted when it arrives, which is some time between our sending it and the answer. So a request's weight counts here
from when it is sent until a minute after its answer came (or would have been given up): whichever of its minutes one
looks at, the exchange never counts more than was counted here.

What the exchange says goes before all that: after 429 or 418 nothing is asked until the time that it names is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec

MINUTE_SECONDS: Final = 60.0
REQUEST_SECONDS: Final = 15.0  # by then a request is answered or given up
# Where it does not say how long: a minute's count is over in a minute; a ban lasts two minutes at least.
_PAUSE_SECONDS: Final = {429: 60.0, 418: 120.0}
_LONGEST_BAN_SECONDS: Final = 3 * 24 * 3600.0 + 3600.0  # it says up to three days
_MARGIN_SECONDS: Final = 1.0  # Retry-After is in whole seconds
_NEARLY_FULL: Final = 0.9  # of what the exchange allows: by then others of this address use it, too

STOPPING: Final = frozenset(_PAUSE_SECONDS)


class Spent(msgspec.Struct, frozen=True):
    """What is known of the address's use. Times are seconds since 1970 by the machine's clock.

    weights: by the second up to which it counts. blocked_until: nothing is asked before; `blocked_by`: the status (or
    0: nearly all is used, by whomever) that said so. reported: the weight that the exchange counted when it last said.
    """

    weights: dict[int, int] = {}
    blocked_until: float = 0.0
    blocked_by: int = 0
    reported: int = 0
    refusals: int = 0  # answers 429 and 418 so far


@dataclass(frozen=True, slots=True)
class Allowance:
    """share: weight a minute that this lake (or this collector of it) may use. limit: what the exchange allows."""

    share: int
    limit: int


def at_time(spent: Spent, now: float) -> Spent:
    """Without what no longer counts. Whatever lies too far ahead (the clock was set back) is brought near."""
    latest = math.ceil(now + REQUEST_SECONDS + MINUTE_SECONDS)
    weights: dict[int, int] = {}
    for until, weight in spent.weights.items():
        if until > now and weight > 0:
            at = min(until, latest)
            weights[at] = weights.get(at, 0) + weight
    blocked_until = min(spent.blocked_until, now + _LONGEST_BAN_SECONDS)
    return msgspec.structs.replace(
        spent,
        weights=weights,
        blocked_until=blocked_until if blocked_until > now else 0.0,
        blocked_by=spent.blocked_by if blocked_until > now else 0,
    )


def used(spent: Spent, now: float) -> int:
    return sum(weight for until, weight in spent.weights.items() if until > now)


def unknown(now: float, share: int) -> Spent:
    """Where the account was lost: all that may be used in a minute has been."""
    return Spent({math.ceil(now + MINUTE_SECONDS): share})


def wait_seconds(spent: Spent, now: float, weight: int, allowance: Allowance) -> float:
    """How long to wait before a request of this weight; 0: it may be sent. inf: it weighs more than the share."""
    if spent.blocked_until > now:
        return spent.blocked_until - now
    if weight > allowance.share:
        return math.inf
    room = allowance.share - used(spent, now)
    if room >= weight:
        return 0.0
    for until in sorted(at for at in spent.weights if at > now):
        room += spent.weights[until]
        if room >= weight:
            return until - now
    return MINUTE_SECONDS


def sent(spent: Spent, now: float, weight: int) -> tuple[Spent, int]:
    """A request goes out. Returns the second up to which it counts, to be given back to `answered`."""
    until = math.ceil(now + REQUEST_SECONDS + MINUTE_SECONDS)
    weights = dict(spent.weights)
    weights[until] = weights.get(until, 0) + weight
    return msgspec.structs.replace(spent, weights=weights), until


def answered(
    spent: Spent,
    now: float,
    weight: int,
    until: int,
    allowance: Allowance,
    *,
    status: int,
    reported: int | None,
    retry_after_seconds: float | None,
) -> Spent:
    """The answer came. `reported`: the used weight that it names. Not called, the request counts for longer."""
    weights = dict(spent.weights)
    kept = weights.get(until, 0) - weight
    if kept >= 0:  # else it was brought near meanwhile, and stays
        weights[until] = kept
        at = min(until, math.ceil(now + MINUTE_SECONDS))
        weights[at] = weights.get(at, 0) + weight
    spent = msgspec.structs.replace(
        spent, weights=weights, reported=spent.reported if reported is None else reported
    )
    if status in STOPPING:
        pause = _PAUSE_SECONDS[status] if retry_after_seconds is None else retry_after_seconds
        blocked_until = max(spent.blocked_until, now + pause + _MARGIN_SECONDS)
        return msgspec.structs.replace(
            spent, blocked_until=blocked_until, blocked_by=status, refusals=spent.refusals + 1
        )
    if reported is not None and reported >= _NEARLY_FULL * allowance.limit:
        return msgspec.structs.replace(
            spent, blocked_until=max(spent.blocked_until, now + MINUTE_SECONDS), blocked_by=spent.blocked_by
        )
    return spent
