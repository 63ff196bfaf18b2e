"""An alert as a message to a webhook (model/alert_message.py has its bodies). Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import urlsplit

from crypto_lake.model.alert_message import SCHEMA, Format, Message, Sender, body, format_of_host
from crypto_lake.watch.alerts import Notice

__all__ = ["Format", "Message", "Sender", "body", "format_of", "message"]


def message(notice: Notice, sender: Sender, now_ns: int) -> Message:
    alert = notice.alert
    end_ns = notice.ended_ns or now_ns
    told = f"{sender.lake} {sender.collector} {alert.key} {alert.since_ns} {notice.state} {notice.number}"
    return Message(
        schema=SCHEMA,
        id=hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16],
        state=notice.state,
        key=alert.key,
        condition=alert.type,
        subject=alert.subject,
        severity=alert.severity,
        message=alert.message,
        lake=sender.lake,
        collector=sender.collector,
        host=sender.host,
        version=sender.version,
        started_at=_iso(alert.started_ns),
        since=_iso(alert.since_ns),
        ended_at=_iso(notice.ended_ns) if notice.ended_ns else None,
        sent_at=_iso(now_ns),
        duration_seconds=max(0, (end_ns - alert.started_ns) // 10**9),
        number=notice.number,
        late=notice.late,
        details=alert.details,
    )


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def format_of(url: str) -> Format:
    """By the address."""
    parts = urlsplit(url)
    return format_of_host(parts.hostname or "", parts.path)
