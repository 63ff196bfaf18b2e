"""Who the pods are and whom they may talk to: ServiceAccount, Service, NetworkPolicy, PodDisruptionBudget."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLakeSpec
from crypto_lake_operator.observed import Manifest
from crypto_lake_operator.render.context import HTTP_PORT, Context
from crypto_lake_operator.render.stateful import COMPONENT

EMULATOR_VARIABLE: Final = "STORAGE_EMULATOR_HOST"
_NAMESPACE: Final = "kubernetes.io/metadata.name"
_DASHBOARD: Final = "crypto-lake-dashboard"
_DEFAULT_PORTS: Final = {"https": 443, "wss": 443, "http": 80, "ws": 80}


def service_accounts(context: Context) -> list[Manifest]:
    """One of the lake's own, that may do nothing in the cluster; a bucket may know it."""
    if context.spec.pod.service_account_name is not None:
        return []
    made = context.manifest(
        "v1", "ServiceAccount", context.base, "account", {"automountServiceAccountToken": False}
    )
    if context.spec.pod.service_account_annotations:
        made["metadata"]["annotations"] = dict(context.spec.pod.service_account_annotations)
    return [made]


def services(context: Context) -> list[Manifest]:
    """Headless: a name for each pod, and what Prometheus finds them by, also those that are not ready."""
    body: dict[str, Any] = {
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": naming.selector(context.name, COMPONENT),
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        }
    }
    made = context.manifest("v1", "Service", context.base, COMPONENT, body)
    # For a Prometheus that knows no ServiceMonitor.
    made["metadata"]["annotations"] = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(HTTP_PORT),
        "prometheus.io/path": "/metrics",
    }
    return [made]


def policies(context: Context) -> list[Manifest]:
    """One pod of a lake may be evicted at a time, of both replicas together."""
    budget = context.manifest(
        "policy/v1",
        "PodDisruptionBudget",
        context.base,
        COMPONENT,
        {
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": naming.selector(context.name, COMPONENT)},
                # A pod that is not ready collects nothing: it may always go.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            }
        },
    )
    return [budget, *_network_policy(context)]


def _network_policy(context: Context) -> list[Manifest]:
    if not context.spec.network_policy.enabled:
        return []
    tcp = [{"protocol": "TCP", "port": port} for port in egress_ports(context.spec)]
    body: dict[str, Any] = {
        "spec": {
            "podSelector": {"matchLabels": naming.selector(context.name)},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [
                {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {"ports": tcp},
                # Credentials of the bucket, on Google's cloud.
                {
                    "to": [
                        {"ipBlock": {"cidr": "169.254.169.252/32"}},
                        {"ipBlock": {"cidr": "169.254.169.254/32"}},
                    ],
                    "ports": [{"protocol": "TCP", "port": port} for port in (80, 987, 988)],
                },
            ],
            "ingress": [
                {"from": _may_ask(context), "ports": [{"protocol": "TCP", "port": HTTP_PORT}]},
            ],
        }
    }
    return [context.manifest("networking.k8s.io/v1", "NetworkPolicy", context.base, "network", body)]


def _may_ask(context: Context) -> list[dict[str, Any]]:
    settings = context.settings
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE: settings.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": naming.MANAGED_BY}},
    }
    # The one that the operator's chart makes, beside it.
    dashboard = {
        "namespaceSelector": operator["namespaceSelector"],
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": _DASHBOARD}},
    }
    namespace = (
        {"matchLabels": {_NAMESPACE: settings.prometheus_namespace}} if settings.prometheus_namespace else {}
    )
    pairs = [label.partition("=") for label in settings.prometheus_labels]
    labels = {key: value for key, _, value in pairs}
    prometheus = {
        "namespaceSelector": namespace,
        "podSelector": {"matchLabels": labels} if labels else {},
    }
    return [operator, dashboard, prometheus]


def egress_ports(spec: CryptoLakeSpec) -> list[int]:
    """TCP ports that are open to the world: 443, those of other addresses that spec names, and spec's own."""
    addresses = [spec.endpoint.websocket, spec.endpoint.rest]
    addresses += [variable.value for variable in spec.pod.env if variable.name == EMULATOR_VARIABLE]
    found = {443, *spec.network_policy.egress_ports}
    found.update(port for address in addresses if address and (port := _port(address)) is not None)
    return sorted(found)


def _port(address: str) -> int | None:
    """The port of an address, with or without a scheme; None where it can't be told."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        return parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
