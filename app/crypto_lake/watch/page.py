"""health.md: how the lake is, to be read by a person in ten seconds. Pure.

From what matters to what helps: the state, why and what to do, then figures: symbols, tasks, disk, collector.
"""

from __future__ import annotations

from datetime import UTC, datetime

from crypto_lake.lake.tasks import TaskReport
from crypto_lake.model.alert_message import duration
from crypto_lake.watch.collector_status import SymbolStatus
from crypto_lake.watch.status import LakeStatus, transform_figures

_HEADLINES = {
    "ok": "🟢 all is well",
    "degraded": "🟠 it collects, and something needs a look",
    "down": "🔴 it does not collect",
}


def markdown(status: LakeStatus) -> str:
    """The page. Ages are as of the moment it was written."""
    now_seconds = datetime.fromisoformat(status.taken_at).timestamp()
    lines = [f"# Lake {status.data}: {status.health}", "", _headline(status), ""]
    lines += _reasons(status)
    lines += _alerts(status, now_seconds)
    lines += _symbols(status)
    lines += _tasks(status, now_seconds)
    lines += _disk(status, now_seconds)
    lines += _collector(status)
    return "\n".join(lines) + "\n"


def _headline(status: LakeStatus) -> str:
    told = f"**{_HEADLINES[status.health]}**, as of {status.taken_at}."
    collector = status.collector
    if collector is not None and collector.running:
        told += (
            f" {len(status.symbols)} symbols, {collector.streams_live} of {collector.streams} streams live, "
            f"{collector.ids_missing:,} trades missing."
        )
    return told


def _reasons(status: LakeStatus) -> list[str]:
    return [
        f"- **{_cell(reason.message)}**" + (f": {reason.do}." if reason.do else "")
        for reason in status.reasons
        if reason.code not in {alert.type for alert in status.alerts}  # below, with what to do
    ] or (["Nothing needs to be done."] if not status.alerts else [])


def _alerts(status: LakeStatus, now_seconds: float) -> list[str]:
    if not status.alerts:
        return ["", "No alert fires."]
    lines = ["", "## Alerts", ""] if status.reasons else ["## Alerts", ""]
    for alert in status.alerts:
        age = duration(max(0.0, now_seconds - alert.started_ns / 1e9))
        told = f"told {_utc(alert.last_sent_ns / 1e9)}" if alert.last_sent_ns else "told nobody yet"
        lines.append(
            f"- **{_cell(alert.key)}** ({alert.severity}, for {age}, {told}): {_cell(alert.message)}"
        )
    return lines


def _symbols(status: LakeStatus) -> list[str]:
    if not status.symbols:
        return []
    lines = ["", "## Symbols", "", "| symbol | last trade | lag p95 | gaps | trades missing | messages |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    # By the lake's clock; a collector that is gone has not seen what came since.
    said_seconds = status.collector.age_seconds if status.collector else 0.0
    for symbol in status.symbols:
        lines.append(
            f"| {symbol.symbol} | {_last_trade(symbol, said_seconds)} | {_lag(symbol)} | {symbol.holes_open:,} "
            f"| {symbol.ids_missing:,} | {symbol.messages:,} |"
        )
    return lines


def _last_trade(symbol: SymbolStatus, said_seconds: float) -> str:
    age = symbol.last_trade_age_seconds
    return "none yet" if age is None else f"{duration(age + said_seconds)} ago"


def _lag(symbol: SymbolStatus) -> str:
    return "–" if symbol.lag_p95_ms is None else f"{symbol.lag_p95_ms:,.0f} ms"


def _tasks(status: LakeStatus, now_seconds: float) -> list[str]:
    if not status.tasks and status.transform is None:
        return []
    lines = ["", "## Tasks", ""]
    if status.tasks:
        lines += ["| task | last success | state |", "|---|--:|---|"]
        lines += [
            f"| {task} | {_ago(report.last_ok_ns, now_seconds)} | {_task_state(report, now_seconds)} |"
            for task, report in status.tasks.items()
        ]
    told = ", ".join(
        f"{key.removesuffix('_seconds').replace('_', ' ')} {_figure(key, value)}"
        for key, value in transform_figures(status.transform).items()
        if not key.endswith("_ns")
    )
    if told:
        lines += ["", f"Last transformation: {_cell(told)}."]
    return lines


def _task_state(report: TaskReport, now_seconds: float) -> str:
    if not report.ended_ns:
        running = f"runs for {duration(max(0.0, now_seconds - report.started_ns / 1e9))}, or died"
        return running + (f"; failed {report.failures} times before" if report.failures else "")
    if report.ok:
        return f"ok; {_cell(report.note)}" if report.note else "ok"
    return f"**failed** {report.failures} times in a row: {_cell(report.problem)}"


def _figure(key: str, value: object) -> str:
    if isinstance(value, float) and key.endswith("seconds"):
        return f"{value:,.1f} s"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _disk(status: LakeStatus, now_seconds: float) -> list[str]:
    disk = status.disk
    full_in = (
        f"full in {duration(status.disk_full_in_seconds)} at the rate of the last hours"
        if status.disk_full_in_seconds is not None
        else "not filling up, or too early to say"
    )
    return [
        "",
        "## Disk",
        "",
        "| | |",
        "|---|---|",
        f"| used | {disk.used_percent:.0f}% of the disk, {disk.free_bytes / 1e9:.1f} GB free; {full_in} |",
        f"| by the lake | {disk.lake_bytes / 1e9:.3f} GB |",
        f"| raw | {disk.raw_files:,} files, {disk.raw_bytes / 1e9:.3f} GB |",
        f"| bars | {disk.parquet_rows:,} rows in {disk.parquet_files:,} files; last written: "
        f"{_ago(disk.last_bars_ns, now_seconds)} |",
    ]


def _collector(status: LakeStatus) -> list[str]:
    collector = status.collector
    if collector is None:
        return []
    return [
        "",
        "## Collector",
        "",
        "| | |",
        "|---|---|",
        f"| name | {_cell(collector.name)} (process {collector.pid}), version {_cell(collector.version)} |",
        f"| started | {_utc(collector.started_ns / 1e9)} by its clock; last reported "
        f"{duration(collector.age_seconds)} ago |",
        f"| streams live | {collector.streams_live} of {collector.streams}, on {collector.connections_live} "
        f"connections; {collector.reconnects} reconnects |",
        f"| messages since start | {collector.messages:,} |",
        f"| quarantined messages | {collector.quarantined:,} |",
        f"| gaps open | {collector.holes_open} ({collector.ids_missing:,} trades missing) |",
        f"| fsync | every {collector.fsync_interval_ms:.0f} ms at most: what a power loss may cost |",
    ]


def _ago(ns: int, now_seconds: float) -> str:
    """Since when, or that it never was."""
    return f"{duration(max(0.0, now_seconds - ns / 1e9))} ago" if ns else "never yet"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
