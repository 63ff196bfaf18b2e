"""The record of an object that was put and read back: the only place where one is made from what the store tells."""

from __future__ import annotations

from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.store import Stored


def record_of(
    url: str, stored: Stored, sha256: str, path: str, now_ns: int, *, offset: int = 0, modified_ns: int = 0
) -> UploadRecord:
    """`url`: of the bucket. `sha256`, `path`: of the local file. `now_ns`: the lake's clock. The rest: see UploadRecord."""
    return UploadRecord(
        url=url,
        name=stored.name,
        generation=stored.generation,
        bytes=stored.bytes,
        crc32c=stored.crc32c,
        sha256=sha256,
        uploaded_ns=now_ns,
        path=path,
        offset=offset,
        modified_ns=modified_ns,
    )
