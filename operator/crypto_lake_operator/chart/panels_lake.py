"""The dashboard of lakes."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.chart.panels import Board, Panel, Query, Row, one


def _rate(metric: str, by: str, legend: str) -> tuple[Query, ...]:
    return one(f"sum by ({by}) (rate({metric}{{lake}}[$__rate_interval]))", legend)


_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Collectors ready",
            one("sum(crypto_lake_ready{lake})"),
            "short",
            "Subscribed and writing. Fewer than shards times replicas: see the lake's condition Collecting.",
            "stat",
            3,
            red_below=1,
        ),
        Panel(
            "Streams live",
            one("sum(crypto_lake_stream_live{lake})"),
            "short",
            "Subscribed on a connection that stands: as many as the lake has symbols times streams.",
            "stat",
            3,
            red_below=1,
        ),
        Panel(
            "Symbols",
            one("count(count by (symbol) (crypto_lake_gaps_open{lake}))"),
            "short",
            "Symbols that are collected.",
            "stat",
            3,
        ),
        Panel(
            "Gaps open",
            one("sum(crypto_lake_gaps_open{lake})"),
            "short",
            "Ranges of trade ids that are missing. The ledger names each with its cause.",
            "stat",
            3,
            red_from=1,
        ),
        Panel(
            "Trades missing",
            one("sum(crypto_lake_missing_trades{lake})"),
            "short",
            "Trades in the open gaps.",
            "stat",
            3,
            red_from=1,
        ),
        Panel(
            "Alerts firing",
            one("sum(crypto_lake_alerts_firing{lake})"),
            "short",
            "Of the lake's own conditions; `crypto-lake alerts show` in a pod names them.",
            "stat",
            3,
            red_from=1,
        ),
        Panel(
            "Disk full in",
            one("min(crypto_lake_disk_full_in_seconds{lake})"),
            "s",
            "At the rate of the last hours; infinite: not to be seen. Raise spec.storage.size before.",
            "stat",
            3,
            red_below=86400,
        ),
        Panel(
            "Newest trade",
            one("time() - max(crypto_lake_last_trade_timestamp_seconds{lake})"),
            "s",
            "How old the newest trade is. A lake on a simulator has the simulator's time.",
            "stat",
            3,
            red_from=300,
        ),
    ),
)
_DATA: Final = Row(
    "Data",
    (
        Panel(
            "Messages",
            _rate("crypto_lake_stream_messages_total", "stream", "{{stream}}"),
            "cps",
            "By stream. Down to nothing: the connections, or the exchange.",
        ),
        Panel(
            "Received",
            _rate("crypto_lake_stream_bytes_total", "stream", "{{stream}}"),
            "Bps",
            "As the exchange sent it, before compression.",
        ),
        Panel(
            "Written",
            _rate("crypto_lake_writer_written_bytes_total", "pod", "{{pod}}"),
            "Bps",
            "Compressed, by collector: what fills the volume.",
        ),
        Panel(
            "Lag",
            (
                Query(
                    "max by (stream) (crypto_lake_stream_latency_median_seconds{lake})", "{{stream}} median"
                ),
                Query("max by (stream) (crypto_lake_stream_latency_p95_seconds{lake})", "{{stream}} p95"),
            ),
            "s",
            "From the exchange's time to receipt, of the worst symbol. Grows with a busy CPU, network or exchange; below "
            "zero the node's clock is off.",
            width=12,
        ),
        Panel(
            "Slowest symbols",
            one(
                "topk(10, max by (symbol) (crypto_lake_stream_latency_p95_seconds{lake}))",
                "{{symbol}}",
            ),
            "s",
            "The ten with the greatest lag, 95th percentile of a minute.",
            width=12,
        ),
        Panel(
            "Quietest streams",
            one(
                "topk(10, time() - max by (symbol, stream) (crypto_lake_stream_last_received_timestamp_seconds{lake} > 0))",
                "{{symbol}} {{stream}}",
            ),
            "s",
            "Time since the last message. Rarely traded symbols are quiet by nature.",
            width=12,
        ),
        Panel(
            "Lost for want of a disk",
            _rate("crypto_lake_stream_lost_messages_total", "stream", "{{stream}}"),
            "cps",
            "Received and not written. The ledger has the trades' ids. Look at the volume.",
            width=12,
            red_from=0.001,
        ),
    ),
)
_COMPLETENESS: Final = Row(
    "Completeness",
    (
        Panel(
            "Gaps found",
            one("sum by (symbol) (increase(crypto_lake_gaps_total{lake}[$__rate_interval]))", "{{symbol}}"),
            "short",
            "When trades went missing. Compare with restarts and reconnects.",
        ),
        Panel(
            "Gaps open, by symbol",
            one("topk(10, sum by (symbol) (crypto_lake_gaps_open{lake}))", "{{symbol}}"),
            "short",
            "Not filled yet.",
        ),
        Panel(
            "Gaps",
            (
                Query("sum(crypto_lake_gaps_total{lake})", "found"),
                Query("sum(crypto_lake_gaps_healed{lake})", "healed"),
                Query("sum(crypto_lake_gaps_open{lake})", "open"),
            ),
            "short",
            "Since the collectors started. What is healed was fetched and is in the bars.",
        ),
        Panel(
            "Duplicates and quarantine",
            (
                Query(
                    "sum(rate(crypto_lake_duplicate_trades_total{lake}[$__rate_interval]))",
                    "duplicate trades",
                ),
                Query(
                    "sum(rate(crypto_lake_quarantined_messages_total{lake}[$__rate_interval]))", "quarantined"
                ),
            ),
            "cps",
            "Trades that came twice are counted once in the bars. What is quarantined could not be read: look at it.",
        ),
    ),
)
_DURABILITY: Final = Row(
    "From socket to disk",
    (
        Panel(
            "Receipt to fsync",
            one("max by (pod) (crypto_lake_writer_receive_to_durable_p99_seconds{lake})", "{{pod}} p99"),
            "s",
            "After that a trade counts as acknowledged. Beyond two seconds the disk is too slow.",
            red_from=2,
        ),
        Panel(
            "Time between fsyncs",
            one("max by (pod) (crypto_lake_writer_fsync_interval_max_seconds{lake})", "{{pod}}"),
            "s",
            "What a power loss may cost.",
            red_from=2,
        ),
        Panel(
            "Waiting to be fsynced",
            one(
                "max by (pod) (crypto_lake_writer_queue_bytes{lake} / crypto_lake_writer_queue_limit_bytes{lake})",
                "{{pod}}",
            ),
            "percentunit",
            "Of what may wait. At 100 % reading pauses, and the exchange may cut the connection.",
            red_from=0.8,
        ),
        Panel(
            "Write errors",
            _rate("crypto_lake_writer_errors_total", "pod", "{{pod}}"),
            "cps",
            "Writes or fsyncs that failed: the volume is full or broken.",
            red_from=0.001,
        ),
        Panel(
            "In trouble",
            one("max by (pod) (crypto_lake_writer_in_trouble{lake})", "{{pod}}"),
            "bool_yes_no",
            "Nothing can be written now.",
            red_from=1,
        ),
        Panel(
            "Reading paused",
            one(
                "sum by (pod) (increase(crypto_lake_writer_queue_full_total{lake}[$__rate_interval]))",
                "{{pod}}",
            ),
            "short",
            "How often, because the disk was too slow.",
        ),
    ),
)
_TASKS: Final = Row(
    "Disk, bucket and tasks",
    (
        Panel(
            "Disk used",
            one("max by (pod) (crypto_lake_disk_used_ratio{lake})", "{{pod}}"),
            "percentunit",
            "Of the volume, or of the lake's own limit. Raise spec.storage.size, which restarts nothing.",
            width=6,
            red_from=0.8,
        ),
        Panel(
            "Free",
            one("min by (pod) (crypto_lake_disk_free_bytes{lake})", "{{pod}}"),
            "bytes",
            "A saw: up by cleanup, down by what is written.",
            width=6,
        ),
        Panel(
            "Not in the bucket yet",
            one("sum by (pod) (crypto_lake_upload_pending_bytes{lake})", "{{pod}}"),
            "bytes",
            "The running hour always is. Growing from hour to hour: uploads fail, and cleanup deletes nothing.",
            width=6,
        ),
        Panel(
            "Since the last verified upload",
            one(
                "max by (pod) (time() - (crypto_lake_upload_last_verified_timestamp_seconds{lake} > 0))"
                " or max by (pod) (crypto_lake_upload_last_verified_timestamp_seconds{lake} * 0)",
                "{{pod}}",
            ),
            "s",
            "When an object was last read back from the bucket. Zero: never, or there is no bucket.",
            width=6,
            red_from=3 * 3600,
        ),
        Panel(
            "Since a task's last success",
            one(
                "max by (task) (time() - (crypto_lake_task_last_ok_timestamp_seconds{lake} > 0))"
                " or max by (task) (crypto_lake_task_last_ok_timestamp_seconds{lake} * 0)",
                "{{task}}",
            ),
            "s",
            "Zero: it never ran. More than three of its periods: see its CronJob and its last jobs.",
            width=12,
        ),
        Panel(
            "Length of the last runs",
            one("max by (task) (crypto_lake_task_last_duration_seconds{lake})", "{{task}}"),
            "s",
            "Near a task's period: its runs are skipped.",
            width=12,
        ),
        Panel(
            "Failures in a row",
            one("max by (task) (crypto_lake_task_consecutive_failures{lake})", "{{task}}"),
            "short",
            "The log of the task's last job says why.",
            width=12,
            red_from=1,
        ),
        Panel(
            "Alerts by condition",
            one("sum by (type) (crypto_lake_alerts_firing{lake})", "{{type}}"),
            "short",
            "docs/alerts.md has the conditions and their limits.",
            width=12,
        ),
        Panel(
            "Webhook",
            (
                Query("sum(increase(crypto_lake_alerts_sent_total{lake}[$__rate_interval]))", "delivered"),
                Query("sum(increase(crypto_lake_webhook_failures_total{lake}[$__rate_interval]))", "failed"),
            ),
            "short",
            "Failures: the Secret with the address, or the way out of the cluster.",
            width=12,
        ),
    ),
)
_CONNECTIONS: Final = Row(
    "Connections and clock",
    (
        Panel(
            "Connections",
            one("sum by (state) (crypto_lake_connections{lake})", "{{state}}"),
            "short",
            "All are `live` but for moments.",
        ),
        Panel(
            "Ended connections",
            one(
                "sum by (outcome) (increase(crypto_lake_connection_ends_total{lake}[$__rate_interval]))",
                "{{outcome}}",
            ),
            "short",
            "`lifetime` and `server_shutdown` are planned: the next one is live before. Others cost messages.",
        ),
        Panel(
            "Reconnects",
            one("sum by (pod) (increase(crypto_lake_reconnects_total{lake}[$__rate_interval]))", "{{pod}}"),
            "short",
            "After unplanned ends: network, proxy, exchange.",
        ),
        Panel(
            "Clock offset",
            one("max by (pod) (abs(crypto_lake_clock_offset_seconds{lake}))", "{{pod}}"),
            "s",
            "Between the exchange's clock and the node's. Beyond a second: NTP.",
            red_from=1,
        ),
        Panel(
            "Round trip",
            one("max by (pod) (crypto_lake_clock_round_trip_seconds{lake})", "{{pod}}"),
            "s",
            "To the exchange and back; the least lag that can be had.",
        ),
    ),
)
_PROCESS: Final = Row(
    "Collectors",
    (
        Panel(
            "CPU",
            one("sum by (pod) (rate(process_cpu_seconds_total{lake}[$__rate_interval]))", "{{pod}}"),
            "short",
            "Cores. At one whole core a collector falls behind: more shards.",
            red_from=0.9,
        ),
        Panel(
            "Memory",
            one("sum by (pod) (process_resident_memory_bytes{lake})", "{{pod}}"),
            "bytes",
            "Resident. Compare with the limit in spec.pod.resources.",
        ),
        Panel(
            "Running for",
            one("time() - min by (pod) (process_start_time_seconds{lake})", "{{pod}}"),
            "s",
            "A step to zero is a restart, and a gap of about a second where there is one replica.",
        ),
        Panel(
            "Configuration applied",
            one("min by (pod) (crypto_lake_configuration_applied{lake})", "{{pod}}"),
            "bool_yes_no",
            "No: the collector goes on by its older one. Its /status says why; the lake's condition Reconciled, too.",
            red_below=1,
        ),
    ),
)

LAKE: Final = Board(
    "lake",
    "crypto-lake: lakes",
    "lake",
    "crypto_lake_collector_info",
    (_NOW, _DATA, _COMPLETENESS, _DURABILITY, _TASKS, _CONNECTIONS, _PROCESS),
)
