"""Objects brought to this machine: from the data directory where they are here, else from the bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crypto_lake.lake.layout import Layout
from crypto_lake.store import Store
from crypto_lake.upkeep import names
from crypto_lake.upkeep.names import BarsObject, RawObject
from crypto_lake.upkeep.publish_facts import RawFact
from crypto_lake.upkeep.publish_manifest import PublishedManifest
from crypto_lake.upkeep.publish_stage import MakeError, is_what_it_should_be, link_or_copy


@dataclass
class LakeFetcher:
    """`layout`: a data directory; its collector's files stand for their objects where they are the same, to the byte.

    `on_bytes` gets what has arrived, from several threads, one at a time.
    """

    store: Store
    layout: Layout | None
    on_bytes: Callable[[int], None]
    fetched_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def raw(self, fact: RawFact, target: Path) -> None:
        raw = names.parse(fact.name)
        assert isinstance(raw, RawObject)
        if not self._is_here(raw, fact, target):
            self.store.fetch(fact.name, target, generation=fact.generation)
            if not is_what_it_should_be(target, fact):
                raise MakeError(
                    f"{self.store.url}/{fact.name} has not the SHA-256 that its manifest says; "
                    "`crypto-lake verify --bucket --deep` reads everything again"
                )
            self._count(fact.bytes)
        with self._lock:
            self.on_bytes(fact.bytes)

    def control(self, raw: RawObject, target: Path) -> None:
        self._count(self.store.fetch(raw.name, target).bytes)

    def bars(self, published: PublishedManifest, target: Path) -> None:
        name = BarsObject(published.exchange, published.symbol, published.day).name
        self._count(self.store.fetch(name, target, generation=published.generation).bytes)

    def _is_here(self, raw: RawObject, fact: RawFact, target: Path) -> bool:
        if self.layout is None or raw.collector != self._own_collector(self.layout):
            return False
        source = self.layout.root / raw.local
        try:
            if source.stat().st_size != fact.bytes:
                return False
            link_or_copy(source, target)
        except OSError:  # it was cleaned up meanwhile
            return False
        if is_what_it_should_be(target, fact):
            return True
        target.unlink()
        return False

    @staticmethod
    def _own_collector(layout: Layout) -> str:
        try:
            return (layout.state / "collector").read_text().strip()
        except OSError:
            return ""

    def _count(self, count: int) -> None:
        with self._lock:
            self.fetched_bytes += count
