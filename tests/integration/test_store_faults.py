"""Every fault at every step of an upload and a download, on the strict fake: right bytes once, or nothing, and told so."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crypto_lake.store import (
    AlreadyThere,
    Conflict,
    Corrupted,
    Created,
    Declared,
    Forbidden,
    NoSuchBucket,
    NoSuchObject,
    NotAuthenticated,
    PutResult,
    Store,
    StoreError,
    StoreSettings,
    Unavailable,
    measure,
    open_store,
)
from support.fake_gcs import FakeGcs, Fault
from support.shares import share

FOREVER = 10**6
IMPATIENT = StoreSettings(
    connect_timeout_seconds=1,
    read_timeout_seconds=0.3,
    deadline_seconds=0.7,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.05,
    chunk_bytes=256 * 1024,
)
# For what no fault lasts in: how fast a busy machine answers is not what is shown.
PATIENT = replace(IMPATIENT, connect_timeout_seconds=10, read_timeout_seconds=30, deadline_seconds=60)
# For one answer that does not come.
STALLED = replace(IMPATIENT, deadline_seconds=60)
SIZES = {"small": 100_000, "large": 700_000}  # one request; a session of three chunks
STEPS = [
    ("small", "multipart"),
    ("small", "get"),
    *(("large", s) for s in ("start", "chunk", "finalise", "get")),
]
KINDS = ["429", "503", "reset_before", "reset_after", "stall", "flip_up", "flip_down", "401", "403", "404"]
MATRIX = [(size, step, kind) for (size, step), kind in itertools.product(STEPS, KINDS)]
NAME = "raw/binance/BTCUSDT/2024-08-08/prod-0-9f3a/hour_13.jsonl.zst"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running
        assert not running.sent("delete"), "nothing is ever deleted"
        assert not running.sent("bucket"), "a writer may not look at the bucket, and need not"


@pytest.fixture
def opened(server: FakeGcs) -> Iterator[Callable[[StoreSettings], Store]]:
    """A store on the server with these settings; closed with the test."""
    stores: list[Store] = []

    def open_one(settings: StoreSettings) -> Store:
        stores.append(open_store("gs://lake", settings=settings))
        return stores[-1]

    yield open_one
    for one in stores:
        one.close()


@pytest.fixture
def store(opened: Callable[[StoreSettings], Store]) -> Store:
    return opened(PATIENT)


@pytest.fixture
def impatient(opened: Callable[[StoreSettings], Store]) -> Store:
    return opened(IMPATIENT)


@pytest.fixture
def fitting(opened: Callable[[StoreSettings], Store], kind: str) -> Store:
    """For one fault of this kind."""
    return opened(STALLED if kind == "stall" else PATIENT)


@dataclass
class Local:
    path: Path
    data: bytes
    declared: Declared


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Local]:
    def make(size: str) -> Local:
        path = tmp_path / "local.zst"
        data = random.Random(size).randbytes(SIZES[size])
        path.write_bytes(data)
        return Local(path, data, measure(path))

    return make


def attempt(store: Store, local: Local) -> PutResult | StoreError:
    try:
        return store.put(local.path, NAME, local.declared)
    except StoreError as error:
        return error


def check_truth(server: FakeGcs, local: Local, result: PutResult | StoreError) -> None:
    """Whatever happened: one object with the right bytes or none, a true answer, the local file as it was."""
    assert local.path.read_bytes() == local.data
    held = server.objects.get(NAME)
    assert all(one.data == local.data for one in server.objects.values())
    if isinstance(result, (Created, AlreadyThere)):
        assert held is not None
        told = result.stored
        assert (told.bytes, told.crc32c, told.md5, told.generation, dict(told.metadata)) == (
            held.size,
            held.crc32c,
            held.md5,
            held.generation,
            held.metadata,
        )
    elif not isinstance(result, Conflict):
        text = str(result)
        assert NAME in text
        assert result.hint in text
        assert len(result.hint) > 20
        assert "upload_id" not in text, "the URL of a session is a secret"


def check_again(server: FakeGcs, store: Store, local: Local) -> None:
    """The fault is over: the same call ends well, and makes no second version."""
    server.faults.planned.clear()
    held = server.objects.get(NAME)
    again = attempt(store, local)
    check_truth(server, local, again)
    if held is not None and held.metadata.get("sha256") not in (None, local.declared.sha256):
        # A bit of the metadata flipped on the way up, which TLS would have seen: told, and left as it is.
        assert isinstance(again, Conflict)
        assert [difference.split(":")[0] for difference in again.differences] == ["sha256"]
    else:
        assert isinstance(again, Created if held is None else AlreadyThere), again
    assert held is None or server.objects[NAME] == held
    uploads = server.sent("multipart") + server.sent("start")
    assert {one.match for one in uploads} == {0}, "every upload said that there must be no object"


@pytest.mark.parametrize(("size", "step", "kind"), share(MATRIX, 20))
def test_a_fault_that_passes(
    server: FakeGcs, fitting: Store, make: Callable[[str], Local], size: str, step: str, kind: str
) -> None:
    local = make(size)
    fault = server.fail(step, kind)
    result = attempt(fitting, local)
    assert fault.fired == 1
    check_truth(server, local, result)
    lasting: dict[str, type[StoreError]] = {"401": NotAuthenticated, "403": Forbidden, "404": NoSuchBucket}
    if kind in lasting and not (kind == "404" and step in ("chunk", "finalise")):
        assert type(result) is lasting[kind], result
        assert (server.objects.get(NAME) is not None) == (step == "get")
        if isinstance(result, Forbidden):
            needed = "storage.objects.get" if step == "get" else "storage.objects.create"
            assert result.permission == needed
            assert needed in result.hint
    elif (step, kind) == ("start", "flip_up"):
        assert isinstance(result, (Created, Corrupted)), (
            "the bit is one of the checksum's, or of another field's"
        )
    else:
        assert set(server.objects) == {NAME}
        lost = {("multipart", "reset_after"), ("multipart", "flip_down"), ("finalise", "flip_down")}
        expected = (Created, AlreadyThere) if (step, kind) in lost else Created
        assert isinstance(result, expected), result
    check_again(server, fitting, local)


def check_lasting(
    server: FakeGcs, impatient: Store, store: Store, local: Local, step: str, kind: str
) -> None:
    fault = server.fail(step, kind, times=FOREVER)
    result = attempt(impatient, local)
    assert fault.fired >= 1
    check_truth(server, local, result)
    permanent: dict[str, type[StoreError]] = {"401": NotAuthenticated, "403": Forbidden}
    if kind in permanent:
        assert type(result) is permanent[kind], result
        assert fault.fired == 1, "what waiting does not cure is not tried again"
    elif kind == "404":
        assert type(result) is (Unavailable if step in ("chunk", "finalise") else NoSuchBucket), result
    elif kind == "flip_up" and step in ("multipart", "chunk", "finalise"):
        assert type(result) is Corrupted, result
        assert fault.fired >= 3
        assert NAME not in server.objects
    elif kind in ("429", "503", "reset_before", "stall"):
        assert type(result) is Unavailable, result
        assert result.transient
        assert fault.fired >= 2
        assert (NAME in server.objects) == (step == "get")
        assert {"429": "429", "503": "503", "reset_before": "broke", "stall": "no answer in time"}[
            kind
        ] in str(result)
    check_again(server, store, local)


@pytest.mark.faults
@pytest.mark.parametrize(("size", "step", "kind"), MATRIX)
def test_a_fault_that_lasts(
    server: FakeGcs,
    impatient: Store,
    store: Store,
    make: Callable[[str], Local],
    size: str,
    step: str,
    kind: str,
) -> None:
    check_lasting(server, impatient, store, make(size), step, kind)


@pytest.mark.parametrize(("size", "step", "kind"), random.Random(4).sample(MATRIX, 10))
def test_a_fault_that_lasts_in_short(
    server: FakeGcs,
    impatient: Store,
    store: Store,
    make: Callable[[str], Local],
    size: str,
    step: str,
    kind: str,
) -> None:
    check_lasting(server, impatient, store, make(size), step, kind)


def check_flips(server: FakeGcs, store: Store, make: Callable[[str], Local], seeds: range) -> None:
    """Any bit of any body, once or always: never an answer that is not true, never wrong bytes that pass for right."""
    fired = 0
    for seed in seeds:
        chance = random.Random(seed)
        size, step = chance.choice(STEPS)
        local = make(size)
        fault = server.fail(
            step, chance.choice(["flip_up", "flip_down"]), times=chance.choice([1, FOREVER]), seed=seed
        )
        result = attempt(store, local)
        server.faults.planned.clear()
        fired += fault.fired
        names = set(server.objects)
        assert local.path.read_bytes() == local.data
        for name in names:
            held = server.objects[name]
            assert held.data == local.data
            if isinstance(result, (Created, AlreadyThere)):
                assert name == result.stored.name == NAME
                told = result.stored
                assert (told.bytes, told.crc32c, told.generation) == (held.size, held.crc32c, held.generation)
                if isinstance(result, Created):
                    assert told.sha256 == held.metadata["sha256"] == local.declared.sha256
        if isinstance(result, (Created, AlreadyThere)):
            assert names == {NAME}, (seed, names)
        server.objects.clear()
    assert fired >= len(seeds)


def test_flipped_bits_in_short(server: FakeGcs, impatient: Store, make: Callable[[str], Local]) -> None:
    check_flips(server, impatient, make, range(25))


@pytest.mark.faults
def test_flipped_bits(server: FakeGcs, impatient: Store, make: Callable[[str], Local]) -> None:
    check_flips(server, impatient, make, range(100, 250))


def test_half_a_chunk_is_not_sent_again(server: FakeGcs, store: Store, make: Callable[[str], Local]) -> None:
    local = make("large")
    fault = server.fail("chunk", "reset_half")
    result = attempt(store, local)
    assert fault.fired == 1
    assert isinstance(result, Created)
    check_truth(server, local, result)
    assert len(server.sent("start")) == 1, "the same session went on"
    assert len(server.sent("query")) == 1


def test_a_session_goes_on_after_each_of_many_faults(
    server: FakeGcs, store: Store, make: Callable[[str], Local]
) -> None:
    local = make("large")
    faults = [
        server.fail(step, kind) for step in ("chunk", "finalise", "query") for kind in ("503", "reset_after")
    ]
    result = attempt(store, local)
    assert all(fault.fired == 1 for fault in faults)
    assert isinstance(result, Created)
    check_truth(server, local, result)
    assert len(server.sent("start")) == 1


def test_what_was_read_back_once_as_absent_is_read_again(
    server: FakeGcs, store: Store, make: Callable[[str], Local]
) -> None:
    gone = b'{"error":{"code":404,"message":"No such object: lake/x","errors":[{"reason":"notFound"}]}}'
    fault = server.fail("get", 404, body=gone)
    result = attempt(store, make("small"))
    assert fault.fired == 1
    assert isinstance(result, Created)


def test_what_somebody_else_makes_of_it_meanwhile_is_a_conflict(
    server: FakeGcs, store: Store, make: Callable[[str], Local], tmp_path: Path
) -> None:
    """Another writer replaces the object between our upload and our reading back."""
    local = make("small")
    other = tmp_path / "other"
    other.write_bytes(b"other")

    def replace(_held_bytes: int) -> None:
        mine = server.objects[NAME]
        assert isinstance(store.put(other, NAME, measure(other), replaces=mine.generation), Created)

    result = store.put(local.path, NAME, local.declared, progress=replace)
    assert isinstance(result, Conflict)
    assert server.objects[NAME].data == b"other"


FETCHES = [(step, kind) for step in ("get", "media") for kind in KINDS]


def check_fetch(server: FakeGcs, store: Store, tmp_path: Path, fault: Fault) -> Exception | None:
    data = os.urandom(SIZES["large"])
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    made = store.put(source, "o", measure(source))
    assert isinstance(made, Created)
    target.write_bytes(b"before")
    server.faults.add(fault)
    error: Exception | None = None
    try:
        assert store.fetch("o", target) == made.stored
        assert target.read_bytes() == data
    except StoreError as raised:
        error = raised
        assert target.read_bytes() == b"before"
    assert fault.fired >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
    server.faults.planned.clear()
    server.objects.clear()
    return error


@pytest.mark.parametrize(("step", "kind"), share(FETCHES, 8))
def test_a_download_is_whole_or_absent(
    server: FakeGcs, fitting: Store, tmp_path: Path, step: str, kind: str
) -> None:
    error = check_fetch(server, fitting, tmp_path, Fault(step, kind))
    lasting = {"401": NotAuthenticated, "403": Forbidden, "404": (NoSuchBucket, NoSuchObject)}
    if kind in lasting:
        assert isinstance(error, lasting[kind])
    else:
        assert error is None


@pytest.mark.faults
@pytest.mark.parametrize(("step", "kind"), FETCHES)
def test_a_download_under_a_fault_that_lasts(
    server: FakeGcs, impatient: Store, tmp_path: Path, step: str, kind: str
) -> None:
    error = check_fetch(server, impatient, tmp_path, Fault(step, kind, times=FOREVER))
    if kind in ("429", "503", "reset_before", "reset_after", "stall"):
        assert type(error) is Unavailable
    elif (step, kind) == ("media", "flip_down"):
        assert type(error) is Corrupted


def test_a_download_goes_on_where_it_broke(server: FakeGcs, store: Store, tmp_path: Path) -> None:
    """The fake sends half of what is asked and breaks: the rest is asked for, and nothing twice."""
    data = os.urandom(SIZES["large"])
    source = tmp_path / "source"
    source.write_bytes(data)
    store.put(source, "o", measure(source))
    fault = server.fail("media", "reset_half", times=3)
    store.fetch("o", tmp_path / "target")
    assert fault.fired == 3
    assert (tmp_path / "target").read_bytes() == data
    assert [one.status for one in server.sent("media")] == [0, 0, 0, 206]
