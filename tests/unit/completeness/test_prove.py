"""`prove` names the first line that disagrees: of a ledger whose chain holds and which says something else than raw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from crypto_lake.completeness.entries import (
    NO_PREVIOUS,
    AnyLine,
    Ended,
    Hole,
    Opened,
    Outcome,
    Quiet,
    ReadLine,
    Seen,
)
from crypto_lake.completeness.ledger import encode_chain, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.completeness.prove_range import ProveError
from crypto_lake.completeness.prove_report import Disagreement, Proof
from crypto_lake.lake import control, envelope
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.simulator.faults import Late, Swallow
from support.ledger_world import START_NS, STREAM, SYMBOL, World

NAME = f"ledger/binance/{SYMBOL}.jsonl"
HOUR_SECONDS = 3600.0
HEALED = f"raw/binance/{SYMBOL}/2024-08-08/healed_13_103-104.jsonl.zst"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two hours: 103 and 104 are lost, 108 comes late, then a disconnect costs 113 and 114."""
    world = World(tmp_path_factory.mktemp("world"), 0)
    world.trades(3)
    world.faults.add(Swallow(STREAM, 2))
    world.trades(5)
    world.faults.add(Late(STREAM, 1, 20 * 10**6))
    world.trades(4)
    world.cut()
    for _ in range(5):
        world.passes(6.0)
        world.cut()
    world.trades(1)
    world.disconnect()
    world.trades(2)
    world.connect()
    world.trades(2)
    world.cut()
    world.passes(HOUR_SECONDS)
    world.trades(3)
    world.stop()
    return world


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Callable[[Callable[[list[ReadLine]], Sequence[ReadLine]]], Proof]:
    """What `prove` says where the ledger's lines are others, chained as the collector would."""

    def proof_of(change: Callable[[list[ReadLine]], Sequence[ReadLine]]) -> Proof:
        path = world.layout.root / NAME
        kept = path.read_bytes()
        try:
            path.write_bytes(encode_chain(as_written(change(read(path).lines)), NO_PREVIOUS)[0])
            return prove(world.layout, "binance", SYMBOL)
        finally:
            path.write_bytes(kept)

    return proof_of


def as_written(lines: Sequence[ReadLine]) -> list[AnyLine]:
    return [line for line in lines if isinstance(line, AnyLine)]


def test_the_ledger_is_as_the_story_goes(world: World) -> None:
    lines = read(world.layout.root / NAME).lines
    assert [type(line) for line in lines] == [
        Opened,
        Hole,
        Hole,
        Hole,
        Outcome,
        Seen,
        Seen,
        Seen,
        Seen,
        Ended,
    ]
    proof = prove(world.layout, "binance", SYMBOL)
    assert (proof.disagreements, proof.to_come, proof.holes, proof.ids_missed) == ([], 0, 3, 5)
    assert (proof.ids_received_late, proof.trades_seen, proof.lines) == (1, 16, 10)
    assert proof.quotes is not None
    assert proof.quotes.breaks == 1
    assert 3600 < proof.quotes.watched_seconds < proof.quotes.of_seconds


def changed(number: int, **fields: object) -> Callable[[list[ReadLine]], list[ReadLine]]:
    return lambda lines: [
        msgspec.structs.replace(line, **fields) if at == number else line for at, line in enumerate(lines, 1)
    ]


def left_out(number: int) -> Callable[[list[ReadLine]], list[ReadLine]]:
    return lambda lines: [line for at, line in enumerate(lines, 1) if at != number]


def twice(number: int) -> Callable[[list[ReadLine]], list[ReadLine]]:
    return lambda lines: [*lines[:number], lines[number - 1], *lines[number:]]


CHANGES: dict[str, tuple[Callable[[list[ReadLine]], Sequence[ReadLine]], int, str]] = {
    "another's": (changed(1, symbol="ETHUSDT"), 1, "is of binance ETHUSDT"),
    "a cause": (
        changed(2, cause="restart"),
        2,
        "says cause restart of the hole 103 to 104; raw says message_lost",
    ),
    "a time": (changed(2, after_time_us=1), 2, "says after_time_us 1"),
    "when it was found": (changed(4, found_ns=START_NS), 4, "says found_ns"),
    "a greater hole": (changed(2, first_id=102), 2, "names a hole, trade 102 to 104, that raw does not have"),
    "no hole": (left_out(2), 2, "does not say the hole trade 103 to 104 (it belongs before this line)"),
    "none came late": (left_out(5), 5, "does not say that trade 108 came late"),
    "one more came late": (changed(5, first_id=107), 5, "says that trade 107 came late; raw does not"),
    "more was seen": (
        changed(6, last_id=103),
        6,
        "says that trade 103 came in 2024-08-08T13; raw of that hour",
    ),
    "less was seen": (changed(6, last_id=101), 7, "does not say that trade 102 came in 2024-08-08T13"),
    "seen in another hour": (
        changed(9, hour="2024-08-08T13"),
        9,
        "came in 2024-08-08T13; raw of that hour does not",
    ),
    "when the first was": (changed(6, first_time_us=5), 6, "says first_time_us 5 of trade 100"),
    "seen twice": (twice(6), 7, "says that trade 100 to 102 came, which a line before it says too"),
    "cut short": (lambda lines: lines[:8], 9, "does not say that trade 117 to 119 came in 2024-08-08T14"),
    "an invented hole": (
        lambda lines: [*lines[:2], msgspec.structs.replace(lines[1], first_id=110, last_id=111), *lines[2:]],
        3,
        "names a hole, trade 110 to 111, that raw does not have",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_first_line_that_disagrees_is_named(
    copy: Callable[[Callable[[list[ReadLine]], Sequence[ReadLine]]], Proof], change: str
) -> None:
    how, line, problem = CHANGES[change]
    found = copy(how).disagreements
    assert found, "nothing was found"
    assert (found[0].path, found[0].line) == (NAME, line)
    assert problem in found[0].problem


@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_a_broken_chain_is_named_by_its_line(world: World, at: float) -> None:
    path = world.layout.root / NAME
    kept = path.read_bytes()
    data = bytearray(kept)
    place = int(at * len(data))
    data[place] ^= 1
    try:
        path.write_bytes(bytes(data))
        [found] = prove(world.layout, "binance", SYMBOL).disagreements
    finally:
        path.write_bytes(kept)
    line = kept.count(b"\n", 0, place) + 1
    assert (found.path, found.line in (line, line + 1)) == (NAME, True)


def test_there_must_be_something_to_prove(world: World, tmp_path: Path) -> None:
    with pytest.raises(ProveError, match="it goes from 2024-08-08T13 to 2024-08-08T14"):
        prove(world.layout, "binance", SYMBOL, ("2024-08-09", "2024-08-09"))
    with pytest.raises(ProveError, match="the collector writes it"):
        prove(world.layout, "binance", "ETHUSDT")


# What healing leaves: files, answers, outcomes.
def rows(*ids: int) -> bytes:
    lines = [
        envelope.encode(START_NS, "rest-1", b'{"id":%d,"price":"1","qty":"1"}' % id_, "historicalTrades")
        for id_ in ids
    ]
    return FrameCompressor().frame(b"".join(lines))


@pytest.fixture
def healing(tmp_path: Path) -> Callable[[Callable[[World], list[AnyLine]]], list[Disagreement]]:
    """103 to 106 are missing. What `prove` says where healing did this and told that."""

    def proof_of(heal: Callable[[World], list[AnyLine]]) -> list[Disagreement]:
        world = World(tmp_path, 0)
        world.trades(3)
        world.faults.add(Swallow(STREAM, 4))
        world.trades(6)
        world.cut()
        world.passes(7.0)
        world.cut()
        outcomes = heal(world)
        world.stop()
        path = tmp_path / NAME
        lines = as_written(read(path).lines)
        assert isinstance(lines[1], Hole)
        path.write_bytes(encode_chain([*lines[:2], *outcomes, *lines[2:]], NO_PREVIOUS)[0])
        return prove(world.layout, "binance", SYMBOL).disagreements

    return proof_of


def healed(world: World, *ids: int) -> None:
    path = world.layout.root / HEALED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows(*ids))


def answered(world: World, body: str, *, first_id: int = 103, status: int = 200, symbol: str = SYMBOL) -> int:
    answer = control.RestAnswer(symbol, "historicalTrades", first_id, 106, status, body)
    world.intake.event("rest-1", answer)
    return world.clock.at_ns


def outcome(kind: str, first_id: int = 103, last_id: int = 104, **fields: object) -> Outcome:
    made = Outcome(first_id=first_id, last_id=last_id, action="historicalTrades", outcome=kind)
    return msgspec.structs.replace(made, **fields)


HEALS: dict[str, tuple[Callable[[World], list[AnyLine]], str]] = {
    "healed": (lambda w: [healed(w, 103, 104), outcome("healed", file=HEALED)][1:], ""),
    "healed from nothing": (
        lambda _: [outcome("healed", file=HEALED)],
        f"are in {HEALED}, which is not there",
    ),
    "healed from too little": (
        lambda w: [healed(w, 103), outcome("healed", file=HEALED)][1:],
        "says that trade 104 are in",
    ),
    "what was never missing": (
        lambda w: [healed(w, 102, 103), outcome("healed", 102, 103, file=HEALED)][1:],
        "gives an outcome of trade 102, which no line before it names as missing",
    ),
    "never existed": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, '[{"id":102},{"id":105}]', first_id=102))],
        "",
    ),
    "never existed, by an empty answer": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, "[]"))],
        "",
    ),
    "never existed, by an answer that has it": (
        lambda w: [
            outcome(
                "never_existed", answer_ns=answered(w, '[{"a":1,"f":99,"l":103},{"a":2,"f":107,"l":107}]')
            )
        ],
        "which has trade 103",
    ),
    "never existed, by an answer that ends before": (
        lambda w: [outcome("never_existed", 105, 106, answer_ns=answered(w, '[{"id":104}]'))],
        "which ends at 104, before 106",
    ),
    "never existed, by an answer to something else": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, "[]", first_id=104))],
        "which did not ask for 103",
    ),
    "never existed, by a refusal": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, "{}", status=418))],
        "which has the status 418",
    ),
    "never existed, by what is no answer": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, "<html>"))],
        "which can't be read",
    ),
    "never existed, by another's answer": (
        lambda w: [outcome("never_existed", answer_ns=answered(w, "[]", symbol="ETHUSDT"))],
        "which is not kept",
    ),
    "never existed, by nothing": (lambda _: [outcome("never_existed")], "which is not kept"),
    "can't be had": (lambda _: [outcome("unavailable", reason="too old")], ""),
    "can't be had, by nothing": (
        lambda _: [outcome("unavailable", answer_ns=7)],
        "received at 7, which is not kept",
    ),
    "quiet": (
        lambda w: [Quiet(last_id=102, from_ns=1, until_ns=2, answer_ns=answered(w, "[]", first_id=103))],
        "",
    ),
    "quiet, by nothing": (
        lambda _: [Quiet(last_id=102, from_ns=1, until_ns=2, answer_ns=7)],
        "which is not kept",
    ),
}


@pytest.mark.parametrize("heal", HEALS)
def test_an_outcome_rests_on_what_was_kept(
    healing: Callable[[Callable[[World], list[AnyLine]]], list[Disagreement]], heal: str
) -> None:
    how, problem = HEALS[heal]
    found = healing(how)
    if not problem:
        assert not found
        return
    assert [(one.path, one.line) for one in found] == [(NAME, 3)]
    assert problem in found[0].problem
