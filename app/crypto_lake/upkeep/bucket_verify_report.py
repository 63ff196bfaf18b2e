"""What `verify --bucket` found: returned and printed; and how far it is."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from crypto_lake.upkeep.verify_report import Difference


class BucketReport(msgspec.Struct, frozen=True):
    """`by_kind`: objects that were looked at. `lines`: of raw and ledgers that were read.

    `without_manifest`: raw that nothing vouches for: it is being uploaded, or its manifest was lost (at most 1000
    names). `gone_inputs`: raw that published days were made of, and that is known to be gone. `unknown`: names that are
    none of the lake's (at most 1000).
    """

    schema: int
    url: str
    deep: bool
    seconds: float
    objects: int
    bytes: int
    bytes_read: int
    lines: int
    by_kind: dict[str, int]
    without_manifest: list[str]
    gone_inputs: int
    unknown: list[str]
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class BucketProgress:
    """How far a run is. `bytes` are of what is to be read: with `deep` of raw and bars, else of ledgers alone."""

    objects_done: int
    objects: int
    bytes_done: int
    bytes: int
    differences: int
