"""The object store: `gs://bucket/prefix` and `file:///folder` with one meaning.

`open_store` gives a `Store`; `measure` tells what a local file is; `put_many` uploads side by side. What is promised,
and what is not, stands in docs/store.md.
"""

from crypto_lake.store.base import (
    SHA256_KEY,
    AccessReport,
    AlreadyThere,
    Conflict,
    Created,
    Declared,
    Job,
    PrefixAccess,
    Progress,
    PutResult,
    Store,
    Stored,
    StoreSettings,
)
from crypto_lake.store.checksums import measure
from crypto_lake.store.errors import (
    BadAddress,
    Corrupted,
    Forbidden,
    LocalFileChanged,
    NoSuchBucket,
    NoSuchObject,
    NotAuthenticated,
    Refused,
    RetentionPolicyBlocks,
    StoreError,
    Unavailable,
    WrongProject,
)
from crypto_lake.store.limiter import Limiter
from crypto_lake.store.many import Failed, Outcome, put_many
from crypto_lake.store.opening import open_store

__all__ = [
    "SHA256_KEY",
    "AccessReport",
    "AlreadyThere",
    "BadAddress",
    "Conflict",
    "Corrupted",
    "Created",
    "Declared",
    "Failed",
    "Forbidden",
    "Job",
    "Limiter",
    "LocalFileChanged",
    "NoSuchBucket",
    "NoSuchObject",
    "NotAuthenticated",
    "Outcome",
    "PrefixAccess",
    "Progress",
    "PutResult",
    "Refused",
    "RetentionPolicyBlocks",
    "Store",
    "StoreError",
    "StoreSettings",
    "Stored",
    "Unavailable",
    "WrongProject",
    "measure",
    "open_store",
    "put_many",
]
