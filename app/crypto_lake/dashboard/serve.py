"""The dashboard's server: Streamlit in this process, with settings that leave nothing to it that we would not want."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PORT: Final = 8501
HEALTH: Final = "/_stcore/health"
"""Answers 200 while the server runs."""
# Where no home can be told: Streamlit looks there for settings, and finds none.
_NO_HOME: Final = "/nonexistent"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the page is told. `statuses`: addresses of collectors' /status; none: by the data directory.

    `stale_seconds`: 0: by the kind of lake.
    """

    where: str
    exchange: str | None = None
    statuses: tuple[str, ...] = ()
    stale_seconds: float = 0.0


def options(listen: str, port: int, *, opens_browser: bool) -> dict[str, Any]:
    """Streamlit's settings. Nothing is sent to anyone, nothing is watched or written, no file but the page is served."""
    return {
        "server.address": listen,
        "server.port": port,
        "server.headless": not opens_browser,
        "server.showEmailPrompt": False,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableStaticServing": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": "localhost" if listen in ("0.0.0.0", "::") else listen,  # noqa: S104  a comparison
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "global.developmentMode": False,
        "server.enableAgentApi": False,
        "logger.hideWelcomeMessage": True,
        "logger.level": "warning",
    }


def arguments_of(settings: Settings) -> list[str]:
    """The settings as the page's arguments; `settings_of` reads them back."""
    return [
        settings.where,
        settings.exchange or "",
        str(settings.stale_seconds),
        *settings.statuses,
    ]


def settings_of(arguments: list[str]) -> Settings:
    where, exchange, stale_seconds, *statuses = arguments
    return Settings(where, exchange or None, tuple(statuses), float(stale_seconds))


def home_of(environment: Mapping[str, str]) -> str | None:
    """What to set HOME to, so that asking for it fails nowhere; None: it can be told."""
    if environment.get("HOME"):
        return None
    try:
        Path.home()
    except RuntimeError:
        return _NO_HOME
    return None


def serve(settings: Settings, listen: str, port: int, *, opens_browser: bool) -> None:
    """Until SIGTERM or Ctrl-C. ModuleNotFoundError where the extra is not installed."""
    home = home_of(os.environ)
    if home is not None:
        os.environ["HOME"] = home
    from streamlit.web import bootstrap

    from crypto_lake.dashboard import server, warm

    script = Path(__file__).with_name("script.py")
    bootstrap.load_config_options(options(listen, port, opens_browser=opens_browser))
    sys.argv = [str(script), *arguments_of(settings)]
    server.run(
        script,
        listen,
        port,
        warm_up=lambda stopping: warm.up(settings, stopping),
        opens_browser=opens_browser,
    )
