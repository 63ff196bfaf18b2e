"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.store.base import Store, StoreSettings
from crypto_lake.store.local import LocalStore
from crypto_lake.store.names import GcsAddress, parse_url


def open_store(url: str, *, settings: StoreSettings | None = None) -> Store:
    """`gs://bucket/prefix` or `file:///folder`. BadAddress for another URL; nothing is sent yet.

    NotAuthenticated where there are no credentials to be found.
    """
    address = parse_url(url)
    if isinstance(address, GcsAddress):
        # Imported here: the client library takes a quarter of a second that a lake without a bucket need not spend.
        from crypto_lake.store.gcs import GcsStore

        return GcsStore(address, settings or StoreSettings())
    return LocalStore(Path(address.path))
