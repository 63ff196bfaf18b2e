"""Every place where a program can be killed, or its disk can fail: one run for each system call that changes its files.

A first run under strace lists the calls that touch the watched folder and change something. Then, for each of them, the
program runs anew on a fresh copy of the same state and gets SIGKILL as it enters that call: the call is not
carried out, everything before it was. That the kill came at that call is asserted. With `fault="error=ENOSPC"` (or EIO)
the call fails instead, and the program goes on as it sees fit.

What this can't show: writes that the kernel had not brought to the disk when the power went (the kernel goes on here),
and half of a write.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CALLS = [
    "openat",
    "open",
    "creat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "copy_file_range",
    "sendfile",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
]
KILL = "signal=SIGKILL"
_OPENING = ("openat", "open", "creat")
_CHANGES = re.compile(r"O_(?:CREAT|TRUNC|WRONLY|RDWR)")
_LINE = re.compile(r"(?:(?P<pid>\d+) +)?(?P<call>\w+)\((?P<rest>.*)")
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Point:
    """The `occurrence`-th time (from 1) that the program does `call`; `what` it is then done to."""

    call: str
    occurrence: int
    what: str


@dataclass
class Report:
    """`points`: how many there are. `fired`: at how many of them the program was killed, or the call failed."""

    points: int
    fired: int = 0
    seconds: float = 0.0
    by_call: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        calls = ", ".join(f"{number} {call}" for call, number in sorted(self.by_call.items()))
        return f"{self.points} points, fired at {self.fired}, {self.seconds:.1f} s ({calls})"


def need_strace() -> None:
    """Skip the test, saying why, where strace is absent or may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")


def enumerate_crash_points(
    argv: Sequence[str],
    make_state: Callable[[Path], None],
    check: Callable[[Path], None],
    *,
    folder: Path,
    killed: Callable[[Path], None] = lambda _: None,
    resume: Callable[[Path], None] | None = None,
    watch: Sequence[str] = ("",),
    share: int | None = None,
    seed: int = 0,
    environment: Mapping[str, str] | None = None,
    exit_code: int = 0,
    fault: str = KILL,
    calls: Collection[str] = CALLS,
) -> Report:
    """Kill `argv` at every state-changing call, and look at what is left.

    argv: `{root}` in it stands for the state's folder. It must do the same each time (threads that race for the same
    calls are found only as far as they do).
    make_state: fills the empty folder it is given; called once, then copied.
    killed: looks at the state right after the kill, as a reader would meet it.
    resume: what comes next, by default `argv` once more without a kill; its exit code must be `exit_code`, as that
    of an undisturbed run.
    check: looks at the state after that.
    watch: only calls on paths that start so, below the root.
    fault: what happens at the call, as strace's `inject` has it. calls: only these.
    share: kill at so many points only, chosen by `seed`; None: at all.
    """
    template, root = folder / "template", folder / "state"
    template.mkdir(parents=True)
    make_state(template)
    command = [piece.replace("{root}", str(root)) for piece in argv]
    started = time.monotonic()
    run = _Runner(command, root, template, watch, folder / "strace.log", dict(environment or {}))
    points = [point for point in run.list_points(exit_code) if point.call in calls]
    assert points, f"{command} changed nothing below {root}: there is nothing to enumerate"
    report = Report(len(points), by_call=Counter(point.call for point in points))
    if share is not None and share < len(points):
        points = sorted(random.Random(seed).sample(points, share), key=points.index)
    for point in points:
        run.fail_at(point, fault)
        report.fired += 1
        try:
            killed(root)
            if resume is None:
                run.plain(exit_code)
            else:
                resume(root)
            check(root)
        except BaseException as error:
            error.add_note(f"after {fault} at {point.call} number {point.occurrence}: {point.what}")
            raise
    report.seconds = time.monotonic() - started
    assert report.fired == len(points)
    return report


class _Runner:
    def __init__(
        self,
        command: list[str],
        root: Path,
        template: Path,
        watch: Sequence[str],
        log: Path,
        environment: dict[str, str],
    ) -> None:
        self._command, self._root, self._template, self._log = command, root, template, log
        self._watched = tuple(str(root / below) for below in watch)
        # The same calls in each run: no caches written on the way, one order of every set.
        fixed = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        self._environment = os.environ | fixed | environment

    def plain(self, exit_code: int) -> None:
        done = self._run(self._command)
        assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)

    def list_points(self, exit_code: int) -> list[Point]:
        """Twice, since the first run of a program may compile what the later ones load."""
        for _ in range(2):
            self._reset()
            done = self._trace()
            assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
        counts: Counter[tuple[str, str]] = Counter()
        points: dict[tuple[str, int], Point] = {}
        for pid, call, rest in self._calls():
            counts[pid, call] += 1
            if self._counts(call, rest):
                # strace counts for each thread alone, and the first to get there is the one that is killed.
                points.setdefault((call, counts[pid, call]), Point(call, counts[pid, call], self._told(rest)))
        return list(points.values())

    def fail_at(self, point: Point, fault: str) -> None:
        last = ""
        for _ in range(_TRIES):
            self._reset()
            done = self._trace("-e", f"inject={point.call}:{fault}:when={point.occurrence}")
            calls = self._calls()
            last = f"exit code {done.returncode}, last call {calls[-1] if calls else None}, {done.stderr}"
            if fault == KILL:
                hit = calls[-3:] if done.returncode == -9 else []
            else:
                hit = [call for call in calls if call[2].endswith("(INJECTED)")]
            if any(call == point.call and self._counts(call, rest) for _, call, rest in hit):
                return
        raise AssertionError(f"{fault} at {point} did not fire in {_TRIES} runs: {last}")

    def _counts(self, call: str, rest: str) -> bool:
        if call in _OPENING and not _CHANGES.search(rest):
            return False
        return any(f'"{start}' in rest or f"<{start}" in rest for start in self._watched)

    def _told(self, rest: str) -> str:
        return rest.replace(str(self._root), "")[:160]

    def _reset(self) -> None:
        if self._root.exists():
            shutil.rmtree(self._root)
        shutil.copytree(self._template, self._root, symlinks=True)

    def _trace(self, *options: str) -> subprocess.CompletedProcess[str]:
        traced = ",".join(f"?{call}" for call in CALLS)
        # Not --seccomp-bpf: with it strace 6.1 injects nothing (measured).
        prefix = f"strace -f -qq -y -s 32 -e trace={traced} -e signal=none".split()
        return self._run([*prefix, "-o", str(self._log), *options, *self._command])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def _calls(self) -> list[tuple[str, str, str]]:
        """(thread, call, the rest of the line), in the order of their beginnings."""
        found: list[tuple[str, str, str]] = []
        for line in self._log.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is not None and not match["call"].isupper():
                found.append((match["pid"] or "", match["call"], match["rest"]))
        return found


def abort(*_: object) -> None:
    """What a library does that meets bytes it did not expect."""
    os.abort()
