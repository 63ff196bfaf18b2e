"""What `crypto-lake run` is made of: which programs, with which flags, how often. Pure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crypto_lake.cli.common import flag_values
from crypto_lake.cli.supervisor import Part

if TYPE_CHECKING:
    from crypto_lake.config.load import Loaded
    from crypto_lake.config.schema import Config

# So that a child imports the same program, whatever the current folder holds (-P).
PROGRAM_ARGV = (sys.executable, "-P", "-m", "crypto_lake.cli.main")
TEST_TRANSFORM_SECONDS = 20.0
UPKEEP_APART_SECONDS = 30.0


def child_flags(loaded: Loaded, options: dict[str, Any]) -> list[str]:
    """The flags that give a child the configuration of this process; the environment it inherits."""
    flags: list[str] = []
    if loaded.file is not None:
        flags += ["--config", str(loaded.file)]
    for path, (text, _) in flag_values(options).items():
        flags += ["--set", f"{path}={text}"]
    return flags


def parts_of(
    loaded: Loaded, flags: list[str], *, test_mode: bool, report_durable: int | None = None
) -> list[Part]:
    """The table of parts, in the order in which they are stopped."""
    config = loaded.config
    every = TEST_TRANSFORM_SECONDS if test_mode else config.transform.every_minutes * 60
    reporting = () if report_durable is None else ("--report-durable", str(report_durable))
    return [
        Part(
            "collector",
            (*PROGRAM_ARGV, "collect", "--supervised", *reporting, *flags),
            essential=True,
            pass_fds=() if report_durable is None else (report_durable,),
        ),
        Part(
            "transformer",
            (
                *(*PROGRAM_ARGV, "transform", "--data", config.data, "--exchange", config.collector.exchange),
                *("--memory-mb", str(config.transform.memory_mb)),
                *flags,
            ),
            every_seconds=every,
            first_seconds=min(every, TEST_TRANSFORM_SECONDS),
            stop_seconds=60.0,
        ),
        *([] if test_mode else _upkeep_parts(config, flags)),
    ]


def expected_tasks(config: Config) -> tuple[str, ...]:
    """Tasks that `run` starts: one of them that never reports is late."""
    parts = {part.name for part in _upkeep_parts(config, [])}
    names = (("uploader", "upload"), ("cleaner", "cleanup"))
    return ("transform", *(task for part, task in names if part in parts))


def waiting(started: Config, now: Config) -> list[str]:
    """Keys that have changed and by which parts are started, so that they wait for `run` itself to be started again.

    Pure. What of the collector's own settings waits, it tells itself.
    """
    from crypto_lake.config.load import Loaded, changed

    before, after = (parts_of(Loaded(config, {}, None), [], test_mode=False) for config in (started, now))
    if before == after:
        return []
    sections = ("data", "transform", "check", "gcs", "retention")
    return [path for path in changed(started, now) if path.partition(".")[0] in sections]


def _upkeep_parts(config: Config, flags: list[str]) -> list[Part]:
    """What moves finished hours on; not in test mode, which is over before an hour is. One after the other: `cleanup`
    and `transform` share a lock, and what was uploaded may go."""
    from crypto_lake.config.durations import parse_retention

    found: list[Part] = []
    after = TEST_TRANSFORM_SECONDS
    for name, command, every_minutes, wanted in (
        ("checker", "check", config.check.every_minutes, config.check.enabled),
        ("uploader", "upload", config.gcs.every_minutes, config.gcs.store_url),
        ("publisher", "publish", config.gcs.every_minutes, config.gcs.store_url),
        (
            "cleaner",
            "cleanup",
            config.retention.every_minutes,
            config.gcs.store_url or parse_retention(config.retention.raw) is not None,
        ),
    ):
        if wanted:
            after += UPKEEP_APART_SECONDS
            argv = (*PROGRAM_ARGV, command, *flags)
            found.append(
                Part(name, argv, every_seconds=every_minutes * 60, first_seconds=after, stop_seconds=15.0)
            )
    return found


def simulator_part(symbols: tuple[str, ...]) -> Part:
    return Part(
        "simulator",
        (*PROGRAM_ARGV, "simulate", "--port", "0", "--symbols", ",".join(symbols)),
        again=False,  # it would start another market, on another port
        stop_seconds=10.0,
    )
