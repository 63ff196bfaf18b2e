"""Lines of earlier and of later versions are read, and a chain holds over both."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from crypto_lake.completeness.entries import (
    NO_PREVIOUS,
    Hole,
    Opened,
    Other,
    Outcome,
    Quiet,
    Seen,
    decode_line,
)
from crypto_lake.completeness.ledger import (
    BrokenLedgerError,
    LedgerFile,
    account,
    encode_chain,
    hash_of,
    read,
)

# As the first version wrote them, to the byte.
FIRST_VERSION = (
    b'{"kind":"opened","previous":"%s","schema":1,"exchange":"binance","symbol":"BTCUSDT","collector":"here-1"}',
    b'{"kind":"seen","previous":"%s","hour":"2024-08-08T13","first_id":1,"last_id":9,"first_time_us":1,"last_time_us":2}',
    b'{"kind":"hole","previous":"%s","first_id":10,"last_id":14,"after_time_us":2,"before_time_us":3,"found_ns":4,'
    b'"cause":"disconnect"}',
    b'{"kind":"outcome","previous":"%s","first_id":10,"last_id":11,"action":"none","outcome":"received_late",'
    b'"file":"","reason":""}',
)
LATER = (
    b'{"kind":"hole","previous":"%s","first_id":20,"last_id":21,"after_time_us":2,"before_time_us":3,"found_ns":4,'
    b'"cause":"earthquake","magnitude":7}',
    b'{"kind":"sealed_by","previous":"%s","notary":"x"}',
    b'{"kind":"outcome","previous":"%s","first_id":20,"last_id":20,"action":"oracle","outcome":"dreamt"}',
)


def chained(*lines: bytes) -> bytes:
    out, previous = b"", NO_PREVIOUS.encode()
    for line in lines:
        made = line % previous
        out += made + b"\n"
        previous = hash_of(made).encode()
    return out


def test_a_ledger_of_the_first_version_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.jsonl"
    path.write_bytes(chained(*FIRST_VERSION))
    file, contents = LedgerFile.open(path, "binance", "BTCUSDT", "here-1")
    assert [type(line) for line in contents.lines] == [Opened, Seen, Hole, Outcome]
    assert contents.last_is_as_written
    file.append(
        [Outcome(first_id=12, last_id=14, action="archive", outcome="healed", file="raw/x", answer_ns=5)]
    )
    file.append([Quiet(last_id=9, from_ns=1, until_ns=2, answer_ns=3)])
    file.close()
    told = account(read(path).lines)
    assert [(i.first, i.last) for i in told.healed] == [(12, 14)]
    assert (told.received_late.count(), list(told.open_holes)) == (2, [])


def test_what_later_versions_add_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.jsonl"
    path.write_bytes(chained(*FIRST_VERSION, *LATER))
    file, contents = LedgerFile.open(path, "binance", "BTCUSDT", "here-1")
    assert [type(line) for line in contents.lines[4:]] == [Hole, Other, Outcome]
    file.append(
        [Hole(first_id=30, last_id=30, after_time_us=2, before_time_us=3, found_ns=4, cause="restart")]
    )
    file.close()
    told = account(read(path).lines)
    # What has an outcome, of whatever name, is not open any more.
    assert [(i.first, i.last) for i in told.open_holes] == [(12, 14), (21, 21), (30, 30)]


def test_a_kind_that_is_known_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        decode_line(b'{"kind":"seen","previous":"x"}')
    path = tmp_path / "BTCUSDT.jsonl"
    path.write_bytes(chained(FIRST_VERSION[0], b'{"kind":"seen","previous":"%s"}'))
    with pytest.raises(BrokenLedgerError, match="line 2"):
        read(path)


def test_the_last_of_several_outcomes_counts() -> None:
    def line(outcome: str, first_id: int, last_id: int) -> Outcome:
        return Outcome(first_id=first_id, last_id=last_id, action="archive", outcome=outcome)

    told = account([line("unavailable", 1, 9), line("healed", 3, 4), line("never_existed", 5, 5)])
    assert [(i.first, i.last) for i in told.unavailable] == [(1, 2), (6, 9)]
    assert [(i.first, i.last) for i in told.healed] == [(3, 4)]
    assert [(i.first, i.last) for i in told.never_existed] == [(5, 5)]


def test_a_last_line_with_bytes_that_mean_nothing_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.jsonl"
    data, _ = encode_chain([Opened(exchange="binance", symbol="BTCUSDT", collector="c")], NO_PREVIOUS)
    path.write_bytes(data)
    assert read(path).last_is_as_written
    for changed in (data.replace(b'{"kind"', b'{ "kind"'), data.replace(b'"schema"', b'"schems"')):
        path.write_bytes(changed)
        assert not read(path).last_is_as_written
