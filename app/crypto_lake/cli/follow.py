"""A configuration file that changes while a process runs: what is taken over at once, and what waits for a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crypto_lake.capture.snapshot import Configuration
    from crypto_lake.config.load import Loaded
    from crypto_lake.config.schema import Config
    from crypto_lake.watch.alerts_loop import AlertLoop

log = logging.getLogger("crypto_lake.cli.follow")

_LONGEST_PROBLEM = 500

# Takes over what it knows of; it gets the configuration as it is now and the keys that have changed.
TakeOver = Callable[["Config", Sequence[str]], None]


class ConfigFollower:
    """Takes over what may change while the process runs, when the file has changed or SIGHUP came.

    loaded: what the process was started with. waiting: of that and the configuration now, the keys that need a restart.
    `configuration` is what is told of it; `sha256` stays that of the file before as long as any of the new one waits.
    """

    def __init__(
        self,
        loaded: Loaded,
        reload: Callable[[], Loaded],
        take_over: TakeOver,
        waiting: Callable[[Config, Config], list[str]],
    ) -> None:
        from crypto_lake.capture.snapshot import Configuration

        self._started = loaded.config
        self._loaded = loaded
        self._reload = reload
        self._take_over = take_over
        self._waiting = waiting
        self._seen = self._signature()
        self.configuration: Configuration = Configuration(loaded.sha256, "", time.time_ns())

    @property
    def config(self) -> Config:
        """As it is now, whether or not all of it is taken over."""
        return self._loaded.config

    def _signature(self) -> tuple[int, int, int] | None:
        """Of the file behind the name: a mounted ConfigMap is replaced by turning a link."""
        if self._loaded.file is None:
            return None
        try:
            stat = self._loaded.file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    async def forever(self, hangup: asyncio.Event, poll_seconds: Callable[[], float]) -> None:
        # It may have changed between being read and the first look at it.
        self.apply()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hangup.wait(), poll_seconds())
            asked, now = hangup.is_set(), self._signature()
            hangup.clear()
            # A file that is gone is about to be replaced, or a mistake: either way the old one stands.
            if asked or (now is not None and now != self._seen):
                self._seen = now
                self.apply()

    def apply(self) -> None:
        """Read the configuration again. One that is wrong is told and changes nothing."""
        from crypto_lake.config.load import ConfigError, changed

        try:
            new = self._reload()
            differing = changed(self._loaded.config, new.config)
            if differing:
                self._take_over(new.config, differing)
        except ConfigError as error:
            log.error("the changed configuration is not applied: %s", "; ".join(error.problems))
            return self._refuse("; ".join(error.problems))
        except Exception as error:
            log.exception("the changed configuration could not be applied")
            return self._refuse(f"{type(error).__name__}: {error}")
        self._loaded = new
        waiting = self._waiting(self._started, new.config)
        if told := [path for path in waiting if path in differing]:
            log.warning("changed, and needs a restart to take effect: %s", ", ".join(told))
        if waiting:
            return self._refuse(f"needs a restart: {', '.join(waiting)}")
        if differing or self.configuration.problem or self.configuration.sha256 != new.sha256:
            from crypto_lake.capture.snapshot import Configuration

            self.configuration = Configuration(new.sha256, "", time.time_ns())
        return None

    def _refuse(self, problem: str) -> None:
        import msgspec

        short = problem if len(problem) <= _LONGEST_PROBLEM else problem[: _LONGEST_PROBLEM - 1] + "…"
        self.configuration = msgspec.structs.replace(self.configuration, problem=short)


def watching(
    alerts: Callable[[], AlertLoop | None], expected_tasks: Callable[[Config], tuple[str, ...]] = lambda _: ()
) -> TakeOver:
    """Takes over what any process that watches a lake goes by: levels of the log, and alerts where it judges them."""

    def apply(config: Config, differing: Sequence[str]) -> None:
        from crypto_lake.cli.alerts import settings_of
        from crypto_lake.watch import logs

        if any(path.startswith("logging.") for path in differing):
            logs.set_levels(console=config.logging.console, file=config.logging.file)
        loop = alerts()
        if loop is not None:
            loop.follow(settings_of(config, expected_tasks=expected_tasks(config)))

    return apply
