"""What holds for all tests: where `support` is found, and how properties are searched.

`support`, what tests of several rooms share, is on no path under importlib mode, which adds none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# Speed is measured in bench/: a machine that is busy with something else fails no property.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# The same examples each time, so that a verdict is the code's; `make search` looks at others, and at more of them.
settings.register_profile("steady", UNTIMED, derandomize=True)
settings.register_profile("search", UNTIMED, max_examples=1000)
settings.load_profile("steady")

_TESTS = str(Path(__file__).parent)
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
