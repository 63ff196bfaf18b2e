"""Settings of the server: to this machine alone, told nobody, and read back as they were given."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.dashboard.serve import Settings, arguments_of, home_of, options, settings_of


def test_nothing_is_sent_opened_or_watched() -> None:
    from streamlit import config

    flags = options("127.0.0.1", 8501, opens_browser=False)
    assert flags["browser.gatherUsageStats"] is False
    assert flags["server.headless"] is True
    assert flags["server.fileWatcherType"] == "none"
    assert set(flags) <= set(config._config_options_template)


@given(
    st.text(min_size=1),
    st.none() | st.text(min_size=1),
    st.lists(st.text(min_size=1)),
    st.floats(0, 1e9),
)
def test_the_page_gets_the_settings(where: str, exchange: str | None, urls: list[str], stale: float) -> None:
    settings = Settings(where, exchange, tuple(urls), stale)
    assert settings_of(arguments_of(settings)) == settings


def test_a_home_is_made_up_only_where_there_is_none() -> None:
    assert home_of({"HOME": "/root"}) is None


def test_the_command_line_loads_neither_library() -> None:
    code = (
        "import sys; import crypto_lake.cli.dashboard, crypto_lake.dashboard.serve, crypto_lake.dashboard.reading; "
        "assert not {'streamlit', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
