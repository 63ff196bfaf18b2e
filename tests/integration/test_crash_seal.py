"""SIGKILL at every system call of sealing and of salvage that changes a file.

And a full or failing disk at each. After each: a reader meets every line once; the next run completes; the files are
those of an undisturbed run.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.lake import tasks
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Entry
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.seal import compact
from support.crash import CALLS, KILL, Report, enumerate_crash_points, need_strace
from support.lakes import (
    DAY,
    At,
    control,
    leftovers,
    manifests,
    market,
    raw_files,
    seen_by_readers,
    write_part,
)

HOUR = Hour(DAY, 13)
NOW = HOUR.end_ns + 10 * 60 * 10**9
# The command without what it costs to start it: the enumeration is of its files, not of its options.
PROGRAM = f"""
import sys
from pathlib import Path
from crypto_lake.lake.layout import Layout
from crypto_lake.upkeep.seal import compact
class At:
    speed = 0.0
    def now_ns(self): return {NOW}
report = compact(Layout(Path(sys.argv[1])), clock=At())
sys.exit(1 if report.failed else 0)
"""
ARGV = [sys.executable, "-c", PROGRAM, "{root}"]
# Task reports and locks are not what is promised; they are made by other modules and may be lost.
WATCH = ("raw", "manifests", "quarantine")


def store(root: Path) -> None:
    """An hour of a symbol in three parts, one of them damaged; control records; an hour that is not over."""
    layout = Layout(root)
    layout.state.mkdir(parents=True)
    (layout.state / "collector").write_text("c-test\n")
    for number in (1, 2, 3):
        lines = market("BTCUSDT", HOUR, 100 * number, 6, start=number / 4, end=number / 4 + 0.2)
        path = write_part(layout, "BTCUSDT", HOUR, number, lines)
        if number == 2:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    write_part(layout, "BTCUSDT", HOUR.next(), 4, market("BTCUSDT", HOUR.next(), 400, 3, end=0.01))
    write_part(layout, CONTROL, HOUR, 1, [control(HOUR.start_ns)])
    healed = layout.raw_day("binance", "BTCUSDT", DAY) / "healed_13_106-199.jsonl.zst"
    healed.write_bytes(write_part(layout, "ETHUSDT", HOUR, 1, market("BTCUSDT", HOUR, 106, 2)).read_bytes())


def store_with_torn_parts(root: Path) -> None:
    """The same after a crash of the collector: one part torn, one without a whole frame, one whole but not closed."""
    store(root)
    layout = Layout(root)
    write_part(
        layout,
        "BTCUSDT",
        HOUR,
        7,
        market("BTCUSDT", HOUR, 700, 3),
        closed=False,
        tail=b"\x28\xb5\x2f\xfd torn",
    )
    write_part(layout, "BTCUSDT", HOUR.next(), 8, [], closed=False, tail=b"torn")
    write_part(
        layout, "ETHUSDT", HOUR.next(), 2, market("ETHUSDT", HOUR.next(), 9, 3, end=0.01), closed=False
    )


def state_of(layout: Layout, fault: str) -> tuple[Any, ...]:
    """All that must be the same whatever happened on the way.

    Where the disk was full the torn end of a part, of which nothing was acknowledged, may not have been kept.
    """
    left_out = ".cut" if fault != KILL else "index.jsonl"
    index = (layout.quarantine / "index.jsonl").read_bytes().splitlines()
    entries = [e for e in map(entry_of, filter(None, index)) if not (e.file or "").endswith(left_out)]
    names = [p for p in layout.quarantine.iterdir() if not p.name.endswith(("index.jsonl", left_out))]
    aside = {p.name: p.read_bytes() for p in names}
    return (
        raw_files(layout),
        manifests(layout),
        aside,
        Counter((e.origin, e.reason, e.bytes, e.file) for e in entries),
    )


def entry_of(line: bytes) -> Entry:
    import msgspec

    return msgspec.json.decode(line, type=Entry)


def run(
    folder: Path,
    make: Callable[[Path], None],
    share: int | None,
    fault: str = KILL,
    calls: Collection[str] = CALLS,
) -> Report:
    need_strace()
    undisturbed = Layout(folder / "undisturbed")
    make(undisturbed.root)
    before = readable(undisturbed)
    assert not compact(undisturbed, clock=At(NOW)).failed
    wanted, lines = state_of(undisturbed, fault), seen_by_readers(undisturbed)

    def killed(root: Path) -> None:
        seen = readable(Layout(root))
        for symbol, expected in before.items():
            # What salvage has closed is readable before the rest is; nothing is there twice, and nothing goes.
            assert set(seen[symbol].values()) <= {1}
            assert expected <= seen[symbol] <= lines[symbol]

    def resume(root: Path) -> None:
        assert not compact(Layout(root), clock=At(NOW)).failed

    def check(root: Path) -> None:
        layout = Layout(root)
        assert state_of(layout, fault) == wanted
        assert seen_by_readers(layout) == lines
        assert leftovers(layout) == []
        assert tasks.read(layout)["compact"].ok

    folder = folder / fault
    report = enumerate_crash_points(
        ARGV,
        make,
        check,
        folder=folder,
        killed=killed,
        resume=resume,
        watch=WATCH,
        share=share,
        seed=2024,
        fault=fault,
        calls=calls,
    )
    print(f"\n{make.__name__}, {fault}: {report}")
    return report


def readable(layout: Layout) -> dict[str, Counter[bytes]]:
    """What a reader gets, by the program's own reader: a damaged part is among them."""
    from crypto_lake.lake.frames import Frame, read_frames
    from crypto_lake.lake.raw_manifests import raw_inputs

    seen: dict[str, Counter[bytes]] = {}
    for symbol in [*layout.symbols("binance"), CONTROL]:
        for file in raw_inputs(layout, "binance", symbol, DAY):
            for item in read_frames(file.path) if not file.is_open else ():
                if isinstance(item, Frame):
                    seen.setdefault(symbol, Counter()).update(item.data.splitlines(keepends=True))
    return seen


@pytest.mark.parametrize("make", [store, store_with_torn_parts])
def test_a_seeded_share_of_the_crash_points(tmp_path: Path, make: Callable[[Path], None]) -> None:
    report = run(tmp_path, make, share=20)
    assert report.fired == 20
    assert report.points > 40


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make", [store, store_with_torn_parts])
def test_every_crash_point(tmp_path: Path, make: Callable[[Path], None]) -> None:
    report = run(tmp_path, make, share=None)
    assert report.fired == report.points > 40
    assert {"rename", "unlink", "fsync"} <= {
        call.removesuffix("at").removesuffix("at2") for call in report.by_call
    }


# What asks for room on the disk, and what waits for the disk itself.
DISK_FAULTS = [
    ("error=ENOSPC", ("openat", "write", "mkdir")),
    ("error=EIO", ("fsync", "fdatasync", "write", "unlink")),
]


@pytest.mark.parametrize(("fault", "calls"), DISK_FAULTS)
def test_a_seeded_share_of_the_failures_of_a_disk(tmp_path: Path, fault: str, calls: tuple[str, ...]) -> None:
    assert run(tmp_path, store_with_torn_parts, 8, fault, calls).fired == 8


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("fault", "calls"), DISK_FAULTS)
def test_every_failure_of_a_disk(tmp_path: Path, fault: str, calls: tuple[str, ...]) -> None:
    report = run(tmp_path, store_with_torn_parts, None, fault, calls)
    assert report.fired == report.points > 20
