"""What a ledger says of its end, as it is written and as it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.completeness.entries import (
    NO_PREVIOUS,
    AnyLine,
    Ended,
    Opened,
    Outcome,
    Quiet,
    Resumed,
    Seen,
)
from crypto_lake.completeness.entries import decode_line as decode
from crypto_lake.completeness.ledger import encode_chain, ended_ns, has_ended
from crypto_lake.completeness.recovery import unended
from crypto_lake.lake.layout import Layout

OPENED = Opened(exchange="binance", symbol="BTCUSDT", collector="c-1")
SEEN = Seen(hour="2024-08-08T13", first_id=1, last_id=9, first_time_us=1, last_time_us=2)
LATE = Outcome(first_id=3, last_id=3, action="none", outcome="received_late")
QUIET = Quiet(last_id=9, from_ns=1, until_ns=2)
ENDED, RESUMED = Ended(ended_ns=5), Resumed(resumed_ns=6)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (ENDED, b'{"kind":"ended","previous":"%s","ended_ns":5}'),
        (RESUMED, b'{"kind":"resumed","previous":"%s","resumed_ns":6}'),
    ],
)
def test_the_lines_are_written_as_the_docs_say(line: AnyLine, written: bytes) -> None:
    encoded = written % NO_PREVIOUS.encode()
    assert encode_chain([line], NO_PREVIOUS)[0] == encoded + b"\n"
    assert decode(encoded) == line


ENDS: list[tuple[list[AnyLine], int | None]] = [
    ([], None),
    ([OPENED], None),
    ([OPENED, SEEN], None),
    ([OPENED, SEEN, ENDED], 5),
    ([OPENED, ENDED, LATE], 5),
    ([OPENED, ENDED, QUIET], 5),
    ([OPENED, ENDED, RESUMED], None),
    ([OPENED, ENDED, SEEN], None),
    ([ENDED, RESUMED, Ended(ended_ns=9)], 9),
]


@pytest.mark.parametrize(("lines", "at_ns"), ENDS)
def test_the_last_line_that_tells_counts(lines: list[AnyLine], at_ns: int | None) -> None:
    assert ended_ns(lines) == at_ns


@pytest.mark.parametrize("torn", [b"", b'{"kind":"seen","hour":"2024-08-0'])
def test_the_end_is_found_without_reading_the_ledger(tmp_path: Path, torn: bytes) -> None:
    layout = Layout(tmp_path)
    assert unended(layout, "binance") == []
    for name, lines in {
        "A": [OPENED],
        "B": [OPENED, *[SEEN] * 100, ENDED],
        "C": [OPENED, ENDED, RESUMED],
        "D": [OPENED, ENDED, LATE],  # has to be read: so much is promised
    }.items():
        path = layout.ledger("binance", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_chain(lines, NO_PREVIOUS)[0] + torn)
        assert has_ended(path) is (name == "B")
    layout.ledger("binance", "E").write_bytes(b"")
    assert unended(layout, "binance") == ["A", "C", "D", "E"]
