"""What a bar was made of: its trades and quotes, the raw lines they came from, and their sum once more.

The lines are read by the program's own reader; they are added up by plain integers (`explanation`), one trade after the
other, and by nothing that made the bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from crypto_lake.bars.columns import AGGREGATE, ARCHIVE, REST, STREAMED
from crypto_lake.bars.day_file import read_day
from crypto_lake.bars.each import parse_each
from crypto_lake.bars.explanation import SCHEMA, Explanation, LineTold, QuoteTold, TradeTold, fields_of
from crypto_lake.bars.rows import HOUR_SECONDS
from crypto_lake.bars.template import Template
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.manifests import read_bars_manifest, read_raw_index
from crypto_lake.lake.raw_manifests import raw_inputs
from crypto_lake.model.clock import Hour
from crypto_lake.model.decimals import format_e8, quote_volume_e8
from crypto_lake.model.market import NS_PER_SECOND, Stream

_SOURCES: Final = {STREAMED: "stream", REST: "historicalTrades", ARCHIVE: "archive", AGGREGATE: "aggTrades"}


@dataclass
class _Read:
    """Lines that concern the second, and the greatest update id of the quotes before it."""

    texts: list[bytes] = field(default_factory=list[bytes])
    places: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    greatest_u: int = -1
    files: list[str] = field(default_factory=list[str])


def explain(layout: Layout, exchange: str, symbol: str, second: int) -> Explanation:
    """Of one bar, by its Unix second. Raises OSError where a file can't be read."""
    name = EXCHANGES[exchange].stream_name
    template = Template(
        symbol, *(name(symbol, kind) for kind in (Stream.TRADE, Stream.BOOK_TICKER, Stream.KLINE))
    )
    day = Hour.of_ns(second * NS_PER_SECOND).day
    path = layout.bars(exchange, symbol, day)
    bar = _bar(layout, exchange, symbol, day, second)
    read = _read(layout, exchange, symbol, second, template)
    parsed = parse_each(read.texts, list(range(len(read.texts))), len(read.texts), template)

    def line(place: int, received_ns: int, connection: str, source: int) -> LineTold:
        file, frame, number = read.places[place]
        return LineTold(file, frame, number, received_ns, connection, _SOURCES[source])

    trades = _trades(
        [row for row in parsed.trades.iter_rows(named=True) if row["time_us"] // 10**6 == second], line
    )
    quotes = _quotes(
        [row for row in parsed.quotes.iter_rows(named=True) if row["received_ns"] // NS_PER_SECOND == second],
        read.greatest_u,
        line,
    )
    missing = _missing(layout, path, second)
    return Explanation(
        schema=SCHEMA,
        exchange=exchange,
        symbol=symbol,
        second=datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        bars_file=str(path.relative_to(layout.root)),
        bar=bar,
        trades=trades,
        quotes=quotes,
        fields=[] if bar is None or missing else fields_of(bar, trades, quotes),
        missing=missing,
        files_read=read.files,
    )


def _bar(layout: Layout, exchange: str, symbol: str, day: str, second: int) -> dict[str, str | None] | None:
    read = read_day(layout, exchange, symbol, day)
    if read is None:
        return None
    for row in read[0].filter(read[0]["window_start"].dt.epoch("s") == second).iter_rows(named=True):
        return {
            key: None
            if value is None
            else format(value, "f")
            if not isinstance(value, str | int)
            else str(value)
            for key, value in row.items()
            if key != "window_start"
        }
    return None


def _missing(layout: Layout, path: Path, second: int) -> list[str]:
    """Files that the bar's hour was made of and that are not here, nor what took their place."""
    manifest = read_bars_manifest(layout, path)
    hour = manifest.hours.get(second // HOUR_SECONDS) if manifest is not None else None
    if manifest is None or hour is None:
        return []
    sealed = {
        file.hour
        for day in _days_around(second)
        for file in layout.raw_files(manifest.exchange, manifest.symbol, day)
        if file.kind == "hour"
    }
    gone: list[str] = []
    for name in hour.inputs:  # a day's folder and a name
        day, _, file_name = name.rpartition("/")
        file = layout.raw_day(manifest.exchange, manifest.symbol, day) / file_name
        if not file.exists() and not _is_sealed(file, sealed):
            gone.append(str(file.relative_to(layout.root)))
    return gone


def _is_sealed(part: Path, sealed: set[Hour]) -> bool:
    name = part.name
    return name.startswith("part_") and Hour(part.parent.name, int(name[5:7])) in sealed


def _days_around(second: int) -> list[str]:
    at = datetime.fromtimestamp(second, UTC)
    return [(at + timedelta(days=n)).strftime("%Y-%m-%d") for n in (-1, 0, 1)]


def _read(layout: Layout, exchange: str, symbol: str, second: int, template: Template) -> _Read:
    """From every raw file that may hold lines of the second."""
    read = _Read()
    hour = second // HOUR_SECONDS
    # Times are in milliseconds or microseconds: either way they begin with the second.
    traded = tuple(b"%s%d" % (key, second) for key in (b'"T":', b'"time":'))
    quoted = template.quote_stream.encode()
    begin, start_ns = len(b'{"received_ns":'), hour * HOUR_SECONDS * NS_PER_SECOND
    from_ns, to_ns = second * NS_PER_SECOND, (second + 1) * NS_PER_SECOND
    for file in _candidates(layout, exchange, symbol, second):
        name = str(file.path.relative_to(layout.root))
        read.files.append(name)
        for frame, number, text in _lines(file.path):
            if any(needle in text for needle in traded):
                read.texts.append(text)
                read.places.append((name, frame, number))
            elif quoted in text and text[begin : begin + 19].isdigit():
                received_ns = int(text[begin : begin + 19])
                if from_ns <= received_ns < to_ns:
                    read.texts.append(text)
                    read.places.append((name, frame, number))
                elif start_ns <= received_ns < from_ns:
                    read.greatest_u = max(read.greatest_u, _update_id(text))
    manifest = read_bars_manifest(layout, layout.bars(exchange, symbol, Hour.of_ns(from_ns).day))
    before = manifest.hours.get(hour - 1) if manifest is not None else None
    if before is not None:
        read.greatest_u = max(read.greatest_u, before.max_u)
    return read


def _update_id(text: bytes) -> int:
    digits = text.partition(b'"u":')[2].partition(b",")[0]
    return int(digits) if digits.isdigit() else -1


def _candidates(layout: Layout, exchange: str, symbol: str, second: int) -> Iterator[RawFile]:
    """Files that are known to hold something of the hour, and those of which nothing is known."""
    hour = second // HOUR_SECONDS
    for day in _days_around(second):
        index = read_raw_index(layout, exchange, symbol, day)
        for file in raw_inputs(layout, exchange, symbol, day):
            known = index.get(file.path.name)
            if known is None or hour in known.trade_hours or hour in known.quote_hours:
                yield file


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number of the frame and of the line, both from 1, and the line."""
    number = 0
    for at, frame in enumerate(read_frames(path), start=1):
        if isinstance(frame, BadBytes):
            continue
        for text in frame.data.split(b"\n"):
            if text:
                number += 1
                yield at, number, text


def _trades(rows: list[dict[str, Any]], line: Any) -> list[TradeTold]:
    """Each id once, as the bars take it: streamed before fetched. Of aggregates, what is not known trade by trade."""
    by_id: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    chosen: dict[int, dict[str, Any]] = {}
    for id_, copies in by_id.items():
        copies.sort(
            key=lambda c: (
                c["source"],
                -c["size"] if c["source"] == AGGREGATE else 0,
                c["time_us"],
                c["price"],
                c["size"],
                c["buyer_is_maker"],
            )
        )
        chosen[id_] = dict(copies[0])
    _share_aggregates(by_id, chosen)
    told: list[TradeTold] = []
    for id_ in sorted(chosen):
        row = chosen[id_]
        told.append(
            TradeTold(
                id_,
                row["time_us"],
                format_e8(row["price"]),
                format_e8(row["size"]),
                format_e8(quote_volume_e8(row["price"], row["size"])),
                "sells" if row["buyer_is_maker"] else "buys",
                [line(c["file"], c["received_ns"], c["connection"], c["source"]) for c in by_id[id_]],
            )
        )
    return told


def _share_aggregates(by_id: dict[int, list[dict[str, Any]]], chosen: dict[int, dict[str, Any]]) -> None:
    """Of each aggregate, its first trade that nothing else tells bears what is left of its size, the others nothing."""
    left, bearer = 0, None
    for id_ in sorted(by_id):
        aggregate = [c for c in by_id[id_] if c["source"] == AGGREGATE]
        if not aggregate:
            continue
        size = max(c["size"] for c in aggregate)
        if size >= 0:  # another aggregate begins
            left, bearer = size, None
        row = chosen[id_]
        if row["source"] != AGGREGATE:
            left -= row["size"]
        else:
            row["size"] = 0
            bearer = bearer if bearer is not None else row
        if bearer is not None:
            bearer["size"] = max(0, left)


def _quotes(rows: list[dict[str, Any]], greatest_u: int, line: Any) -> list[QuoteTold]:
    told: list[QuoteTold] = []
    for row in sorted(rows, key=lambda r: (r["received_ns"], r["u"], r["connection"])):
        counted = row["u"] > greatest_u
        greatest_u = max(greatest_u, row["u"])
        told.append(
            QuoteTold(
                update_id=row["u"],
                bid=format_e8(row["bid"]),
                bid_size=format_e8(row["bid_size"]),
                ask=format_e8(row["ask"]),
                ask_size=format_e8(row["ask_size"]),
                counted=counted,
                line=line(row["file"], row["received_ns"], row["connection"], STREAMED),
            )
        )
    return told
