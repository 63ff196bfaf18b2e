"""What commands that fill past days from the exchange share: `backfill`, and `check` of days known by sums alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crypto_lake.cli.progress import size

if TYPE_CHECKING:
    from crypto_lake.completeness.backfill import Backfill, Source
    from crypto_lake.completeness.backfill_day import DayRecord, Progress
    from crypto_lake.config.schema import Config
    from crypto_lake.exchanges import Exchange
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock


@dataclass(frozen=True, slots=True)
class Filled:
    """done: by symbol, what came of each day. failed: by symbol and day, why it could not be had. waiting: likewise, of
    days whose archive is not there yet."""

    done: dict[str, list[DayRecord]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)


class Past:
    """The exchange's past, as the configuration says where it is. For the holder of the lock `backfill`."""

    def __init__(self, config: Config, layout: Layout, exchange: Exchange, clock: Clock) -> None:
        self._config, self._layout, self._exchange, self._clock = config, layout, exchange, clock

    async def fill(
        self, days: Mapping[str, Sequence[str]], *, source: Source = "auto", again: bool = False
    ) -> Filled:
        """Days by symbol. Those that were had whole before are passed over, unless `again`."""
        import msgspec

        from crypto_lake.completeness.backfill import BackfillError
        from crypto_lake.model.clock import Hour

        filled = Filled()
        today = Hour.of_ns(self._clock.now_ns()).day
        async with self._backfill(source) as backfill:
            for symbol, wanted in days.items():
                known = {} if again else backfill.done(symbol)
                done = filled.done[symbol] = []
                for day in wanted:
                    if day in known:
                        done.append(msgspec.structs.replace(known[day], fetched=0, files=0))
                        continue
                    if day > today:
                        filled.failed[f"{symbol} {day}"] = "the day has not begun"
                        break
                    try:
                        done.append(await backfill.fill(symbol, day))
                    except BackfillError as error:
                        filled.failed[f"{symbol} {day}"] = str(error)
        return filled

    def inexact(self, recent_days: int | None = None) -> dict[str, list[str]]:
        """By symbol, the days that are over of which the ledger knows trades by sums alone, or lacks what could not be
        had: of the last `recent_days`, or all."""
        from crypto_lake.completeness.backfill_day import inexact_days
        from crypto_lake.completeness.heal_holes import HoleReader

        reader = HoleReader(self._layout, self._exchange.name)
        reader.look()
        return inexact_days(reader.inexact(), self._clock.now_ns() // 1000, recent_days)

    async def fill_inexact(self, days: Mapping[str, Sequence[str]], *, again: bool = False) -> Filled:
        """Such days from the exchange's archives. An archive that was read before is passed over, unless `again`. Where their
        host can't be reached the rest is left for another time: each day would wait for it anew.
        """
        from crypto_lake.completeness.backfill import BackfillError, NoArchiveError, UnreachableError

        filled = Filled()
        async with self._backfill("archive") as backfill:
            for symbol, wanted in days.items():
                read = set[str]() if again else backfill.archived(symbol)
                for day in wanted:
                    if day in read:
                        continue
                    try:
                        record = await backfill.fill(symbol, day)
                    except NoArchiveError:
                        filled.waiting[f"{symbol} {day}"] = "the exchange has no archive of it yet"
                    except UnreachableError as error:
                        filled.failed[f"{symbol} {day}"] = f"{error}; no other was asked for"
                        return filled
                    except (BackfillError, OSError) as error:
                        filled.failed[f"{symbol} {day}"] = str(error)
                    else:
                        filled.done.setdefault(symbol, []).append(record)
        return filled

    @contextlib.asynccontextmanager
    async def _backfill(self, source: Source) -> AsyncIterator[Backfill]:
        import aiohttp

        from crypto_lake.capture.healing import ways
        from crypto_lake.capture.tls import tls_context
        from crypto_lake.completeness import archive
        from crypto_lake.completeness.backfill import Backfill
        from crypto_lake.completeness.budget_file import open_budget
        from crypto_lake.completeness.heal_rest import PastRest

        collector, exchange = self._config.collector, self._exchange
        tls = tls_context(collector.endpoint.ca_file)
        limit = exchange.limits.weight_per_minute
        budget = open_budget(self._layout, exchange.name, collector.weight_per_minute, limit)
        folder = self._layout.state / "backfill"
        archive.remove_old(folder)
        rest = PastRest(exchange.past, budget, tls)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60),
        )
        try:
            with _Shown() as shown:
                yield Backfill(
                    self._layout,
                    exchange,
                    self._clock,
                    rest,
                    ways(exchange, collector.endpoint.rest),
                    archive.Archives(exchange.past, collector.endpoint.archive, session, folder),
                    f"rest-{self._layout.collector_id().rpartition('-')[2]}-backfill",
                    source=source,
                    progress=shown.progress,
                )
        finally:
            await rest.close()
            await session.close()


def archives_of_sums(
    config: Config, layout: Layout, symbols: Sequence[str] = (), days: Sequence[str] = ()
) -> Filled:
    """What the last days know by sums alone, or lack, from their archives: of the symbols and days named, or all.

    Nothing where the exchange is another than the archives' (`collector.endpoint` names its REST and no archive), where a
    backfill runs, or where the disk has no room.
    """
    import asyncio

    from crypto_lake.cli.bucket import disk_limits
    from crypto_lake.cli.selection import clock_of
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake import locks
    from crypto_lake.upkeep.check import RECENT_DAYS
    from crypto_lake.upkeep.disk_budget import look, refusal

    endpoint = config.collector.endpoint
    if endpoint.rest and not endpoint.archive:
        return Filled()
    past = Past(config, layout, EXCHANGES[config.collector.exchange], clock_of(config, layout))
    chosen = {
        symbol: [day for day in of_symbol if not days or day in days]
        for symbol, of_symbol in past.inexact(RECENT_DAYS).items()
        if not symbols or symbol in symbols
    }
    if not any(chosen.values()) or refusal(look(layout.root, disk_limits(config)), disk_limits(config)):
        return Filled()
    with contextlib.suppress(locks.LockHeldError), locks.hold(layout.locks, "backfill"):
        return asyncio.run(past.fill_inexact(chosen))
    return Filled()


class _Shown:
    """What it does now, on a terminal."""

    def __init__(self) -> None:
        self._update: Callable[[str], None] = lambda _: None
        self._end: Callable[[], None] = lambda: None

    def __enter__(self) -> _Shown:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.status import Status

            status = Status("looking", console=Console(stderr=True))
            status.start()
            self._update, self._end = status.update, status.stop
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def progress(self, now: Progress) -> None:
        came = f", {size(now.bytes)}" if now.bytes else ""
        self._update(
            f"{now.symbol} {now.day}  {now.doing}{came}  {now.rows:,} rows read, {now.fetched:,} new"
        )
