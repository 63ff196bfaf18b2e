"""The supervisor: what it decides, and that it does so with real processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.cli.common import ExitCode
from crypto_lake.cli.supervisor import (
    LAST_BACKOFF_SECONDS,
    SETTLED_SECONDS,
    Part,
    Supervisor,
    what_next,
)

KEPT = Part("kept", ("true",))
ESSENTIAL = Part("kept", ("true",), essential=True)
REPEATED = Part("repeated", ("true",), every_seconds=300.0)
seconds = st.floats(0, 1e6)


@given(st.sampled_from([KEPT, ESSENTIAL, REPEATED]), st.integers(-30, 255), seconds, st.integers(1, 100))
def test_nothing_is_started_again_without_a_pause_or_in_silence(
    part: Part, code: int, ran: float, failures: int
) -> None:
    following = what_next(part, code, ran, failures)
    if code in (ExitCode.OK, ExitCode.GAPS) and part is REPEATED:  # it did its work
        assert (following.problem == "") == (code == ExitCode.OK)
        assert following.after_seconds == max(0.0, 300.0 - ran)
        return
    assert part.name in following.problem
    if following.action == "start":
        assert 1.0 <= following.after_seconds <= LAST_BACKOFF_SECONDS


@given(st.integers(1, 98), st.sampled_from([1, -9, -11, 137]), st.sampled_from([KEPT, ESSENTIAL]))
def test_the_pause_grows_and_is_bounded(failures: int, code: int, part: Part) -> None:
    now, then = (what_next(part, code, 0.1, n).after_seconds for n in (failures, failures + 1))
    assert then == min(2 * now, LAST_BACKOFF_SECONDS)


@given(seconds, st.integers(1, 100))
def test_a_wrong_configuration_is_not_tried_again(ran: float, failures: int) -> None:
    assert what_next(KEPT, 2, ran, failures).action == "leave"
    assert what_next(ESSENTIAL, 2, ran, failures).action == "end"


@given(st.integers(-30, 255), seconds)
def test_the_end_of_what_can_not_be_started_again_is_the_end(code: int, ran: float) -> None:
    following = what_next(Part("once", ("true",), again=False), code, ran, 1)
    assert (following.action, bool(following.problem)) == ("end", True)


@given(st.integers(2, 100))
def test_a_lock_that_is_held(failures: int) -> None:
    assert what_next(ESSENTIAL, 4, 0.2, 1).action == "end"  # another collector has this directory
    assert what_next(ESSENTIAL, 4, SETTLED_SECONDS, 1).action == "start"  # it ran before
    assert what_next(KEPT, 4, 0.2, failures).after_seconds == LAST_BACKOFF_SECONDS


class Bench:
    """A supervisor with what it said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.problems: list[str] = []
        self.supervisor = Supervisor(lambda *line: self.lines.append(line), self.problems.append)

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(90):
            while not met():
                await asyncio.sleep(0.01)

    def said(self, text: str) -> bool:
        return any(text in line for _, _, line in self.lines)


def run(body: Callable[[Bench], Awaitable[None]]) -> None:
    async def inner() -> None:
        bench = Bench()
        try:
            await body(bench)
        finally:
            bench.supervisor.kill_all()
            for state in bench.supervisor.states.values():
                if state.task is not None:
                    await asyncio.wait([state.task])

    asyncio.run(inner())


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))
print('up', flush=True)
while True: time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def test_a_part_that_is_killed_is_started_again() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", script(WAITS)))
        state = bench.supervisor.states["p"]
        await bench.until(lambda: bench.said("up"))
        first = state.process
        assert first is not None
        first.kill()
        await bench.until(lambda: len(bench.lines) == 2)  # up a second time
        assert state.starts == 2
        assert state.process is not None
        assert state.process.pid != first.pid
        assert bench.problems == ["p ended (killed by SIGKILL); starting it again in 1 s"]

    run(body)


def test_stop_is_sigterm_and_does_not_start_again() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", script(WAITS)))
        await bench.until(lambda: bench.said("up"))
        assert await bench.supervisor.stop("p") == 0
        assert bench.said("bye")
        assert bench.supervisor.states["p"].starts == 1
        assert bench.problems == []
        assert await bench.supervisor.stop("unknown") is None

    run(body)


def test_a_part_that_does_not_heed_sigterm_is_killed() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", script(STUBBORN), stop_seconds=0.2))
        await bench.until(lambda: bench.said("up"))
        assert await bench.supervisor.stop("p") == -signal.SIGKILL
        assert "did not end within" in bench.problems[0]

    run(body)


def test_a_part_stopped_before_its_first_start_never_starts() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", script(WAITS), first_seconds=600))
        assert await bench.supervisor.stop("p") is None
        assert bench.supervisor.states["p"].starts == 0

    run(body)


def test_a_repeated_part_runs_again_and_again() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", script("print('ran')"), every_seconds=0.01))
        await bench.until(lambda: len(bench.lines) >= 3)
        assert bench.problems == []

    run(body)


@pytest.mark.parametrize("code", [2, 4])
def test_an_essential_part_that_can_not_run_ends_the_whole(code: int) -> None:
    async def body(bench: Bench) -> None:
        text = f"import sys; print('why', file=sys.stderr); sys.exit({code})"
        bench.supervisor.add(Part("p", script(text), essential=True))
        async with asyncio.timeout(90):
            assert await bench.supervisor.ended == code
        assert bench.lines == [("p", "stderr", "why")]
        assert bench.supervisor.states["p"].starts == 1

    run(body)


def test_a_program_that_is_not_there_is_a_problem_and_no_crash() -> None:
    async def body(bench: Bench) -> None:
        bench.supervisor.add(Part("p", ("/nonexistent/program",)))
        await bench.until(lambda: bool(bench.problems))
        assert "p can't be started" in bench.problems[0]

    run(body)


def test_an_endless_line_does_not_stop_what_follows() -> None:
    async def body(bench: Bench) -> None:
        code = await bench.supervisor.once(
            Part("p", script("print('x' * 5_000_000); print('after'); print('\\xff')"))
        )
        assert code == 0
        assert bench.said("after")

    run(body)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


PARENT = """
import asyncio, sys
from crypto_lake.cli.supervisor import Part, Supervisor
CHILD = '''
import time
from crypto_lake.cli.common import die_with_parent
die_with_parent()
print('up', flush=True)
time.sleep(600)
'''
async def main():
    supervisor = Supervisor(lambda *_: print(supervisor.states['p'].process.pid, flush=True), print)
    supervisor.add(Part('p', (sys.executable, '-c', CHILD)))
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_children_do_not_outlive_a_killed_supervisor() -> None:
    with subprocess.Popen(script(PARENT), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    deadline = time.monotonic() + 90
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


REAPER = """
import ctypes, os, subprocess, sys, time
from crypto_lake.cli.supervisor import reap_strangers
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as process 1 of a container is
own = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)
middle = subprocess.run([sys.executable, '-c',
    'import subprocess, sys; print(subprocess.Popen(["sleep", "0.1"], stdout=subprocess.DEVNULL).pid)'],
    capture_output=True, text=True)
orphan, reaped = int(middle.stdout), []
deadline = time.monotonic() + 90
while orphan not in reaped and time.monotonic() < deadline:
    reaped += reap_strangers({own.pid})
    time.sleep(0.01)
assert reaped == [orphan], (reaped, orphan)
own.stdin.close()
os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)  # it has ended and nobody has taken its code
assert reap_strangers({own.pid}) == []
assert own.wait() == 0
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "prctl"), reason="subreapers are Linux's")
def test_as_process_one_orphans_are_reaped_and_own_children_are_not() -> None:
    done = subprocess.run(script(REAPER), capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
