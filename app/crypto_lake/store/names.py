"""URLs of stores and names of objects: checked before anything is sent. Pure.

One rule for both kinds of store, so that what was put into one can be copied into the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from crypto_lake.store.errors import BadAddress

_FORMS = "Write gs://<bucket>, gs://<bucket>/<prefix> or file:///<absolute path>."
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)*")
LONGEST_NAME_BYTES = 1024  # the limit of Cloud Storage, on the whole name with its prefix
LONGEST_SEGMENT_BYTES = 255  # the limit of Linux file systems
RESERVED = ".store"
"""The folder in which `file://` keeps its records; no object's name begins with it."""


@dataclass(frozen=True, slots=True)
class GcsAddress:
    bucket: str
    prefix: str  # "" or without a slash at either end

    @property
    def url(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}" if self.prefix else f"gs://{self.bucket}"


@dataclass(frozen=True, slots=True)
class LocalAddress:
    path: str  # absolute

    @property
    def url(self) -> str:
        return f"file://{self.path}"


Address = GcsAddress | LocalAddress


def parse_url(url: str) -> Address:
    """`gs://bucket[/prefix]` or `file:///absolute/path`; a slash at the end means nothing. Else BadAddress."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in url):
        raise BadAddress("the URL holds a control character", at=repr(url), hint=_FORMS)
    if url.startswith("gs://"):
        return _gcs(url)
    if url.startswith("file:"):
        return _local(url)
    scheme, separator, _ = url.partition("://")
    if separator:
        raise BadAddress(f"there is no store for {scheme}://", at=repr(url), hint=_FORMS)
    hint = f"Do you mean gs://{url}? {_FORMS}" if _BUCKET.fullmatch(url.partition("/")[0]) else _FORMS
    raise BadAddress("this is no URL of a store", at=repr(url), hint=hint)


def _gcs(url: str) -> GcsAddress:
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    if not bucket:
        raise BadAddress("the URL names no bucket", at=url, hint=_FORMS)
    longest = 222 if "." in bucket else 63
    if not _BUCKET.fullmatch(bucket) or not 3 <= len(bucket) <= longest:
        raise BadAddress(
            f"{bucket!r} can't be a bucket's name",
            at=url,
            hint="A bucket's name has 3 to 63 lower-case letters, digits, - or _, and begins and ends with a letter "
            "or digit.",
        )
    prefix = prefix.removesuffix("/")
    if prefix and (problem := name_problem(prefix)):
        raise BadAddress(f"the prefix {prefix!r} {problem}", at=url, hint=_FORMS)
    return GcsAddress(bucket, prefix)


def _local(url: str) -> LocalAddress:
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise BadAddress(
            "a file:// URL has neither ? nor #",
            at=url,
            hint="Write them as %3F and %23 where a folder is named so.",
        )
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not url.startswith("file://") or not path.startswith("/"):
        raise BadAddress(
            "a file:// URL names an absolute path of this machine",
            at=url,
            hint=f"Write three slashes: file:///{(parts.netloc + path).lstrip('/')}.",
        )
    if "\0" in path or ".." in PurePosixPath(path).parts:
        raise BadAddress("the path holds .. or a zero byte", at=url, hint="Name the folder itself.")
    return LocalAddress(str(PurePosixPath("/" + path.lstrip("/"))))


def name_problem(name: str) -> str | None:
    """What is wrong with an object's name, as the end of a sentence; None where nothing is."""
    if not name:
        return "is empty"
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in name):
        return "holds a control character"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "is no valid Unicode"
    if len(encoded) > LONGEST_NAME_BYTES:
        return f"is longer than {LONGEST_NAME_BYTES} bytes"
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            return "begins or ends with /, or holds //, . or .. as a segment"
        if len(segment.encode()) > LONGEST_SEGMENT_BYTES:
            return f"holds a segment longer than {LONGEST_SEGMENT_BYTES} bytes"
    if name.split("/")[0] == RESERVED:
        return f"begins with {RESERVED}, which is the store's own"
    return None


def full_name(prefix: str, name: str, url: str) -> str:
    """The object's name in its bucket. BadAddress where it can't be one."""
    problem = name_problem(name) or name_problem(f"{prefix}/{name}" if prefix else name)
    if problem:
        raise BadAddress(
            f"the object's name {name!r} {problem}",
            at=url,
            hint="Names are relative, without . and .., with / between their parts.",
        )
    return f"{prefix}/{name}" if prefix else name
