"""What a collector says at /status, as far as the operator needs it.

Fields that a collector does not give (an older one, a younger one) have defaults that claim nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Reason(msgspec.Struct, frozen=True):
    code: str
    message: str = ""
    do: str = ""


class Latency(msgspec.Struct, frozen=True):
    p95_ms: float = 0.0


class Stream(msgspec.Struct, frozen=True):
    """live: acknowledged, on a live connection; None: an older collector does not say."""

    symbol: str
    last_received_ns: int = 0
    latency: Latency | None = None
    live: bool | None = None


class Symbol(msgspec.Struct, frozen=True):
    symbol: str
    holes_open: int = 0
    holes_total: int = 0
    ids_missing: int = 0


class Connection(msgspec.Struct, frozen=True):
    state: str
    streams: int = 0


class Task(msgspec.Struct, frozen=True):
    """Of lake/tasks.py. Times are Unix ns. ended_ns: 0 while it runs; the others are then still the run's before.
    note: what is worth knowing of a run that went well.
    """

    started_ns: int = 0
    ended_ns: int = 0
    ok: bool = False
    problem: str = ""
    note: str = ""
    last_ok_ns: int = 0
    failures: int = 0
    figures: dict[str, Any] = {}

    @property
    def has_ended(self) -> bool:
        """Whether any run of it has come to an end."""
        return bool(self.ended_ns or self.last_ok_ns or self.failures)

    @property
    def known_end_ns(self) -> int:
        """When the last run ended that did; 0: that is not told."""
        return self.ended_ns or (self.last_ok_ns if self.ok else 0)


class Healing(msgspec.Struct, frozen=True):
    """gaps_waiting: that it works on."""

    gaps_waiting: int = 0


class Disk(msgspec.Struct, frozen=True):
    used_percent: float
    free_bytes: int = 0


class Configuration(msgspec.Struct, frozen=True):
    """sha256: of the bytes of the file that is applied. problem: why a newer file is not. applied_ns: Unix ns, real time."""

    sha256: str = ""
    problem: str = ""
    applied_ns: int = 0


class Report(msgspec.Struct, frozen=True):
    """A collector's /status. None: not told.

    pending_bytes: closed files, and the open ones, that are not in the bucket yet.
    gaps_healed: gaps that were filled. ready: what /readyz says, which bears with a stream that is lost for a moment.
    """

    version: str = ""
    collector: str = ""
    started_ns: int = 0
    health: str = ""
    reasons: tuple[Reason, ...] = ()
    streams: tuple[Stream, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    connections: tuple[Connection, ...] = ()
    tasks: dict[str, Task] = {}
    configuration: Configuration | None = None
    disk: Disk | None = None
    disk_full_in_seconds: float | None = None
    pending_bytes: int | None = None
    last_verified_upload_ns: int | None = None
    gaps_healed: int | None = None
    ready: bool | None = None
    healing: Healing | None = None

    def has(self, *codes: str) -> Reason | None:
        """The first of its reasons with one of these codes."""
        return next((reason for reason in self.reasons if reason.code in codes), None)

    @property
    def live_symbols(self) -> frozenset[str]:
        """Symbols all of whose streams are live.

        Where the streams do not say it themselves: all, if the live connections carry every stream; else those of
        which something came.
        """
        carried = sum(connection.streams for connection in self.connections if connection.state == "live")
        all_carried = carried >= len(self.streams)
        dead = {
            stream.symbol
            for stream in self.streams
            if not (stream.live if stream.live is not None else (all_carried or stream.last_received_ns))
        }
        return frozenset(stream.symbol for stream in self.streams) - dead

    @property
    def lag_seconds(self) -> float | None:
        """The worst stream's 95th percentile of receipt minus exchange time; None without a sample."""
        lags = [stream.latency.p95_ms for stream in self.streams if stream.latency is not None]
        return max(lags) / 1000 if lags else None

    @property
    def pending(self) -> int | None:
        """Bytes not uploaded: its own figure, else what the last upload left."""
        if self.pending_bytes is not None:
            return self.pending_bytes
        pending, waiting = self._uploads("bytes_pending"), self._uploads("bytes_waiting")
        return None if pending is None else pending + (waiting or 0)

    @property
    def uploaded_ns(self) -> int:
        """When an upload was last verified; 0: never, or not told."""
        if self.last_verified_upload_ns is not None:
            return self.last_verified_upload_ns
        return self._uploads("last_verified_ns") or 0

    @property
    def upload_ok_ns(self) -> int:
        """When an upload last succeeded, also one that found nothing to do; 0: never, or not told."""
        upload = self.tasks.get("upload")
        return max(self.uploaded_ns, upload.last_ok_ns if upload else 0)

    @property
    def bars_differ(self) -> bool:
        """By its last check: bars are not the exchange's, and nothing explains it."""
        check = self.tasks.get("check")
        figure = check.figures.get("bars_unexplained") if check else None
        return isinstance(figure, int) and figure > 0

    def _uploads(self, name: str) -> int | None:
        """A figure of the last upload."""
        upload = self.tasks.get("upload")
        figure = upload.figures.get(name) if upload else None
        return figure if isinstance(figure, int) else None


_decode = msgspec.json.Decoder(Report).decode


class ReportError(ValueError):
    """An answer that is no report; the message says what it was."""


def read_report(body: bytes) -> Report:
    """Raises ReportError."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReportError(f"/status answered what is no report: {error}") from None
