"""Whatever happens to conditions, webhook, clock and process: at most one message an hour and key, resolved once,
nothing lost. The loop's own steps are driven, restarts included; only the post itself is replaced.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from crypto_lake.lake.layout import Layout
from crypto_lake.model.alerting import RULES
from crypto_lake.watch import alerts_loop
from crypto_lake.watch.alerts import Notice
from crypto_lake.watch.alerts_loop import AlertLoop, AlertSettings
from crypto_lake.watch.disk import NOTHING, DiskFigures
from crypto_lake.watch.webhook import Answer

REPEAT_SECONDS = 3600.0
START_NS = 1_723_161_254_000_000_000
SETTINGS = AlertSettings(
    rules={"disk_usage": RULES["disk_usage"]},
    webhook_url="http://127.0.0.1:9/hook",
    repeat_seconds=REPEAT_SECONDS,
    every_seconds=15.0,
)
ANSWERS = {
    "up": Answer(200),
    "down": Answer(0, "the webhook can't be reached"),
    "failing": Answer(500, "the webhook's server fails (500)"),
    "busy": Answer(429, "slow down", wait_seconds=600.0),
    "refusing": Answer(400, "the webhook does not take the message (400)"),
}


@dataclass(frozen=True)
class Delivered:
    at_ns: int
    notice: Notice


class Alerting(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.layout = Layout(Path(self.folder.name))
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(alerts_loop, "usage_of", lambda *_: self.disk)
        self.patches.setattr(alerts_loop, "send", self.send)
        self.patches.setattr(alerts_loop.durable, "write", self.keep)
        self.now_ns = START_NS
        self.mode = "up"
        self.disk: DiskFigures = msgspec.structs.replace(
            NOTHING, total_bytes=100, free_bytes=50, total_inodes=100, free_inodes=50
        )
        self.delivered: list[Delivered] = []
        self.failed: list[Delivered] = []
        self.fired: list[tuple[int, str]] = []  # what fired at each look
        self.loop = AlertLoop(self.layout, SETTINGS)

    def keep(self, path: Path, data: bytes) -> None:
        """As durable.write, without its fsyncs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def send(self, notice: Notice, *_: Any) -> Answer:
        answer = ANSWERS[self.mode]
        (self.delivered if answer.ok else self.failed).append(Delivered(self.now_ns, notice))
        return answer

    @rule(used=st.sampled_from([50, 79, 81, 97]), used_inodes=st.sampled_from([50, 90]))
    def fill(self, used: int, used_inodes: int) -> None:
        self.disk = msgspec.structs.replace(self.disk, free_bytes=100 - used, free_inodes=100 - used_inodes)

    @rule(seconds=st.integers(15, 400))
    def come_and_go(self, seconds: int) -> None:
        """What flaps: it fires, and is over for two looks."""
        for used in (81, 50, 50):
            self.fill(used, 50)
            self.look(seconds)

    @rule(mode=st.sampled_from([*sorted(ANSWERS), "up", "up"]))
    def turn(self, mode: str) -> None:
        self.mode = mode

    @rule(seconds=st.sampled_from([15, 60, 600, 3599, 3600, 9000]))
    def look(self, seconds: int) -> None:
        self.now_ns += seconds * 10**9
        state = self.loop.step(self.now_ns)
        self.fired += [(self.now_ns, alert.key) for alert in state.firing]
        self.check()

    @rule()
    def restart(self) -> None:
        self.loop = AlertLoop(self.layout, SETTINGS)
        self.loop.load()

    def check(self) -> None:
        for key in {one.notice.alert.key for one in self.delivered}:
            told = [one for one in self.delivered if one.notice.alert.key == key]
            # One that is told late is that hour's message, too.
            firing = [one.at_ns for one in told if one.notice.state == "firing" or one.notice.late]
            assert all(b - a >= REPEAT_SECONDS * 1e9 for a, b in pairwise(firing))
            for before, one in zip([None, *told], told, strict=False):
                if one.notice.late:  # it fired since the message before, and that could not be told
                    assert before is None or before.notice.state == "resolved"
                    since_ns = before.at_ns if before else 0
                    assert any(since_ns < at_ns < one.at_ns and of == key for at_ns, of in self.fired)
                elif one.notice.state == "resolved":
                    assert before is not None
                    assert before.notice.state == "firing"

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.fill(50, 50)
        self.mode = "up"
        for _ in range(3):
            self.look(3601)
        for one in self.failed:
            key = one.notice.alert.key
            assert any(d.at_ns >= one.at_ns and d.notice.alert.key == key for d in self.delivered), key
        last = {one.notice.alert.key: one.notice.state for one in self.delivered}
        assert set(last.values()) <= {"resolved"}
        state = self.loop.step(self.now_ns)
        assert state.deliveries == {} or not any(d.told or d.owed for d in state.deliveries.values())
        assert state.channel.sent_total == len(self.delivered)
        assert state.channel.failures_total == len(self.failed)
        self.patches.undo()
        self.folder.cleanup()


TestAlerting = Alerting.TestCase
TestAlerting.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_a_clock_that_was_set_back_silences_nothing_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    full = msgspec.structs.replace(NOTHING, total_bytes=100, free_bytes=1)
    monkeypatch.setattr(alerts_loop, "usage_of", lambda *_: full)

    def send(notice: Notice, *_: Any) -> Answer:
        sent.append(notice.state)
        return ANSWERS["up"]

    monkeypatch.setattr(alerts_loop, "send", send)
    loop = AlertLoop(Layout(tmp_path), SETTINGS)
    loop.step(START_NS)
    back_ns = START_NS - 10 * 3600 * 10**9
    loop.step(back_ns)
    assert sent == ["firing"]
    loop.step(back_ns + 3601 * 10**9)
    assert sent == ["firing", "firing"]


def test_a_state_that_can_not_be_read_is_put_aside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir()
    (layout.state / "alerts.json").write_bytes(b'{"schema":')
    loop = AlertLoop(layout, SETTINGS)
    assert loop.load() == alerts_loop.AlertsState()
    assert (layout.state / "alerts.json.unreadable").read_bytes() == b'{"schema":'
    assert not (layout.state / "alerts.json").exists()
