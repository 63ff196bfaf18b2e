"""Makes `snapshots` importable under importlib mode, which adds no folder to the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "snapshots" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("snapshots", Path(__file__).with_name("snapshots.py"))
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["snapshots"] = _module
    _spec.loader.exec_module(_module)
