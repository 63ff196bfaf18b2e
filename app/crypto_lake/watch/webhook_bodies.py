"""The bodies of messages: our own JSON, and those that Slack and Discord take. Pure.

The JSON is a contract (`schema` 1, docs/alerts.md): fields are added, never renamed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from crypto_lake.watch.alerts import SCHEMA, MessageState, Notice
from crypto_lake.watch.status import duration

Format = Literal["json", "slack", "discord"]

_SLACK_CHARACTERS = 3000
_DISCORD_CHARACTERS = 2000
_SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
_DISCORD_HOSTS = ("discord.com", "discordapp.com")


class Sender(msgspec.Struct, frozen=True):
    """Who says it."""

    lake: str
    collector: str
    host: str
    version: str


class Message(msgspec.Struct, frozen=True):
    """The JSON body. `id` is the same when a message is sent again because its answer was lost."""

    schema: int
    id: str
    state: MessageState
    key: str
    condition: str
    subject: str
    severity: str
    message: str
    lake: str
    collector: str
    host: str
    version: str
    started_at: str  # when it began
    since: str  # when it fired
    ended_at: str | None  # when it was found resolved
    sent_at: str
    duration_seconds: int  # from its beginning to its end, or until now
    number: int  # how often it was told that this fires
    late: bool  # the webhook could not be reached while it fired
    details: dict[str, Any]


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


def body(told: Message, format_: Format) -> bytes:
    match format_:
        case "slack":
            return msgspec.json.encode({"text": _cut(_escaped(_text(told, "*")), _SLACK_CHARACTERS)})
        case "discord":
            return msgspec.json.encode(
                {
                    "content": _cut(_text(told, "**"), _DISCORD_CHARACTERS),
                    # A message of ours calls nobody, whatever stands in it.
                    "allowed_mentions": {"parse": []},
                }
            )
        case "json":
            return msgspec.json.encode(told)


def _text(told: Message, bold: str) -> str:
    lasted = duration(told.duration_seconds)
    match told.state:
        case "firing":
            mark = "🔴" if told.severity == "critical" else "🟠"
            again = f", told {told.number} times" if told.number > 1 else ""
            head, foot = told.severity, f"for {lasted}, since {told.started_at}{again}"
        case "resolved":
            mark, head, foot = "🟢", "resolved", f"it lasted {lasted}, from {told.started_at}"
            foot += "; the webhook could not be reached then" if told.late else ""
        case "test":
            mark, head, foot = "⚪", "test", told.sent_at
    subject = f" {told.subject}" if told.subject else ""
    where = f"{told.lake} on {told.host}" + (f" ({told.collector})" if told.collector else "")
    return f"{mark} {bold}{head}: {told.condition}{subject}{bold}\n{told.message}\n{where}; {foot}"


def _escaped(text: str) -> str:
    """Slack's three characters; with them neither a link nor a mention can be made."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def format_of(url: str) -> Format:
    """By the address: Slack's, Discord's, or our own JSON for any other."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path.rstrip("/")
    if host in _SLACK_HOSTS:
        return "slack"
    if host in _DISCORD_HOSTS or host.endswith(tuple(f".{name}" for name in _DISCORD_HOSTS)):
        return "slack" if path.endswith("/slack") else "discord"  # Discord takes Slack's shape there
    return "json"
