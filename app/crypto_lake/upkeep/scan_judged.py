"""Verdicts and reports that lie in a data directory: plain facts, and which of them the bucket has as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.names import ReportObject, VerdictsObject
from crypto_lake.upkeep.scan import SymbolDay

if TYPE_CHECKING:  # it brings polars, which an upload that has nothing of this to do goes without
    from crypto_lake.completeness.verdict_table import CheckedHour

# As long after its end as publish waits for a day: what no check has finished by then, it will not.
FINISHED_AT_LATEST_NS: Final = 48 * 3600 * 10**9
_HOUR_SECONDS: Final = 3600
Kind = Literal["verdicts", "report"]


@dataclass(frozen=True, slots=True)
class JudgedFact:
    """A file of verdicts, or one of a report's two forms. `path`: relative to the data directory."""

    of: SymbolDay
    kind: Kind
    path: str
    bytes: int
    modified_ns: int

    def name(self, collector: str) -> str:
        """Its object's."""
        at = (self.of.exchange, self.of.symbol, self.of.day, collector)
        if self.kind == "verdicts":
            return VerdictsObject(*at).name
        return ReportObject(*at, self.path.rpartition(".")[2]).name

    def is_recorded(self, record: UploadRecord | None) -> bool:
        """Whether it is the file that was recorded as uploaded, by what is known without reading it."""
        return record is not None and (record.bytes, record.modified_ns) == (self.bytes, self.modified_ns)


def judged_days(layout: Layout) -> list[SymbolDay]:
    """Days of which verdicts or a report are here, the oldest first."""
    return [SymbolDay(*at) for at in layout.judged_days()]


def judged_paths(layout: Layout, at: SymbolDay) -> tuple[Path, Path, Path]:
    """Where a day's verdicts and both forms of its report are, or would be."""
    of = (at.exchange, at.symbol, at.day)
    return layout.verdicts(*of), layout.report(*of, "md"), layout.report(*of, "json")


def judged_facts(layout: Layout, at: SymbolDay) -> Iterator[JudgedFact]:
    """Verdicts first. A file that goes while it is looked at is left out."""
    kinds: tuple[Kind, Kind, Kind] = ("verdicts", "report", "report")
    for kind, path in zip(kinds, judged_paths(layout, at), strict=True):
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue
        yield JudgedFact(at, kind, str(path.relative_to(layout.root)), seen.st_size, seen.st_mtime_ns)


def is_finished(day: str, hours: Mapping[int, CheckedHour] | None, now_ns: int) -> bool:
    """Whether a day's verdicts will stay as they are unless its bars change: every hour that has to be judged was, to the
    day's end. `hours`: by Unix hour, None where there are no verdicts. Two days after its end it is as finished as it gets.
    """
    end_ns = Hour(day, 23).end_ns
    if now_ns < end_ns:
        return False
    if now_ns >= end_ns + FINISHED_AT_LATEST_NS:
        return True
    end = end_ns // 10**9
    last = end // _HOUR_SECONDS - 1
    if not hours or last not in hours or hours[last].until != end:
        return False
    return len(hours) == last - min(hours) + 1
