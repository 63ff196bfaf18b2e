"""A lake whose raw is old enough to go: sealed, made into bars, entered into its ledgers."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.bars.transform import transform
from crypto_lake.completeness import recovery
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.seal import compact

from .lakes import DAY, EXCHANGE, At, control, market, write_part

NEXT_DAY = "2024-08-09"
HOURS = [Hour(DAY, 21), Hour(DAY, 22), Hour(DAY, 23), Hour(NEXT_DAY, 0), Hour(NEXT_DAY, 1)]
DAY_NS = 86400 * 10**9
# Both days are over, and final: more than 48 h after the later one's end.
NOW = Hour(NEXT_DAY, 23).end_ns + 3 * DAY_NS
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def make_kept_lake(root: Path, *, symbols: tuple[str, ...] = SYMBOLS, trades: int = 40) -> Layout:
    """Five hours over midnight, two parts each, one after the other; control records; nothing to do but upkeep."""
    layout = Layout(root)
    layout.state.mkdir(parents=True)
    (layout.state / "collector").write_text("c-test\n")
    for symbol in symbols:
        add_hours(layout, symbol, HOURS, trades=trades)
    for hour in HOURS:
        write_part(layout, CONTROL, hour, hour.hour + 1, [control(hour.start_ns + 10**9)])
    settle(layout)
    return layout


def add_hours(
    layout: Layout, symbol: str, hours: list[Hour], *, trades: int = 40, first_id: int = 1000
) -> None:
    for hour in hours:
        for half in (0, 1):
            lines = market(symbol, hour, first_id, trades, start=half / 2, end=half / 2 + 0.4)
            write_part(layout, symbol, hour, 2 * hour.hour + half + 1, lines)
            first_id += trades


def settle(layout: Layout, now_ns: int = NOW) -> None:
    """Seal, enter into the ledgers, make bars: all that upkeep waits for."""
    sealed = compact(layout, clock=At(now_ns))
    assert not sealed.failed, sealed.failed
    enter_ledgers(layout)
    made = transform(layout, EXCHANGE, clock=At(now_ns), workers=1)
    assert not made.failed, made.failed


def enter_ledgers(layout: Layout) -> None:
    """What the collector does when it starts and stops."""
    quarantine = Quarantine(layout.quarantine)
    for symbol in layout.symbols(EXCHANGE):
        ledger = recovery.open_ledger(layout, EXCHANGES[EXCHANGE], symbol, "c-test", 5 * 10**9, quarantine)
        ledger.append(ledger.fold.flush())
        ledger.file.close()


def raw_names(layout: Layout) -> set[str]:
    root = layout.root
    return {str(p.relative_to(root)) for p in (root / "raw").rglob("*") if p.is_file()}


def bars_files(layout: Layout) -> dict[str, bytes]:
    root = layout.root
    return {str(p.relative_to(root)): p.read_bytes() for p in (root / "parquet").rglob("*.parquet")}
