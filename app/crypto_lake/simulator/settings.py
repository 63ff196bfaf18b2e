"""What a simulator can be told. Defaults are the exchange's own figures where it has some."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class StartWhen(StrEnum):
    """When a market starts: at once, when enough streams are subscribed, or by POST /control/start."""

    AT_ONCE = "at-once"
    SUBSCRIBED = "subscribed"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All times in seconds of the real clock.

    speed: seconds of market time a second; 0: as fast as the slowest client reads.
    start_when: None: `subscribed` for a recording and at speed 0, `at-once` otherwise.
    wait_for_streams: how many different streams must be subscribed for `subscribed`.
    tls: serve wss and https with a certificate made on the spot; its authority's is written to ca_file.
    coalesce: write what is due at once in one go; off: one write (under TLS one record) a message.
    tick_seconds: how often it looks what is due.
    shutdown_lead_seconds: how long before the end of a connection's lifetime serverShutdown is said; None: never.
    without: REST calls that are answered by 404, such as historicalTrades.
    slow_client_bytes: a client that leaves more unread is cut off (not at speed 0: there all wait for it).
    """

    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 1.0
    start_when: StartWhen | None = None
    wait_for_streams: int = 1
    tls: bool = False
    ca_file: Path | None = None
    coalesce: bool = True
    tick_seconds: float = 0.005
    ping_seconds: float = 20.0
    pong_timeout_seconds: float = 60.0
    lifetime_seconds: float = 24 * 3600.0
    shutdown_lead_seconds: float | None = None
    messages_per_second: int = 5
    connection_attempts: int = 300
    connection_window_seconds: float = 300.0
    slow_client_bytes: int = 64 * 1024 * 1024
    weight_limit: int = 6000
    ban_after: int = 3
    ban_seconds: float = 120.0
    without: frozenset[str] = frozenset()
