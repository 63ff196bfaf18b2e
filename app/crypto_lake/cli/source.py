"""Whose market a data directory holds: a simulated one must never be mixed with a real one.

A simulated exchange counts its trades from the same number at each start, so one market of it is one directory:
an earlier one is moved aside.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from crypto_lake.cli.common import CommandError, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from crypto_lake.lake.layout import Layout

# What belongs to a market; logs and the locks do not.
_OF_A_MARKET = ("raw", "parquet", "ledger", "manifests", "verdicts", "reports", "quarantine", "health")


def marker(layout: Layout) -> Path:
    """There where `run --simulate` has written."""
    return layout.state / "simulated"


def what_to_do(*, simulated: bool, marked: bool, has_raw: bool) -> Literal["go", "mark", "aside", "refuse"]:
    """Pure. `marked`: the directory holds a simulated market; `has_raw`: it holds any."""
    if not simulated:
        return "refuse" if marked and has_raw else "go"
    if not has_raw:
        return "mark"
    return "aside" if marked else "refuse"


def ensure_writable(layout: Layout) -> None:
    """Raise CommandError where nothing can be written, before anything is started that would find out."""
    from crypto_lake.lake import durable

    try:
        durable.make_directory(layout.state)
    except OSError as error:
        problem = error.strerror
    else:
        problem = (
            "" if os.access(layout.state, os.W_OK | os.X_OK) else "no right to write, or a read-only disk"
        )
    if problem:
        raise CommandError(f"{layout.root} can't be written: {problem}; name another by --data")


def prepare(layout: Layout, *, simulated: bool) -> str:
    """Make the directory fit for this run. Returns what the user should know, or nothing.

    Raises CommandError where the run would mix two markets, LockHeldError where another process works there.
    """
    from crypto_lake.lake import durable, locks

    ensure_writable(layout)
    marked, has_raw = (
        marker(layout).exists(),
        any(layout.symbols(exchange) for exchange in layout.exchanges()),
    )
    action = what_to_do(simulated=simulated, marked=marked, has_raw=has_raw)
    if action == "refuse":
        held, other = (
            ("a real", "--data data-simulated") if simulated else ("a simulated", "--data data-binance")
        )
        raise CommandError(
            f"{layout.root} holds {held} market, and this run would mix it with another; "
            f"give this one a directory of its own, such as {other}",
            ExitCode.USAGE,
        )
    told = ""
    if action == "aside":
        with locks.hold(layout.locks, "capture"), locks.hold(layout.locks, "transform"):
            told = f"crypto-lake: the earlier simulated market was moved to {_move_aside(layout)}"
    elif not simulated and marked:
        marker(layout).unlink()  # nothing was collected there
    if action in ("aside", "mark"):
        durable.write(marker(layout), b"a simulated market; see `crypto-lake run --simulate`\n")
    return told


def _move_aside(layout: Layout) -> Path:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    target = layout.root / "earlier" / stamp
    (target / "state").mkdir(parents=True)
    for name in _OF_A_MARKET:
        if (layout.root / name).exists():
            (layout.root / name).rename(target / name)
    for path in layout.state.iterdir():
        if path != layout.locks:
            path.rename(target / "state" / path.name)
    return target
