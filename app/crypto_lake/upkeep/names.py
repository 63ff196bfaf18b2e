"""Names in the bucket, below its prefix: from what a file is to its object's name, and back. Pure.

    raw/binance/BTCUSDT/2024-08-08/<collector>/hour_13.jsonl.zst             raw, sealed or healed; `_control` likewise
    manifests/raw/binance/BTCUSDT/2024-08-08/<collector>/hour_13.jsonl.zst.json
    ledger/binance/BTCUSDT/2024-08-08/<collector>.jsonl                      what of the ledger was closed with that day
    ledger/binance/BTCUSDT/2024-08-08/<collector>.1.jsonl                    and what went before, for it had ended
    parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet           a final day, of all collectors
    manifests/parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet.json
    verdicts/binance/BTCUSDT/year=2024/month=08/day=08/<collector>.parquet   of the bars on that collector's volume
    reports/binance/BTCUSDT/2024-08-08/<collector>.json                      and `.md`: how the day was there

Names of raw carry the collector, so that a data directory that was lost, and its successor, never meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from sys import intern
from typing import Final

from crypto_lake.lake.layout import parse_raw_name

MANIFESTS: Final = "manifests/"
_WORD: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
_COLLECTOR: Final = r"[A-Za-z0-9][A-Za-z0-9-]{0,63}"  # without _, which stands before an edition
_OF: Final = rf"(?P<exchange>{_WORD})/(?P<symbol>{_WORD})"
_DAY: Final = r"(?P<day>\d{4}-\d\d-\d\d)"
_FOLDERS: Final = r"year=(?P<y>\d{4})/month=(?P<m>\d\d)/day=(?P<d>\d\d)"
_BY: Final = rf"(?P<collector>{_COLLECTOR})"
_RAW = re.compile(rf"raw/{_OF}/{_DAY}/{_BY}/(?P<file>[a-z0-9_.-]+)")
_LEDGER = re.compile(
    rf"ledger/{_OF}/{_DAY}/{_BY}(?:_(?P<edition>[1-9]\d*))?(?:\.(?P<number>[1-9]\d*))?\.jsonl"
)
_BARS = re.compile(rf"parquet/{_OF}/{_FOLDERS}/bars\.parquet")
_VERDICTS = re.compile(rf"verdicts/{_OF}/{_FOLDERS}/{_BY}\.parquet")
_REPORT = re.compile(rf"reports/{_OF}/{_DAY}/{_BY}\.(?P<suffix>json|md)")


@dataclass(frozen=True, slots=True)
class RawObject:
    """`file`: the name that the file has in its day's folder on the collector's disk."""

    exchange: str
    symbol: str
    day: str
    collector: str
    file: str

    @property
    def name(self) -> str:
        return f"raw/{self.exchange}/{self.symbol}/{self.day}/{self.collector}/{self.file}"

    @property
    def local(self) -> str:
        """Its path in that collector's data directory."""
        return f"raw/{self.exchange}/{self.symbol}/{self.day}/{self.file}"


@dataclass(frozen=True, slots=True)
class LedgerSegment:
    """A piece of a collector's ledger of one symbol; see `upload_ledger`. `edition` counts ledgers begun anew, from 1.

    `number`: of a piece that went before the one that closes the day, from 1; 0: the one that closes it.
    """

    exchange: str
    symbol: str
    day: str
    collector: str
    edition: int = 1
    number: int = 0

    @property
    def name(self) -> str:
        edition = f"_{self.edition}" if self.edition > 1 else ""
        number = f".{self.number}" if self.number else ""
        return f"ledger/{self.exchange}/{self.symbol}/{self.day}/{self.collector}{edition}{number}.jsonl"

    @property
    def order(self) -> tuple[int, str, bool, int]:
        """Sorts a collector's pieces of a symbol: in this order they are its ledger, of each edition."""
        return self.edition, self.day, self.number == 0, self.number

    @property
    def local(self) -> str:
        """The ledger that it is a piece of, in that collector's data directory."""
        return f"ledger/{self.exchange}/{self.symbol}.jsonl"


@dataclass(frozen=True, slots=True)
class BarsObject:
    exchange: str
    symbol: str
    day: str

    @property
    def name(self) -> str:
        return f"parquet/{self.exchange}/{self.symbol}/{_folders(self.day)}/bars.parquet"

    @property
    def local(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class VerdictsObject:
    """Of a day of bars as that collector has them: two collectors of one symbol judge each its own."""

    exchange: str
    symbol: str
    day: str
    collector: str

    @property
    def name(self) -> str:
        return f"verdicts/{self.exchange}/{self.symbol}/{_folders(self.day)}/{self.collector}.parquet"


@dataclass(frozen=True, slots=True)
class ReportObject:
    """`suffix`: json or md."""

    exchange: str
    symbol: str
    day: str
    collector: str
    suffix: str

    @property
    def name(self) -> str:
        return f"reports/{self.exchange}/{self.symbol}/{self.day}/{self.collector}.{self.suffix}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of another object."""

    of: RawObject | BarsObject

    @property
    def name(self) -> str:
        return manifest_name(self.of.name)

    @property
    def local(self) -> str:
        return manifest_name(self.of.local)


LakeObject = RawObject | LedgerSegment | BarsObject | VerdictsObject | ReportObject | Manifest


def manifest_name(name: str) -> str:
    """The name of an object's manifest, from the object's name (of a file's, from its path in the data directory)."""
    return f"{MANIFESTS}{name}.json"


def raw_object(local: str, collector: str) -> RawObject:
    """The object of a raw file, from its path in the data directory.

    Raises ValueError where that is none of the lake's, or the collector's name can't stand in an object's name.
    """
    pieces = local.split("/")
    made = parse("/".join([*pieces[:-1], collector, pieces[-1]])) if len(pieces) == 5 else None
    if isinstance(made, RawObject):
        return made
    raise ValueError(
        f"{local} of the collector {collector!r} has no name in a bucket: it is no raw file of a lake, or the name "
        "in state/collector is not made of letters, digits and - alone"
    )


def parse(name: str) -> LakeObject | None:
    """What an object's name says, None where it is none of these."""
    if name.startswith(MANIFESTS):
        of = parse(name.removeprefix(MANIFESTS).removesuffix(".json")) if name.endswith(".json") else None
        return Manifest(of) if isinstance(of, RawObject | BarsObject) else None
    for pattern, make in _MADE_FROM:
        if match := pattern.fullmatch(name):
            day = _day_in(match)
            return make(match, day) if day is not None else None
    return None


def _raw(match: re.Match[str], day: str) -> RawObject | None:
    file = parse_raw_name(day, Path(match["file"]))
    if file is None or file.is_open or file.kind == "part":
        return None
    # A bucket has a million of these names after a year, of the same few words: each is held once.
    exchange, symbol, collector, name = map(intern, match.group("exchange", "symbol", "collector", "file"))
    return RawObject(exchange, symbol, intern(day), collector, name)


def _ledger(match: re.Match[str], day: str) -> LedgerSegment | None:
    if match["edition"] == "1":  # which is never written
        return None
    exchange, symbol, collector = match.group("exchange", "symbol", "collector")
    return LedgerSegment(
        exchange, symbol, day, collector, int(match["edition"] or 1), int(match["number"] or 0)
    )


def _bars(match: re.Match[str], day: str) -> BarsObject:
    return BarsObject(match["exchange"], match["symbol"], day)


def _verdicts(match: re.Match[str], day: str) -> VerdictsObject:
    return VerdictsObject(match["exchange"], match["symbol"], day, match["collector"])


def _report(match: re.Match[str], day: str) -> ReportObject:
    return ReportObject(match["exchange"], match["symbol"], day, match["collector"], match["suffix"])


_MADE_FROM: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], str], LakeObject | None]]]] = (
    (_RAW, _raw),
    (_LEDGER, _ledger),
    (_BARS, _bars),
    (_VERDICTS, _verdicts),
    (_REPORT, _report),
)


def _folders(day: str) -> str:
    year, month, day_of_month = day.split("-")
    return f"year={year}/month={month}/day={day_of_month}"


def _day_in(match: re.Match[str]) -> str | None:
    """The day that a name bears, None where there is no such day."""
    of = match.groupdict()
    text = of["day"] if "day" in of else f"{of['y']}-{of['m']}-{of['d']}"
    try:
        return text if date.fromisoformat(text).isoformat() == text else None
    except ValueError:
        return None
