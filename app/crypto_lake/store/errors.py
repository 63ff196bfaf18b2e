"""What can go wrong with a store.

    StoreError              what happened, to what, and in `hint` what to do
    ├── BadAddress          the URL or the object's name can't be used
    ├── NoSuchBucket
    ├── NoSuchObject        asked for by `fetch` or `read`
    ├── NotAuthenticated    no credentials, or they were refused
    ├── Forbidden           `permission` names the one that lacks, where the server told
    ├── WrongProject        the project is unknown, may not be billed, or has no billing
    ├── RetentionPolicyBlocks
    ├── LocalFileChanged    the local file is no longer what it was measured to be
    ├── Corrupted           bytes or checksums differ from what was declared
    ├── Refused             another refusal of the server
    └── Unavailable         retries ran out; the same call may succeed later

After any of them the local file is as it was. Whether the object is there is then unknown only after `Unavailable`
and `Corrupted`: the same `put` again finds out.
"""

# ruff: noqa: N818  a name that says what is wrong needs no Error behind it

from __future__ import annotations


class StoreError(Exception):
    """What happened, to what (`at`: an object or a bucket, as a URL), and what to do (`hint`).

    `transient` tells whether the same call may succeed later with nothing changed by a person.
    """

    transient = False

    def __init__(self, what: str, *, at: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.at}: {self.what}. {self.hint}"


class BadAddress(StoreError):
    pass


class NoSuchBucket(StoreError):
    pass


class NoSuchObject(StoreError):
    pass


class NotAuthenticated(StoreError):
    pass


class Forbidden(StoreError):
    """`permission` is the one that lacks, e.g. `storage.objects.create`; empty where the server named none."""

    def __init__(self, what: str, *, at: str, hint: str, permission: str = "") -> None:
        super().__init__(what, at=at, hint=hint)
        self.permission = permission


class WrongProject(StoreError):
    pass


class RetentionPolicyBlocks(StoreError):
    pass


class LocalFileChanged(StoreError):
    pass


class Corrupted(StoreError):
    """Never retried in silence for good: either the road garbles bytes, or the object is not what was sent."""


class Refused(StoreError):
    """`status` is the HTTP status of the server's answer."""

    def __init__(self, what: str, *, at: str, hint: str, status: int) -> None:
        super().__init__(what, at=at, hint=hint)
        self.status = status


class Unavailable(StoreError):
    transient = True
