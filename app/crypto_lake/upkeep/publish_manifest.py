"""The manifest of a published day: what its file is, what it was made of, by whom each trade was seen.

It lies in the bucket at `manifests/parquet/….json`, and is a `BarsManifest` with more fields, so that whoever reads
manifests of bars reads it too. Its `inputs` name objects; so do the inputs of its hours, without `raw/…/<symbol>/`.

A version is written in three steps, each under the generation of what it replaces: this manifest with the version
among `coming`; the file; this manifest with the version as its own and the file's generation. So a file whose
generation is not the one recorded is either among `coming` (a publish was cut off, and is completed), or not ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from crypto_lake.lake.manifests import BarsHour, BarsManifest
from crypto_lake.lake.vouched import vouched
from crypto_lake.model.copies import Copies

PUBLISHED_SCHEMA: Final = 1
_MOST_LISTED: Final = 1000  # runs of ids of one collector that are written out; more are counted

Ids = tuple[tuple[int, int], ...]
FinalBecause = Literal["complete", "time"]


class PublishedInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object that the day was made of. `gone`: it is no longer in the bucket; its hours' rows are carried over.

    The first three fields are those of `lake.manifests.Input`; `path` is the object's name.
    """

    path: str
    bytes: int
    sha256: str
    generation: int
    gone: bool = False


class CollectorIds(msgspec.Struct, frozen=True):
    """What one collector's raw holds of the day's trades, from the day's first id to its last.

    `only_here`: ids that no other collector has. `missing`: what it lacks, at most 1000 runs; `missing_ids` counts all.
    """

    collector: str
    objects: int
    bytes: int
    ids: int
    only_here: int
    missing_ids: int
    missing: Ids


class Differing(msgspec.Struct, frozen=True):
    """A trade of which two copies do not say the same, and who has a copy."""

    id: int
    collectors: tuple[str, ...]


class Standing(msgspec.Struct, frozen=True):
    """What stands at an instant: the last trade (id, time in us), its price, the quote, the greatest update id.

    Prices and sizes are hundred-millionths.
    """

    last: tuple[int, int] | None = None
    close: int | None = None
    quote: tuple[int, int, int, int] | None = None
    max_u: int = -1

    def then(self, hours: Mapping[int, BarsHour]) -> Standing:
        """What stands after these hours, by Unix hour."""
        last, close, quote, max_u = self.last, self.close, self.quote, self.max_u
        for hour in sorted(hours):
            record = hours[hour]
            last = record.last if record.last is not None else last
            close = record.close if record.close is not None else close
            quote = record.quote if record.quote is not None else quote
            max_u = max(max_u, record.max_u)
        return Standing(last, close, quote, max_u)

    @property
    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


NOTHING_STANDS: Final = Standing()


class PublishedManifest(BarsManifest, frozen=True, kw_only=True):
    """`generation`: of the file's object, 0 where the day has no row and no file. `version` counts from 1.

    `before`: what stood when the day began. `missing`: ids between the first and the last of the day, or to its
    neighbours, that no collector has (at most 1000 runs; `missing_ids` counts all).
    `final_because`: "complete" (all raw was there and every hole had an outcome) or "time" (48 h had passed).
    `control`: control records that it was made by as well, since no trade after the day was known.
    `carried_hours`: Unix hours whose rows were taken over from the version before, for some of their raw is gone.
    `coming`: versions whose file was about to be put; see the module's description.
    `copies`: how far the collectors' copies agree; None in manifests of a version that did not look. `differing`: trades
    of which two copies differ, a hundred at most.
    """

    inputs: tuple[PublishedInput, ...]  # pyright: ignore[reportIncompatibleVariableOverride]  # the same fields, and more
    published_schema: int = PUBLISHED_SCHEMA
    version: int
    generation: int
    published_ns: int
    final_because: FinalBecause
    before: Standing
    collectors: tuple[CollectorIds, ...]
    missing_ids: int
    missing: Ids
    unreadable: int = 0
    control: tuple[str, ...] = ()
    carried_hours: tuple[int, ...] = ()
    coming: tuple[PublishedManifest, ...] = ()
    copies: Copies | None = None
    differing: tuple[Differing, ...] = ()

    @property
    def after(self) -> Standing:
        """What stands when the day has ended."""
        return self.before.then(self.hours)

    @property
    def digests(self) -> dict[int, str]:
        """Of each hour's rows."""
        return {hour: record.digest for hour, record in self.hours.items() if record.rows}


_decode = msgspec.json.Decoder(PublishedManifest).decode
_decode_copies = msgspec.json.Decoder(Copies).decode


def encode(manifest: PublishedManifest) -> bytes:
    return vouched(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def decode(data: bytes) -> PublishedManifest:
    """Raises msgspec.MsgspecError where it is none, or of a later schema."""
    manifest = _decode(data)
    if manifest.published_schema > PUBLISHED_SCHEMA:
        raise msgspec.ValidationError(
            f"published_schema {manifest.published_schema}; this program reads up to {PUBLISHED_SCHEMA}: "
            "install a later one"
        )
    return manifest


def listed(runs: Iterable[tuple[int, int]]) -> Ids:
    """As many as are written out."""
    return tuple(runs)[:_MOST_LISTED]


# What a listing tells of a manifest, so that a day that needs nothing costs no download. In the object's metadata.


class Label(msgspec.Struct, frozen=True):
    """`names`: digest of the names that the day goes by, see `digest_of_names`. `before`, `after`: of what stands.

    `generation`: of the file. `open`: a version is coming: look at the manifest itself. `copies`: None where it is not told.
    """

    version: int
    generation: int
    names: str
    before: str
    after: str
    open: bool
    copies: Copies | None = None


def digest_of_names(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:32]


def to_metadata(manifest: PublishedManifest, names: str) -> dict[str, str]:
    copies = {"copies": msgspec.json.encode(manifest.copies).decode()} if manifest.copies is not None else {}
    return copies | {
        "kind": "bars",
        "schema": str(PUBLISHED_SCHEMA),
        "version": str(manifest.version),
        "bars-generation": str(manifest.generation),
        "names": names,
        "stands-before": manifest.before.digest,
        "stands-after": manifest.after.digest,
        "open": "1" if manifest.coming else "0",
    }


def from_metadata(metadata: Mapping[str, str]) -> Label | None:
    """None where it has not been written by `to_metadata` (a copy by another tool may have lost it)."""
    try:
        return Label(
            int(metadata["version"]),
            int(metadata["bars-generation"]),
            metadata["names"],
            metadata["stands-before"],
            metadata["stands-after"],
            metadata["open"] != "0",
            _copies(metadata),
        )
    except (KeyError, ValueError):
        return None


def _copies(metadata: Mapping[str, str]) -> Copies | None:
    try:
        return _decode_copies(metadata["copies"])
    except (KeyError, msgspec.MsgspecError):
        return None
