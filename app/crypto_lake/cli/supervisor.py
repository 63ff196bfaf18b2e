"""Child processes, kept running: what `run` is made of. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crypto_lake.cli.common import PARENT_VARIABLE, ExitCode

log = logging.getLogger("crypto_lake.cli.supervisor")

FIRST_BACKOFF_SECONDS = 1.0
LAST_BACKOFF_SECONDS = 60.0
SETTLED_SECONDS = 60.0  # one that ran so long has recovered: its next failure counts as the first
_LINE_LIMIT_BYTES = 1024 * 1024

OnLine = Callable[[str, Literal["stdout", "stderr"], str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A program that is kept running (every_seconds None), or started again and again.

    essential: when it can't run, nothing else is worth running.
    again: False where another start would not be the same; its end is the end of the whole.
    stop_seconds: from SIGTERM until it is killed.
    pass_fds: descriptors that it is given beside its standard ones.
    """

    name: str
    argv: tuple[str, ...]
    every_seconds: float | None = None
    first_seconds: float = 0.0
    essential: bool = False
    again: bool = True
    stop_seconds: float = 30.0
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """What follows the end of a part: start it in `after_seconds`, or leave it, or end the whole.

    problem: what to tell the user, or nothing where it ended as it should.
    """

    action: Literal["start", "leave", "end"]
    after_seconds: float = 0.0
    problem: str = ""


def what_next(part: Part, code: int, ran_seconds: float, failures: int) -> Next:
    """Decide after a part ended that nobody stopped. Pure.

    code: its exit code, negative for a signal. failures: how often in a row it has ended badly, this one counted.
    """
    ended = f"{part.name} ended ({_said(code)})"
    if not part.again:
        return Next("end", problem=ended)
    if code == 0 and part.every_seconds is not None:
        return Next("start", max(0.0, part.every_seconds - ran_seconds))
    if (
        code == ExitCode.GAPS and part.every_seconds is not None
    ):  # it did its work, and found what a person must see
        return Next("start", max(0.0, part.every_seconds - ran_seconds), f"{ended}; see what it said")
    if code == ExitCode.USAGE:  # it would say the same again
        return Next("end" if part.essential else "leave", problem=f"{ended}; it is not started again")
    if code == ExitCode.UNAVAILABLE and part.essential and failures == 1 and ran_seconds < SETTLED_SECONDS:
        return Next("end", problem=ended)  # it never ran: another process has its place
    backoff = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 16))
    if code == ExitCode.UNAVAILABLE:
        backoff = LAST_BACKOFF_SECONDS
    if part.every_seconds is not None:
        backoff = min(max(backoff, 1.0), part.every_seconds)
    return Next("start", backoff, f"{ended}; starting it again in {backoff:.0f} s")


def _said(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


@dataclass(slots=True)
class PartState:
    """What the supervisor knows of a part."""

    part: Part
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    failures: int = 0  # in a row
    last_code: int | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps parts running on the loop it was made on. `ended` is set, with an exit code, when the whole must end.

    Children get a process group of their own: Ctrl-C reaches this process alone, which stops them in order.
    They die with this process, however it goes (Linux; see common.die_with_parent).
    """

    def __init__(self, on_line: OnLine, on_problem: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._on_problem = on_problem
        self.states: dict[str, PartState] = {}
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def add(self, part: Part) -> None:
        """Start a part (after its first_seconds) and keep it."""
        state = self.states[part.name] = PartState(part)
        state.task = asyncio.create_task(self._keep(state), name=part.name)

    async def stop(self, name: str) -> int | None:
        """SIGTERM, and SIGKILL after stop_seconds; return its last exit code. A part that is down stays down."""
        state = self.states.get(name)
        if state is None or state.task is None:
            return None
        state.stopping.set()
        process = state.process
        if process is not None and process.returncode is None:
            self._signal(process, signal.SIGTERM)
        done, _ = await asyncio.wait([state.task], timeout=state.part.stop_seconds)
        if not done:
            self._on_problem(
                f"{name} did not end within {state.part.stop_seconds:.0f} s of SIGTERM; killing it"
            )
            self.kill(name)
            await asyncio.wait([state.task])
        return state.last_code

    async def once(self, part: Part) -> int:
        """Run a part one time, to its end, and return its exit code."""
        state = self.states[part.name] = PartState(part)
        return await self._run(state)

    def send(self, name: str, number: signal.Signals) -> None:
        """Hand a signal on to a part that runs."""
        state = self.states.get(name)
        if state is not None and state.process is not None and state.process.returncode is None:
            self._signal(state.process, number)

    def kill(self, name: str) -> None:
        self.send(name, signal.SIGKILL)

    def kill_all(self) -> None:
        for name, state in self.states.items():
            state.stopping.set()
            self.kill(name)

    def own_processes(self) -> set[int]:
        return {s.process.pid for s in self.states.values() if s.process and s.process.returncode is None}

    async def _keep(self, state: PartState) -> None:
        part = state.part
        await self._pause(state, part.first_seconds)
        while not state.stopping.is_set():
            began = time.monotonic()
            try:
                code = await self._run(state)
            except OSError as error:
                self._on_problem(f"{part.name} can't be started: {error}")
                code = int(ExitCode.FAILURE)
            if state.stopping.is_set():
                return
            ran = time.monotonic() - began
            if code == 0 and part.every_seconds is not None:
                state.failures = 0
            else:
                state.failures = 1 if ran >= SETTLED_SECONDS else state.failures + 1
            following = what_next(part, code, ran, state.failures)
            if following.problem:
                self._on_problem(following.problem)
            if following.action == "end":
                if not self.ended.done():
                    self.ended.set_result(code if code > 0 else int(ExitCode.FAILURE))
                return
            if following.action == "leave":
                return
            await self._pause(state, following.after_seconds)

    async def _pause(self, state: PartState, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(state.stopping.wait(), seconds)

    async def _run(self, state: PartState) -> int:
        part = state.part
        process = await asyncio.create_subprocess_exec(
            *part.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT_BYTES,
            process_group=0,
            pass_fds=part.pass_fds,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
        )
        state.process, state.starts, state.last_code = process, state.starts + 1, None
        log.info("started %s as process %d", part.name, process.pid)
        if state.stopping.is_set():  # stopped while it was being started
            self._signal(process, signal.SIGTERM)
        readers = [
            asyncio.create_task(self._read(part.name, "stdout", process.stdout)),
            asyncio.create_task(self._read(part.name, "stderr", process.stderr)),
        ]
        try:
            code = await process.wait()
            # A grandchild may hold the pipes open for ever.
            await asyncio.wait(readers, timeout=2.0)
        except asyncio.CancelledError:
            if process.returncode is None:
                self._signal(process, signal.SIGKILL)
            raise
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        state.last_code = code
        log.info("%s (process %d) ended: %s", part.name, process.pid, _said(code))
        return code

    async def _read(
        self, name: str, which: Literal["stdout", "stderr"], pipe: asyncio.StreamReader | None
    ) -> None:
        assert pipe is not None
        while True:
            try:
                line = await pipe.readline()
            except ValueError:  # a line above the limit; what was read of it is gone
                continue
            if not line:
                return
            try:
                self._on_line(name, which, line.decode(errors="replace").rstrip("\n"))
            except Exception:  # a part whose output nobody reads would stand still
                log.exception("a line of %s could not be shown", name)

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def reap_strangers(own: set[int]) -> list[int]:
    """As process 1 of a container: take the exit codes of orphans, which nobody else will. Returns their pids.

    Ours are left to the loop, which waits for them itself.
    """
    reaped: list[int] = []
    while True:
        try:
            # A look, without taking: waitpid(-1) would take our own children's codes from the loop.
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        if seen is None or seen.si_pid in own:
            return reaped
        with contextlib.suppress(ChildProcessError):
            os.waitpid(seen.si_pid, os.WNOHANG)
            reaped.append(seen.si_pid)
