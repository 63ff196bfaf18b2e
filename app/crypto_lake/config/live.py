"""What a process that runs takes over when its configuration changes, and what waits for its restart.

A collector follows its file; who starts it (`run`, the operator) restarts it for what is not named here. Settings of
the tasks are among what is taken over: each task reads them anew when it starts.
"""

from __future__ import annotations

from typing import Final

from crypto_lake.config.load import changed
from crypto_lake.config.schema import Config

# Keys, or sections with all that is below them.
TAKEN_OVER: Final = frozenset(
    {
        "collector.symbols",
        "collector.streams",
        "collector.idle",
        "collector.weight_per_minute",
        "transform",
        "retention",
        "gcs",
        "disk",
        "alerting",
        "macro",
        "logging.console",
        "logging.file",
    }
)


def is_taken_over(path: str) -> bool:
    """Whether a collector that runs takes over a change of this key. Pure."""
    return path in TAKEN_OVER or path.partition(".")[0] in TAKEN_OVER


def waiting(started: Config, now: Config) -> list[str]:
    """Keys whose values differ from those that the collector was started with, and need a restart. Pure."""
    return [path for path in changed(started, now) if not is_taken_over(path)]
