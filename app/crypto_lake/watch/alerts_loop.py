"""Looks at a lake every few seconds, and tells what fires. The rim around `conditions` and `alerts`.

It runs in a thread of its own and reads files alone, as `crypto-lake status` does: a webhook that is dead, slow or
refuses costs a counter and a line in the log. Of all processes that would do it for a data directory, one does: it
holds the lock `alerts`; the others wait to take over.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from crypto_lake import __version__
from crypto_lake.lake import durable, locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Entry
from crypto_lake.model.alerting import Rule
from crypto_lake.watch import alerts, webhook, webhook_bodies
from crypto_lake.watch.alerts import AlertsState, Notice
from crypto_lake.watch.alerts_file import alerts_path, read_alerts
from crypto_lake.watch.conditions import evaluate
from crypto_lake.watch.conditions_look import Look
from crypto_lake.watch.conditions_memory import disk_full_in_seconds
from crypto_lake.watch.disk import Seldom, lake_bytes_of, usage_of
from crypto_lake.watch.read import observe

log = logging.getLogger(__name__)

WRITE_SECONDS = 60.0  # what is only remembered is written so often; what was sent, at once
NOTICES_A_LOOK = 20  # so that a flood is spread over several looks
_QUARANTINE_BYTES = 4 * 1024 * 1024  # of its index are read at a look
_STOP_SECONDS = 2.0
_decode_entry = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True)
class AlertSettings:
    """Named as the configuration's section `alerting`; see there. Its repr does not show the address."""

    rules: Mapping[str, Rule]
    webhook_url: str = field(default="", repr=False)
    webhook_url_file: str = ""
    format: Literal["auto", "json", "slack", "discord"] = "auto"
    name: str = ""
    repeat_seconds: float = 3600.0
    every_seconds: float = 15.0
    expected_tasks: tuple[str, ...] = ()
    disk_limit_bytes: int = 0

    @property
    def has_webhook(self) -> bool:
        return bool(self.webhook_url or self.webhook_url_file)


def sender_of(layout: Layout, settings: AlertSettings) -> webhook_bodies.Sender:
    try:
        collector = (layout.state / "collector").read_text().strip()
    except (OSError, UnicodeDecodeError):
        collector = ""
    return webhook_bodies.Sender(
        settings.name or str(layout.root.resolve()), collector, socket.gethostname(), __version__
    )


def send(notice: Notice, layout: Layout, settings: AlertSettings, now_ns: int) -> webhook.Answer:
    """Post one message, once. What goes wrong is in the answer; nothing in it shows the address."""
    try:
        address = webhook.read_address(settings.webhook_url, settings.webhook_url_file)
    except webhook.AddressError as error:
        return webhook.Answer(0, str(error))
    if address is None:
        return webhook.Answer(0, "no webhook is configured; set alerting.webhook_url or webhook_url_file")
    form = webhook_bodies.format_of(address.reveal()) if settings.format == "auto" else settings.format
    message = webhook_bodies.message(notice, sender_of(layout, settings), now_ns)
    return webhook.post(address, webhook_bodies.body(message, form))


class AlertLoop:
    """Start it once; it goes on until it is stopped."""

    def __init__(self, layout: Layout, settings: AlertSettings) -> None:
        self._layout = layout
        self._settings = settings
        self._lake_bytes = Seldom(lambda: lake_bytes_of(layout.root))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = AlertsState()
        self._written: AlertsState | None = None
        self._complaint = ""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def follow(self, settings: AlertSettings) -> None:
        """Go by these from the next look on."""
        self._settings = settings

    def stop(self) -> None:
        """Tell nothing more. It waits a moment for a message on its way; the thread ends with the process anyway."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with locks.hold(self._layout.locks, "alerts"):
                    self._watch()
            except locks.LockHeldError:
                self._stopping.wait(self._settings.every_seconds)  # another one tells
            except OSError as error:
                # A full or read-only disk is what somebody should hear of.
                self._complain(f"without the lock 'alerts', two may tell the same: {error}")
                self._watch()

    def _watch(self) -> None:
        self._state = self.load()
        while not self._stopping.wait(self._settings.every_seconds):
            try:
                self.step(time.time_ns())
            except Exception as error:  # the next look may be better; it must not end
                self._complain(f"{type(error).__name__}: {error}", trace=not isinstance(error, OSError))

    def load(self) -> AlertsState:
        """The state that was left. One that can't be read is put aside."""
        state, problem = read_alerts(self._layout)
        if problem:
            path = alerts_path(self._layout)
            self._complain(f"{problem}; put aside as {path.name}.unreadable, alerts may be told once more")
            try:
                path.replace(path.with_name(f"{path.name}.unreadable"))
            except OSError as error:
                self._complain(f"{path} can't be put aside: {error}")
        self._state = state
        return state

    def step(self, now_ns: int) -> AlertsState:
        """One look: judge, tell what is due, keep what a restart must know. `now_ns`: real time."""
        offset, entries, last = read_quarantine(self._layout.quarantine / "index.jsonl", self._state)
        disk = usage_of(self._layout.root, self._settings.disk_limit_bytes, self._lake_bytes)
        seen = observe(self._layout, disk)
        look = Look(seen, now_ns, self._settings.expected_tasks, entries, last)
        firing, conditions = evaluate(
            look,
            self._settings.rules,
            self._state.conditions,
            settle_seconds=self._settings.every_seconds,
        )
        self._tell_log(self._state, AlertsState(conditions=conditions))
        self._state = msgspec.structs.replace(
            self._state,
            updated_ns=now_ns,
            conditions=conditions,
            quarantine_offset=offset,
            disk_full_in_seconds=disk_full_in_seconds(conditions.memory.disk, seen.disk.room_bytes),
        )
        if self._settings.has_webhook:
            notices, deliveries = alerts.decide(
                firing, self._state.deliveries, now_ns, self._settings.repeat_seconds
            )
            self._state = msgspec.structs.replace(self._state, deliveries=deliveries)
            self._write()  # before anything is sent: what is owed is not forgotten
            self._send(notices[:NOTICES_A_LOOK], now_ns)
        self._write()
        return self._state

    def _send(self, notices: list[Notice], now_ns: int) -> None:
        for notice in notices:
            if self._stopping.is_set() or not alerts.channel_open(self._state.channel, now_ns):
                return
            answer = send(notice, self._layout, self._settings, now_ns)
            channel, deliveries = self._state.channel, self._state.deliveries
            if answer.ok:
                if channel.attempts:
                    log.info("the webhook takes alerts again, after %d attempts", channel.attempts)
                channel = alerts.channel_worked(channel, now_ns)
                deliveries = alerts.delivered(deliveries, notice, now_ns)
                log.info("told the webhook: %s %s", notice.alert.key, notice.state)
            elif answer.channel:
                if answer.problem != channel.last_problem:
                    log.warning("alerts can't be delivered: %s; it is tried again", answer.problem)
                channel = alerts.channel_failed(channel, answer.problem, now_ns, answer.wait_seconds)
            else:
                if answer.problem != channel.last_problem:
                    log.warning("alert %s is not delivered: %s", notice.alert.key, answer.problem)
                channel = msgspec.structs.replace(
                    channel, failures_total=channel.failures_total + 1, last_problem=answer.problem
                )
                deliveries = alerts.refused(deliveries, notice, now_ns)
            self._state = msgspec.structs.replace(self._state, channel=channel, deliveries=deliveries)
            self._write()

    def _write(self) -> None:
        """Write the state where it has changed in what matters, else once a minute."""
        written, state = self._written, self._state
        same = written is not None and (
            (written.deliveries, written.channel, [alert.key for alert in written.firing])
            == (state.deliveries, state.channel, [alert.key for alert in state.firing])
            and 0 <= state.updated_ns - written.updated_ns < WRITE_SECONDS * 1e9
        )
        if same:
            return
        try:
            durable.write(alerts_path(self._layout), msgspec.json.encode(state))
            self._written = state
        except OSError as error:  # it goes on in memory; alerts are told all the same
            self._complain(f"what was told can't be kept in {alerts_path(self._layout)}: {error}")

    def _tell_log(self, before: AlertsState, after: AlertsState) -> None:
        old, new = ({alert.key: alert for alert in state.firing} for state in (before, after))
        for key in new.keys() - old.keys():
            log.info("alert fires: %s: %s", key, new[key].message)
        for key in old.keys() - new.keys():
            log.info("alert resolved: %s", key)

    def _complain(self, text: str, *, trace: bool = False) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("alerts: %s", text, exc_info=trace)


def read_quarantine(index: Path, state: AlertsState) -> tuple[int, int, str]:
    """What is new in the quarantine's index: how far it is read, entries since, the newest one's reason.

    What was there before anybody looked is not new. A flood is counted over several looks.
    """
    try:
        with index.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if state.quarantine_offset < 0:
                return size, 0, ""
            offset = state.quarantine_offset if state.quarantine_offset <= size else 0
            file.seek(offset)
            read = file.read(_QUARANTINE_BYTES)
    except FileNotFoundError:
        return 0, 0, ""
    except OSError:
        return state.quarantine_offset, 0, ""
    whole = read[: read.rfind(b"\n") + 1]
    if not whole:
        return offset + (len(read) if len(read) == _QUARANTINE_BYTES else 0), 0, ""
    try:
        last = _decode_entry(whole[:-1].rpartition(b"\n")[2])
        reason = f"{last.reason}, from {last.origin}"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reason = ""
    return offset + len(whole), whole.count(b"\n"), reason
