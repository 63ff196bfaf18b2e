"""The operator by its chart, as a user installs it."""

from __future__ import annotations

from pathlib import Path

from support import pods
from support.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "crypto-lake:e2e"
OPERATOR = "crypto-lake-operator"
OPERATOR_NAMESPACE = "crypto-lake-system"


def install(cluster: Cluster, chart: Path | None = None, *further: str) -> str:
    """helm upgrade --install, as docs/kind.md has it; `further` arguments are added."""
    cluster.apply(pods.namespace(OPERATOR_NAMESPACE), namespace="default")
    repository, _, tag = IMAGE.partition(":")
    return cluster.helm(
        *("upgrade", "--install", "crypto-lake", str(chart or ROOT / "charts" / "crypto-lake")),
        *("--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "120s"),
        *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
        *("--set", f"watch.namespaces={{{cluster.namespace}}}"),
        *("--set", f"nodeSelector.{pods.PLACE.replace('.', chr(92) + '.')}=around"),
        # Of the API server, and of the webhook.
        *("--set", f"networkPolicy.egressPorts={{443,6443,{pods.WEBHOOK_PORT}}}"),
        *further,
    )
