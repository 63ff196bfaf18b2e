"""A board of panels as Grafana's JSON. Pure; equal boards give equal texts."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crypto_lake_operator.chart.panels import Board, Panel, Row

_SCHEMA_VERSION: Final = 39  # of Grafana 10; later ones read it
_COLUMNS: Final = 24
_HEIGHTS: Final = {"stat": 4, "timeseries": 8}
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
# `.*` also where a label is not there at all: a lake on a machine of its own has neither namespace nor service.
MATCHERS: Final = 'namespace=~"$namespace",service=~"$service"'


def filled(expression: str, chosen: str = MATCHERS) -> str:
    """An expression of the table with the labels that choose its series."""
    for word in ("lake", "operator"):
        expression = expression.replace(f"{{{word}}}", f"{{{chosen}}}").replace(f"{{{word},", f"{{{chosen},")
    return expression


def text(board: Board) -> str:
    document: dict[str, Any] = {
        "uid": f"crypto-lake-{board.name}",
        "title": board.title,
        "tags": ["crypto-lake"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": _variables(board)},
        "annotations": {"list": []},
        "links": [],
        "panels": _laid_out(board.rows),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


def _variables(board: Board) -> list[dict[str, Any]]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "includeAll": False,
        "multi": False,
    }
    namespace = _variable("namespace", "Namespace", f"label_values({board.info}, namespace)")
    service = _variable(
        "service",
        board.word.capitalize(),
        f'label_values({board.info}{{namespace=~"$namespace"}}, service)',
    )
    return [source, namespace, service]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "regex": "",
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _laid_out(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """From left to right, and a new line where a panel finds no room."""
    made: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            }
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            made.append(_panel(panel, len(made) + 1, x, y))
            x += panel.width
            height = max(height, _HEIGHTS[panel.kind])
        y += height
    return made


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        options: dict[str, Any] = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
        }
    else:
        defaults |= {
            "color": {"mode": "palette-classic"},
            "min": None if panel.unit == "s" else 0,
            "custom": {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 10,
                "showPoints": "never",
                "thresholdsStyle": {
                    "mode": "off" if panel.red_from is None and panel.red_below is None else "line"
                },
            },
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHTS[panel.kind]},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": filled(query.expression),
                "legendFormat": query.legend or "__auto",
                "range": panel.kind == "timeseries",
                "instant": panel.kind == "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    first, limit, then = "green", panel.red_from, "red"
    if panel.red_below is not None:
        first, limit, then = "red", panel.red_below, "green"
    steps: list[dict[str, Any]] = [{"color": first, "value": None}]
    if limit is not None:
        steps.append({"color": then, "value": limit})
    return {"mode": "absolute", "steps": steps}


def table(board: Board) -> str:
    """For docs/dashboards.md."""
    lines: list[str] = []
    for row in board.rows:
        lines += ["", f"### {row.title}", "", "| panel | meaning |", "|---|---|"]
        lines += [f"| {panel.title} | {panel.meaning} |" for panel in row.panels]
    return "\n".join(lines).strip()
