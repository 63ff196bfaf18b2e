"""Logging of the program: warnings to the console, everything of ours to a rotating file.

Only our own loggers reach the file below WARNING: a socket library at DEBUG writes a line for every frame.
"""

from __future__ import annotations

import fcntl
import json
import logging
import logging.handlers
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

OURS = "crypto_lake"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class KeyValueFormatter(logging.Formatter):
    """time=… level=… logger=… pid=… message="…", then what the call gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_value(value)}" for key, value in fields.items())


def _value(value: object) -> str:
    """Bare where it is one plain word, else quoted, so that a record is always one line."""
    text = str(value)
    plain = text and text.isprintable() and not any(c in ' "=\\' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


class ConsoleFormatter(logging.Formatter):
    """`crypto-lake: warning: …`, coloured on a terminal unless NO_COLOR is set."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        if self._colour and record.levelno >= logging.WARNING:
            level = f"\x1b[{31 if record.levelno >= logging.ERROR else 33}m{level}\x1b[0m"
        text = f"crypto-lake: {level}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f" ({type(error).__name__}: {error}; the log has the traceback)"
        return text


class SharedRotatingFileHandler(logging.handlers.RotatingFileHandler):
    """A rotating file that several processes write: `run`, its collector and its transformer.

    Each one notices when another has rotated, and a lock beside the file lets one rotate at a time. Lines are
    appended whole. What the standard handler does alone: each process renames under the other's feet, and
    files of the last rotations are lost.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow()
        except OSError:
            self.handleError(record)
            return
        super().emit(record)

    def doRollover(self) -> None:  # noqa: N802  # the standard library's name
        lock = os.open(f"{self.baseFilename}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._follow()
            if self.stream is None or os.fstat(self.stream.fileno()).st_size * 2 >= self.maxBytes:
                super().doRollover()
        finally:
            os.close(lock)

    def _follow(self) -> None:
        """Open the file anew where another process has moved ours away."""
        if self.stream is None:
            return
        if self.stream.closed:  # by a rollover that failed
            self.stream = self._open()
            return
        ours = os.fstat(self.stream.fileno())
        try:
            there = os.stat(self.baseFilename)  # noqa: PTH116  # the handler keeps it as text
            same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            same = False
        if not same:
            stream, self.stream = self.stream, None  # pyright: ignore[reportAttributeAccessIssue]
            with suppress(OSError):  # its last lines do not fit on the disk
                stream.close()
            self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk is told by the lake's status; a line that can't be logged must not end anything."""


def set_up(
    *,
    console: str,
    file: str,
    path: Path | None,
    file_bytes: int = 10 * 1024 * 1024,
    file_count: int = 5,
    stream: TextIO | None = None,
) -> str | None:
    """Set up logging once per process; again, it replaces what it set up before.

    Levels are names such as WARNING. A file that can't be opened (read-only root, no rights) is not an error:
    the reason is returned, and logged as a warning on the console.
    """
    shut_down()
    output: TextIO = stream if stream is not None else sys.stderr
    to_console = logging.StreamHandler(output)
    to_console.setLevel(console)
    to_console.setFormatter(ConsoleFormatter(colour=output.isatty() and not os.environ.get("NO_COLOR")))
    handlers: list[logging.Handler] = [to_console]
    problem = None
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            to_file = SharedRotatingFileHandler(
                path, maxBytes=file_bytes, backupCount=file_count, encoding="utf-8"
            )
            to_file.setLevel(file)
            to_file.setFormatter(KeyValueFormatter())
            handlers.append(to_file)
        except OSError as error:
            problem = f"no log file: {path}: {error.strerror}. Logging to the console alone"
    root = logging.getLogger()
    for handler in handlers:
        handler.set_name(OURS)
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(min(handler.level for handler in handlers))
    logging.captureWarnings(capture=True)
    if problem is not None:
        logging.getLogger(OURS).warning(problem)
    return problem


def set_levels(*, console: str, file: str) -> None:
    """Other levels for what `set_up` made; nothing where it made none."""
    ours = [handler for handler in logging.getLogger().handlers if handler.get_name() == OURS]
    for handler in ours:
        handler.setLevel(file if isinstance(handler, SharedRotatingFileHandler) else console)
    if ours:
        logging.getLogger(OURS).setLevel(min(handler.level for handler in ours))


def shut_down() -> None:
    """Close and take away what `set_up` made."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.get_name() == OURS]:
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()
    logging.captureWarnings(capture=False)
