"""What became of a task that has no volume to leave it on: a line that its container leaves as its last words.

Whoever starts the task says where (`--outcome`); in Kubernetes it is the container's termination message, which the
operator reads in the pod's status.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crypto_lake.model.copies import PublishedCopies

SCHEMA: Final = 1
# Kubernetes keeps 4096 bytes of a termination message; a letter may take four of them, and six in JSON.
LONGEST_PROBLEM: Final = 500


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """problem: for a person, empty where all went well. last_published_day, copies: of `publish`, see its report."""

    schema: int = SCHEMA
    task: str
    ok: bool
    problem: str = ""
    last_published_day: str | None = None
    copies: PublishedCopies | None = None


_decode = msgspec.json.Decoder(TaskOutcome).decode


def encode(outcome: TaskOutcome) -> bytes:
    """One line of JSON, short enough for a termination message."""
    problem = " ".join(outcome.problem.split())
    if len(problem) > LONGEST_PROBLEM:
        problem = problem[: LONGEST_PROBLEM - 1] + "…"
    return msgspec.json.encode(msgspec.structs.replace(outcome, problem=problem)) + b"\n"


def decode(text: str | bytes) -> TaskOutcome | None:
    """None where it is no outcome that this version knows: a log's end, or nothing."""
    try:
        found = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.schema == SCHEMA else None
