"""Manifests that vouch for themselves: their last field is the SHA-256 of all their other bytes.

A manifest vouches for its file, and nothing else vouches for the manifest. Programs that do not know the field read
past it; a manifest without it was written by an earlier version, and is taken as it is.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_FIELD: Final = b"manifest_sha256"
_NONE: Final = b"0" * 64
# A last field with a text so long is this one, whatever has become of its name.
_LAST: Final = re.compile(rb'"([^"]*)": "([^"]{64})"\n}\n?\Z')


def vouched(manifest: bytes) -> bytes:
    """A manifest as indented JSON, with the field at its end."""
    body = manifest.rstrip()
    if not body.endswith(b"\n}"):
        raise ValueError("a manifest is an indented object of JSON, and not empty")
    head = body[:-2] + b',\n "%s": "' % _FIELD
    tail = b'"\n}\n'
    digest = hashlib.sha256(head + _NONE + tail).hexdigest().encode()
    return head + digest + tail


def changed(manifest: bytes) -> bool:
    """Whether its bytes are not those that were written. Of one that does not vouch for itself this is not known."""
    last = _LAST.search(manifest)
    if last is None:
        return _FIELD in manifest
    start, end = last.span(2)
    digest = hashlib.sha256(manifest[:start] + _NONE + manifest[end:]).hexdigest().encode()
    return last[1] != _FIELD or last[2] != digest
