"""All files that are made of the operator's types, but for manifests/install.yaml, which needs helm.

Paths are from the repository's root. What stands between marks in a page is made, the rest of it is read and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from crypto_lake_operator import access, alert_rules, crd
from crypto_lake_operator.chart import dashboard, schema, troubles, values
from crypto_lake_operator.chart.panels import Board
from crypto_lake_operator.chart.panels_lake import LAKE
from crypto_lake_operator.chart.panels_operator import OPERATOR
from crypto_lake_operator.cli import written
from crypto_lake_operator.metrics import PREFIX, Figures, Metrics

CHART: Final = "charts/crypto-lake"
DASHBOARDS_PAGE: Final = "docs/dashboards.md"
KUBERNETES_PAGE: Final = "docs/kubernetes.md"
BOARDS: Final = (LAKE, OPERATOR)
_MADE: Final = "# Made by `make chart`; changes are lost.\n"


def made(read: Callable[[str], str]) -> dict[str, str]:
    """Path to text. `read` gives a file of the repository, for those that are made in part."""
    documented = values.read(read(f"{CHART}/values.yaml"))
    pages = {
        f"{CHART}/README.md": values.table(documented),
        KUBERNETES_PAGE: troubles.table(),
        DASHBOARDS_PAGE: "\n\n".join([*map(_page_of, BOARDS), operator_metrics()]),
    }
    return {
        "manifests/crd.yaml": written([crd.crd()], "yaml"),
        f"{CHART}/crds/cryptolakes.yaml": written([crd.crd()], "yaml"),
        f"{CHART}/values.schema.json": schema.schema(documented),
        f"{CHART}/files/access.yaml": rules_of_roles(),
        f"{CHART}/files/operator-rules.yaml": _MADE + written([operator_rules()], "yaml"),
        **{f"{CHART}/files/dashboards/{board.name}.json": dashboard.text(board) for board in BOARDS},
        **{path: values.page(read(path), text) for path, text in pages.items()},
    }


def rules_of_roles() -> str:
    """What the templates of Roles take: the rules by where they hold."""
    lines = [_MADE.rstrip()]
    for key, rules in (("lakes", access.IN_NAMESPACE), ("own", access.IN_OWN), ("cluster", access.CLUSTER)):
        lines += [f"{key}:", *_written(rules)]
    return "\n".join(lines) + "\n"


def _written(rules: Iterable[access.Rule]) -> Iterable[str]:
    for rule in rules:
        yield f"  # {rule.why}"
        yield f'  - apiGroups: ["{rule.group}"]'
        yield f"    resources: [{rule.resource}]"
        yield f"    verbs: [{', '.join(rule.verbs)}]"


def operator_rules() -> dict[str, Any]:
    """A PrometheusRule's spec; `{operator}` is left for the template to fill in."""
    rules = [alert_rules.rule(alert, "", {}) for alert in alert_rules.OPERATOR]
    for rule, alert in zip(rules, alert_rules.OPERATOR, strict=True):
        rule["expr"] = alert.expression
    return {"groups": [{"name": "crypto-lake-operator", "rules": rules}]}


def _page_of(board: Board) -> str:
    return f"## {board.title}\n\n{dashboard.table(board)}"


def operator_metrics() -> str:
    """Every metric of the operator, as a section of a page. Those of the process are Prometheus' own."""
    metrics = Metrics()
    metrics.bind(Figures)
    lines = [
        "## The operator's metrics",
        "",
        "At `/metrics` on port 9465. Beside them are Prometheus' own of the process.",
        "",
        "| name | type | labels | |",
        "|---|---|---|---|",
    ]
    for family in metrics.registry.collect():
        if not family.name.startswith(PREFIX):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        lines.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(lines)
