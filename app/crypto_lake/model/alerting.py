"""The conditions a lake can raise an alert for, and what is to be known of each. Pure; the configuration names them,
`watch` judges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, Protocol

from crypto_lake.model.symbols import nearest

Severity = Literal["warning", "critical"]
Unit = Literal["percent", "minutes", "hours", "seconds", "an hour", "times"]

# Which key of an entry in `alerting.conditions` bears a limit of this unit.
FIELD: Final[Mapping[Unit, str]] = MappingProxyType(
    {
        "percent": "threshold",
        "seconds": "threshold",
        "an hour": "threshold",
        "times": "threshold",
        "minutes": "threshold_minutes",
        "hours": "threshold_hours",
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition with its limit, in the unit it has. `wording` says what fires it, `{}` being the limit."""

    type: str
    limit: float
    unit: Unit
    severity: Severity
    wording: str
    enabled: bool = True

    @property
    def when(self) -> str:
        """What fires it, for people."""
        return self.wording.format(f"{self.limit:g}")


# Their order is the one in which they are shown: what loses data first.
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.type: rule
        for rule in (
            Rule("collector_down", 1, "minutes", "critical", "no collector reports for {} min"),
            Rule(
                "not_writing", 1, "minutes", "critical", "writes fail, or nothing reaches the disk for {} min"
            ),
            Rule(
                "data_gap",
                5,
                "minutes",
                "critical",
                "nothing comes of a symbol for {} min while others trade",
            ),
            Rule("holes", 1, "an hour", "warning", "{} or more trades are newly missing in an hour"),
            Rule(
                "disk_usage",
                80,
                "percent",
                "warning",
                "the disk, or its inodes, are {} % used; critical at 95",
            ),
            Rule("disk_full_in", 24, "hours", "critical", "at the rate of the last hours it is full in {} h"),
            Rule("transform_failed", 1, "times", "warning", "transformations that failed in a row: {}"),
            Rule("transform_late", 180, "minutes", "warning", "no transformation succeeded for {} min"),
            Rule("compact_failed", 1, "times", "warning", "sealings that failed in a row: {}"),
            Rule("verify_failed", 1, "times", "critical", "verifications that failed in a row: {}"),
            Rule("upload_failed", 2, "times", "warning", "uploads that failed in a row: {}"),
            Rule("upload_late", 180, "minutes", "warning", "no upload succeeded for {} min"),
            Rule("publish_failed", 2, "times", "warning", "publications that failed in a row: {}"),
            Rule("cleanup_late", 180, "minutes", "warning", "no clean-up succeeded for {} min"),
            Rule("cleanup_failed", 2, "times", "warning", "clean-ups that failed in a row: {}"),
            Rule("bars_differ", 1, "times", "critical", "bars that are not the exchange's, unexplained: {}"),
            Rule("check_failed", 2, "times", "warning", "checks of bars that failed in a row: {}"),
            Rule("quarantine", 10, "an hour", "warning", "{} or more messages were put aside in an hour"),
            Rule("clock_offset", 1, "seconds", "warning", "this machine's clock is off by more than {} s"),
        )
    }
)


class Entry(Protocol):
    """An entry of `alerting.conditions`."""

    @property
    def type(self) -> str: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def threshold_minutes(self) -> float | None: ...
    @property
    def threshold_hours(self) -> float | None: ...


def problems(entries: Iterable[Entry]) -> list[str]:
    """What is wrong with these entries: unknown types, limits in the wrong key, types that stand twice."""
    found: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        rule = RULES.get(entry.type)
        if rule is None:
            near = nearest(entry.type, RULES)
            hint = f"did you mean {near}?" if near else f"known are {', '.join(RULES)}"
            found.append(f"unknown type {entry.type}; {hint}")
            continue
        if entry.type in seen:
            found.append(f"{entry.type} stands twice; keep one of them")
        seen.add(entry.type)
        right = FIELD[rule.unit]
        for field in sorted(set(FIELD.values())):
            limit: float | None = getattr(entry, field)
            if limit is None:
                continue
            if field != right:
                found.append(f"{entry.type} takes {right} ({rule.unit}), not {field}")
            elif not 0 < limit < float("inf"):
                found.append(f"{entry.type}: {field} must be more than 0")
            elif rule.unit == "percent" and limit > 100:
                found.append(f"{entry.type}: {field} is in percent, 100 at most")
    return found


def effective(
    entries: Iterable[Entry],
    *,
    transform_every_minutes: float,
    upload_every_minutes: float,
    cleanup_every_minutes: float,
) -> dict[str, Rule]:
    """All rules with what the entries change. A condition that no entry names keeps its default and is on.

    transform_late, upload_late and cleanup_late without a limit of their own are three times the interval of their
    task.
    """
    rules = dict(RULES)
    for type_, minutes in (
        ("transform_late", transform_every_minutes),
        ("upload_late", upload_every_minutes),
        ("cleanup_late", cleanup_every_minutes),
    ):
        rules[type_] = replace(rules[type_], limit=3 * minutes)
    for entry in entries:
        rule = rules[entry.type]
        limit: float | None = getattr(entry, FIELD[rule.unit])
        rules[entry.type] = replace(
            rule, enabled=entry.enabled, limit=rule.limit if limit is None else float(limit)
        )
    return rules
