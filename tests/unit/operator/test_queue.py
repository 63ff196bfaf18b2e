"""The queue of lakes: none is lost, none is worked on twice at a time, none that fails is asked all the time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crypto_lake_operator.client import ThrottledError, UnavailableError
from crypto_lake_operator.queue import Backoff, Breaker, Done, Failed, Key, KeyQueue, Outcome
from crypto_lake_operator.worker import Workers

KEYS = [Key("a", name) for name in "vwxyz"]
keys = st.sampled_from(KEYS)


class Queue(RuleBasedStateMachine):
    """Against a model: for each key, the times by which it must be worked on once more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.queue = KeyQueue(Backoff(1.0, 60.0), Random(7))
        self.owed: dict[Key, float] = {}  # asked for, and not begun since
        self.failing: dict[Key, int] = {}
        self.working: set[Key] = set()

    @rule(key=keys, after=st.sampled_from([0.0, 0.5, 30.0]), anew=st.booleans())
    def add(self, key: Key, after: float, anew: bool) -> None:
        self.queue.add(key, self.now, after, anew=anew)
        backed_off = key in self.failing and key not in self.working
        if anew:
            self.failing.pop(key, None)
        # What was asked for while it backed off made it come no sooner, and this does.
        if anew and backed_off:
            self.owed[key] = self.now + after
        else:
            self.owed[key] = min(self.owed.get(key, float("inf")), self.now + after)

    @rule(seconds=st.floats(0.01, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        key = self.queue.take(self.now)
        if key is not None:
            assert key not in self.working, "worked on twice at a time"
            self.working.add(key)
            self.owed.pop(key, None)
        else:
            due = [k for k, at in self.owed.items() if at <= self.now and k not in self.working]
            assert all(k in self.failing for k in due), f"{due} are due and none is given out"

    @precondition(lambda self: bool(self.working))
    @rule(data=st.data(), again=st.sampled_from([None, 0.0, 10.0]), fails=st.booleans())
    def done(self, data: st.DataObject, again: float | None, fails: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        outcome: Outcome = Failed() if fails else Done(again)
        self.queue.done(key, outcome, self.now)
        if fails:
            self.failing[key] = self.failing.get(key, 0) + 1
            self.owed[key] = min(self.owed.get(key, float("inf")), self.now + 60.0)
        else:
            self.failing.pop(key, None)
            if again is not None:
                self.owed[key] = min(self.owed.get(key, float("inf")), self.now + again)

    @invariant()
    def what_waits_is_waited_for(self) -> None:
        waits = self.queue.wait_seconds(self.now)
        if any(key not in self.working for key in self.owed):
            assert waits is not None, "a key is lost"
            assert waits <= 60.0
        assert self.queue.working == len(self.working)

    def teardown(self) -> None:
        """Everything that is owed comes, once."""
        for key in sorted(self.working):
            self.queue.done(key, Done(), self.now)
        self.now += 1000.0
        given_out: Counter[Key] = Counter()
        while (key := self.queue.take(self.now)) is not None:
            given_out[key] += 1
            self.queue.done(key, Done(), self.now)
        assert set(self.owed) <= set(given_out)
        assert set(given_out.values()) <= {1}


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0.1, 10), st.integers(0, 2**32))
def test_a_backoff_grows_to_its_limit_and_never_is_all_the_same(
    failures: int, least: float, seed: int
) -> None:
    backoff = Backoff(least, 100.0)
    seconds = backoff.seconds(failures, Random(seed))
    full = min(100.0, least * 2.0 ** min(failures - 1, 60))
    assert full / 2 <= seconds <= full


def test_what_keeps_failing_is_not_asked_sooner_because_something_moves() -> None:
    queue = KeyQueue(Backoff(8.0, 60.0), Random(1))
    (key, *_) = KEYS
    queue.add(key, 0.0)
    assert queue.take(0.0) == key
    queue.done(key, Failed(), 0.0)
    for tenth in range(39):
        queue.add(key, tenth / 10)
        assert queue.take(tenth / 10) is None
    queue.add(key, 3.95, anew=True)  # the lake itself was changed
    assert queue.take(3.95) == key


def test_what_is_forgotten_does_not_come_back() -> None:
    queue = KeyQueue()
    (one, other, *_) = KEYS
    queue.add(one, 0.0)
    queue.add(other, 0.0)
    assert queue.take(0.0) == one
    queue.add(one, 0.0)
    queue.forget(one)
    queue.forget(other)
    queue.done(one, Done(), 0.0)
    assert queue.take(1000.0) is None
    assert queue.wait_seconds(1000.0) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 5)), max_size=60))
def test_while_nobody_answers_the_breaker_lets_one_through_after_each_pause(
    steps: list[tuple[bool, float]],
) -> None:
    breaker = Breaker(Random(3), Backoff(1.0, 15.0))
    now, open_ = 0.0, True
    for answers, passed in steps:
        now += passed
        entered = sum(breaker.enter(now) for _ in range(5))
        assert entered == 5 if open_ else entered <= 1
        if entered:
            if answers:
                breaker.succeeded()
            else:
                breaker.failed(now)
            open_ = answers
            if not answers:
                assert not breaker.enter(now)
                assert 0 < breaker.wait_seconds(now) <= 15.0


def test_keys_of_workers_are_never_worked_on_twice_at_a_time_and_all_are() -> None:
    at_work: Counter[Key] = Counter()
    most = 0
    worked: Counter[Key] = Counter()
    random_ = Random(5)

    async def work(key: Key) -> Outcome:
        nonlocal most
        at_work[key] += 1
        assert at_work[key] == 1
        most = max(most, at_work.total())
        await asyncio.sleep(random_.random() / 1000)
        at_work[key] -= 1
        worked[key] += 1
        return Done()

    async def main() -> None:
        workers = Workers(work, 4)
        running = asyncio.create_task(workers.run())
        for _ in range(300):
            workers.add(random_.choice(KEYS))
            if random_.random() < 0.2:
                await asyncio.sleep(0)
        await _until(lambda: not workers.queue.working and workers.queue.wait_seconds(0.0) is None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert set(worked) == set(KEYS)
    assert most > 1


def test_errors_are_outcomes_and_end_no_worker() -> None:
    told: list[str] = []
    errors: list[Exception] = [
        ThrottledError("less", 0.01),
        UnavailableError("away"),
        RuntimeError("a fault"),
    ]

    async def work(_: Key) -> Outcome:
        if errors:
            raise errors.pop(0)
        return Done()

    async def main() -> None:
        workers = Workers(
            work,
            2,
            queue=KeyQueue(Backoff(0.01, 0.02)),
            breaker=Breaker(backoff=Backoff(0.01, 0.02)),
            on_work=lambda _key, what, _seconds: told.append(what),
        )
        running = asyncio.create_task(workers.run())
        workers.add(KEYS[0])
        await _until(lambda: "done" in told)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert told == ["unavailable", "unavailable", "fault", "done"]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not holds():
            await asyncio.sleep(0.005)
