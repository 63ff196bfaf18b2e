"""CryptoLakes that are wrong are refused by kubectl, with the words that help; the nearest right ones are taken."""

from __future__ import annotations

import pytest

from support import pods
from support.bad_lakes import BAD_LAKES, BadLake
from support.cluster import Cluster, CommandFailedError, Manifest

pytestmark = [pytest.mark.docker, pytest.mark.slow]
# The operator does not look after this one: nothing is made of what is applied here.
ELSEWHERE = "unwatched"


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster) -> Cluster:
    cluster.apply(pods.namespace(ELSEWHERE), namespace="default")
    return cluster


def manifest(bad: BadLake, spec: dict[str, object], name: str) -> Manifest:
    return {
        "apiVersion": "cryptolake.io/v1alpha1",
        "kind": "CryptoLake",
        "metadata": {"name": name} | bad.metadata,
        "spec": spec,
    }


@pytest.mark.parametrize("number", range(len(BAD_LAKES)), ids=[str(bad) for bad in BAD_LAKES])
def test_it_is_refused_and_the_mended_one_is_taken(elsewhere: Cluster, number: int) -> None:
    bad, name = BAD_LAKES[number], f"bad-{number}"
    if bad.before is not None:
        elsewhere.apply(manifest(bad, bad.before, name), namespace=ELSEWHERE)
    with pytest.raises(CommandFailedError) as refused:
        elsewhere.apply(manifest(bad, bad.spec, name), namespace=ELSEWHERE)
    assert bad.message in str(refused.value)
    elsewhere.apply(manifest(bad, bad.good, name), namespace=ELSEWHERE)
    elsewhere.delete("CryptoLake", name, ELSEWHERE)


def test_an_unknown_field_is_refused_by_name(elsewhere: Cluster) -> None:
    lake = pods.lake("unknown-field") | {"spec": {"symbols": ["BTCUSDT"], "simbols": ["BTCUSDT"]}}
    with pytest.raises(CommandFailedError, match=r'unknown field "spec\.simbols"'):
        elsewhere.apply(lake, namespace=ELSEWHERE)
    assert elsewhere.get("CryptoLake", "unknown-field", ELSEWHERE) is None
