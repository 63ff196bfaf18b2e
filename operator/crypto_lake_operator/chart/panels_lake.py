"""The dashboard of lakes: what is now, what comes in, and the collectors; other rows are in panels_complete and panels_volume."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.chart.panels import Board, Panel, Query, Row, one, rate
from crypto_lake_operator.chart.panels_complete import COMPLETENESS, HEALING, LIVENESS
from crypto_lake_operator.chart.panels_volume import CONNECTIONS, DURABILITY, TASKS

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
            rate("crypto_lake_stream_messages_total", "stream", "{{stream}}"),
            "cps",
            "By stream. Down to nothing: the connections, or the exchange.",
        ),
        Panel(
            "Received",
            rate("crypto_lake_stream_bytes_total", "stream", "{{stream}}"),
            "Bps",
            "As the exchange sent it, before compression.",
        ),
        Panel(
            "Written",
            rate("crypto_lake_writer_written_bytes_total", "pod", "{{pod}}"),
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
            rate("crypto_lake_stream_lost_messages_total", "stream", "{{stream}}"),
            "cps",
            "Received and not written. The ledger has the trades' ids. Look at the volume.",
            width=12,
            red_from=0.001,
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
    (_NOW, _DATA, COMPLETENESS, HEALING, LIVENESS, DURABILITY, TASKS, CONNECTIONS, _PROCESS),
)
