"""What is wanted becomes what is acknowledged, whatever the exchange refuses and in whatever order it answers."""

from __future__ import annotations

from hypothesis import given, note
from hypothesis import strategies as st

from crypto_lake.capture.subscriptions import Request, Subscriptions

STREAMS = tuple(f"s{number}@trade" for number in range(6))
streams = st.frozensets(st.sampled_from(STREAMS))


class Exchange:
    """What it was asked for and has not answered, and what it gives."""

    def __init__(self, refuses: frozenset[str], most: int) -> None:
        self.given: set[str] = set()
        self.waiting: dict[int, Request] = {}
        self._refuses = refuses
        self._most = most

    def ask(self, subject: Subscriptions, wanted: frozenset[str], now: float) -> bool:
        if (request := subject.next_request()) is None:
            return False
        number = subject.sent(request, now)
        note(f"{number}: {request}")
        assert number not in self.waiting
        assert 1 <= len(request.streams) <= self._most
        under_way = {stream for other in self.waiting.values() for stream in other.streams}
        assert not under_way & set(request.streams), "two requests for a stream cross"
        if request.subscribe:
            assert wanted - self.given >= set(request.streams), "not wanted, or given already"
        else:
            assert self.given - wanted >= set(request.streams), "wanted, or not given"
        self.waiting[number] = request
        return True

    def answer(self, subject: Subscriptions, number: int, now: float) -> None:
        request = self.waiting.pop(number)
        assert subject.answered(number) == request
        assert subject.answered(number) is None, "an answer counts once"
        if not request.subscribe:
            self.given -= set(request.streams)
            subject.accept(request, now)
        elif self._refuses.isdisjoint(request.streams):
            self.given |= set(request.streams)
            subject.accept(request, now)
        else:
            blamed = subject.refuse(request)
            assert blamed is None or blamed in self._refuses
        assert subject.acknowledged == self.given == subject.acknowledged_at.keys()


steps = st.lists(streams | st.sampled_from(["ask", "answer"]), max_size=25)


@given(st.data(), steps, streams, st.integers(1, 5))
def test_what_is_wanted_comes_about_and_no_two_requests_cross(
    data: st.DataObject, history: list[frozenset[str] | str], refuses: frozenset[str], most: int
) -> None:
    wanted = frozenset(STREAMS)
    subject, exchange = Subscriptions(wanted, most), Exchange(refuses, most)
    for now, step in enumerate(history):
        if isinstance(step, frozenset):
            wanted = step
            subject.want(wanted)
        elif step == "ask":
            exchange.ask(subject, wanted, now)
        elif exchange.waiting:
            exchange.answer(subject, data.draw(st.sampled_from(sorted(exchange.waiting))), now)
    turns = 0
    while exchange.ask(subject, wanted, 99.0) or exchange.waiting:
        turns += 1
        assert turns < 200, "it comes to no end"
        if exchange.waiting:
            exchange.answer(subject, data.draw(st.sampled_from(sorted(exchange.waiting))), 99.0)
    assert subject.acknowledged == wanted - refuses
    assert subject.refused == wanted & refuses
    assert subject.complete == bool(wanted - refuses)
    assert subject.all_refused == (wanted <= refuses)
    assert subject.unanswered_since is None


def test_the_oldest_unanswered_request_is_known() -> None:
    subject = Subscriptions(STREAMS[:3], 1)
    numbers: list[int] = []
    for now in (1.0, 2.0, 3.0):
        request = subject.next_request()
        assert request is not None
        numbers.append(subject.sent(request, now))
    assert subject.next_request() is None
    assert not subject.complete
    for number, oldest in zip((numbers[1], numbers[0], numbers[2]), (1.0, 3.0, None), strict=True):
        request = subject.answered(number)
        assert request is not None
        subject.accept(request, 10.0 + number)
        assert subject.unanswered_since == oldest
    assert subject.complete
    assert subject.acknowledged_at == {
        stream: 10.0 + number for stream, number in zip(STREAMS, numbers, strict=False)
    }


def test_an_answer_to_nothing_of_ours_is_none() -> None:
    subject = Subscriptions(STREAMS, 8)
    request = subject.next_request()
    assert request is not None
    number = subject.sent(request, 0.0)
    assert [subject.answered(stray) for stray in (number + 1, str(number), None)] == [None] * 3
    assert subject.answered(number) is request


def sent_and_answered(subject: Subscriptions) -> Request:
    request = subject.next_request()
    assert request is not None
    assert subject.answered(subject.sent(request, 0.0)) == request
    return request


def test_a_stream_that_is_no_longer_wanted_is_not_to_blame() -> None:
    subject = Subscriptions(STREAMS[:1], 8)
    request = sent_and_answered(subject)
    subject.want(STREAMS[1:2])
    assert subject.refuse(request) is None
    assert subject.refused == frozenset()
    assert subject.next_request() == Request(True, STREAMS[1:2])


def test_a_stream_that_is_wanted_again_waits_for_the_answer_that_it_is_gone() -> None:
    subject = Subscriptions(STREAMS[:2], 8)
    subject.accept(sent_and_answered(subject), 0.0)
    subject.want(STREAMS[1:2])
    drop = Request(False, STREAMS[:1])
    assert subject.next_request() == drop
    number = subject.sent(drop, 0.0)
    subject.want(STREAMS[:2])
    assert subject.next_request() is None
    assert subject.answered(number) == drop
    subject.accept(drop, 1.0)
    assert subject.next_request() == Request(True, STREAMS[:1])


def test_of_a_refused_request_only_what_is_still_wanted_is_asked_again() -> None:
    subject = Subscriptions(STREAMS[:4], 8)
    assert subject.refuse(sent_and_answered(subject)) is None
    subject.want(STREAMS[1:3])
    assert subject.next_request() == Request(True, STREAMS[1:2])
    subject.want(STREAMS[2:3])
    assert subject.next_request() == Request(True, STREAMS[2:3])
