"""Rows of the dashboard of lakes: from the socket to the disk, the volume and its tasks, the connections."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.chart.panels import Panel, Query, Row, one, rate

DURABILITY: Final = Row(
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
            rate("crypto_lake_writer_errors_total", "pod", "{{pod}}"),
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
TASKS: Final = Row(
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
CONNECTIONS: Final = Row(
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
