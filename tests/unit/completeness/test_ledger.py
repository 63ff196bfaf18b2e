from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness.entries import Hole, Opened, Seen
from crypto_lake.completeness.ledger import BrokenLedgerError, LedgerFile, account, read

SEEN = Seen(hour="2024-08-08T13", first_id=1, last_id=9, first_time_us=1, last_time_us=2)
HOLE = Hole(first_id=10, last_id=11, after_time_us=2, before_time_us=3, found_ns=4, cause="disconnect")


def written(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    file, contents = LedgerFile.open(path, "binance", "BTCUSDT", "here-1")
    assert [type(line) for line in contents.lines] == [Opened]
    file.append([SEEN])
    file.append([HOLE, SEEN])
    file.close()
    return path.read_bytes()


def test_a_ledger_reads_back_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.jsonl"
    written(path)
    file, contents = LedgerFile.open(path, "binance", "BTCUSDT", "other")
    assert [type(line) for line in contents.lines] == [Opened, Seen, Hole, Seen]
    assert isinstance(contents.lines[0], Opened)
    assert contents.lines[0].collector == "here-1"
    file.append([HOLE])
    file.close()
    assert len(read(path).lines) == 5
    assert list(account(read(path).lines).open_holes) == list(account([HOLE]).open_holes)


@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_byte_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "BTCUSDT.jsonl"
    whole = written(path)
    # The last line's own content is vouched for by the line that will follow; its form is checked.
    at = data.draw(st.integers(0, whole.rindex(b"\n", 0, -1)))
    changed = bytearray(whole)
    changed[at] ^= 1 << data.draw(st.integers(0, 6))
    path.write_bytes(bytes(changed))
    line = whole.count(b"\n", 0, at) + 1
    with pytest.raises(BrokenLedgerError) as caught:
        read(path)
    assert caught.value.line in (line, line + 1)


def test_a_line_taken_out_is_found(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.jsonl"
    lines = written(path).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(BrokenLedgerError, match="line 2"):
        read(path)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(BrokenLedgerError, match="line 1"):
        read(path)


@given(data=st.data())
@settings(max_examples=60)
def test_a_torn_last_line_is_cut_and_kept_aside(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "BTCUSDT.jsonl"
    whole = written(path)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    file, contents = LedgerFile.open(path, "binance", "BTCUSDT", "here-1")
    file.append([HOLE])
    file.close()
    assert contents.torn == whole[:cut].rpartition(b"\n")[2]
    kept = whole[:cut].count(b"\n")
    assert len(read(path).lines) == max(kept, 1) + 1
