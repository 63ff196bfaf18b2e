"""The ledger's file: append-only, fsynced, each line chained to the one before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crypto_lake.completeness.entries import (
    NO_PREVIOUS,
    TELLING,
    AnyLine,
    Ended,
    Hole,
    Opened,
    Other,
    Outcome,
    ReadLine,
    Seen,
    decode_line,
)
from crypto_lake.lake import durable
from crypto_lake.model.intervals import Interval, IntervalSet

_encoder = msgspec.json.Encoder()
_LAST_BYTES = 4096  # more than an `ended` line has, with a torn one after it


class BrokenLedgerError(ValueError):
    """A line of a ledger is not what the chain says; names the file and the first such line."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path, self.line, self.problem = path, line, problem
        super().__init__(f"ledger {path}, line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Contents:
    """A ledger as read. `last`: the bytes of the last whole line, without its newline.

    `torn`: bytes after it, left by a crash while they were written.
    """

    lines: list[ReadLine]
    tail_hash: str
    whole_bytes: int
    torn: bytes
    last: bytes = b""

    @property
    def last_is_as_written(self) -> bool:
        """Whether the last line holds no byte that means nothing: of the others the chain tells."""
        if not self.lines or isinstance(self.lines[-1], Other):
            return True
        said = msgspec.json.decode(self.last)
        # An earlier version may have written fewer fields.
        known = msgspec.json.decode(_encoder.encode(self.lines[-1]))
        return _encoder.encode(said) == self.last and said.items() <= known.items()


def hash_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def encode_chain(lines: Iterable[AnyLine], previous: str) -> tuple[bytes, str]:
    """The lines as bytes, chained on from the hash `previous`; and the hash of the last."""
    out = bytearray()
    for line in lines:
        encoded = _encoder.encode(msgspec.structs.replace(line, previous=previous))
        out += encoded + b"\n"
        previous = hash_of(encoded)
    return bytes(out), previous


def read(path: Path) -> Contents:
    """Read and verify a ledger. A missing file reads as an empty one.

    A torn last line is not an error (it was never acknowledged); anything else that does not fit is, and
    raises BrokenLedgerError with the number of the first line that disagrees (from 1).
    """
    data = path.read_bytes() if path.exists() else b""
    whole, _, torn = data.rpartition(b"\n")
    lines: list[ReadLine] = []
    previous = NO_PREVIOUS
    for number, encoded in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = decode_line(encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BrokenLedgerError(path, number, f"not a line of a ledger: {error}") from None
        if line.previous != previous:
            raise BrokenLedgerError(
                path, number, f"says the line before has the hash {line.previous}; it has {previous}"
            )
        if number == 1 and not isinstance(line, Opened):
            raise BrokenLedgerError(path, number, "the first line must be of the kind 'opened'")
        lines.append(line)
        previous = hash_of(encoded)
    return Contents(lines, previous, len(data) - len(torn), torn, whole.rpartition(b"\n")[2])


class LedgerFile:
    """A ledger opened to append. One writer only: the holder of the lock `capture`."""

    def __init__(self, path: Path, tail_hash: str, whole_bytes: int) -> None:
        self.path = path
        self.tail_hash = tail_hash
        self._whole_bytes = whole_bytes
        self._uncertain = False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @classmethod
    def open(cls, path: Path, exchange: str, symbol: str, collector: str) -> tuple[LedgerFile, Contents]:
        """Open or begin a ledger; a torn last line is cut off (it is in the returned contents)."""
        contents = read(path)
        if contents.torn:
            with path.open("r+b") as file:
                file.truncate(contents.whole_bytes)
                os.fsync(file.fileno())
        if not contents.lines:
            opened = Opened(exchange=exchange, symbol=symbol, collector=collector)
            first, tail_hash = encode_chain([opened], NO_PREVIOUS)
            durable.write(path, first)
            contents = Contents([opened], tail_hash, len(first), contents.torn)
        return cls(path, contents.tail_hash, contents.whole_bytes), contents

    def append(self, lines: Sequence[AnyLine]) -> None:
        """Add the lines; they last when this returns.

        After an OSError none of them counts as added, and this may be called again with them: what of them reached
        the file is unknown, and is cut off first.
        """
        if not lines:
            return
        data, tail_hash = encode_chain(lines, self.tail_hash)
        if self._uncertain:
            os.ftruncate(self._descriptor, self._whole_bytes)
        self._uncertain = True
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fdatasync(self._descriptor)
        self._uncertain = False
        self.tail_hash = tail_hash
        self._whole_bytes += len(data)

    def close(self) -> None:
        os.close(self._descriptor)


def same_but_chain(one: ReadLine, other: ReadLine) -> bool:
    return msgspec.structs.replace(one, previous="") == msgspec.structs.replace(other, previous="")


def ended_ns(lines: Iterable[ReadLine]) -> int | None:
    """When the symbol ended, by the last of these lines that tells; None: it is received, or none of them tells."""
    ended: int | None = None
    for line in lines:
        if isinstance(line, TELLING):
            ended = line.ended_ns if isinstance(line, Ended) else None
    return ended


def has_ended(path: Path) -> bool:
    """Whether a ledger's last line says that nothing is received any more. Reads its end alone.

    Of one that something was added to after that, such as an outcome, it is not found: then it has to be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
        last = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    try:
        return isinstance(decode_line(last), Ended)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


@dataclass(frozen=True, slots=True)
class Account:
    """What a ledger says, summed up.

    `open_holes`: ids that nothing has filled or explained. Of ids with several outcomes the last counts: no two of the
    outcomes have an id in common. What came late is in `seen`, too.
    """

    seen: IntervalSet
    open_holes: IntervalSet
    holes: list[Hole]
    healed: IntervalSet
    never_existed: IntervalSet
    unavailable: IntervalSet
    received_late: IntervalSet


def account(lines: Iterable[ReadLine]) -> Account:
    told = Account(
        IntervalSet(), IntervalSet(), [], IntervalSet(), IntervalSet(), IntervalSet(), IntervalSet()
    )
    settled = {
        "healed": told.healed,
        "never_existed": told.never_existed,
        "unavailable": told.unavailable,
        "received_late": told.received_late,
    }
    for line in lines:
        match line:
            case Seen():
                told.seen.add_interval(line.first_id, line.last_id)
            case Hole():
                told.holes.append(line)
                told.open_holes.add_interval(line.first_id, line.last_id)
            case Outcome():
                ids = Interval(line.first_id, line.last_id)
                told.open_holes.remove(ids)
                for ids_of in settled.values():
                    ids_of.remove(ids)
                if line.outcome in settled:
                    settled[line.outcome].add_interval(ids.first, ids.last)
            case _:
                pass
    return told
