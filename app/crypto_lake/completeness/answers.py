"""What an answer of the exchange that was kept says of ids. Pure.

It is read here by its form alone, apart from what healing made of it, so that the two can be compared.
"""

from __future__ import annotations

import msgspec

from crypto_lake.lake.control import RestAnswer
from crypto_lake.model.intervals import Interval, IntervalSet

_OK = 200


class IdsOfRow(msgspec.Struct, gc=False):
    """What a row bears of ids: one trade's, or an aggregate's first and last."""

    id: int | None = None
    f: int | None = None
    l: int | None = None  # noqa: E741  the exchange's name

    def interval(self) -> Interval | None:
        if self.id is not None:
            return Interval(self.id, self.id)
        if self.f is not None and self.l is not None and self.f <= self.l:
            return Interval(self.f, self.l)
        return None


_decode_rows = msgspec.json.Decoder(list[IdsOfRow]).decode
decode_row = msgspec.json.Decoder(IdsOfRow).decode


def refutes(answer: RestAnswer, ids: Interval) -> str:
    """Why this answer does not show that the exchange has no such trades, or nothing where it does.

    It does where these ids were asked for, the rows go on beyond them (or there are none at all), and none is theirs.
    """
    at = f"rests on the exchange's answer to {answer.source} from {answer.first_id}"
    if answer.status != _OK:
        return f"{at}, which has the status {answer.status}"
    if answer.first_id > ids.first:
        return f"{at}, which did not ask for {ids.first}"
    try:
        rows = [row.interval() for row in _decode_rows(answer.body)]
    except msgspec.MsgspecError as error:
        return f"{at}, which can't be read: {error}"
    held = IntervalSet(interval for interval in rows if interval is not None)
    if shared := held.shared_with(ids):
        return f"{at}, which has trade {shared[0].first}"
    if held.last is not None and held.last < ids.last:
        return f"{at}, which ends at {held.last}, before {ids.last}"
    return ""
