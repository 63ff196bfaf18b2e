"""A figure in the page: plotly's own library, as its package holds it, served beside the page and told what to draw.

Streamlit's own chart is made anew with each change of its data: a zoom would last until the next refresh.
"""

from __future__ import annotations

import gzip
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from streamlit.components.v2 import component

_NAME: Final = "crypto_lake_picture"
_SCRIPT: Final = Path(__file__).with_name("chart.js")
_CONFIG: Final[dict[str, Any]] = {
    "responsive": True,
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}


@dataclass(frozen=True, slots=True)
class Library:
    """plotly.js. `path`: where it is served, with its version, so that a browser may keep it for good."""

    path: str
    packed: bytes


@cache
def library() -> Library:
    """ModuleNotFoundError where plotly is not installed. Packed once: it is the greatest part of a first visit."""
    plain = pkgutil.get_data("plotly", "package_data/plotly.min.js")
    if plain is None:
        raise ModuleNotFoundError("plotly has no package_data/plotly.min.js", name="plotly")
    path = f"/picture/plotly-{metadata.version('plotly')}.min.js"
    return Library(path, gzip.compress(plain, 6, mtime=0))


@cache
def _component() -> Any:
    return component(_NAME, js=_SCRIPT.read_text(encoding="utf-8"), isolate_styles=False)


def show_figure(figure: dict[str, Any], key: str) -> None:
    """`figure`: plotly's data and layout. With the same key the picture that is there is changed."""
    _component()(key=key, data={**figure, "config": _CONFIG, "library": f".{library().path}"})
