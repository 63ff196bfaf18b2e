"""`prove` on a data directory: raw, control records and healed files read whole, and the ledger held against them.

Takes no lock and changes nothing. The ledger is read first: what the collector adds meanwhile is in raw by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from crypto_lake.completeness import ledger
from crypto_lake.completeness.answers import decode_row
from crypto_lake.completeness.entries import Hole, Opened, Other, Outcome, Quiet, ReadLine, Seen
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.fold_state import Run
from crypto_lake.completeness.happened import CONNECTION_NS, Happened, processes, read_happened
from crypto_lake.completeness.ledger import BrokenLedgerError
from crypto_lake.completeness.prove import Derived, Told, compare, within
from crypto_lake.completeness.prove_report import Disagreement, Proof, Watched
from crypto_lake.completeness.raw_order import day_in_order
from crypto_lake.completeness.replay import Replay
from crypto_lake.completeness.runs import FrameReader
from crypto_lake.completeness.watched import watched
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import envelope
from crypto_lake.lake.control import RestAnswer
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout, RawFile, parse_raw_name
from crypto_lake.lake.raw_manifests import raw_manifest_paths
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import NS_PER_SECOND, Stream

_GRACE_NS = 5 * NS_PER_SECOND  # of a process whose start is not among the records
OnFile = Callable[[str, int], None]


class ProveError(RuntimeError):
    """It can't be proven; the message says why and what to do."""


@dataclass
class _Range:
    """Hours of receipt to prove, and of the raw that is read for it: one before, one after, where there are such."""

    first: Hour
    last: Hour
    read: list[Hour]


@dataclass
class _Reading:
    """What was read so far."""

    files: set[str] = field(default_factory=set[str])
    bytes: int = 0
    bad: list[Disagreement] = field(default_factory=list[Disagreement])


def prove(
    layout: Layout,
    exchange: str,
    symbol: str,
    days: tuple[str, str] | None = None,
    *,
    to_be_continued: bool = False,
    on_file: OnFile = lambda _name, _size: None,
) -> Proof:
    """`days`: first and last; None: all whose raw is here. `to_be_continued`: the ledger may end before its raw does.

    `on_file`: called with the name and size of each file before it is read. Raises ProveError.
    """
    path = layout.ledger(exchange, symbol)
    name = str(path.relative_to(layout.root))
    if not path.exists():
        raise ProveError(f"there is no {name} in {layout.root}; the collector writes it")
    on_file(name, path.stat().st_size)
    try:
        contents = ledger.read(path)
    except BrokenLedgerError as error:
        return _broken(exchange, symbol, name, error)
    spans = _range(layout, exchange, symbol, days, contents.lines)
    disagreements = _own(name, contents, exchange, symbol)
    chosen = within(contents.lines, str(spans.first), str(spans.last))
    told = [Told(at + 1, contents.lines[at]) for at in chosen]
    places = frozenset(chosen)
    others = [line for at, line in enumerate(contents.lines) if at not in places]
    known = [contents.lines[at] for at in within(contents.lines, "", str(spans.read[0].previous()))]

    begun = not any(isinstance(line, Seen | Hole) for line in known)
    since = None if begun else Hour.of_ns(max(0, spans.read[0].start_ns - CONNECTION_NS))
    records = read_happened(layout, exchange, since, _until_day(spans, told))
    all_processes = processes(records)
    fold = SymbolFold(_GRACE_NS)
    fold.take_up(known)
    replay = Replay(fold, symbol, EXCHANGES[exchange].stream_name(symbol, Stream.TRADE), all_processes)
    reading = _Reading()
    lines: list[ReadLine] = list(replay.trades(_runs(layout, exchange, symbol, spans, reading, on_file)))
    lines += replay.end()
    certain = len(lines)
    lines += fold.flush()
    wanted = within(lines, str(spans.first), str(spans.last))
    derived = Derived(
        [lines[at] for at in wanted if at < certain],
        [lines[at] for at in wanted if at >= certain],
        finished=bool(all_processes) and all_processes[-1].stopped and not to_be_continued,
        set_back=replay.set_back,
        healed=_healed(layout, told, reading, on_file),
        answers=_answers(records, symbol),
    )
    compared = compare(told, derived, others)
    disagreements += [Disagreement(path=name, line=n, problem=text) for n, text in compared.problems]
    proof = _proof(exchange, symbol, name, contents.lines, [*disagreements, *reading.bad], told)
    return msgspec.structs.replace(
        proof,
        first_hour=str(spans.first),
        last_hour=str(spans.last),
        to_come=compared.to_come,
        set_back=replay.set_back,
        raw_files=len(reading.files),
        raw_bytes=reading.bytes,
        quotes=_quotes(exchange, symbol, records, spans, begun=begun),
    )


def _range(
    layout: Layout, exchange: str, symbol: str, days: tuple[str, str] | None, lines: Sequence[ReadLine]
) -> _Range:
    """Raises ProveError where there is nothing to prove, or raw of it has gone.

    An hour of which the ledger says that trades came, and of which there is neither raw nor a manifest, is proven like
    the others: the ledger is wrong about it.
    """
    here, manifests = _hours(layout, exchange, symbol)
    said = {hour for line in lines if isinstance(line, Seen) and (hour := _parsed(line.hour)) is not None}
    gone = manifests - here
    if days is not None:
        chosen = sorted(hour for hour in here | gone | said if days[0] <= hour.day <= days[1])
    else:
        # From the latest hour on before which raw has gone.
        latest_gone = max(gone, default=None)
        chosen = sorted(hour for hour in here | said if latest_gone is None or hour > latest_gone)
    if not chosen:
        known = sorted(here | gone | said)
        there = f"it goes from {known[0]} to {known[-1]}" if known else "there is none at all"
        raise ProveError(f"no raw of {symbol} was received on these days: {there}")
    if missing := sorted(gone.intersection(chosen)):
        raise ProveError(
            f"{len(missing)} hours of raw of {symbol} are not here any more, the first is {missing[0]}: prove these "
            "days from the bucket (--bucket)"
        )
    first, last = chosen[0], chosen[-1]
    before = max((hour for hour in here if hour < first), default=first)
    after = min((hour for hour in here if hour > last), default=last)
    return _Range(first, last, sorted({before, after, *(hour for hour in here if first <= hour <= last)}))


def _parsed(text: str) -> Hour | None:
    """An hour of a ledger's line; None where it is none: such a line is wrong, and told to be."""
    try:
        return Hour.of_ns(int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) * NS_PER_SECOND)
    except ValueError:
        return None


def _until_day(spans: _Range, told: Sequence[Told]) -> str:
    """Up to which day control records are read: an answer that a line rests on may have come long after its hour."""
    answered = (line.answer_ns for _, line in told if isinstance(line, Outcome | Quiet))
    return Hour.of_ns(max(spans.read[-1].end_ns, *answered, 0)).day


def _hours(layout: Layout, exchange: str, symbol: str) -> tuple[set[Hour], set[Hour]]:
    """Hours of receipt of which raw is here, and of which there is a manifest."""
    here = {
        file.hour
        for day in layout.raw_days(exchange, symbol)
        for file in layout.raw_files(exchange, symbol, day)
        if file.kind != "healed"
    }
    found = (
        parse_raw_name(day, path)
        for day in layout.manifest_days(exchange, symbol)
        for path in raw_manifest_paths(layout, exchange, symbol, day)
    )
    return here, {file.hour for file in found if file is not None and file.kind == "hour"}


def _runs(
    layout: Layout, exchange: str, symbol: str, spans: _Range, reading: _Reading, on_file: OnFile
) -> Iterator[Run]:
    reader = FrameReader(EXCHANGES[exchange], symbol)
    hours = frozenset(spans.read)

    def open_file(file: RawFile) -> None:
        name = str(file.path.relative_to(layout.root))
        size = file.path.stat().st_size if file.path.exists() else 0
        reading.files.add(name)
        reading.bytes += size
        on_file(name, size)

    for day in sorted({hour.day for hour in hours}):
        for found in day_in_order(layout, exchange, symbol, day, lambda file: file.hour in hours, open_file):
            if not isinstance(found.frame, BadBytes):
                yield from reader.runs(found.frame.data)
            elif not found.file.is_open:
                reading.bad.append(_bad(layout, found.file.path, found.frame))


def _healed(
    layout: Layout, told: Sequence[Told], reading: _Reading, on_file: OnFile
) -> dict[str, IntervalSet]:
    """The ids of each healed file that these lines name and that is here."""
    healed: dict[str, IntervalSet] = {}
    for name in sorted(
        {line.file for _, line in told if isinstance(line, Outcome) and line.outcome == "healed"}
    ):
        path = layout.root / name
        if not name.startswith("raw/") or not path.is_file():
            continue
        size = path.stat().st_size
        reading.files.add(name)
        reading.bytes += size
        on_file(name, size)
        ids = healed[name] = IntervalSet()
        for frame in read_frames(path):
            if isinstance(frame, BadBytes):
                reading.bad.append(_bad(layout, path, frame))
                continue
            for interval in _ids_of_rows(frame.data):
                ids.add_interval(interval.first, interval.last)
    return healed


def _ids_of_rows(data: bytes) -> Iterator[Interval]:
    for line in data.splitlines():
        try:
            interval = decode_row(envelope.decode(line).message).interval()
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if interval is not None:
            yield interval


def _bad(layout: Layout, path: Path, bad: BadBytes) -> Disagreement:
    where = f"{bad.size} bytes from byte {bad.offset}"
    name = str(path.relative_to(layout.root))
    return Disagreement(path=name, problem=f"no frame decodes from {where}: {bad.reason}")


def _answers(records: Sequence[Happened], symbol: str) -> dict[int, RestAnswer]:
    return {
        happened.received_ns: happened.event
        for happened in records
        if isinstance(happened.event, RestAnswer) and happened.event.symbol == symbol
    }


def _own(name: str, contents: ledger.Contents, exchange: str, symbol: str) -> list[Disagreement]:
    """What is wrong with the ledger by itself, beside its chain."""
    found: list[Disagreement] = []
    first = contents.lines[0] if contents.lines else None
    if isinstance(first, Opened) and (first.exchange, first.symbol) != (exchange, symbol):
        found.append(Disagreement(path=name, line=1, problem=f"is of {first.exchange} {first.symbol}"))
    # The hash in the next line vouches for each line but the last.
    if contents.lines and not contents.last_is_as_written:
        problem = "is not written as the collector writes it"
        found.append(Disagreement(path=name, line=len(contents.lines), problem=problem))
    return found


def _broken(exchange: str, symbol: str, name: str, error: BrokenLedgerError) -> Proof:
    problem = Disagreement(path=name, line=error.line, problem=error.problem)
    return _proof(exchange, symbol, name, [], [problem])


def _proof(
    exchange: str,
    symbol: str,
    name: str,
    lines: Sequence[ReadLine],
    disagreements: list[Disagreement],
    told: Sequence[Told] = (),
) -> Proof:
    compared = [line for _, line in told]
    account = ledger.account(compared)
    first = lines[0] if lines else None
    return Proof(
        exchange=exchange,
        symbol=symbol,
        collector=first.collector if isinstance(first, Opened) else "",
        ledger=name,
        first_hour="",
        last_hour="",
        lines=len(told),
        trades_seen=account.seen.count(),
        holes=len(account.holes),
        ids_missed=sum(hole.last_id - hole.first_id + 1 for hole in account.holes),
        ids_received_late=account.received_late.count(),
        ids_healed=account.healed.count(),
        ids_never_existed=account.never_existed.count(),
        ids_unavailable=account.unavailable.count(),
        to_come=0,
        later_lines=sum(isinstance(line, Other) for line in compared),
        set_back=False,
        raw_files=0,
        raw_bytes=0,
        quotes=None,
        disagreements=disagreements,
    )


def _quotes(
    exchange: str, symbol: str, records: Sequence[Happened], spans: _Range, *, begun: bool
) -> Watched:
    """`begun`: the lake began in this range, and not at its first hour's start."""
    stream = EXCHANGES[exchange].stream_name(symbol, Stream.BOOK_TICKER)
    times = [happened.received_ns for happened in records]
    since_ns = max(spans.first.start_ns, min(times, default=0) if begun else 0)
    until_ns = min(spans.last.end_ns, max(times, default=0))
    return watched(stream, processes(records), since_ns, until_ns)
