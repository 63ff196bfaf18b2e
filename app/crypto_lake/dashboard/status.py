"""What the lake's own collectors say of it: their `/status`, asked for, and put together.

A collector that does not answer is told as such: its figures are not known, which is not the same as none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

_PATIENCE_SECONDS: Final = 1.5
_MOST_BYTES: Final = 32 * 2**20
_SNAPSHOT: Final = "collector.json"


class Reason(msgspec.Struct, frozen=True):
    message: str = ""
    do: str = ""


class Disk(msgspec.Struct, frozen=True):
    used_percent: float | None = None
    free_bytes: int | None = None


class Latency(msgspec.Struct, frozen=True):
    p95_ms: float


class Stream(msgspec.Struct, frozen=True):
    symbol: str = ""
    live: bool | None = None
    latency: Latency | None = None


class SymbolSeen(msgspec.Struct, frozen=True):
    symbol: str
    last_trade_time_us: int = 0
    holes_open: int = 0
    ids_missing: int = 0
    holes_healed: int = 0


class Status(msgspec.Struct, frozen=True):
    """Of a collector's `/status`, the fields that are shown (docs/status.md); others are ignored."""

    collector: str = ""
    health: str = ""
    taken_ns: int = 0
    reasons: list[Reason] = msgspec.field(default_factory=list[Reason])
    disk: Disk | None = None
    disk_full_in_seconds: float | None = None
    streams: list[Stream] = msgspec.field(default_factory=list[Stream])
    symbols: list[SymbolSeen] = msgspec.field(default_factory=list[SymbolSeen])


class _Port(msgspec.Struct, frozen=True):
    port: int = 0


_decode_status = msgspec.json.Decoder(Status).decode
_decode_port = msgspec.json.Decoder(_Port).decode


@dataclass(frozen=True, slots=True)
class Answer:
    """What one collector said; `problem` where it did not."""

    url: str
    status: Status | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """All answers in sum, for these symbols. None: not known."""

    asked: int
    answered: int
    now: datetime | None
    """The lake's clock: the latest of the collectors'."""
    latency_p95_ms: float | None = None
    lag_seconds: float | None = None
    gaps_open: int | None = None
    ids_missing: int | None = None
    gaps_healed: int | None = None
    disk_percent: float | None = None
    disk_full_in_seconds: float | None = None
    problems: tuple[str, ...] = field(default=())


def together(answers: Sequence[Answer], symbols: Sequence[str]) -> Live:
    """The worst of latency, lag and disk, the sum of gaps. Pure."""
    problems = [f"{answer.url}: {answer.problem}" for answer in answers if answer.status is None]
    told = [answer.status for answer in answers if answer.status is not None]
    for status in told:
        problems += [
            f"{status.collector or 'collector'}: {reason.message}" + (f" — {reason.do}" if reason.do else "")
            for reason in status.reasons
        ]
    if not told:
        return Live(len(answers), 0, None, problems=tuple(problems))
    names = set(symbols)
    latencies = [
        stream.latency.p95_ms
        for status in told
        for stream in status.streams
        if stream.latency is not None and stream.symbol in names
    ]
    seen = [(status, symbol) for status in told for symbol in status.symbols if symbol.symbol in names]
    lags = [
        max(0.0, status.taken_ns / 1e9 - symbol.last_trade_time_us / 1e6)
        for status, symbol in seen
        if symbol.last_trade_time_us and status.taken_ns
    ]
    taken = max((status.taken_ns for status in told), default=0)
    disks = [
        status.disk.used_percent for status in told if status.disk and status.disk.used_percent is not None
    ]
    full = [status.disk_full_in_seconds for status in told if status.disk_full_in_seconds is not None]
    return Live(
        asked=len(answers),
        answered=len(told),
        now=datetime.fromtimestamp(taken / 1e9, UTC) if taken else None,
        latency_p95_ms=max(latencies, default=None),
        lag_seconds=max(lags, default=None),
        gaps_open=sum(symbol.holes_open for _, symbol in seen) if seen else None,
        ids_missing=sum(symbol.ids_missing for _, symbol in seen) if seen else None,
        gaps_healed=sum(symbol.holes_healed for _, symbol in seen) if seen else None,
        disk_percent=max(disks, default=None),
        disk_full_in_seconds=min(full, default=None),
        problems=tuple(problems),
    )


def own_url(where: str) -> str | None:
    """Where the collector of a data directory answers on this machine, by what it left there; None: not told."""
    if "://" in where and not where.startswith("file:///"):
        return None
    path = Path(where.removeprefix("file://")) / "state" / _SNAPSHOT
    try:
        port = _decode_port(path.read_bytes()).port
    except (OSError, msgspec.MsgspecError):
        return None
    return f"http://127.0.0.1:{port}/status" if port > 0 else None


def ask(urls: Sequence[str]) -> list[Answer]:
    """All at once; none is waited for longer than a second and a half."""
    return asyncio.run(_ask_all(urls)) if urls else []


async def _ask_all(urls: Sequence[str]) -> list[Answer]:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_ask(session, url) for url in urls)))


async def _ask(session: aiohttp.ClientSession, url: str) -> Answer:
    try:
        async with session.get(url) as response:
            if response.status != 200:
                return Answer(url, None, f"it answered {response.status}; give the address of a /status")
            body = await response.content.read(_MOST_BYTES)
            while len(body) < _MOST_BYTES and (more := await response.content.read(_MOST_BYTES)):
                body += more
    except TimeoutError:
        return Answer(url, None, f"no answer within {_PATIENCE_SECONDS:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(url, None, f"no collector answers ({error or type(error).__name__})")
    try:
        return Answer(url, _decode_status(body))
    except msgspec.MsgspecError as error:
        return Answer(url, None, f"what it answered is no status: {error}")
