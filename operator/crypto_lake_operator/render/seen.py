"""What each slot is known to collect: of its configuration, its StatefulSet and its collector's report."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

import yaml

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render.files import digest
from crypto_lake_operator.report import Report
from crypto_lake_operator.shards import NONE, Seen, Symbols

# A collector that goes is given so long, from when it got nothing more to collect, to fetch what it missed.
HEALING_SECONDS: Final = 900


def slots(lake: CryptoLake, observed: Observed) -> dict[Slot, Seen]:
    """Every slot that has a configuration. Only where somebody deleted that, the StatefulSet tells how many there were:
    its number of pods alone, which anybody can change, makes no slot.
    """
    found: dict[Slot, Seen] = {}
    name = lake.metadata.name
    for replica in naming.REPLICAS:
        texts = _files(observed, naming.config_map(name, replica))
        live = observed.child("StatefulSet", naming.stateful_set(name, replica))
        pods = int(live.manifest()["spec"].get("replicas", 1)) if live and not texts else 0
        for shard in sorted(texts) or range(pods):
            slot = Slot(replica, shard)
            report = observed.report(naming.pod(name, slot))
            found[slot] = _seen(texts.get(shard), report, observed.taken_at)
    return found


def _seen(text: str | None, report: Report | None, now: datetime) -> Seen:
    live = report.live_symbols if report else None
    # Without its file, which somebody deleted, what it reports is what it was told.
    configured = _symbols(text) if text is not None else (live or NONE)
    drained = (
        report is not None
        and text is not None
        and not configured
        and not report.live_symbols
        and report.configuration is not None
        and report.configuration.sha256 == digest(text)
        and report.pending_bytes == 0  # as of now; what the last upload left may be old
        and not _heals(report, now)
    )
    return Seen(exists=True, configured=configured, live=live, drained=drained)


def _heals(report: Report, now: datetime) -> bool:
    """Whether it still fetches what it missed, which nobody else may know of. For a while: not all can be had."""
    if report.healing is None or not report.healing.gaps_waiting or report.configuration is None:
        return False
    return now.timestamp() - report.configuration.applied_ns / 1e9 < HEALING_SECONDS


def _files(observed: Observed, config_map: str) -> dict[int, str]:
    child = observed.child("ConfigMap", config_map)
    if child is None:
        return {}
    data = cast("dict[str, str]", child.manifest().get("data") or {})
    numbers = {key: key.removeprefix("shard-").removesuffix(".yml") for key in data}
    return {int(number): data[key] for key, number in numbers.items() if number.isdigit()}


def _symbols(text: str) -> Symbols:
    """Of a file that somebody may have spoiled: nothing is then known of it."""
    try:
        read: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe
        symbols = read["collector"]["symbols"]
        return frozenset(str(symbol) for symbol in symbols)
    except (yaml.YAMLError, KeyError, TypeError):
        return NONE
