"""The ledger's file: append-only, fsynced, each line chained to the one before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crypto_lake.completeness.entries import NO_PREVIOUS, AnyLine, Hole, Opened, Outcome, Seen
from crypto_lake.lake import durable
from crypto_lake.model.intervals import Interval, IntervalSet

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyLine] = msgspec.json.Decoder(AnyLine)


class BrokenLedgerError(ValueError):
    """A line of a ledger is not what the chain says; names the file and the first such line."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path, self.line = path, line
        super().__init__(f"ledger {path}, line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Contents:
    """A ledger as read. `torn`: bytes after the last whole line, left by a crash while it was written."""

    lines: list[AnyLine]
    tail_hash: str
    whole_bytes: int
    torn: bytes


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
    lines: list[AnyLine] = []
    previous = NO_PREVIOUS
    for number, encoded in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = _decoder.decode(encoded)
        except msgspec.MsgspecError as error:
            raise BrokenLedgerError(path, number, f"not a line of a ledger: {error}") from None
        if line.previous != previous:
            raise BrokenLedgerError(
                path, number, f"says the line before has the hash {line.previous}; it has {previous}"
            )
        if number == 1 and not isinstance(line, Opened):
            raise BrokenLedgerError(path, number, "the first line must be of the kind 'opened'")
        lines.append(line)
        previous = hash_of(encoded)
    return Contents(lines, previous, len(data) - len(torn), torn)


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

    def append(self, lines: list[AnyLine]) -> None:
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


def same_but_chain(one: AnyLine, other: AnyLine) -> bool:
    return msgspec.structs.replace(one, previous="") == msgspec.structs.replace(other, previous="")


@dataclass(frozen=True, slots=True)
class Account:
    """What a ledger says, summed up: ids seen, and holes that nothing has filled or explained."""

    seen: IntervalSet
    open_holes: IntervalSet
    holes: list[Hole]


def account(lines: Iterable[AnyLine]) -> Account:
    seen, open_holes, holes = IntervalSet(), IntervalSet(), list[Hole]()
    for line in lines:
        match line:
            case Seen():
                seen.add_interval(line.first_id, line.last_id)
            case Hole():
                holes.append(line)
                open_holes.add_interval(line.first_id, line.last_id)
            case Outcome():
                open_holes.remove(Interval(line.first_id, line.last_id))
            case Opened():
                pass
    return Account(seen, open_holes, holes)
