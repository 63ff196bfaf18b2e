"""The CryptoLakes that are there, as they were last heard of. Pure; it may be lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, cast

import msgspec

from crypto_lake_operator import naming
from crypto_lake_operator.api_status import Status, read_status
from crypto_lake_operator.cache import Owner
from crypto_lake_operator.queue import Key

_METADATA_KEPT: Final = (
    "name",
    "namespace",
    "uid",
    "generation",
    "annotations",
    "deletionTimestamp",
)


class Change(Enum):
    """NOTHING: nothing that is worth a look. STATUS: somebody else wrote it. LAKE: what is wanted has changed."""

    NOTHING = 0
    STATUS = 1
    LAKE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """body: the lake without its status, as JSON. written: when its status was last written by this process."""

    uid: str
    resource_version: str
    body: bytes
    status: Status
    written: datetime | None = None

    def document(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)


class Lakes:
    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._names: dict[Owner, Key] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> Iterable[Key]:
        return tuple(self._entries)

    def get(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def entries(self) -> Iterable[tuple[Key, Entry]]:
        return tuple(self._entries.items())

    def key_of(self, owner: Owner) -> Key | None:
        """The lake that an object belongs to; None where there is no such lake, or not yet."""
        return self._names.get(owner)

    def put(self, document: Mapping[str, Any]) -> Change:
        """A lake as the API gives it. One that is older than what is known is passed over."""
        metadata = cast("dict[str, Any]", document["metadata"])
        key = Key(metadata["namespace"], metadata["name"])
        kept = {name: metadata[name] for name in _METADATA_KEPT if metadata.get(name) is not None}
        body = msgspec.json.encode(
            {
                "apiVersion": document.get("apiVersion"),
                "kind": document.get("kind"),
                "metadata": kept,
                "spec": document.get("spec") or {},
            },
            order="sorted",
        )
        entry = Entry(
            metadata.get("uid", ""),
            metadata.get("resourceVersion", ""),
            body,
            read_status(document.get("status")),
        )
        before = self._entries.get(key)
        if before is not None and before.uid == entry.uid:
            if _number(entry.resource_version) < _number(before.resource_version):
                return Change.NOTHING
            entry = replace(entry, written=before.written)
        self._entries[key] = entry
        self._names[Owner(key.namespace, naming.base(key.name))] = key
        if before is None or before.body != entry.body:
            return Change.LAKE
        return Change.STATUS if before.status != entry.status else Change.NOTHING

    def wrote(self, document: Mapping[str, Any], written: datetime) -> None:
        """The answer to a write of the status."""
        self.put(document)
        key = Key(document["metadata"]["namespace"], document["metadata"]["name"])
        if (entry := self._entries.get(key)) is not None:
            self._entries[key] = replace(entry, written=written)

    def drop(self, key: Key, uid: str = "") -> bool:
        """uid: only that one. Whether it was there."""
        entry = self._entries.get(key)
        if entry is None or (uid and entry.uid != uid):
            return False
        del self._entries[key]
        self._names.pop(Owner(key.namespace, naming.base(key.name)), None)
        return True


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0
