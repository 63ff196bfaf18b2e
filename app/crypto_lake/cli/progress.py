"""What `run` shows while it runs: one live line on a terminal, plain lines in a pipe. All on stderr."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from crypto_lake.watch.status import LakeStatus


@dataclass(slots=True)
class Rate:
    """Messages a second between two looks. A collector that started anew begins at nothing."""

    messages: int = 0
    at_seconds: float = 0.0
    per_second: float = 0.0

    def update(self, messages: int, at_seconds: float) -> float:
        """`at_seconds`: any clock that does not go back."""
        passed = at_seconds - self.at_seconds
        if messages < self.messages or not self.at_seconds:
            self.messages, self.at_seconds, self.per_second = messages, at_seconds, 0.0
        elif passed >= 1.0:
            self.per_second = (messages - self.messages) / passed
            self.messages, self.at_seconds = messages, at_seconds
        return self.per_second


def size(count: float) -> str:
    """Bytes to read: 1.2 MB. Powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(number: int, what: str) -> str:
    """1 symbol, 13 symbols."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def clock_text(seconds: float) -> str:
    """65 -> 1:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def live_line(
    status: LakeStatus,
    per_second: float,
    elapsed_seconds: float,
    for_seconds: float | None,
    now_seconds: float,
) -> str:
    """Symbols, rate, lag, gaps, last bars, disk. Pure."""
    until = f" of {clock_text(for_seconds)}" if for_seconds is not None else ""
    pieces = [f"{clock_text(elapsed_seconds)}{until}"]
    collector = status.collector
    if collector is None or not collector.running:
        pieces.append(
            "starting" if elapsed_seconds < 10 else status.reasons[0].message if status.reasons else "down"
        )
    else:
        pieces += [counted(collector.symbols, "symbol"), f"{per_second:,.0f} msg/s"]
        if collector.latency_p95_ms is not None:
            pieces.append(f"lag {collector.latency_p95_ms:,.0f} ms")
        pieces.append(f"gaps {collector.holes_open}")
    bars_ns = status.disk.last_bars_ns
    pieces.append(f"bars {max(0.0, now_seconds - bars_ns / 1e9):,.0f} s ago" if bars_ns else "no bars yet")
    pieces.append(f"disk {size(status.disk.lake_bytes)}")
    if status.health == "degraded":
        pieces.append(status.reasons[0].message)
    return "  ".join(pieces)


class Display(Protocol):
    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def line(self, text: str) -> None:
        """A line that stays."""
        ...

    def live(self, text: str) -> None:
        """What stands in the live line now."""
        ...


class PlainDisplay:
    """For a pipe or a log: lines alone; what is live is not shown."""

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever read it is gone; the lake goes on
            print(text, file=sys.stderr, flush=True)

    def live(self, text: str) -> None:
        pass


class TerminalDisplay:
    """One line that is drawn anew, and lines that scroll away above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._console = Console(stderr=True)
        self._live = Live(Text(""), console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> TerminalDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.__exit__(None, None, None)

    def line(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(self._text(text))

    def live(self, text: str) -> None:
        self._live.update(self._text(text, no_wrap=True, overflow="ellipsis"))


def display() -> Display:
    """The right one for this stderr."""
    return TerminalDisplay() if sys.stderr.isatty() else PlainDisplay()
