"""A ledger's pieces: whatever was appended and whenever it was cut, together they are the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness.entries import NO_PREVIOUS, AnyLine, Hole, Opened, Outcome, Seen
from crypto_lake.completeness.ledger import encode_chain
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval
from crypto_lake.upkeep.upload_ledger import (
    CLOSED_AFTER_NS,
    LedgerLine,
    Piece,
    day_of,
    ids_in,
    last_closed_day,
    pieces,
)

DAY_NS = 86400 * 10**9
START_NS = Hour("2024-08-01", 0).start_ns


def seen(at_ns: int, first: int, last: int) -> Seen:
    return Seen(hour=str(Hour.of_ns(at_ns)), first_id=first, last_id=last, first_time_us=0, last_time_us=0)


@dataclass
class World:
    """A ledger that grows, and the pieces of it that were uploaded."""

    now_ns: int = START_NS
    data: bytes = b""
    tail: str = NO_PREVIOUS
    lines: list[LedgerLine] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    offset: int = 0

    def append(self, line: AnyLine) -> None:
        encoded, self.tail = encode_chain([line], self.tail)
        self.data += encoded
        self.lines.append(LedgerLine(line, len(self.data), day_of(line)))

    def next(self) -> list[Piece]:
        return pieces(self.lines, self.offset, max(self.uploaded, default=""), self.now_ns)

    def upload(self, most: int) -> None:
        for piece in self.next()[:most]:
            assert piece.offset == self.offset
            assert piece.day not in self.uploaded, "a piece is never changed"
            assert piece.day > max(self.uploaded, default="")
            assert piece.day <= last_closed_day(self.now_ns), "a day that is not over closes nothing"
            self.uploaded[piece.day] = self.data[piece.offset : piece.end]
            self.offset = piece.end


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 40)),  # hours
        st.tuples(st.just("seen"), st.integers(0, 30)),  # hours ago
        st.tuples(st.just("ahead"), st.integers(1, 500)),  # by a clock that was ahead, hours
        st.tuples(st.just("hole"), st.integers(0, 3)),
        st.tuples(st.just("outcome"), st.just(0)),
        st.tuples(st.just("upload"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps)
def test_pieces_in_the_order_of_their_days_are_the_ledger(todo: list[tuple[str, int]]) -> None:
    world = World()
    world.append(Opened(exchange="binance", symbol="BTCUSDT", collector="c-1"))
    for number, (what, value) in enumerate(todo):
        hours_ns = value * 3600 * 10**9
        match what:
            case "wait":
                world.now_ns += hours_ns
            case "seen":
                world.append(seen(max(START_NS, world.now_ns - hours_ns), number, number))
            case "ahead":
                world.append(seen(world.now_ns + hours_ns, number, number))
            case "hole":
                hole = Hole(
                    first_id=number,
                    last_id=number,
                    after_time_us=0,
                    before_time_us=0,
                    found_ns=world.now_ns,
                    cause="restart",
                )
                world.append(hole)
            case "outcome":
                world.append(Outcome(first_id=number, last_id=number, action="none", outcome="received_late"))
            case _:
                world.upload(value)
        together = b"".join(world.uploaded[day] for day in sorted(world.uploaded))
        assert together == world.data[: world.offset]
        assert together in (b"",) or together.endswith(b"\n")
    # In the end all is there, if anything in it ever bore a day.
    world.now_ns += 30 * DAY_NS
    world.upload(1000)
    assert world.offset == (len(world.data) if any(line.day for line in world.lines) else 0)


def test_a_day_ends_where_the_next_begins_and_late_lines_go_with_a_later_one() -> None:
    world = World()
    first, second = START_NS + 3600 * 10**9, START_NS + DAY_NS + 3600 * 10**9
    for line in (
        Opened(exchange="binance", symbol="BTCUSDT", collector="c-1"),
        seen(first, 1, 9),
        seen(second, 10, 19),
    ):
        world.append(line)
    world.now_ns = second - 1
    assert world.next() == [], "an hour of the first day may still be on its way"
    world.now_ns = START_NS + DAY_NS + CLOSED_AFTER_NS
    world.upload(9)
    assert list(world.uploaded) == ["2024-08-01"]
    assert b'"last_id":9' in world.uploaded["2024-08-01"]
    world.append(Outcome(first_id=3, last_id=3, action="none", outcome="received_late"))
    world.append(seen(first, 3, 3))  # late, about the day that is closed
    world.now_ns = START_NS + 2 * DAY_NS + CLOSED_AFTER_NS
    world.upload(9)
    assert list(world.uploaded) == ["2024-08-01", "2024-08-02"]
    assert b'"first_id":3' in world.uploaded["2024-08-02"]
    # Nothing is collected any more, and an outcome comes a week later.
    world.append(Outcome(first_id=4, last_id=4, action="none", outcome="received_late"))
    world.now_ns = START_NS + 9 * DAY_NS
    world.upload(9)
    assert list(world.uploaded)[-1] == last_closed_day(world.now_ns)
    assert ids_in(world.lines).missing(Interval(1, 19)) == []
