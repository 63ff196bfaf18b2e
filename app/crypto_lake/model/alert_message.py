"""What an alert says, and the bodies that webhooks take: our own JSON, and those of Slack and Discord. Pure.

The JSON is a contract (`schema` 1, docs/alerts.md): fields are added, never renamed. Collectors and the operator send the
same.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Format = Literal["json", "slack", "discord"]
MessageState = Literal["firing", "resolved", "test"]

SCHEMA: Final = 1
_SLACK_CHARACTERS: Final = 3000
_DISCORD_CHARACTERS: Final = 2000
_SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")
_DISCORD_HOSTS: Final = ("discord.com", "discordapp.com")


class Sender(msgspec.Struct, frozen=True):
    """Who says it. collector: empty where none does."""

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


def format_of_host(host: str, path: str) -> Format:
    """By the pieces of the address: Slack's, Discord's, or our own JSON for any other."""
    host, path = host.lower(), path.rstrip("/")
    if host in _SLACK_HOSTS:
        return "slack"
    if host in _DISCORD_HOSTS or host.endswith(tuple(f".{name}" for name in _DISCORD_HOSTS)):
        return "slack" if path.endswith("/slack") else "discord"  # Discord takes Slack's shape there
    return "json"


def duration(seconds: float) -> str:
    """`90 s`, `12 min`, `5 h`, `3 d`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"
