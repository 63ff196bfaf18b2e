"""An upgrade from a chart whose CryptoLake knew one field less, with that field set in the values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import pods
from support.cluster import Cluster, CommandFailedError, Manifest

from .chart import OPERATOR_NAMESPACE, ROOT, install
from .lakes import identity, make, remove

pytestmark = [pytest.mark.docker, pytest.mark.slow]
CRD = "cryptolakes.cryptolake.io"
FIELD = "publish"


def spec_of(definition: dict[str, Any]) -> dict[str, Any]:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def older_chart(folder: Path) -> Path:
    """The chart as it was when there was no `spec.publish`."""
    chart = folder / "crypto-lake"
    shutil.copytree(ROOT / "charts" / "crypto-lake", chart)
    path = chart / "crds" / "cryptolakes.yaml"
    definition = yaml.safe_load(path.read_text())
    del spec_of(definition)[FIELD]
    path.write_text(yaml.safe_dump(definition))
    return chart


def is_refused(cluster: Cluster, lake: Manifest) -> bool:
    """For the field; nothing is made."""
    arguments = ("apply", "--dry-run=server", "--namespace", cluster.namespace, "-f", "-")
    try:
        cluster.kubectl(*arguments, stdin=json.dumps(lake))
    except CommandFailedError as error:
        return "unknown field" in str(error)
    return False


def test_the_definition_is_brought_up_to_date_and_no_collector_restarts(
    cluster: Cluster, steady: str, tmp_path: Path
) -> None:
    pod = f"{steady}-a-0"
    before = identity(cluster, pod)
    older = older_chart(tmp_path)
    # As it would have been installed: its definition stands, and its hook did not touch it.
    install(cluster, older, "--set", "crd.upgrade=false")
    cluster.kubectl("replace", "-f", str(older / "crds" / "cryptolakes.yaml"))
    assert FIELD not in spec_of(cluster.need("CustomResourceDefinition", CRD, ""))
    small = pods.lake("older", publish={"scratch": "50Mi"})
    # What is refused follows the definition a moment later.
    cluster.wait("the older definition in force", lambda: is_refused(cluster, small), 60)
    with pytest.raises(CommandFailedError, match=r'unknown field "spec\.publish"'):
        cluster.apply(small)

    # Now a release that knows it, and makes a lake with it.
    values = tmp_path / "values.yaml"
    # The lake is made where the release is: what is around it has longer names there.
    exchange = f"simulator.{cluster.namespace}"
    spec = pods.lake("released", exchange, bucket=None, publish={"scratch": "60Mi"})["spec"]
    values.write_text(json.dumps({"lake": {"enabled": True, "name": "released", "spec": spec}}))
    install(
        cluster,
        None,
        "--values",
        str(values),
        "--set",
        f"watch.namespaces={{{cluster.namespace},{OPERATOR_NAMESPACE}}}",
    )
    assert FIELD in spec_of(cluster.need("CustomResourceDefinition", CRD, ""))
    made = cluster.need("CryptoLake", "released", OPERATOR_NAMESPACE)
    assert made["spec"]["publish"]["scratch"] == "60Mi"
    said = cluster.helm("test", "crypto-lake", "--namespace", OPERATOR_NAMESPACE)
    assert "Succeeded" in said
    cluster.wait_for_condition("released", "Ready", "True", 60, namespace=OPERATOR_NAMESPACE)

    cluster.wait_for_condition(steady, "Ready", "True", 60)
    assert identity(cluster, pod) == before
    # Without the lake, as all other tests have it.
    install(cluster)
    cluster.wait(
        "the released lake's end",
        lambda: cluster.get("CryptoLake", "released", OPERATOR_NAMESPACE) is None,
        60,
    )


def test_a_lake_with_the_new_field_follows_it(cluster: Cluster) -> None:
    name = make(cluster, "newer", publish={"scratch": "70Mi"})
    volumes = cluster.need("CronJob", f"{name}-publish")["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "volumes"
    ]
    assert {"sizeLimit": "70Mi"} in [volume.get("emptyDir") for volume in volumes]
    remove(cluster, name)
