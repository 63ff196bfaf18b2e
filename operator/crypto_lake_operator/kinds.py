"""Where the API serves each kind that the operator touches. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crypto_lake_operator import api, naming
from crypto_lake_operator.observed import API_PROMETHEUS_RULE, API_SERVICE_MONITOR


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API. group: empty for the core one. namespaced: whether its objects are in namespaces."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of its collection, an object or an object's subresource. No namespace: all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{root}{within}/{self.plural}", name, subresource) if part)


LAKE: Final = Kind(api.KIND, api.GROUP, api.VERSION, api.PLURAL)
POD: Final = Kind("Pod", "", "v1", "pods")
CLAIM: Final = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
SECRET: Final = Kind("Secret", "", "v1", "secrets")
JOB: Final = Kind("Job", "batch", "v1", "jobs")
STATEFUL_SET: Final = Kind("StatefulSet", "apps", "v1", "statefulsets")
STORAGE_CLASS: Final = Kind("StorageClass", "storage.k8s.io", "v1", "storageclasses", namespaced=False)
LEASE: Final = Kind("Lease", "coordination.k8s.io", "v1", "leases")
EVENT: Final = Kind("Event", "events.k8s.io", "v1", "events")
_MONITORING: Final = "monitoring.coreos.com"

# What a lake's plan may hold, in no order.
CHILDREN: Final = (
    Kind("ServiceAccount", "", "v1", "serviceaccounts"),
    Kind("ConfigMap", "", "v1", "configmaps"),
    Kind("Service", "", "v1", "services"),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    STATEFUL_SET,
    Kind("CronJob", "batch", "v1", "cronjobs"),
)
# Those that a cluster may lack, by what `Observed.apis` calls them.
OPTIONAL: Final = {
    API_SERVICE_MONITOR: Kind("ServiceMonitor", _MONITORING, "v1", "servicemonitors"),
    API_PROMETHEUS_RULE: Kind("PrometheusRule", _MONITORING, "v1", "prometheusrules"),
}
ALL: Final = (
    LAKE,
    POD,
    CLAIM,
    SECRET,
    JOB,
    STORAGE_CLASS,
    LEASE,
    EVENT,
    *CHILDREN,
    *OPTIONAL.values(),
)
_BY_NAME: Final = {kind.kind: kind for kind in ALL}

# What the API server is asked to send of each kind, so that what is not ours costs nothing.
SELECT_CHILDREN: Final = f"app.kubernetes.io/managed-by={naming.MANAGED_BY}"
SELECT_PODS: Final = f"app.kubernetes.io/name={naming.APP},{SELECT_CHILDREN}"
# A StatefulSet gives its claims the labels of its selector alone.
SELECT_CLAIMS: Final = f"app.kubernetes.io/name={naming.APP}"


def of(kind: str) -> Kind:
    """Raises KeyError for a kind that the operator does not touch."""
    return _BY_NAME[kind]


def selector(kind: Kind) -> str:
    """The label selector under which a kind is watched."""
    if kind is CLAIM:
        return SELECT_CLAIMS
    return SELECT_PODS if kind is POD else SELECT_CHILDREN
