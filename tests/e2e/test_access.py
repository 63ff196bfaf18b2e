"""The operator's rights are what it uses: its requests in the API server's audit log against its rules.

Runs last, when all other tests have made it do what it does.
"""

from __future__ import annotations

import json

import pytest

from crypto_lake_operator import access
from support import kind
from support.cluster import Cluster

pytestmark = [pytest.mark.docker, pytest.mark.slow]
ACCOUNT = "system:serviceaccount:crypto-lake-system:crypto-lake-operator"
# Granted, and used only where a cluster has what these tests' cluster has not, or in what they can't bring about.
UNUSED = {
    # Kinds of the Prometheus operator.
    *(
        ("monitoring.coreos.com", plural, verb)
        for plural in ("servicemonitors", "prometheusrules")
        for verb in ("get", "list", "watch", "create", "patch", "delete")
    ),
    # Made for every lake; one day a version may make them no more.
    ("", "services", "delete"),
    ("policy", "poddisruptionbudgets", "delete"),
    # A collector that is stuck on an old revision; a task that holds a volume on the wrong node.
    ("", "pods/eviction", "create"),
    ("batch", "jobs", "delete"),
}

# As many tests as there are in a whole run, or nearly.
WHOLE = 60

Use = tuple[str, str, str]


def uses(cluster: Cluster) -> dict[Use, int]:
    """(group, resource, verb) -> the worst answer's code; what is open to every account is left out."""
    found: dict[Use, int] = {}
    for text in kind.audit_log(cluster.name).splitlines():
        line = json.loads(text)
        about = line.get("objectRef")
        if line["user"]["username"] != ACCOUNT or about is None:
            continue
        resource = about["resource"] + (f"/{about['subresource']}" if "subresource" in about else "")
        use = (about.get("apiGroup", ""), resource, line["verb"])
        code = line.get("responseStatus", {}).get("code", 0)
        if line["verb"] == "patch" and code == 201:
            # An apply that made something: for that both rights are asked.
            found.setdefault((use[0], use[1], "create"), 200)
        found[use] = max(found.get(use, 0), code if code == 403 else 200)
    return found


def test_it_used_what_it_may_and_may_what_it_used(cluster: Cluster, steady: str) -> None:
    granted = access.allowed(access.ALL)
    used = uses(cluster)
    assert used, "the audit log has nothing of the operator"
    assert used.keys() - granted == set()
    assert [use for use, code in used.items() if code == 403] == []


def test_no_right_is_without_a_use(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """Of the full run: where only some tests ran, less was used."""
    if request.session.testsfailed or len(request.session.items) < WHOLE:
        pytest.skip("only after all other tests passed")
    unused = access.allowed(access.ALL) - uses(cluster).keys()
    assert unused <= UNUSED, sorted(unused - UNUSED)
