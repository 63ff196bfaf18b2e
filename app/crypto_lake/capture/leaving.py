"""Why a connection that stands is to be replaced by another. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake.capture.outcome import Reason

# A connection that is alone can't be compared with others; its streams may all be quiet.
_ALONE = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection, as far as it depends on it whether another one takes over. Times are seconds.

    is_ending: the exchange said that it will close it. is_condemned: somebody found one of its streams dead.
    age: since it was connected, None where it is not yet. handover_age: when it is replaced for its age.
    is_at_rest: it has streams, and all are known to be silent because their market is.
    silent: since its streams were acknowledged, without one message of them; None where one came, or they are not.
    others_spoke: meanwhile another connection brought messages.
    """

    is_ending: bool
    is_condemned: bool
    age: float | None
    handover_age: float
    is_at_rest: bool
    silent: float | None
    others_spoke: bool


def why_leave(seen: Seen, no_data_seconds: float) -> Reason | None:
    """None: it stays."""
    if seen.is_ending:
        return Reason.SERVER_SHUTDOWN
    if seen.is_condemned:
        return Reason.STREAM_DEAD
    if seen.age is None:
        return None
    if seen.age >= seen.handover_age:
        return Reason.LIFETIME
    if seen.is_at_rest or seen.silent is None:
        return None
    patience = no_data_seconds if seen.others_spoke else _ALONE * no_data_seconds
    return Reason.NO_DATA if seen.silent > patience else None
