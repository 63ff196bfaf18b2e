"""One contract for both kinds of store: `gs://` on the strict fake, and `file://`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crypto_lake.store import (
    AlreadyThere,
    BadAddress,
    Conflict,
    Corrupted,
    Created,
    Declared,
    Failed,
    Job,
    Limiter,
    LocalFileChanged,
    NoSuchBucket,
    NoSuchObject,
    Refused,
    Store,
    StoreSettings,
    measure,
    open_store,
    put_many,
)
from crypto_lake.store.checksums import crc32c_of
from support.fake_gcs import FakeGcs

QUICK = StoreSettings(
    connect_timeout_seconds=2, read_timeout_seconds=10, deadline_seconds=5, first_wait_seconds=0.01
)
LARGE_BYTES = 20 * 2**20 + 12_345


@pytest.fixture(params=["gs", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "file":
        (tmp_path / "bucket").mkdir()
        yield f"file://{tmp_path}/bucket"
        return
    with FakeGcs() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield "gs://lake/some/prefix"
        # `check_access` asks to delete what is not there; nothing else is ever asked to go.
        assert all(one.status == 404 and ".probe" in (one.name or "") for one in server.sent("delete"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, settings=QUICK)
    yield opened
    opened.close()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Path, Declared]]:
    def make(data: bytes, name: str = "local") -> tuple[Path, Declared]:
        path = tmp_path / name
        path.write_bytes(data)
        return path, measure(path)

    return make


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(300_000), os.urandom(LARGE_BYTES)], ids=len)
def test_what_was_put_is_told_and_read_as_it_was(store: Store, make, tmp_path: Path, data: bytes) -> None:
    path, declared = make(data)
    held: list[int] = []
    result = store.put(path, "raw/a b/ü.zst", declared, metadata={"schema": "1"}, progress=held.append)
    assert isinstance(result, Created)
    stored = result.stored
    assert (stored.name, stored.bytes, stored.crc32c) == ("raw/a b/ü.zst", len(data), declared.crc32c)
    assert stored.metadata == {"schema": "1", "sha256": declared.sha256}
    assert stored.generation > 0
    assert store.stat("raw/a b/ü.zst") == stored
    assert store.fetch("raw/a b/ü.zst", tmp_path / "back") == stored
    assert (tmp_path / "back").read_bytes() == data
    assert store.read("raw/a b/ü.zst")[1] == data
    assert held == sorted(held)
    assert held[-1:] == ([len(data)] if data or held else [])
    assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir() if ".tmp" in p.name] == []


def test_an_object_is_made_once(store: Store, make) -> None:
    first, second = make(b"one", "1"), make(b"two", "2")
    made = store.put(*_named(first, "x"))
    assert isinstance(made, Created)
    again = store.put(*_named(first, "x"))
    assert again == AlreadyThere(made.stored)
    other = store.put(*_named(second, "x"))
    assert isinstance(other, Conflict)
    assert other.stored == made.stored
    assert any("crc32c" in difference for difference in other.differences)
    assert store.read("x") == (made.stored, b"one")


def test_a_new_version_takes_the_generation_that_it_replaces(store: Store, make) -> None:
    one, two, three = (make(data, data.decode()) for data in (b"one", b"two", b"three"))
    first = store.put(*_named(one, "day"))
    assert isinstance(first, Created)
    second = store.put(*_named(two, "day"), replaces=first.stored.generation)
    assert isinstance(second, Created)
    assert second.stored.generation > first.stored.generation
    # Said again after a lost answer, it is there; another one from the same start is refused.
    assert store.put(*_named(two, "day"), replaces=first.stored.generation) == AlreadyThere(second.stored)
    late = store.put(*_named(three, "day"), replaces=first.stored.generation)
    assert isinstance(late, Conflict)
    assert late.stored == second.stored
    assert str(first.stored.generation) in late.differences[0]
    assert store.read("day")[1] == b"two"
    absent = store.put(*_named(three, "other"), replaces=first.stored.generation)
    assert isinstance(absent, Conflict)
    assert absent.stored is None
    assert store.stat("other") is None
    with pytest.raises(NoSuchObject):
        store.fetch("day", one[0].parent / "t", generation=first.stored.generation)
    assert store.fetch("day", one[0].parent / "t", generation=second.stored.generation) == second.stored


def test_what_is_not_there_is_told_so(store: Store, tmp_path: Path) -> None:
    assert store.stat("nothing") is None
    with pytest.raises(NoSuchObject, match="nothing"):
        store.fetch("nothing", tmp_path / "t")
    with pytest.raises(NoSuchObject):
        store.read("nothing")
    assert not (tmp_path / "t").exists()
    assert list(store.list()) == []


def test_names_that_could_leave_the_prefix_are_refused(store: Store, make) -> None:
    path, declared = make(b"x")
    for name in ("", "/x", "../x", "a//b", "a/../b", "x\n", ".store/x", "y" * 300):
        with pytest.raises(BadAddress):
            store.put(path, name, declared)
        with pytest.raises(BadAddress):
            store.stat(name)


def test_a_file_that_changed_since_it_was_measured_is_not_stored(store: Store, make) -> None:
    for size in (1000, LARGE_BYTES):
        data = os.urandom(size)
        path, declared = make(data)
        for changed in (data + b"x", data[:-1], data[:-1] + bytes([data[-1] ^ 1])):
            path.write_bytes(changed)
            with pytest.raises(LocalFileChanged, match="measured"):
                store.put(path, "x", declared)
            assert store.stat("x") is None
            assert path.read_bytes() == changed


def test_listing_tells_all_in_order_over_pages(store: Store, make) -> None:
    path, declared = make(b"x")
    names = [f"raw/{day}/{n:04d}" for day in ("d", "d-2", "e") for n in range(4)] + [
        "raw/d.json",
        "parquet/p",
    ]
    for name in names:
        store.put(path, name, declared)
    assert [one.name for one in store.list()] == sorted(names)
    assert [one.name for one in store.list("raw/d")] == sorted(n for n in names if n.startswith("raw/d"))
    assert [one.name for one in store.list("raw/d/")] == sorted(n for n in names if n.startswith("raw/d/"))
    assert next(iter(store.list("parquet/"))) == store.stat("parquet/p")
    assert list(store.list("raw/", measured=False)) == list(store.list("raw/"))


def test_a_large_object_is_not_read_into_memory(store: Store, make) -> None:
    path, declared = make(b"x" * 1001)
    store.put(path, "x", declared)
    with pytest.raises(Refused, match="1001 bytes"):
        store.read("x", limit_bytes=1000)


def test_many_go_side_by_side_and_come_back_in_order(store: Store, make) -> None:
    files = [make(os.urandom(n * 1000), f"f{n}") for n in range(20)]
    taken: list[str] = []

    def jobs() -> Iterator[Job]:
        for n, (path, declared) in enumerate(files):
            taken.append(path.name)
            yield Job(path if n != 7 else path.with_name("gone"), f"o/{n}", declared)

    found = []
    for job, outcome in put_many(store, jobs(), workers=3):
        found.append((job.name, type(outcome)))
        assert len(taken) - len(found) <= 7, "jobs are taken as there is room, not all at once"
    assert found == [(f"o/{n}", Failed if n == 7 else Created) for n in range(20)]
    assert len(list(store.list("o/"))) == 19


def test_a_caller_may_stop_many(store: Store, make) -> None:
    path, declared = make(b"x")
    running = put_many(store, (Job(path, f"o/{n}", declared) for n in range(1000)), workers=2)
    next(running)
    running.close()
    assert 1 <= len(list(store.list("o/"))) <= 20


def test_a_limit_is_held(store: Store, make) -> None:
    path, declared = make(os.urandom(3 * 2**20))
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    limiter = Limiter(2**20, clock=lambda: now[0], sleep=sleep)
    assert isinstance(store.put(path, "x", declared, limiter=limiter), Created)
    assert sum(slept) == pytest.approx(3 - 0.25)


def test_of_many_threads_one_makes_the_object(store: Store, make) -> None:
    files = [make(f"writer {n}".encode(), f"w{n}") for n in range(8)]
    barrier = threading.Barrier(8)

    def put(n: int) -> object:
        barrier.wait()
        return store.put(*_named(files[n], "x"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(put, range(8)))
    _one_winner(results, store, lambda n: f"writer {n}".encode())


def test_of_many_processes_one_makes_the_object_and_one_replaces_it(store: Store, url: str, make) -> None:
    for round_ in ("create", "replace"):
        held = store.stat("x")
        generation = 0 if held is None else held.generation
        paths = [make(f"{round_} by process {n}".encode(), f"p{n}")[0] for n in range(3)]
        running = [
            subprocess.Popen(
                [sys.executable, "-c", _PUT, url, str(path), str(generation)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for path in paths
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0].split() for process in running]
        assert sorted(kind for kind, _ in told) == ["Conflict", "Conflict", "Created"]
        won = next(n for n, (kind, _) in enumerate(told) if kind == "Created")
        stored, data = store.read("x")
        assert data == paths[won].read_bytes()
        assert {made for _, made in told} == {str(stored.generation)}


def test_access_is_told_and_nothing_is_left(store: Store, make) -> None:
    report = store.check_access(("raw/", "parquet/"))
    assert [one.prefix for one in report.prefixes] == ["raw/", "parquet/"]
    assert all(one.create and one.get and one.list for one in report.prefixes)
    assert list(store.list()) == []


def _named(measured: tuple[Path, Declared], name: str) -> tuple[Path, str, Declared]:
    return measured[0], name, measured[1]


_PUT = """
import sys
from pathlib import Path
from crypto_lake.store import measure, open_store
store, path = open_store(sys.argv[1]), Path(sys.argv[2])
declared = measure(path)
print("ready", flush=True)
sys.stdin.readline()
result = store.put(path, "x", declared, replaces=int(sys.argv[3]))
print(type(result).__name__, result.stored.generation)
"""


def _one_winner(results: list[object], store: Store, data: Callable[[int], bytes]) -> None:
    won = [n for n, result in enumerate(results) if isinstance(result, Created)]
    assert len(won) == 1, results
    assert all(isinstance(result, Conflict) for n, result in enumerate(results) if n != won[0])
    stored, held = store.read("x")
    assert held == data(won[0])
    assert stored == results[won[0]].stored


class TestLocalOnly:
    """What only a folder has to prove."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "bucket").mkdir()
        return tmp_path / "bucket"

    def test_a_folder_that_is_not_there_is_no_bucket(self, make, tmp_path: Path) -> None:
        path, declared = make(b"x")
        store = open_store(f"file://{tmp_path}/not-mounted")
        for call in (
            lambda: store.put(path, "x", declared),
            lambda: store.stat("x"),
            lambda: list(store.list()),
            store.check_access,
        ):
            with pytest.raises(NoSuchBucket, match="mount"):
                call()
        assert not (tmp_path / "not-mounted").exists()

    def test_a_changed_file_is_seen(self, root: Path, make, tmp_path: Path) -> None:
        store = open_store(f"file://{root}")
        path, declared = make(b"right")
        store.put(path, "x", declared)
        (root / "x").write_bytes(b"wrong")
        stat = store.stat("x")
        assert stat is not None
        assert stat.crc32c != declared.crc32c
        assert isinstance(store.put(path, "x", declared), Conflict)
        with pytest.raises(Corrupted, match="CRC32C"):
            store.fetch("x", tmp_path / "t")

    def test_a_list_that_need_not_be_measured_reads_only_what_looks_changed(
        self, root: Path, make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []

        def reading(path: Path) -> tuple[int, str]:
            read.append(path.name)
            return crc32c_of(path)

        monkeypatch.setattr("crypto_lake.store.local.crc32c_of", reading)
        store = open_store(f"file://{root}")
        for name in "abcd":
            path, declared = make(name.encode(), name)
            store.put(path, name, declared, metadata={"of": name})
        (root / "foreign").write_bytes(b"foreign")
        (root / "b").write_bytes(b"other")  # a change behind the store's back
        record = next(p for p in (root / ".store/records").rglob("*.json") if '"name":"c"' in p.read_text())
        told = json.loads(record.read_bytes())
        record.write_text(
            json.dumps({k: v for k, v in told.items() if k != "changed_ns"})
        )  # of an older release
        read.clear()
        first = list(store.list(measured=False))
        assert sorted(read) == ["b", "c", "foreign"]
        read.clear()
        assert list(store.list(measured=False)) == first
        assert read == ["b"], "what is not as it was put is measured each time"
        assert first == list(store.list())
        assert sorted(read) == sorted(["b", *"abcd", "foreign"])
        assert next(one for one in first if one.name == "b").crc32c == measure(root / "b").crc32c

    def test_a_foreign_file_is_never_overwritten(self, root: Path, make) -> None:
        store = open_store(f"file://{root}")
        (root / "x").write_bytes(b"foreign")
        (root / "same").write_bytes(b"ours")
        path, declared = make(b"ours")
        assert isinstance(store.put(path, "x", declared), Conflict)
        assert isinstance(store.put(path, "same", declared), AlreadyThere)
        assert (root / "x").read_bytes() == b"foreign"

    def test_a_generation_grows_when_the_file_went_and_the_clock_went_back(
        self, root: Path, make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(f"file://{root}")
        path, declared = make(b"x")
        first = store.put(path, "x", declared)
        (root / "x").unlink()
        monkeypatch.setattr("time.time_ns", lambda: 1)
        second = store.put(path, "x", declared)
        assert isinstance(first, Created)
        assert isinstance(second, Created)
        assert second.stored.generation > first.stored.generation

    @pytest.mark.parametrize("replaces", [False, True], ids=["create", "replace"])
    def test_a_crash_at_every_step_leaves_one_version_whole(
        self, root: Path, make, monkeypatch: pytest.MonkeyPatch, replaces: bool
    ) -> None:
        """Every call that changes names is cut off once; the next store finds the old or the new object whole."""
        old, new = make(b"old", "old"), make(b"new!", "new")
        steps = 0
        while True:
            name = f"x{steps}"
            store = open_store(f"file://{root}")
            held = 0
            if replaces:
                first = store.put(*_named(old, name))
                assert isinstance(first, Created)
                held = first.stored.generation
            crash = _Crash(steps)
            with monkeypatch.context() as patch:
                crash.at(patch, os, "link", "fsync")
                crash.at(patch, Path, "replace", "unlink")
                with contextlib.suppress(_Crashed):
                    store.put(*_named(new, name), replaces=held)
            if not crash.fired:
                break
            after = open_store(f"file://{root}")
            stat = after.stat(name)
            expected = {(4, new[1].crc32c)} | ({(3, old[1].crc32c)} if replaces else set())
            if stat is not None or replaces:
                assert stat is not None
                assert (stat.bytes, stat.crc32c) in expected
                assert stat.sha256 == (new if stat.bytes == 4 else old)[1].sha256
                assert (stat.generation == held) == (stat.bytes == 3)
            again = after.put(*_named(new, name), replaces=held)
            assert isinstance(again, (Created, AlreadyThere))
            stored, data = after.read(name)
            assert data == b"new!"
            # A later version that is cut off while it is copied leaves this one as it is.
            with monkeypatch.context() as patch, contextlib.suppress(_Crashed):
                _Crash(0).at(patch, os, "fsync")
                after.put(*_named(old, name), replaces=stored.generation)
            assert after.read(name) == (stored, b"new!")
            steps += 1
        assert steps >= 8
        kept = list((root / ".store" / "arriving").iterdir())
        assert len(kept) <= steps, "a crash leaves at most one file of an object"


class _Crashed(BaseException):
    pass


class _Crash:
    """Raises before the n-th of the calls that it watches, and at every later one: the process is gone."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.fired = False

    def at(self, patch: pytest.MonkeyPatch, owner: object, *names: str) -> None:
        for name in names:
            real = getattr(owner, name)

            def call(*args: object, real=real, **kwargs: object) -> object:
                if self.left <= 0:
                    self.fired = True
                    raise _Crashed
                self.left -= 1
                return real(*args, **kwargs)

            patch.setattr(owner, name, call)
