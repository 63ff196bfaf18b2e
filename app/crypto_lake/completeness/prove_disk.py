"""`prove` on a data directory: raw, control records and healed files read whole, and the ledger held against them.

Takes no lock and changes nothing. The ledger is read first: what the collector adds meanwhile is in raw by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from crypto_lake.completeness.prove_range import ProveError, Range, range_of
from crypto_lake.completeness.prove_report import Disagreement, Proof, Watched
from crypto_lake.completeness.raw_order import day_in_order
from crypto_lake.completeness.replay import Replay
from crypto_lake.completeness.runs import FrameReader
from crypto_lake.completeness.watched import watched
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import deletions, envelope
from crypto_lake.lake.control import RestAnswer
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.raw_manifests import read_raw_manifest
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import NS_PER_SECOND, Stream

_GRACE_NS = 5 * NS_PER_SECOND  # of a process whose start is not among the records
OnFile = Callable[[str, int], None]


@dataclass
class _Reading:
    """What was read so far."""

    files: set[str] = field(default_factory=set[str])
    bytes: int = 0
    gone: set[str] = field(default_factory=set[str])  # healed files that were deleted here
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
    spans = range_of(layout, exchange, symbol, days, contents.lines)
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
        healed=_healed(layout, exchange, symbol, told, reading, on_file),
        answers=_answers(records, symbol),
        unplaced=fold.unplaced,
    )
    compared = compare(told, derived, others)
    disagreements += [Disagreement(path=name, line=n, problem=text) for n, text in compared.problems]
    proof = _proof(exchange, symbol, name, contents.lines, [*disagreements, *reading.bad], told)
    return msgspec.structs.replace(
        proof,
        first_hour=str(spans.first),
        last_hour=str(spans.last),
        to_come=compared.to_come,
        causes_not_compared=compared.unplaced,
        healed_files_gone=len(reading.gone),
        set_back=replay.set_back,
        raw_files=len(reading.files),
        raw_bytes=reading.bytes,
        quotes=_quotes(exchange, symbol, records, spans, begun=begun),
    )


def _until_day(spans: Range, told: Sequence[Told]) -> str:
    """Up to which day control records are read: an answer that a line rests on may have come long after its hour."""
    answered = (line.answer_ns for _, line in told if isinstance(line, Outcome | Quiet))
    return Hour.of_ns(max(spans.read[-1].end_ns, *answered, 0)).day


def _runs(
    layout: Layout, exchange: str, symbol: str, spans: Range, reading: _Reading, on_file: OnFile
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
    layout: Layout,
    exchange: str,
    symbol: str,
    told: Sequence[Told],
    reading: _Reading,
    on_file: OnFile,
) -> dict[str, IntervalSet]:
    """The ids of each healed file that these lines name and that is here, or was deleted here on purpose."""
    healed: dict[str, IntervalSet] = {}
    for name in sorted(
        {line.file for _, line in told if isinstance(line, Outcome) and line.outcome == "healed"}
    ):
        path = layout.root / name
        if not name.startswith("raw/"):
            continue
        if not path.is_file():
            gone = _gone(layout, exchange, symbol, path)
            if gone is not None:
                healed[name] = gone
                reading.gone.add(name)
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


def _gone(layout: Layout, exchange: str, symbol: str, path: Path) -> IntervalSet | None:
    """The ids of a healed file that was deleted here, by its manifest; None where it was not, or was another one.

    It is kept under the hour of its trades, so it may go while the hour in which they were missed is here.
    """
    record = deletions.read(layout, exchange, symbol, path.parent.name).get(
        str(path.relative_to(layout.root))
    )
    manifest = read_raw_manifest(layout, path)
    if record is None or manifest is None or manifest.sha256 != record.sha256:
        return None
    return IntervalSet(Interval(first, last) for first, last in manifest.id_runs)


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


def _quotes(exchange: str, symbol: str, records: Sequence[Happened], spans: Range, *, begun: bool) -> Watched:
    """`begun`: the lake began in this range, and not at its first hour's start."""
    stream = EXCHANGES[exchange].stream_name(symbol, Stream.BOOK_TICKER)
    times = [happened.received_ns for happened in records]
    since_ns = max(spans.first.start_ns, min(times, default=0) if begun else 0)
    until_ns = min(spans.last.end_ns, max(times, default=0))
    return watched(stream, processes(records), since_ns, until_ns)
