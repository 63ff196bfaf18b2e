"""What a collector is told: the configuration's section `collector`, without the room that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from crypto_lake.model.market import Stream


class EndpointLike(Protocol):
    """Where the exchange is; empty strings stand for its public addresses."""

    @property
    def websocket(self) -> str: ...
    @property
    def rest(self) -> str: ...
    @property
    def ca_file(self) -> str: ...


@dataclass(frozen=True)
class CollectorSettings:
    """Named and defaulted as the configuration's section `collector`; see there."""

    exchange: str
    symbols: tuple[str, ...]
    streams: tuple[Stream, ...]
    endpoint: EndpointLike
    idle: bool = False
    clock: Literal["system", "exchange"] = "system"
    streams_per_connection: int = 256
    coalesce_ms: float = 5.0
    silence_seconds: float = 60.0
    handover_seconds: float = 23 * 3600.0
    clock_probe_seconds: float = 60.0
    flush_ms: float = 250.0
    flush_bytes: int = 256 * 1024
    fsync_ms: float = 1000.0
    rotate_seconds: float = 60.0
    hole_grace_seconds: float = 5.0
    queue_bytes: int = 64 * 1024 * 1024
    heal: bool = True
    weight_per_minute: int = 3000
    listen: str = "127.0.0.1"
    port: int = -1
