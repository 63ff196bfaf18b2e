"""A day made from all collectors' raw, in a data directory that lives for as long as it takes.

In it lie the day's raw of all collectors, an hour a file, as if one machine had received it all, that of the hours
around it, and, as an hour that is never made again, what stood before. The
transformation is the one that makes bars on a volume, so the day is the one that such a machine would have made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from crypto_lake.bars.table import BARS_SCHEMA_VERSION
from crypto_lake.bars.transform import transform
from crypto_lake.completeness.content import knows
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import (
    BarsHour,
    BarsManifest,
    read_bars_manifest,
    write_bars_manifest,
)
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.names import RawObject
from crypto_lake.upkeep.publish_facts import DayFacts, RawFact
from crypto_lake.upkeep.publish_look import parsed
from crypto_lake.upkeep.publish_manifest import PublishedManifest, Standing
from crypto_lake.upkeep.publish_merge import merge_frames
from crypto_lake.upkeep.publish_plan import Make

_HOUR_NS: Final = 3600 * 10**9
_FETCHERS: Final = 4
# More than any hour can have: the transformation keeps an hour whose raw on the disk knows less than its rows do.
_MORE_THAN_ANY: Final = 2**60
_ELSEWHERE: Final = ("not here",)


class MakeError(Exception):
    """The day could not be made; nothing was published of it."""


class Fetcher(Protocol):
    """Brings objects of a store to this machine."""

    def raw(self, fact: RawFact, target: Path) -> None:
        """Raises MakeError where what arrives is not what the fact says."""
        ...

    def control(self, raw: RawObject, target: Path) -> None: ...

    def bars(self, published: PublishedManifest, target: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Made:
    """`path`: of the day's file, None where it has no row. The hours' inputs in `manifest` name objects.

    `control`: control records that it hangs on, since no trade after it is known.
    """

    path: Path | None
    manifest: BarsManifest
    unreadable: int
    control: tuple[str, ...] = ()


@dataclass
class Stage:
    """One day of one symbol in `folder`, which must be empty; its disk space is that of the raw it is made of."""

    folder: Path
    facts: DayFacts
    job: Make
    fetcher: Fetcher
    control: Sequence[RawObject]
    now_ns: int
    _names: dict[str, list[str]] = field(
        default_factory=dict[str, list[str]]
    )  # of staged files, to those of objects

    def __post_init__(self) -> None:
        self.layout = Layout(self.folder)
        self._end = Hour(self.facts.day, 23).end_ns // _HOUR_NS

    def make(self) -> Made:
        """Raises MakeError, or what the fetcher raises."""
        if not knows(self.facts.exchange):
            raise MakeError(f"this program knows no exchange {self.facts.exchange}; a later version may")
        self._bring_raw()
        self._enter_what_stood()
        self._carry_over()
        unreadable = self._transform()
        used: tuple[str, ...] = ()
        if self.control and not self._is_followed():
            self._bring_control()
            unreadable += self._transform()
            used = tuple(one.name for one in self.control)
        return self._made(unreadable, used)

    def _bring_raw(self) -> None:
        arriving = self.folder / "arriving"
        arriving.mkdir()
        sources = {fact.name: arriving / f"{number}.zst" for number, fact in enumerate(self.job.inputs)}

        def fetch(fact: RawFact) -> None:
            self.fetcher.raw(fact, sources[fact.name])

        _all(fetch, self.job.inputs)
        for (day, name), facts in stage_names(self.job.inputs).items():
            target = self.layout.raw_day(self.facts.exchange, self.facts.symbol, day) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            held = [sources[fact.name] for fact in facts]
            if len(held) == 1:
                held[0].rename(target)
            else:
                merge_frames(held, target)
                for path in held:
                    path.unlink()
            self._names[f"{day}/{name}"] = [fact.short for fact in facts]

    def _bring_control(self) -> None:
        counts: dict[Hour, int] = {}
        targets: dict[str, Path] = {}
        for one in sorted(self.control, key=lambda one: one.name):
            hour = parsed(one).hour
            counts[hour] = counts.get(hour, 0) + 1
            targets[one.name] = self.layout.sealed(one.exchange, CONTROL, hour, counts[hour])

        def bring(one: RawObject) -> None:
            targets[one.name].parent.mkdir(parents=True, exist_ok=True)
            self.fetcher.control(one, targets[one.name])

        _all(bring, self.control)

    def _enter_what_stood(self) -> None:
        hour = self._end - 25
        self._enter(Hour.of_ns(hour * _HOUR_NS).day, {hour: kept(standing_hour(self.facts.before))}, None)

    def _carry_over(self) -> None:
        before = self.facts.published
        if before is None or not self.job.carried:
            return
        records = {hour: kept(before.hours[hour]) for hour in self.job.carried}
        if before.rows:
            path = self.layout.bars(self.facts.exchange, self.facts.symbol, self.facts.day)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fetcher.bars(before, path)
        self._enter(self.facts.day, records, before)

    def _enter(self, day: str, hours: dict[int, BarsHour], of: PublishedManifest | None) -> None:
        """Leave a manifest for the transformation to find."""
        path = self.layout.bars(self.facts.exchange, self.facts.symbol, day)
        manifest = BarsManifest(
            exchange=self.facts.exchange,
            symbol=self.facts.symbol,
            day=day,
            path=str(path.relative_to(self.layout.root)),
            schema=BARS_SCHEMA_VERSION,
            program="",
            bytes=of.bytes if of else 0,
            sha256=of.sha256 if of else "",
            rows=of.rows if of else 0,
            trades=0,
            first_trade_id=None,
            last_trade_id=None,
            final=False,
            inputs=(),
            hours=hours,
        )
        write_bars_manifest(self.layout, path, manifest)

    def _transform(self) -> int:
        report = transform(
            self.layout,
            self.facts.exchange,
            clock=_Standing(self.now_ns),
            symbols=[self.facts.symbol],
            workers=1,
        )
        if self.facts.symbol in report.failed:
            raise MakeError(f"its bars could not be made: {report.failed[self.facts.symbol]}")
        return report.unreadable

    def _manifest_of(self, day: str) -> BarsManifest | None:
        path = self.layout.bars(self.facts.exchange, self.facts.symbol, day)
        return read_bars_manifest(self.layout, path)

    def _is_followed(self) -> bool:
        """Whether a trade after the day is known."""
        days = self.layout.bar_days(self.facts.exchange, self.facts.symbol)
        manifests = [self._manifest_of(day) for day in days if day > self.facts.day]
        return any(record.first for m in manifests if m is not None for record in m.hours.values())

    def _made(self, unreadable: int, used: tuple[str, ...]) -> Made:
        manifest = self._manifest_of(self.facts.day)
        if manifest is None:
            raise MakeError("nothing of it was in its raw, and no manifest was made; a fault of the program")
        hours = {hour: self._named(hour, record) for hour, record in manifest.hours.items()}
        path = self.layout.bars(self.facts.exchange, self.facts.symbol, self.facts.day)
        return Made(
            path if manifest.rows else None,
            msgspec.structs.replace(
                manifest, hours=hours, trades=sum(record.trades for record in hours.values())
            ),
            unreadable,
            used,
        )

    def _named(self, hour: int, record: BarsHour) -> BarsHour:
        """The record as it is published: it names objects, and nothing of this folder."""
        if hour in self.job.carried and self.facts.published is not None:
            return self.facts.published.hours[hour]
        names = tuple(sorted(short for name in record.inputs for short in self._names[name]))
        return msgspec.structs.replace(record, key="", refused="", inputs=names)


def stage_names(facts: Iterable[RawFact]) -> dict[tuple[str, str], list[RawFact]]:
    """Files of a data directory, by day and name, and the objects that each is made of. Pure.

    What collectors received in one hour is one file; healed files are numbered, since two may bear one name.
    """
    found: dict[tuple[str, str], list[RawFact]] = {}
    for fact in sorted(facts, key=lambda one: one.name):
        if fact.kind != "healed":
            found.setdefault((fact.day, f"hour_{fact.hour:02d}.jsonl.zst"), []).append(fact)
            continue
        number = 1
        while (at := (fact.day, f"healed_{fact.hour:02d}_{number}-{number}.jsonl.zst")) in found:
            number += 1
        found[at] = [fact]
    return found


def standing_hour(before: Standing) -> BarsHour:
    return BarsHour(
        key="",
        digest="",
        rows=0,
        trades=0,
        quotes=0,
        last=before.last,
        close=before.close,
        quote=before.quote,
        max_u=before.max_u,
    )


def kept(record: BarsHour) -> BarsHour:
    """The record of an hour that the transformation does not make anew, whatever raw it finds."""
    return msgspec.structs.replace(
        record, key="", trades=_MORE_THAN_ANY, quotes=_MORE_THAN_ANY, inputs=_ELSEWHERE
    )


@dataclass(frozen=True, slots=True)
class _Standing:
    """A clock that stands."""

    at_ns: int

    @property
    def speed(self) -> float:
        return 0.0

    def now_ns(self) -> int:
        return self.at_ns

    def observe(self, exchange_ns: int) -> None:
        pass


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name; no copy where both are on one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def is_what_it_should_be(path: Path, fact: RawFact) -> bool:
    sums = measure(path)
    return (sums.bytes, sums.sha256) == (fact.bytes, fact.sha256)


def _all(bring: Callable[..., None], items: Sequence[object]) -> None:
    """Each of them, some side by side; the first error is raised once those under way have ended."""
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="publish-fetch") as pool:
        waiting = [pool.submit(bring, item) for item in items]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            for one in waiting:
                one.cancel()
            raise
