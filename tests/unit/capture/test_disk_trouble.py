"""A disk that fails in every way, at any call: what is acknowledged is there, and nothing that was kept is lost."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.capture.shedding import Queue, sheds
from crypto_lake.completeness.ledger import account, read
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import Interval, IntervalSet


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


parts = _sibling("test_intake_writer")
CALLS = ("write", "fdatasync", "fsync", "ftruncate", "open", "rename", "replace")
QUICK = replace(parts.SETTINGS, retry_seconds=0.005, finish_seconds=20.0)


@contextmanager
def failing(schedule: list[tuple[str, int]], *, only_raw: bool = False) -> Iterator[list[str]]:
    """In the writer's thread the next calls of these names fail, in this order; gives those that did.

    only_raw: those that write to a part.
    """
    left = list(schedule)
    fired: list[str] = []
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            here = threading.current_thread().name == "writer"
            if only_raw and here and name == "write":
                here = "/raw/" in str(Path(f"/proc/self/fd/{arguments[0]}").readlink())
            if here and left and left[0][0] == name:
                number = left.pop(0)[1]
                fired.append(name)
                if name == "write" and len(arguments[1]) > 3:  # a torn frame, or half a ledger's line
                    real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(number, os.strerror(number))
            return real[name](*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name))
    try:
        yield fired
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def ids_of(layout: Layout, symbol: str, *, closed_only: bool = True) -> IntervalSet:
    files = [
        f.path
        for day in layout.raw_days("binance", symbol)
        for f in layout.raw_files("binance", symbol, day)
        if not (closed_only and f.is_open)
    ]
    return IntervalSet(Interval(run.first_id, run.last_id) for run in read_runs(files, BINANCE))


FAULTS = st.lists(
    st.tuples(st.sampled_from(CALLS), st.sampled_from([errno.ENOSPC, errno.EIO, errno.EROFS])),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(schedule=FAULTS, steps=st.lists(st.sampled_from([1, 40_000, 3_600_000]), min_size=3, max_size=8))
def test_what_fails_for_a_while_is_written_after_all(
    tmp_path_factory: pytest.TempPathFactory, schedule: list[tuple[str, int]], steps: list[int]
) -> None:
    """Faults in any calls, in any order, over rotations and hours: at the end all is there and the ledger is whole."""
    root = tmp_path_factory.mktemp("lake")
    rig = parts.Rig(root, settings=QUICK)
    with failing(schedule) as fired:
        rig.begin()
        for number, after_ms in enumerate(steps):
            rig.receive(parts.trade(2 * number + 1), parts.trade(2 * number + 2), after_ms=after_ms)
            rig.receive(parts.trade(number + 1, "ethusdt"))
            rig.intake.cut(sync=True)
        rig.end()
    assert fired == [name for name, _ in schedule[: len(fired)]]
    for symbol, last in (("BTCUSDT", 2 * len(steps)), ("ETHUSDT", len(steps))):
        on_disk = ids_of(rig.layout, symbol)
        assert list(on_disk) == [Interval(1, last)]
        assert rig.durable[symbol] == last
        told = account(read(rig.layout.ledger("binance", symbol)).lines)
        assert told.seen == on_disk
        assert told.holes == []
    assert rig.intake.queued_bytes == 0
    assert rig.writer.snapshot(0, 0, 0).write_errors >= bool(rig.troubles)
    assert not rig.troubles or rig.troubles[-1] is None


def test_an_fsync_that_failed_is_not_believed_when_it_is_repeated(tmp_path: Path) -> None:
    """The lines are in another part, and of the first only what is proven is left: nothing."""
    rig = parts.Rig(tmp_path, settings=QUICK)
    with failing([("fdatasync", errno.EIO)]) as fired:
        rig.begin()
        rig.receive(parts.trade(1))
        rig.intake.cut(sync=True)
        rig.end()
    assert fired == ["fdatasync"]
    control = rig.layout.raw_files("binance", "_control", "2024-08-08")
    assert [file.number for file in control] == [2], "the part that could not be synced was first; it is gone"
    assert rig.troubles == ["write_error", None]


def test_a_disk_that_stays_full_costs_what_has_no_room_and_the_ledger_names_it(tmp_path: Path) -> None:
    rig = parts.Rig(tmp_path, queue_bytes=20_000, settings=replace(QUICK, retry_seconds=0.02))
    always = [("write", errno.ENOSPC)] * 10_000
    with failing(always) as fired:
        rig.begin()
        rig.receive(parts.trade(1))
        rig.intake.cut(sync=True)
        while rig.writer.snapshot(0, 0, 0).trouble != "disk_full":
            pass
        for id_ in range(2, 400):
            rig.receive(parts.trade(id_), parts.QUOTE)
            rig.intake.cut()
        assert not rig.intake.paused, "a socket that is not read is one that the exchange closes"
        assert rig.intake.queued_bytes < 21_000
        assert rig.durable == {}
    assert fired
    while rig.troubles[-1] is not None:
        pass
    rig.receive(parts.trade(400))
    rig.end()
    told = account(read(rig.layout.ledger("binance", "BTCUSDT")).lines)
    [hole] = told.holes
    [trades, _, _] = rig.intake.stream_snapshots(0)
    assert hole.cause == "disk_full"
    assert trades.lost_messages == hole.last_id - hole.first_id + 1 > 100
    assert told.seen == ids_of(rig.layout, "BTCUSDT")
    assert [(i.first, i.last) for i in told.seen] == [(1, hole.first_id - 1), (400, 400)]


def test_one_symbol_that_cannot_be_written_does_not_stop_another(tmp_path: Path) -> None:
    rig = parts.Rig(tmp_path, queue_bytes=20_000, settings=QUICK)
    folder = rig.layout.raw_day("binance", "ETHUSDT", "2024-08-08")
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    rig.begin()
    for id_ in range(1, 150):
        rig.receive(parts.trade(id_), parts.trade(id_, "ethusdt"))
        rig.intake.cut(sync=True)
        while rig.durable.get("BTCUSDT") != id_:
            pass
    assert "ETHUSDT" not in rig.durable
    folder.unlink()
    while rig.troubles[-1] is not None:
        pass
    rig.receive(parts.trade(150), parts.trade(150, "ethusdt"))
    rig.end()
    assert account(read(rig.layout.ledger("binance", "BTCUSDT")).lines).holes == []
    [hole] = account(read(rig.layout.ledger("binance", "ETHUSDT")).lines).holes
    assert hole.cause == "write_error"
    assert list(ids_of(rig.layout, "ETHUSDT")) == [Interval(1, hole.first_id - 1), Interval(150, 150)]


def test_what_cannot_be_written_before_the_end_is_told_and_named_after_the_next_start(tmp_path: Path) -> None:
    first = parts.Rig(tmp_path, settings=replace(QUICK, finish_seconds=0.02))
    first.begin()
    first.receive(parts.trade(1))
    first.intake.cut(sync=True)
    while first.durable != {"BTCUSDT": 1}:
        pass
    with failing([("write", errno.ENOSPC)] * 1000, only_raw=True):
        first.receive(parts.trade(2), parts.trade(3))
        first.intake.finish()
        first.writer.finish()
        first.writer.join(20)
    [failure] = first.failures
    assert "2 messages" in str(failure)
    assert "No space left" in str(failure)
    second = parts.Rig(tmp_path, parts.HandClock(parts.START_NS + 10**10))
    second.begin()
    second.receive(parts.trade(5))
    second.end()
    told = account(read(second.layout.ledger("binance", "BTCUSDT")).lines)
    assert [(h.first_id, h.last_id) for h in told.holes] == [(2, 4)]
    assert {h.cause for h in told.holes} == {"disk_full"}


@given(
    own=st.lists(st.integers(0, 10**6), min_size=1, max_size=9),
    limit=st.integers(1, 10**6),
    before=st.booleans(),
)
def test_memory_is_bounded_and_a_small_backlog_is_left_in_peace(
    own: list[int], limit: int, before: bool
) -> None:
    queue = Queue(sum(own), limit, len(own))
    answers = [sheds(queue, size, shedding=before) for size in own]
    if queue.total_bytes > limit:
        assert all(answers)
    else:
        assert not any(
            answer and size <= limit // len(own) // 2 for answer, size in zip(answers, own, strict=True)
        )
        assert all(
            sheds(queue, size, shedding=True) for size, answer in zip(own, answers, strict=True) if answer
        )
