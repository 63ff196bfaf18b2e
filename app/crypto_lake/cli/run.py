"""`crypto-lake run`: collector, transformer and what else one machine needs, supervised."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import DurationType, ExitCode, load_settings, setting_options
from crypto_lake.cli.follow import ConfigFollower, watching
from crypto_lake.cli.progress import Display, Rate, counted, display, live_line
from crypto_lake.cli.run_parts import child_flags, expected_tasks, parts_of, waiting
from crypto_lake.cli.run_simulator import start_simulator
from crypto_lake.cli.supervisor import Supervisor, reap_strangers

if TYPE_CHECKING:
    from crypto_lake.config.load import Loaded
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch.alerts_loop import AlertLoop
    from crypto_lake.watch.status import LakeStatus

log = logging.getLogger("crypto_lake.cli.run")

LIVE_SECONDS = 1.0
DISK_SECONDS, TEST_DISK_SECONDS = 10.0, 2.0
HEARTBEAT_SECONDS = 60.0
CONFIG_POLL_SECONDS = 2.0
FIRST_MESSAGE_SECONDS = 20.0  # so long the time of --for waits for it to begin


@click.command()
@click.option(
    "--for", "for_seconds", type=DurationType(), help="Test mode: run so long, then show the bars. 2m, 90s."
)
@click.option("--simulate", is_flag=True, help="Collect from a simulated exchange, started on this machine.")
@click.option("--report-durable", type=int, hidden=True, help="As of `collect`, to which it is handed on.")
@setting_options
def command(for_seconds: float | None, simulate: bool, report_durable: int | None, **options: Any) -> int:
    """Collect and transform on this machine, until SIGTERM or Ctrl-C.

    With --for it ends by itself and shows the bars; transformations are then every 20 seconds.
    A part that dies is started again. A second Ctrl-C kills.
    """
    from crypto_lake.cli import source
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch import logs

    loaded = load_settings(options)
    layout = Layout(Path(loaded.config.data))
    told = source.prepare(layout, simulated=simulate)
    with display() as shown:
        logging_config = loaded.config.logging
        logs.set_up(
            console=logging_config.console,
            file=logging_config.file,
            path=layout.log,
            file_bytes=logging_config.file_bytes,
            file_count=logging_config.file_count,
        )
        if told:
            shown.line(told)
        run = Run(
            loaded,
            layout,
            shown,
            child_flags(loaded, options),
            for_seconds=for_seconds,
            simulate=simulate,
            report_durable=report_durable,
            reload=lambda: load_settings(options),
        )
        code = asyncio.run(run.run())
    if for_seconds is not None and code == ExitCode.OK:
        return summary(layout)
    return code


@dataclass
class Run:
    """One run, from start to stop."""

    loaded: Loaded
    layout: Layout
    shown: Display
    flags: list[str]
    for_seconds: float | None
    simulate: bool
    report_durable: int | None = None
    reload: Callable[[], Loaded] | None = None  # the configuration as it is now; None: it is not followed
    _config: Config = field(init=False)  # as it is now
    _hangup: asyncio.Event = field(default_factory=asyncio.Event)
    _receiving: asyncio.Event = field(default_factory=asyncio.Event)  # the collector has its first message
    _simulator_line: asyncio.Future[str] = field(init=False)
    _told: dict[str, str] = field(default_factory=dict)  # reason's code -> message
    _killed: bool = False
    _stopping: bool = False

    async def run(self) -> int:
        """Until the time is over, a signal comes or the collector can't run. Returns the exit code."""
        self._config = self.loaded.config
        self._simulator_line = asyncio.get_running_loop().create_future()
        self.supervisor = supervisor = Supervisor(self._on_line, self._problem)
        stop = asyncio.Event()
        watchers: list[asyncio.Task[None]] = []
        with self._signals(stop):
            try:
                if self.simulate:
                    self.flags += await start_simulator(
                        supervisor,
                        self.loaded.config.collector.symbols,
                        self._simulator_line,
                        stop,
                        layout=self.layout,
                    )
                parts = parts_of(
                    self.loaded,
                    self.flags,
                    test_mode=self.for_seconds is not None,
                    report_durable=self.report_durable,
                )
                self._announce()
                for part in parts:
                    if not stop.is_set():
                        supervisor.add(part)
                alerts = self._alerts()
                alerts.start()
                watchers = [asyncio.create_task(self._watch()), asyncio.create_task(self._follow(alerts))]
                code = await self._wait(stop)
                self._stopping = True
                await asyncio.to_thread(alerts.stop)  # that the collector ends now is no alert
                for part in parts:
                    ended = await supervisor.stop(part.name)
                    if part.essential and code == ExitCode.OK and ended not in (None, 0) and not self._killed:
                        self._problem(f"{part.name} did not stop cleanly (exit code {ended}); see the log")
                        code = ExitCode.FAILURE
                if self._killed:
                    return ExitCode.INTERRUPTED
                if self.for_seconds is not None and code == ExitCode.OK:
                    transform = next(part for part in parts if part.name == "transformer")
                    last = await supervisor.once(transform)
                    if last != ExitCode.OK and not self._killed:
                        self._problem(f"the last transformation failed (exit code {last})")
                        code = ExitCode.FAILURE
                await supervisor.stop("simulator")
            finally:
                supervisor.kill_all()
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._beat_writer().beat(locked=False, limit_bytes=self._disk_limit_bytes)
        return code

    @contextlib.contextmanager
    def _signals(self, stop: asyncio.Event) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def on_stop(name: str) -> None:
            if stop.is_set():
                self._problem(f"{name} again: killing all parts")
                self._killed = True
                self.supervisor.kill_all()
            else:
                log.info("stopping: %s", name)
                stop.set()

        loop.add_signal_handler(signal.SIGTERM, on_stop, "SIGTERM")
        loop.add_signal_handler(signal.SIGINT, on_stop, "SIGINT")
        if sys.stderr.isatty():  # the terminal was closed
            loop.add_signal_handler(signal.SIGHUP, on_stop, "SIGHUP")
        else:  # as a service: read the configuration again
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _hang_up(self) -> None:
        self.supervisor.send("collector", signal.SIGHUP)
        self._hangup.set()

    async def _follow(self, alerts: AlertLoop) -> None:
        """What this process itself goes by, while the file changes; the collector follows it for itself."""
        if self.reload is None:
            return
        watch = watching(lambda: alerts, expected_tasks)

        def take_over(config: Config, differing: Sequence[str]) -> None:
            self._config = config
            watch(config, differing)

        follower = ConfigFollower(self.loaded, self.reload, take_over, waiting)
        await follower.forever(self._hangup, lambda: CONFIG_POLL_SECONDS)

    async def _wait(self, stop: asyncio.Event) -> int:
        stopped = asyncio.create_task(stop.wait())
        receiving = asyncio.create_task(self._receiving.wait())
        ends = [stopped, self.supervisor.ended]
        try:
            if self.for_seconds is not None:  # a machine that is slow to start collects no less
                await asyncio.wait(
                    [*ends, receiving], timeout=FIRST_MESSAGE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
            if not (stop.is_set() or self.supervisor.ended.done()):
                await asyncio.wait(ends, timeout=self.for_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            receiving.cancel()
        return self.supervisor.ended.result() if self.supervisor.ended.done() else ExitCode.OK

    def _announce(self) -> None:
        config = self.loaded.config
        symbols = counted(len(config.collector.symbols), "symbol")
        what = "a simulated exchange" if self.simulate else config.collector.exchange
        until = f"for {self.for_seconds:.0f} s" if self.for_seconds is not None else "until Ctrl-C"
        self.shown.line(f"crypto-lake: collecting {symbols} from {what} into {config.data}, {until}")

    def _on_line(self, name: str, which: str, line: str) -> None:
        if which == "stdout":
            if name == "simulator" and not self._simulator_line.done():
                self._simulator_line.set_result(line)
            log.debug("%s: %s", name, line)
        elif line.strip():
            self.shown.line(f"crypto-lake: {name}: {line.removeprefix('crypto-lake: ')}")

    def _problem(self, text: str) -> None:
        """For the log; the console's handler shows it."""
        log.warning(text)

    def _alerts(self) -> AlertLoop:
        from crypto_lake.cli.alerts import settings_of
        from crypto_lake.watch.alerts_loop import AlertLoop

        config = self.loaded.config
        return AlertLoop(self.layout, settings_of(config, expected_tasks=expected_tasks(config)))

    def _beat_writer(self) -> Any:
        from crypto_lake.watch.heartbeat import HeartbeatWriter
        from crypto_lake.watch.status import Limits

        every = self.loaded.config.transform.every_minutes * 60
        return HeartbeatWriter(self.layout, Limits(transform_age_seconds=3 * every))

    @property
    def _disk_limit_bytes(self) -> int:
        return int(self._config.disk.limit_gb * 1e9)

    async def _watch(self) -> None:
        """The live line, the heartbeat, and as process 1 the orphans. Its failures end nothing."""
        from crypto_lake.watch.disk import NOTHING
        from crypto_lake.watch.read import observe
        from crypto_lake.watch.status import judge

        writer, rate = self._beat_writer(), Rate()
        began, disk, disk_at, beat_at = (
            time.monotonic(),
            NOTHING,
            float("-inf"),
            time.monotonic() + 5 - HEARTBEAT_SECONDS,
        )
        complaint = ""
        while True:
            try:
                now = time.monotonic()
                if now - disk_at >= (DISK_SECONDS if self.for_seconds is None else TEST_DISK_SECONDS):
                    disk, disk_at = await asyncio.to_thread(writer.look, self._disk_limit_bytes), now
                status = judge(observe(self.layout, disk, locked=self._collector_runs()))
                if status.collector is not None:
                    if status.collector.messages and self._is_own(status.collector.pid):
                        self._receiving.set()
                    rate.update(status.collector.messages, status.collector.taken_ns / 1e9)
                line = live_line(status, rate.per_second, now - began, self.for_seconds, time.time())
                self.shown.live("stopping" if self._stopping else line)
                if now - beat_at >= HEARTBEAT_SECONDS:
                    beat_at = now
                    self._tell_changes(
                        await asyncio.to_thread(
                            writer.beat, locked=self._collector_runs(), limit_bytes=self._disk_limit_bytes
                        )
                    )
            except Exception as error:
                if complaint != str(error):
                    complaint = str(error)
                    log.warning("heartbeat: %s", error, exc_info=not isinstance(error, OSError))
            if os.getpid() == 1:
                reap_strangers(self.supervisor.own_processes())
            await asyncio.sleep(LIVE_SECONDS)

    def _collector_runs(self) -> bool:
        state = self.supervisor.states.get("collector")
        return state is not None and state.process is not None and state.process.returncode is None

    def _is_own(self, pid: int) -> bool:
        """Whether it is this run's collector that has left the status, not one of before."""
        state = self.supervisor.states.get("collector")
        return state is not None and state.process is not None and state.process.pid == pid

    def _tell_changes(self, status: LakeStatus) -> None:
        """A reason is told when it appears and when it has gone, not every minute. Deaths the supervisor tells."""
        if status.health == "down":
            return
        now = {reason.code: reason.message for reason in status.reasons}
        for code in now.keys() - self._told.keys():
            log.warning(now[code])
        for code in self._told.keys() - now.keys():
            log.info("no more: %s", self._told[code])
        self._told = now


def summary(layout: Layout) -> int:
    """After a test run: where the bars are, a few of them, and what to do next. No bars are a failure."""
    from crypto_lake.cli.bars_shown import describe

    lines, rows = describe(layout)
    click.echo("\n".join(lines))
    return ExitCode.OK if rows else ExitCode.FAILURE
