"""Every child of a lake, as it should be. Pure: equal arguments give equal manifests, to the byte."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake_operator import shards
from crypto_lake_operator.api import ANNOTATION_ABANDON, CryptoLake
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Manifest, Observed
from crypto_lake_operator.render import cronjobs, files, monitoring, network, seen, stateful
from crypto_lake_operator.render.context import Context, finished

__all__ = ["Plan", "plan", "render"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that there should be. manifests: in the order in which they are applied.

    files: by slot, sha256 of the configuration file that its collector should have applied.
    """

    lake: CryptoLake
    assignment: shards.Assignment
    manifests: tuple[Manifest, ...]
    files: dict[Slot, str]


def plan(lake: CryptoLake, settings: OperatorSettings, observed: Observed) -> Plan:
    """The lake's children, and who collects what on the way to what is wanted."""
    spec = lake.spec
    assignment = shards.assign(
        spec.symbols,
        spec.shards,
        spec.replicas,
        seen.slots(lake, observed),
        abandon=lake.metadata.annotations.get(ANNOTATION_ABANDON) == "true",
        suspended=spec.suspend,
    )
    context = Context(lake, settings, assignment, observed.apis)
    texts = {slot: files.collector_file(context, slot) for slot in assignment.collects}
    manifests = [
        *network.service_accounts(context),
        *files.config_maps(context, texts),
        *network.policies(context),
        *network.services(context),
        *stateful.sets(context),
        *cronjobs.of_slots(context),
        *cronjobs.of_lake(context),
        *monitoring.objects(context),
    ]
    digests = {slot: files.digest(text) for slot, text in texts.items()}
    return Plan(lake, assignment, tuple(finished(context, manifest) for manifest in manifests), digests)


def render(lake: CryptoLake, settings: OperatorSettings, observed: Observed) -> list[Manifest]:
    """The manifests alone."""
    return list(plan(lake, settings, observed).manifests)
