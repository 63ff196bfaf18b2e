"""`crypto-lake doctor`: checks what a lake needs, and says what to do about what it has not."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from crypto_lake.cli.common import ExitCode, load_settings, output_option, setting_options

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout

FSYNCS = 50
SLOW_FSYNC_SECONDS = 0.2  # p99; above it the fsync each second falls behind
LOW_SPACE_BYTES = 5 * 1000**3  # what 13 symbols make in about two days
OFFSET_WARN_SECONDS, OFFSET_FAIL_SECONDS = 0.1, 1.0
MIN_OPEN_FILES = 1024
TIMEOUT_SECONDS = 10.0
# Kinds of file systems whose fsync, rename or locks are not what the lake relies on.
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


class Check(NamedTuple):
    """What was found. `advice` is empty where all is well."""

    name: str
    result: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


@click.command()
@setting_options
@output_option
def command(output: str, **options: Any) -> int:
    """Check this machine, the data directory and the way to the exchange.

    Each check is ok, a warning, or a failure with what to do. Exit codes: 0 nothing failed, 1 something did.
    """
    checks: list[Check] = []
    for check in _all_checks(options):
        checks.append(check)
        if output == "text":
            click.echo(text(check))
    failed = sum(check.result == "fail" for check in checks)
    if output == "json":
        import msgspec

        document = {"schema": 1, "ok": not failed, "checks": [check._asdict() for check in checks]}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        warned = sum(check.result == "warn" for check in checks)
        click.echo(f"\n{failed} failed, {warned} warnings, {len(checks) - failed - warned} ok")
    return ExitCode.FAILURE if failed else ExitCode.OK


def text(check: Check) -> str:
    line = f"{check.result:4}  {check.name:14}  {check.found}"
    return line + (f"\n{'':22}-> {check.advice}" if check.advice else "")


def _all_checks(options: dict[str, Any]) -> Iterator[Check]:
    from crypto_lake.config.load import ConfigError
    from crypto_lake.lake.layout import Layout

    yield check_python()
    try:
        loaded = load_settings(options)
    except ConfigError as error:
        yield Check("configuration", "fail", "; ".join(error.problems), "mend it; the other checks need it")
        return
    yield Check("configuration", "ok", str(loaded.file or "defaults and environment, no file"))
    layout = Layout(Path(loaded.config.data))
    yield check_open_files()
    yield from check_data(layout)
    yield check_lock(layout)
    yield from asyncio.run(check_exchange(loaded.config))


def check_python() -> Check:
    from crypto_lake import __version__

    found = f"crypto-lake {__version__} on Python {sys.version.split()[0]}, {sys.platform}"
    if sys.platform != "linux":
        return Check("program", "warn", found, "it is tested on Linux")
    return Check("program", "ok", found)


def check_open_files() -> Check:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} open files allowed"
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        return Check(
            "open files", "warn", found, f"raise it: ulimit -n {MIN_OPEN_FILES}, or LimitNOFILE= of the unit"
        )
    return Check("open files", "ok", found)


def check_data(layout: Layout) -> Iterator[Check]:
    """The data directory: rights, fsync, space, file system. Leaves nothing behind but the directory."""
    from crypto_lake.lake import durable

    root = layout.root
    try:
        durable.make_directory(root)
        seconds = sorted(measure_fsync(root))
    except OSError as error:
        yield Check(
            "data directory",
            "fail",
            f"{root} can't be written: {error.strerror}",
            f"give user {os.getuid()} the right to write there, or name another by --data",
        )
        return
    yield Check("data directory", "ok", f"{root.resolve()} can be written")
    yield judge_fsync(seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)])
    yield judge_space(*_space(root))
    yield judge_file_system(file_system(root, _mounts()))


def measure_fsync(folder: Path, count: int = FSYNCS) -> list[float]:
    """Seconds that each of `count` appends of 4 KiB took to become durable."""
    path = folder / f".doctor-{os.getpid()}.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        taken: list[float] = []
        for _ in range(count):
            os.write(descriptor, b"\0" * 4096)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
        return taken
    finally:
        os.close(descriptor)
        path.unlink()


def judge_fsync(median_seconds: float, p99_seconds: float) -> Check:
    found = f"p50 {median_seconds * 1000:.1f} ms, p99 {p99_seconds * 1000:.1f} ms"
    if p99_seconds > SLOW_FSYNC_SECONDS:
        return Check(
            "fsync", "warn", found, "a slow disk lets trades wait in memory; use an SSD, or a disk of its own"
        )
    return Check("fsync", "ok", found)


def _space(root: Path) -> tuple[int, int]:
    from crypto_lake.lake.space import file_system_space

    space = file_system_space(root)
    return space.free_bytes, space.total_bytes


def judge_space(free_bytes: int, total_bytes: int) -> Check:
    found = f"{free_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB free"
    if free_bytes < LOW_SPACE_BYTES / 10:
        return Check("disk space", "fail", found, "free some, or put the data elsewhere by --data")
    if free_bytes < LOW_SPACE_BYTES:
        return Check("disk space", "warn", found, "13 symbols take about 2.5 GB a day")
    return Check("disk space", "ok", found)


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ""


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system that holds the path, by the table of mounts; empty where that can't be told."""
    real, best, kind = path.resolve(), Path(), ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " "))
        # The last of two mounts in one place is the one that is seen.
        if real.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, fields[2]
    return kind


def judge_file_system(kind: str) -> Check:
    if kind in NETWORK_FILE_SYSTEMS:
        advice = "fsync, rename and locks are not reliable over a network; use a local disk"
        return Check("file system", "warn", kind, advice)
    if kind in MEMORY_FILE_SYSTEMS:
        return Check(
            "file system", "warn", kind, "it is memory: nothing in it outlives a restart of the machine"
        )
    return Check("file system", "ok", kind or "unknown")


def check_lock(layout: Layout) -> Check:
    from crypto_lake.lake import locks

    try:
        held = locks.is_held(layout.locks, "capture")
    except OSError as error:
        return Check("lock", "warn", f"can't be read: {error.strerror}", "run doctor as the collector's user")
    if held:
        return Check("lock", "warn", "a collector runs in this directory", "a second one will not start")
    return Check("lock", "ok", "free")


async def check_exchange(config: Config) -> list[Check]:
    """REST, WebSocket and the clocks, with one request each."""
    import aiohttp

    from crypto_lake.exchanges import EXCHANGES

    exchange = EXCHANGES.get(config.collector.exchange)
    if exchange is None:
        known = ", ".join(EXCHANGES)
        return [Check("exchange", "fail", f"{config.collector.exchange} is not known", f"known are {known}")]
    rest = (config.collector.endpoint.rest or exchange.rest).rstrip("/")
    websocket = (config.collector.endpoint.websocket or exchange.websocket).rstrip("/")
    network = "check the address (collector.endpoint), the network, DNS and any proxy or firewall"
    context = ssl.create_default_context()
    if config.collector.endpoint.ca_file:
        try:
            context.load_verify_locations(config.collector.endpoint.ca_file)
        except OSError as error:
            return [
                Check(
                    "certificates",
                    "fail",
                    f"{config.collector.endpoint.ca_file}: {error}",
                    "name a file of PEM certificates",
                )
            ]
    checks: list[Check] = []
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=timeout, trust_env=True
    ) as session:
        try:
            sent_ns, began = time.time_ns(), time.perf_counter()
            async with session.get(f"{rest}/api/v3/time") as answer:
                answer.raise_for_status()
                server_ms = float((await answer.json())["serverTime"])
            took = time.perf_counter() - began
            checks.append(Check("REST", "ok", f"{rest} answered in {took * 1000:.0f} ms"))
            # Taken at the middle of the round trip, the offset is off by half of it at most.
            checks.append(
                judge_offset(server_ms / 1e3 - (sent_ns / 1e9 + took / 2), took, config.collector.clock)
            )
        except (aiohttp.ClientError, TimeoutError, OSError, KeyError, ValueError, TypeError) as error:
            checks.append(Check("REST", "fail", f"{rest}: {_what(error)}", network))
        try:
            began = time.perf_counter()
            async with session.ws_connect(
                websocket + exchange.connect_path,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),  # pyright: ignore[reportCallIssue]
            ):
                took = time.perf_counter() - began
            checks.append(Check("WebSocket", "ok", f"{websocket} accepted in {took * 1000:.0f} ms"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            checks.append(Check("WebSocket", "fail", f"{websocket}: {_what(error)}", network))
    return checks


def judge_offset(offset_seconds: float, round_trip_seconds: float, clock: str) -> Check:
    """The exchange's clock minus ours. Within the measurement's own error it is nothing."""
    found = f"{offset_seconds * 1000:+.0f} ms (± {round_trip_seconds * 500:.0f} ms)"
    if clock == "exchange":
        return Check("clock", "ok", f"{found}; the lake follows the exchange's")
    certain = max(0.0, abs(offset_seconds) - round_trip_seconds / 2)
    advice = "set this machine's clock by NTP (chrony, systemd-timesyncd): quotes are dated by it"
    if certain > OFFSET_FAIL_SECONDS:
        return Check("clock", "fail", found, advice)
    if certain > OFFSET_WARN_SECONDS:
        return Check("clock", "warn", found, advice)
    return Check("clock", "ok", found)


def _what(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    return str(error) or type(error).__name__
