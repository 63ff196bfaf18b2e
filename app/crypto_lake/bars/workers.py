"""Processes that share the symbols of a run.

Processes and not threads: half of the work holds the interpreter's lock. A worker is a program of its own
(`python -m crypto_lake.bars.workers`) that is told the run and then one symbol after the other on its standard input, and
answers on its standard output, a line of JSON each. It ends when its input does, and at once with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import msgspec

from crypto_lake.bars.report import Setup, SymbolResult

_MODULE = "crypto_lake.bars.workers"
_PR_SET_PDEATHSIG = 1
# Chunks of some megabytes come and go: an allocator that gives each back to the kernel costs a tenth of the time (measured).
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
_decode_setup = msgspec.json.Decoder(Setup).decode


class FileRead(msgspec.Struct, frozen=True, tag="read"):
    """A raw file was read to its end."""

    bytes: int


_decoder: msgspec.json.Decoder[FileRead | SymbolResult] = msgspec.json.Decoder(FileRead | SymbolResult)


def share(
    setup: Setup,
    symbols: Sequence[str],
    workers: int,
    on_read: Callable[[str, int], None],
    on_done: Callable[[str], None],
) -> list[SymbolResult]:
    """Make the bars of these symbols, in this order, by so many workers at a time.

    A worker that dies (out of memory, killed) costs the symbol it was at, which is told as failed, and another takes
    its place. `on_read` and `on_done` are called from several threads.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for symbol in symbols:
        waiting.put(symbol)

    def serve(_: int) -> list[SymbolResult]:
        results: list[SymbolResult] = []
        worker: _Worker | None = None
        try:
            while True:
                try:
                    symbol = waiting.get_nowait()
                except queue.Empty:
                    return results
                worker = worker or _Worker(setup)
                result = worker.make(symbol, on_read)
                if result is None:
                    code, worker = worker.close(), None
                    result = SymbolResult(
                        symbol, failed=f"its worker ended with {code} (negative: by that signal)"
                    )
                results.append(result)
                on_done(symbol)
        finally:
            if worker is not None:
                worker.close()

    with ThreadPoolExecutor(workers) as pool:
        return [result for results in pool.map(serve, range(workers)) for result in results]


class _Worker:
    def __init__(self, setup: Setup) -> None:
        # Symbols are what is shared out: threads within one would only wait for each other.
        environment = os.environ | {"POLARS_MAX_THREADS": "1"} | _KEEP_MEMORY
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-P", "-m", _MODULE, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._send(msgspec.json.encode(setup))

    def _send(self, line: bytes) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def make(self, symbol: str, on_read: Callable[[str, int], None]) -> SymbolResult | None:
        """None where the worker is gone."""
        assert self._process.stdout is not None
        if not self._send(symbol.encode()):
            return None
        for line in self._process.stdout:
            said = _decoder.decode(line)
            if isinstance(said, SymbolResult):
                return said
            on_read(symbol, said.bytes)
        return None

    def close(self) -> int:
        """End it; its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()


def work(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """A worker's life: the setup, then symbols, until the input ends."""
    from crypto_lake.bars.maker import Maker  # polars: only where it works, not where it waits

    def say(what: FileRead | SymbolResult) -> None:
        outgoing.write(msgspec.json.encode(what) + b"\n")
        outgoing.flush()

    maker = Maker(_decode_setup(incoming.readline()))
    for line in incoming:
        say(maker.make(line.decode().strip(), lambda size: say(FileRead(size))))


def _die_with(parent: int) -> None:
    """Two that write the same day must not meet: a worker whose parent is gone has no lock any more."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    _die_with(int(sys.argv[1]))
    work(sys.stdin.buffer, sys.stdout.buffer)
