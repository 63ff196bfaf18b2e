"""A type that msgspec decodes is shown to it when its module is imported.

It looks at a type when it first meets it; where two threads make it do so at once, the process dies (msgspec 0.22).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).parents[2] / "app" / "crypto_lake"
# One thread asks, and no other knows the type; the first two import msgspec only where it is used.
OF_ONE_THREAD = {"cli/run_simulator.py", "cli/selection.py", "capture/probe.py"}


def met_late(source: str) -> Iterator[int]:
    """Lines of functions that hand msgspec a type, or make a Decoder of one."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            types = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
            # Of dict[...] and the like there is nothing to look at.
            struct = any(not isinstance(one, ast.Subscript) for one in types)
            if name == "msgspec.json.Decoder" or (name == "msgspec.json.decode" and struct):
                yield call.lineno


def test_what_is_met_late_is_found() -> None:
    source = """
_decode = msgspec.json.Decoder(A).decode
def f(data):
    _decode(data)
    msgspec.json.decode(data)
    msgspec.json.decode(data, type=dict[int, str])
    return msgspec.json.decode(data, type=A)
class C:
    async def g(self):
        return msgspec.json.Decoder(A)
"""
    assert list(met_late(source)) == [7, 10]


def test_no_type_is_met_first_by_threads() -> None:
    found = {str(path.relative_to(APP)): list(met_late(path.read_text())) for path in APP.rglob("*.py")}
    late = {name for name, lines in found.items() if lines}
    assert late - OF_ONE_THREAD == set(), {name: found[name] for name in late - OF_ONE_THREAD}
