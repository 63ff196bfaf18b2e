"""What the first visitor would wait for, done before there is one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from crypto_lake.access.errors import LakeError
from crypto_lake.access.times import as_seconds
from crypto_lake.dashboard import choice, reading
from crypto_lake.dashboard.figure import figure_of
from crypto_lake.dashboard.serve import Settings

PATIENCE_SECONDS: Final = 10.0
"""So long a bucket is waited for; then the page is served, and says itself what is the matter."""


def up(settings: Settings, stopping: Callable[[], bool], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """The first query. It goes on by itself where it takes longer."""
    reader = threading.Thread(target=_read, args=(settings,), daemon=True)
    reader.start()
    until = time.monotonic() + patience_seconds
    while reader.is_alive() and not stopping() and time.monotonic() < until:
        reader.join(0.1)


def _read(settings: Settings) -> None:
    """The picture that a visitor sees first. What goes wrong is told by the page."""
    # Streamlit imports it when it first shows a figure or a table.
    import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport]

    with contextlib.suppress(LakeError):
        lake = reading.lake_of(settings.where, settings.exchange)
        symbols = lake.symbols()[:1]
        until = reading.known_until(lake, symbols)
        ends = [at for at in until.values() if at is not None]
        if ends:
            now = datetime.now(UTC)
            length = as_seconds(choice.first_range(reading.known_seconds(lake, symbols[0], now)))
            seconds = choice.choose(length).seconds
            window = choice.latest_window(length, seconds, max(ends), now)
            for series in reading.read(lake, symbols, window, seconds, until).series:
                figure_of(series)
