"""A ledger's pieces: whatever was appended and whenever it was cut, together they are the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness.entries import (
    NO_PREVIOUS,
    AnyLine,
    Ended,
    Hole,
    Opened,
    Outcome,
    Resumed,
    Seen,
)
from crypto_lake.completeness.ledger import encode_chain, ended_ns
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval
from crypto_lake.upkeep.names import LedgerSegment
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
    uploaded: dict[str, bytes] = field(default_factory=dict)  # closed days
    early: dict[tuple[str, int], bytes] = field(
        default_factory=dict
    )  # pieces that went before a day's closing
    last: tuple[str, int] = ("", 0)
    offset: int = 0

    def append(self, line: AnyLine) -> None:
        encoded, self.tail = encode_chain([line], self.tail)
        self.data += encoded
        self.lines.append(LedgerLine(line, len(self.data), day_of(line)))

    def next(self) -> list[Piece]:
        return pieces(self.lines, self.offset, self.last[0], self.now_ns, self.last[1])

    def upload(self, most: int) -> None:
        for piece in self.next()[:most]:
            assert piece.offset == self.offset
            assert piece.day not in self.uploaded, "a piece is never changed"
            assert piece.day > max(self.uploaded, default="")
            assert piece.day >= self.last[0]
            body = self.data[piece.offset : piece.end]
            if piece.number:
                assert (piece.day, piece.number - 1) in self.early or piece.number == 1
                assert (piece.day, piece.number) not in self.early, "a piece is never changed"
                self.early[piece.day, piece.number] = body
            else:
                assert piece.day <= last_closed_day(self.now_ns), "a day that is not over is not closed"
                self.uploaded[piece.day] = body
            self.offset, self.last = piece.end, (piece.day, piece.number)

    @property
    def closed_day(self) -> str:
        """As those believe who see the pieces: of a day before a numbered one nothing comes any more."""
        before = [Hour.of_ns(Hour(day, 0).start_ns - 1).day for day, _ in self.early]
        return max([*self.uploaded, *before], default="")

    @property
    def together(self) -> bytes:
        """The pieces in the order of their names."""
        named = [LedgerSegment("binance", "BTCUSDT", day, "c-1", 1, number) for day, number in self.early]
        named += [LedgerSegment("binance", "BTCUSDT", day, "c-1") for day in self.uploaded]
        return b"".join(
            self.early[one.day, one.number] if one.number else self.uploaded[one.day]
            for one in sorted(named, key=lambda one: one.order)
        )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 40)),  # hours
        st.tuples(st.just("seen"), st.integers(0, 30)),  # hours ago
        st.tuples(st.just("ahead"), st.integers(1, 500)),  # by a clock that was ahead, hours
        st.tuples(st.just("hole"), st.integers(0, 3)),
        st.tuples(st.just("outcome"), st.just(0)),
        st.tuples(st.just("ended"), st.integers(0, 1)),
        st.tuples(st.just("resumed"), st.integers(0, 1)),
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
            case "ended":
                world.append(Ended(ended_ns=world.now_ns - hours_ns))
            case "resumed":
                world.append(Resumed(resumed_ns=world.now_ns - hours_ns))
            case "outcome":
                world.append(Outcome(first_id=number, last_id=number, action="none", outcome="received_late"))
            case _:
                world.upload(value)
        together = world.together
        assert together == world.data[: world.offset]
        assert together in (b"",) or together.endswith(b"\n")
    # In the end all is there, if anything in it ever bore a day.
    world.now_ns += 30 * DAY_NS
    world.upload(1000)
    assert world.offset == (len(world.data) if any(line.day for line in world.lines) else 0)


@given(steps)
def test_a_ledger_that_has_ended_waits_for_no_hour_and_one_that_goes_on_says_so(
    todo: list[tuple[str, int]],
) -> None:
    """After an upload readers believe that it ended exactly where it did."""
    world = World()
    for number, (what, value) in enumerate(todo):
        hours_ns = value * 3600 * 10**9
        match what:
            case "wait":
                world.now_ns += hours_ns
            case "seen" | "hole":
                world.append(seen(world.now_ns, number, number))
            case "ended":
                world.append(Ended(ended_ns=world.now_ns))
            case "resumed":
                world.append(Resumed(resumed_ns=world.now_ns))
            case "outcome":
                world.append(Outcome(first_id=number, last_id=number, action="none", outcome="received_late"))
            case _:
                pass
        while world.next():
            world.upload(1)
        ended = ended_ns(line.line for line in world.lines)
        if ended is not None:
            assert world.offset == len(world.data), "nothing waits"
        told = ended_ns(line.line for line in world.lines if line.end <= world.offset)
        assert told == ended
        days = {line.day for line in world.lines if line.day}
        over = {day for day in days if day <= last_closed_day(world.now_ns) and day < max(days)}
        assert world.closed_day >= max(over, default=""), (
            "a day that is over and has a line after it is closed"
        )


def test_a_day_whose_lines_are_all_there_already_is_closed_by_the_next_days() -> None:
    """A collector that was started again shortly before midnight: all of the day went when it was told to go on."""
    hour_ns = 3600 * 10**9
    world = World(now_ns=START_NS + 23 * hour_ns)
    world.append(Opened(exchange="binance", symbol="BTCUSDT", collector="c-1"))
    world.append(seen(world.now_ns, 1, 9))
    world.append(Ended(ended_ns=world.now_ns))
    world.upload(9)
    world.append(Resumed(resumed_ns=world.now_ns + 60 * 10**9))
    world.append(seen(world.now_ns, 10, 19))
    world.now_ns = START_NS + DAY_NS + 2
    world.upload(9)
    assert (list(world.early), world.offset) == (
        [("2024-08-01", 1), ("2024-08-01", 2)],
        len(world.data),
    )
    world.append(seen(world.now_ns, 20, 29))
    assert world.next() == [], "an hour of the first day may still be on its way"
    assert world.closed_day < "2024-08-01"
    world.now_ns = START_NS + DAY_NS + CLOSED_AFTER_NS
    world.upload(9)
    assert list(world.early)[2:] == [("2024-08-02", 1)]
    assert world.closed_day == "2024-08-01"
    world.append(seen(world.now_ns, 30, 39))
    assert world.next() == [], "the second day is closed when it is over"
    world.now_ns += DAY_NS
    world.upload(9)
    assert (list(world.uploaded), world.together) == (["2024-08-02"], world.data)


def test_a_ledger_that_ends_twice_in_a_day() -> None:
    world = World(now_ns=START_NS + 15 * 3600 * 10**9)
    world.append(Opened(exchange="binance", symbol="BTCUSDT", collector="c-1"))
    world.append(seen(world.now_ns, 1, 9))
    assert world.next() == []
    world.append(Ended(ended_ns=world.now_ns))
    world.upload(9)
    assert list(world.early) == [("2024-08-01", 1)]
    world.now_ns += 3600 * 10**9
    world.append(Resumed(resumed_ns=world.now_ns))
    world.upload(9)
    world.append(seen(world.now_ns, 10, 19))
    assert world.next() == [], "it is received, and waits for its day's end as any other"
    world.now_ns += 3600 * 10**9
    world.append(Ended(ended_ns=world.now_ns))
    world.upload(9)
    assert list(world.early) == [("2024-08-01", number) for number in (1, 2, 3)]
    world.append(Resumed(resumed_ns=world.now_ns))
    world.append(seen(world.now_ns, 20, 29))
    world.now_ns = START_NS + DAY_NS + CLOSED_AFTER_NS
    world.upload(9)
    assert list(world.uploaded) == ["2024-08-01"]
    assert world.together == world.data


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
