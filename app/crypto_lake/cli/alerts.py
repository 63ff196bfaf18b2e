"""`crypto-lake alerts`: what fires, what would, and whether the webhook takes messages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import CommandError, ExitCode, load_settings, output_option, setting_options

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.watch.alerts import AlertsState
    from crypto_lake.watch.alerts_loop import AlertSettings


def settings_of(config: Config, *, expected_tasks: tuple[str, ...] = ()) -> AlertSettings:
    """The settings that a configuration means. `expected_tasks`: those that whoever watches starts itself."""
    from crypto_lake.model.alerting import effective
    from crypto_lake.watch.alerts_loop import AlertSettings

    alerting = config.alerting
    return AlertSettings(
        rules=effective(
            alerting.conditions,
            transform_every_minutes=config.transform.every_minutes,
            upload_every_minutes=config.gcs.every_minutes,
            cleanup_every_minutes=config.retention.every_minutes,
        ),
        webhook_url=alerting.webhook_url,
        webhook_url_file=alerting.webhook_url_file,
        format=alerting.format,
        name=alerting.name,
        repeat_seconds=alerting.repeat_minutes * 60,
        every_seconds=alerting.every_seconds,
        expected_tasks=tuple(dict.fromkeys([*expected_tasks, *alerting.expected_tasks])),
        disk_limit_bytes=int(config.disk.limit_gb * 1e9),
    )


@click.group()
def command() -> None:
    """Show what fires, and test the webhook."""


@command.command()
@setting_options
@output_option
def show(output: str, **options: Any) -> None:
    """Print every condition with its limit and what fires, since when, and when it was last told.

    `run`, or a collector that runs alone, judges the conditions every alerting.every_seconds.
    """
    import msgspec

    from crypto_lake.lake import locks
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch.alerts_file import read_alerts

    config = load_settings(options).config
    layout = Layout(Path(config.data))
    state, problem = read_alerts(layout)
    if problem:
        raise CommandError(f"{problem}; the lake puts it aside when it next starts")
    try:
        watched = locks.is_held(layout.locks, "alerts")
    except OSError:  # not ours to open: then what was left is all there is to go by
        watched = time.time() - state.updated_ns / 1e9 < 180
    settings = settings_of(config)
    document = described(state, settings, watched=watched, data=str(layout.root))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        click.echo("\n".join(text(document)))


def described(state: AlertsState, settings: AlertSettings, *, watched: bool, data: str) -> dict[str, Any]:
    """The document of -o json. Fields are added, never renamed. Pure."""
    from crypto_lake.watch.heartbeat import utc

    conditions: list[dict[str, Any]] = []
    for type_, rule in settings.rules.items():
        firing = [alert for alert in state.firing if alert.type == type_]
        held = sum(
            one.alert.type == type_ and not one.alert.since_ns for one in state.conditions.tracked.values()
        )
        conditions.append(
            {
                "type": type_,
                "enabled": rule.enabled,
                "limit": rule.limit,
                "unit": rule.unit,
                "severity": rule.severity,
                "when": rule.when,
                "state": _state_of(
                    rule.enabled, bool(firing), bool(held), type_ in state.conditions.unknown, state
                ),
                "firing": len(firing),
            }
        )
    channel = state.channel
    return {
        "schema": 1,
        "data": data,
        "watched": watched,
        "last_look_at": utc(state.updated_ns / 1e9),
        "webhook": {
            "configured": settings.has_webhook,
            "format": settings.format,
            "repeat_seconds": settings.repeat_seconds,
            "sent_total": channel.sent_total,
            "failures_total": channel.failures_total,
            "last_ok_at": utc(channel.last_ok_ns / 1e9),
            "problem": channel.last_problem,
        },
        "conditions": conditions,
        "alerts": [
            {
                "key": alert.key,
                "condition": alert.type,
                "subject": alert.subject,
                "severity": alert.severity,
                "message": alert.message,
                "started_at": utc(alert.started_ns / 1e9),
                "since": utc(alert.since_ns / 1e9),
                "last_sent_at": utc(
                    state.deliveries[alert.key].sent_ns / 1e9 if alert.key in state.deliveries else 0
                ),
                "details": alert.details,
            }
            for alert in state.firing
        ],
        "untold": sorted(key for key, delivery in state.deliveries.items() if delivery.owed),
    }


def _state_of(enabled: bool, firing: bool, held: bool, unknown: bool, state: AlertsState) -> str:
    if not enabled:
        return "off"
    if firing:
        return "firing"
    if not state.updated_ns:
        return "never judged"
    return "pending" if held else "can't tell" if unknown else "ok"


def text(document: dict[str, Any]) -> list[str]:
    """The document as lines to read. Pure."""
    webhook, alerts = document["webhook"], document["alerts"]
    firing = f"{len(alerts)} firing" if alerts else "nothing fires"
    lines = [f"{document['data']}: {firing}"]
    for alert in alerts:
        told = f"told {alert['last_sent_at']}" if alert["last_sent_at"] else "not told yet"
        lines += [
            f"  ! {alert['key']} ({alert['severity']}) since {alert['started_at']}, {told}",
            f"    {alert['message']}",
        ]
    if not document["watched"]:
        last = (
            f"the last look was at {document['last_look_at']}"
            if document["last_look_at"]
            else "nobody ever looked"
        )
        lines.append(f"Nobody judges the conditions now ({last}); `crypto-lake run` does.")
    lines.append(_webhook_text(webhook))
    if document["untold"]:
        lines.append(f"still to be told: {', '.join(document['untold'])}")
    lines += ["", f"{'condition':17} {'state':12}  {'severity':8}  fires when"]
    lines += [
        f"{row['type']:17} {row['state']:12}  {row['severity']:8}  {row['when']}"
        for row in document["conditions"]
    ]
    return lines


def _webhook_text(webhook: dict[str, Any]) -> str:
    if not webhook["configured"]:
        return "No webhook is configured: alerts are in health/health.md and here alone. Set alerting.webhook_url."
    problem = f"; it does not work: {webhook['problem']}" if webhook["problem"] else ""
    last = f", the last at {webhook['last_ok_at']}" if webhook["last_ok_at"] else ""
    return (
        f"webhook: {webhook['sent_total']} messages sent{last}, "
        f"{webhook['failures_total']} attempts failed{problem}"
    )


@command.command()
@setting_options
def test(**options: Any) -> None:
    """Send one test message, and print what the webhook answered.

    Exit codes: 0 it took the message, 1 it refused, 2 no webhook is configured, 4 it can't be reached.
    """
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch.alerts import Notice
    from crypto_lake.watch.alerts_loop import send
    from crypto_lake.watch.conditions import Alert
    from crypto_lake.watch.webhook import AddressError, read_address

    config = load_settings(options).config
    settings = settings_of(config)
    if not settings.has_webhook:
        raise CommandError(
            "no webhook is configured; set alerting.webhook_url (CRYPTO_LAKE_ALERTING_WEBHOOK_URL), or "
            "alerting.webhook_url_file to a file that holds it",
            ExitCode.USAGE,
        )
    try:
        read_address(settings.webhook_url, settings.webhook_url_file)
    except AddressError as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
    now_ns = time.time_ns()
    alert = Alert("test", "test", "", "warning", "This is a test; nothing is wrong.", now_ns, now_ns)
    answer = send(Notice(alert, "test"), Layout(Path(config.data)), settings, now_ns)
    if answer.code:
        said = f": {answer.text[:200]}" if answer.text else ""
        click.echo(f"the webhook answered {answer.code}{said}")
    if not answer.ok:
        raise CommandError(answer.problem, ExitCode.FAILURE if answer.code else ExitCode.UNAVAILABLE)
