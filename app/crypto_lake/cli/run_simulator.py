"""The simulated exchange that `run --simulate` starts for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crypto_lake.cli.common import CommandError
from crypto_lake.cli.run_parts import simulator_part

if TYPE_CHECKING:
    from crypto_lake.cli.supervisor import Supervisor
    from crypto_lake.lake.layout import Layout

SIMULATOR_SECONDS = 60.0  # until it must be ready


async def start_simulator(
    supervisor: Supervisor,
    symbols: tuple[str, ...],
    line: asyncio.Future[str],
    stop: asyncio.Event,
    *,
    layout: Layout,
) -> list[str]:
    """Start it and wait until it is ready; return the flags that lead the collector to it, none where `stop` came first.

    line: the first that it says. Raises CommandError where it does not come up.
    """
    import msgspec

    class _Ready(msgspec.Struct):
        websocket: str
        rest: str
        ca_file: str | None = None

    supervisor.add(simulator_part(symbols))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait(
            [line, stopped, supervisor.ended],
            timeout=SIMULATOR_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        stopped.cancel()
    if stop.is_set():
        return []
    if supervisor.ended.done():
        raise CommandError("the simulator ended before it was ready; its error is above")
    if not line.done():
        raise CommandError(f"the simulator was not ready within {SIMULATOR_SECONDS:.0f} s; see {layout.log}")
    try:
        ready = msgspec.json.decode(line.result(), type=_Ready)
    except msgspec.MsgspecError:
        raise CommandError(f"the simulator said what is not understood: {line.result()[:200]}") from None
    flags = ["--set", f"collector.endpoint.websocket={ready.websocket}"]
    flags += ["--set", f"collector.endpoint.rest={ready.rest}"]
    if ready.ca_file:
        flags += ["--set", f"collector.endpoint.ca_file={ready.ca_file}"]
    return flags
