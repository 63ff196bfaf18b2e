"""What the operator alone sees, that there is no collector, arrives at the webhook; what concerns data the collectors send.

(test_live_changes has theirs.) Nothing before this in the run may restart the operator, whose five minutes begin anew then.
"""

from __future__ import annotations

import pytest

from support.cluster import Cluster

from .flow import UNPLACED, Flow
from .lakes import alerts, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_a_lake_without_a_collector_is_told_by_the_operator_and_told_again_when_there_is_one(
    cluster: Cluster, flow: Flow
) -> None:
    told = cluster.wait_for_condition(UNPLACED, "Ready", "False", 60, "Unschedulable")
    assert "fits on no node" in told["message"]
    (firing,) = cluster.wait(
        "the operator's alert", lambda: alerts(cluster, "collector_down", UNPLACED), 400, 2
    )
    assert firing["state"] == "firing"
    assert firing["severity"] == "critical"
    assert "fits on no node" in firing["message"]
    # The lake's place is found: a merge patch takes the selector away.
    cluster.patch("CryptoLake", UNPLACED, {"spec": {"pod": {"nodeSelector": None}}})
    cluster.wait_for_condition(UNPLACED, "Ready", "True", 120)
    resolved = cluster.wait(
        "that it is over",
        lambda: [one for one in alerts(cluster, "collector_down", UNPLACED) if one["state"] == "resolved"],
        90,
        2,
    )
    assert resolved[0]["key"] == firing["key"]
    remove(cluster, UNPLACED)
