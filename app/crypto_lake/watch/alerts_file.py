"""Reads `state/alerts.json`, for whoever shows alerts. Who writes it is in alerts_loop."""

from __future__ import annotations

from pathlib import Path

import msgspec

from crypto_lake.lake.layout import Layout
from crypto_lake.watch.alerts import AlertsState
from crypto_lake.watch.status import AlertStatus

_decode = msgspec.json.Decoder(AlertsState).decode


def alerts_path(layout: Layout) -> Path:
    return layout.state / "alerts.json"


def read_alerts(layout: Layout) -> tuple[AlertsState, str]:
    """The state as it was left, or a new one, and why it could not be read although there is a file."""
    path = alerts_path(layout)
    try:
        return _decode(path.read_bytes()), ""
    except FileNotFoundError:
        return AlertsState(), ""
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return AlertsState(), f"{path} can't be read: {error}"


def firing(state: AlertsState) -> tuple[AlertStatus, ...]:
    """What fires, with when it was last told."""
    return tuple(
        AlertStatus(
            key=alert.key,
            type=alert.type,
            severity=alert.severity,
            message=alert.message,
            started_ns=alert.started_ns,
            last_sent_ns=state.deliveries[alert.key].sent_ns if alert.key in state.deliveries else 0,
        )
        for alert in state.firing
    )
