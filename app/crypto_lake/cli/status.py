"""`crypto-lake status`: how a lake is, told from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import CommandError, ExitCode, load_settings, output_option, setting_options

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch.status import LakeStatus, Observation


@click.command()
@setting_options
@output_option
def command(output: str, **options: Any) -> int:
    """Tell how a lake is, by what its parts left in the data directory.

    Exit codes: 0 healthy, 3 degraded (gaps, or another reason that is named), 4 no collector runs.
    """
    import msgspec

    from crypto_lake.lake.layout import Layout
    from crypto_lake.watch.disk import DiskScanner
    from crypto_lake.watch.read import observe
    from crypto_lake.watch.status import judge

    config = load_settings(options).config
    layout = Layout(Path(config.data))
    if not layout.root.is_dir():
        raise CommandError(
            f"there is no data directory {layout.root}; name it by --data, or start a lake there with 'crypto-lake run'",
            ExitCode.UNAVAILABLE,
        )
    seen = observe(layout, DiskScanner(layout).scan(int(config.disk.limit_gb * 1e9)))
    status = judge(_with_uploads(seen, layout, config.gcs.store_url))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
    else:
        click.echo("\n".join(text(status)))
    return {"ok": ExitCode.OK, "degraded": ExitCode.GAPS, "down": ExitCode.UNAVAILABLE}[status.health]


def _with_uploads(seen: Observation, layout: Layout, url: str) -> Observation:
    """What the bucket does not have yet, where there is one."""
    if not url:
        return seen
    import msgspec

    from crypto_lake.upkeep.pending import PendingLook

    upload = seen.tasks.get("upload")
    verified = upload.figures.get("last_verified_ns", 0) if upload else 0
    try:
        pending_bytes = PendingLook(layout).look(url).bytes
    except (OSError, ValueError):  # not ours to read, or to name: not known
        pending_bytes = None
    return msgspec.structs.replace(
        seen,
        pending_bytes=pending_bytes,
        last_verified_upload_ns=verified if isinstance(verified, int) else 0,
    )


def text(status: LakeStatus) -> list[str]:
    """The status as lines to read. Pure."""
    from crypto_lake.cli.progress import size
    from crypto_lake.watch.heartbeat import utc
    from crypto_lake.watch.status import transform_figures

    lines = [f"{status.data}: {status.health}", *(f"  ! {reason.message}" for reason in status.reasons)]
    lines += [f"  alert {alert.key} since {utc(alert.started_ns / 1e9)}" for alert in status.alerts]
    lines.append("")
    collector, disk = status.collector, status.disk
    if collector is not None:
        state = "running" if collector.running else "not running"
        where = f", port {collector.port}" if collector.running and collector.port > 0 else ""
        lines.append(
            f"collector   {collector.name} {state} (process {collector.pid}{where}), {collector.exchange}"
        )
        lines.append(
            f"  reported  {collector.age_seconds:.0f} s ago; started {utc(collector.started_ns / 1e9)}"
        )
        lines.append(
            f"  streams   {collector.streams_live} of {collector.streams} live on "
            f"{collector.connections_live} connections; {collector.reconnects} reconnects"
        )
        lines.append(f"  received  {collector.messages:,} messages, {size(collector.bytes)}")
        if collector.latency_p50_ms is not None:
            lines.append(
                f"  lag       p50 {collector.latency_p50_ms:.1f} ms, p95 {collector.latency_p95_ms:.1f} ms"
            )
        lines.append(
            f"  durable   p99 {collector.receive_to_durable_p99_ms:.0f} ms after receipt; "
            f"fsync every {collector.fsync_interval_ms:.0f} ms"
        )
        lines.append(f"  gaps      {collector.holes_open} open, {collector.ids_missing:,} trades missing")
        if collector.quarantined:
            lines.append(f"  aside     {collector.quarantined:,} messages in quarantine")
    age = status.transform_age_seconds
    if status.transform is not None:
        lines.append("transform" + (f"   reported {age:.0f} s ago" if age is not None else ""))
        lines += [f"  {key}: {value}" for key, value in transform_figures(status.transform).items()]
    for task, report in status.tasks.items():
        state = "runs, or died" if not report.ended_ns else "ok" if report.ok else f"failed: {report.problem}"
        note = f"; {report.note}" if report.note else ""
        lines.append(f"task        {task} {state}; last ok {utc(report.last_ok_ns / 1e9) or 'never'}{note}")
    lines.append(
        f"raw         {disk.raw_files:,} files, {size(disk.raw_bytes)} ({disk.raw_open_files} being written)"
    )
    bars_at = utc(disk.last_bars_ns / 1e9)
    lines.append(
        f"bars        {disk.parquet_rows:,} rows in {disk.parquet_files:,} files, {size(disk.parquet_bytes)}"
        + (f", written {bars_at}" if bars_at else "")
    )
    if status.pending_bytes is not None:
        verified = utc((status.last_verified_upload_ns or 0) / 1e9) or "never"
        lines.append(f"upload      {size(status.pending_bytes)} not in the bucket; last verified {verified}")
    if status.configuration is not None and status.configuration.problem:
        lines.append(f"config      not applied: {status.configuration.problem}")
    lines.append(
        f"disk        {size(disk.lake_bytes)} by the lake; {size(disk.free_bytes)} free, {disk.used_percent:.0f}% used"
    )
    if status.symbols:
        lines += [
            "",
            f"{'symbol':14} {'messages':>12}  {'durable id':>14}  {'last trade':20}  {'gaps':>5} {'missing':>8}",
        ]
        lines += [
            f"{s.symbol:14} {s.messages:>12,}  {s.durable_id:>14}  {utc(s.last_trade_time_us / 1e6) or '–':20}  "
            f"{s.holes_open:>5} {s.ids_missing:>8,}"
            for s in status.symbols
        ]
    return lines
