"""Cloud Storage (a strict fake of it) as a test's store, and what holds of everything that writes there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from crypto_lake.store import Store, StoreSettings, open_store
from support.fake_gcs import FakeGcs

# What the fake does not answer is given up at once.
_IMPATIENT = StoreSettings(
    connect_timeout_seconds=1,
    read_timeout_seconds=0.5,
    deadline_seconds=1.0,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.05,
)


@contextmanager
def watched_gcs(monkeypatch: pytest.MonkeyPatch) -> Generator[FakeGcs]:
    """Where stores then find Cloud Storage. It fails in the end where anything was deleted, or written over unseen."""
    with FakeGcs() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running
        assert not running.sent("delete"), "nothing is ever deleted"
        writes = running.sent("multipart") + running.sent("start")
        assert all(one.match is not None for one in writes), "each write says what it replaces"


@contextmanager
def impatient_store(url: str) -> Generator[Store]:
    opened = open_store(url, settings=_IMPATIENT)
    yield opened
    opened.close()
