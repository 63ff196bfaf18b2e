"""Makes `support`, what tests of several rooms share, importable under importlib mode, which adds no folder to the path."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = str(Path(__file__).parent)
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
