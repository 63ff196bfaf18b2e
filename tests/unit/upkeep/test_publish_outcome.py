"""Up to which day all is published, and the line that a run leaves for whoever started it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.cli.main import main
from crypto_lake.model import task_outcome
from crypto_lake.model.copies import FIGURES, PublishedCopies
from crypto_lake.model.task_outcome import TaskOutcome
from crypto_lake.store import Store, Unavailable, measure
from support import publishing as p
from support.publishing import DAY, DAY_NS, END_NS, HOUR_NS, SECOND_NS, Line, Machine, Tapped, span

NEXT = "2024-08-09"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = p.bucket(tmp_path / "bucket")
    yield opened
    opened.close()


@contextmanager
def stopped() -> Iterator[threading.Event]:
    """SIGTERM, before the first day."""
    stop = threading.Event()
    stop.set()
    yield stop


def days(symbol: str, *first_ids: int) -> list[Line]:
    """Trades about noon of DAY, of the day after and so on, and the first ones after the last of these."""
    return [
        p.trade(first + n, DAY_NS + (12 + 24 * number) * HOUR_NS + n * SECOND_NS, symbol=symbol)
        for number, first in enumerate(first_ids)
        for n in range(20)
    ]


def test_it_is_the_day_up_to_which_every_symbol_stands(tmp_path: Path, store: Store) -> None:
    machine = Machine(tmp_path / "a", "a")
    machine.receive(days("BTCUSDT", 1, 21, 41))
    assert p.run(store, END_NS).last_published_day == "", "nothing is there"
    machine.send(store, END_NS + 72 * HOUR_NS)
    assert p.run(store, END_NS - 1).last_published_day == ""
    assert p.run(store, END_NS, dry_run=True).last_published_day == ""
    assert p.run(store, END_NS).last_published_day == DAY
    assert p.run(store, END_NS + 24 * HOUR_NS).last_published_day == NEXT
    # Another symbol's day has no trade after it, and waits its 48 hours: what the first one has is not all of the lake.
    machine.receive(days("ETHUSDT", 100), symbol="ETHUSDT")
    machine.send(store, END_NS + 72 * HOUR_NS)
    waiting = p.run(store, END_NS + 25 * HOUR_NS)
    assert (waiting.last_published_day, waiting.up_to_date) == ("", 2)
    assert p.run(store, END_NS + 49 * HOUR_NS, days=[NEXT]).last_published_day == ""
    assert p.run(store, END_NS + 49 * HOUR_NS).last_published_day == NEXT
    assert p.run(store, END_NS + 49 * HOUR_NS).last_published_day == NEXT, "also where nothing is to be done"


def test_a_run_that_did_not_see_all_does_not_say(tmp_path: Path, store: Store) -> None:
    p.send(tmp_path, store, "a", [*span(1, 20, DAY_NS + HOUR_NS), *span(21, 40, END_NS + SECOND_NS)])
    stopped = threading.Event()
    stopped.set()

    def fail() -> None:
        raise Unavailable("no answer", at=store.url, hint="Try again later.")

    tapped = Tapped(store, 1, before=fail)
    late = END_NS + 49 * HOUR_NS
    assert p.run(tapped, late).last_published_day is None  # pyright: ignore[reportArgumentType]
    assert tapped.names, "the fault met a put"
    assert p.run(store, late, stop=stopped).last_published_day is None
    assert p.run(store, late, symbols=["BTCUSDT"]).last_published_day is None
    assert p.run(store, late).last_published_day == DAY


def test_the_command_leaves_a_line(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    p.send(tmp_path, store, "a", [*span(1, 20, DAY_NS + HOUR_NS), *span(21, 40, END_NS + SECOND_NS)])
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "termination-log"
    arguments = ["publish", "--set", f"gcs.url={store.url}", "--outcome", str(left)]
    assert main(arguments) == 0
    copies = PublishedCopies(day=NEXT, symbols=1, trades=20, only_other=20)
    day = TaskOutcome(task="publish", ok=True, last_published_day=NEXT, copies=copies)
    assert task_outcome.decode(left.read_bytes()) == day
    left.unlink()
    monkeypatch.setenv("TASK_OUTCOME", str(left))
    assert main(arguments[:-2]) == 0
    assert task_outcome.decode(left.read_bytes()) == day
    monkeypatch.delenv("TASK_OUTCOME")
    # Somebody put another file in its place: an alert, in the line and in the exit code.
    bars = "parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet"
    stored, foreign = store.stat(bars), tmp_path / "foreign"
    assert stored is not None
    foreign.write_bytes(b"not ours")
    store.put(foreign, bars, measure(foreign), replaces=stored.generation)
    assert main(arguments) == 3
    found = task_outcome.decode(left.read_bytes())
    assert found is not None
    assert (found.ok, found.last_published_day) == (False, NEXT)
    assert "1 days alert, the first is binance BTCUSDT 2024-08-08" in found.problem
    left.unlink()
    monkeypatch.setattr("crypto_lake.cli.publish.stopping", stopped)
    assert main([*arguments, "--rebuild"]) == 130
    assert not left.exists(), "a run that was stopped has no outcome"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main([*arguments[:-1], str(tmp_path / "nowhere" / "log")]) == 3
    assert "--outcome" in capsys.readouterr().err


counts = st.integers(0, 2**63 - 1)
outcomes = st.builds(
    TaskOutcome,
    task=st.sampled_from(["publish", "macro"]),
    ok=st.booleans(),
    problem=st.text(),
    last_published_day=st.sampled_from([None, "", DAY]),
    copies=st.none() | st.builds(PublishedCopies, day=st.just(DAY), **dict.fromkeys(FIGURES, counts)),
)


@given(outcomes)
def test_a_line_is_read_as_it_was_written_and_fits_a_termination_message(outcome: TaskOutcome) -> None:
    line = task_outcome.encode(outcome)
    assert len(line) <= 4096
    assert line.count(b"\n") == 1
    read = task_outcome.decode(line)
    assert read is not None
    assert msgspec.structs.replace(read, problem="") == msgspec.structs.replace(outcome, problem="")
    assert read.problem[:400] == " ".join(outcome.problem.split())[:400]


@given(st.one_of(st.text(), st.sampled_from(["null", "[]", '{"schema":2,"task":"x","ok":true}', '{"ok":1}'])))
def test_what_is_no_such_line_is_none(text: str) -> None:
    assert task_outcome.decode(text) is None
