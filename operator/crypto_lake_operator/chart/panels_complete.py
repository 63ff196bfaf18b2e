"""Rows of the dashboard of lakes: what is missing, what is fetched, whether bars are right, and whether streams live."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.chart.panels import Panel, Query, Row, one, rate

COMPLETENESS: Final = Row(
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
        Panel(
            "Bars checked",
            one("sum by (verdict) (crypto_lake_checked_seconds{lake})", "{{verdict}}"),
            "short",
            "Seconds that the last check looked at. `unverifiable`: the exchange could not be asked, or gave no answer.",
        ),
        Panel(
            "Bars that differ",
            one('max by (pod) (crypto_lake_checked_seconds{lake,verdict="unexplained"})', "{{pod}}"),
            "short",
            "Bars unlike the exchange's own klines, that the ledger does not explain. See CryptoLakeBarsDiffer in the runbook.",
            red_from=1,
        ),
    ),
)
HEALING: Final = Row(
    "Healing",
    (
        Panel(
            "Gaps that are worked on",
            one("sum by (pod) (crypto_lake_healing_gaps_waiting{lake})", "{{pod}}"),
            "short",
            "Holes that the collector fetches, or waits to. Down to zero after each reconnect.",
        ),
        Panel(
            "Age of the oldest of them",
            one("max by (pod) (crypto_lake_healing_oldest_gap_seconds{lake})", "{{pod}}"),
            "s",
            "Hours: the exchange has said nothing of it, or stopped the asking. After a day it is given up, with the reason in the "
            "ledger.",
            red_from=3600,
        ),
        Panel(
            "What it does",
            one("sum by (state) (crypto_lake_healing_state{lake})", "{{state}}"),
            "short",
            "Collectors by what healing does. `waiting`: its share of the weight is used; `blocked`: the exchange said so.",
        ),
        Panel(
            "Trades, by what became of them",
            (
                Query("sum(rate(crypto_lake_healed_trades_total{lake}[$__rate_interval]))", "healed"),
                Query(
                    "sum(rate(crypto_lake_healed_aggregated_trades_total{lake}[$__rate_interval]))",
                    "of these by sums alone",
                ),
                Query(
                    "sum(rate(crypto_lake_unavailable_trades_total{lake}[$__rate_interval]))", "unavailable"
                ),
                Query(
                    "sum(rate(crypto_lake_never_existed_trades_total{lake}[$__rate_interval]))",
                    "never existed",
                ),
            ),
            "cps",
            "`unavailable`: the exchange does not give them; a backfill from its archive may, on the next day.",
        ),
        Panel(
            "Requests",
            rate("crypto_lake_healing_requests_total", "outcome", "{{outcome}}"),
            "cps",
            "By how they were answered. `limited`: 429 or 418, which stops all of them for a while.",
        ),
        Panel(
            "REST weight used",
            one(
                "max by (pod) (crypto_lake_rest_weight_used{lake} / crypto_lake_rest_weight_share{lake})",
                "{{pod}}",
            ),
            "percentunit",
            "Of the share of a minute, by all processes on the volume: healing, checks, the clock, liveness.",
        ),
        Panel(
            "Asking is stopped for",
            one("max by (pod) (crypto_lake_rest_blocked_seconds{lake})", "{{pod}}"),
            "s",
            "Because the exchange said so. Minutes to days: the address is banned (418), by whatever else asks from it, too.",
            red_from=1,
        ),
    ),
)
LIVENESS: Final = Row(
    "Liveness",
    (
        Panel(
            "Streams, by what they are",
            one("sum by (liveness) (crypto_lake_streams{lake})", "{{liveness}}"),
            "short",
            "docs/liveness.md has the names. `quiet` and `halted` are the market's; what is dead is replaced.",
            width=12,
        ),
        Panel(
            "Dead streams",
            one("topk(10, max by (symbol, stream) (crypto_lake_stream_dead{lake}))", "{{symbol}} {{stream}}"),
            "bool_yes_no",
            "It does not bring what the exchange has. For longer than a minute: see its evidence in the pod's /status.",
            width=12,
            red_from=1,
        ),
        Panel(
            "Replaced",
            one(
                "sum by (liveness) (increase(crypto_lake_stream_replacements_total{lake}[$__rate_interval]))",
                "{{liveness}}",
            ),
            "short",
            "Connections replaced for a dead stream, by what was found. Again and again: network, proxy, CPU, or the exchange.",
            width=12,
        ),
        Panel(
            "Asked about silent streams",
            rate("crypto_lake_liveness_requests_total", "pod", "{{pod}}"),
            "cps",
            "Requests of weight 2. Many: symbols that trade rarely, or streams that are silent.",
            width=12,
        ),
    ),
)
