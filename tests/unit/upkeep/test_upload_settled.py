"""Days that need no look: never one of which the bucket lacks something, whatever became of what is kept of them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, open_store
from crypto_lake.upkeep import upload as rim
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_judged import judged_days, judged_facts, judged_paths
from crypto_lake.upkeep.upload_judged import upload_judged_of
from crypto_lake.upkeep.upload_settled import SettledDays
from support.lakes import At

SECOND_NS = 10**9
URLS = ("file:///bucket-1", "file:///bucket-2")
COLLECTORS = ("c-1", "c-2")
DAYS = [SymbolDay("binance", "BTCUSDT", f"2024-08-0{n}") for n in (7, 8)]

days = st.sampled_from(DAYS)
kinds = st.integers(0, 2)
acts = st.one_of(
    st.tuples(st.just("write"), days, kinds, st.sampled_from([b"a", b"b", b"cc"])),
    st.tuples(st.just("remove"), days, kinds),
    st.tuples(st.just("records cut"), days, st.integers(0, 400)),
    st.tuples(st.sampled_from(["records lost", "records damaged"]), days),
    st.tuples(st.sampled_from(["kept lost", "kept damaged", "kept copied", "kept of another time"])),
    st.tuples(st.just("doubted"), days, kinds),
    st.tuples(st.just("no doubts")),
    st.tuples(st.just("bucket"), st.sampled_from(URLS)),
    st.tuples(st.just("collector"), st.sampled_from(COLLECTORS)),
    st.tuples(st.just("wait"), st.sampled_from([1, 2, 3, 4, 5])),
    st.tuples(st.just("upload"), st.booleans(), st.booleans()),
)


class World:
    """A data directory on a file system whose clock ticks once in two seconds, at its coarsest; in it files change in place."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "data")
        self.now_ns = 1_700_000_000 * SECOND_NS
        self.url, self.collector = URLS[0], COLLECTORS[0]
        self.kept = self.layout.state / "settled" / "binance" / "BTCUSDT.json"
        self.copy = root / "copy"

    def touched(self, path: Path) -> None:
        tick_ns = self.now_ns // (2 * SECOND_NS) * 2 * SECOND_NS
        os.utime(path, ns=(tick_ns, tick_ns))

    def records(self, at: SymbolDay) -> Path:
        return uploads.path_of(self.layout, at.exchange, at.symbol, at.day)

    def settled(self) -> SettledDays:
        doubted = uploads.read_doubts(self.layout, self.url)
        return SettledDays(self.layout, self.url, self.collector, doubted, lambda: self.now_ns)

    def lacks(self, at: SymbolDay) -> bool:
        """Whether a look at the day's records finds something to put."""
        doubted = uploads.read_doubts(self.layout, self.url)
        records = uploads.read(self.layout, at.exchange, at.symbol, at.day, self.url)
        trusted = {name: record for name, record in records.items() if name not in doubted}
        return any(
            not fact.is_recorded(trusted.get(fact.name(self.collector)))
            for fact in judged_facts(self.layout, at)
        )

    def upload(self, *, ends_early: bool, is_killed: bool) -> None:
        """`ends_early`: after one day. `is_killed`: before anything is kept."""
        settled = self.settled()
        for at in settled.left()[: 1 if ends_early else None]:
            if self.lacks(at):
                self.put(at)
            else:
                settled.settle(at)
        if not is_killed:
            settled.keep()

    def put(self, at: SymbolDay) -> None:
        made = [
            UploadRecord(
                self.url, fact.name(self.collector), 1, fact.bytes, "", "", 0, fact.path, 0, fact.modified_ns
            )
            for fact in judged_facts(self.layout, at)
        ]
        path = self.records(at)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:  # no fsync: there are many
            file.write(b"".join(b"\n" + msgspec.json.encode(record) for record in made) + b"\n")
        self.touched(self.records(at))

    def act(self, what: str, *of: Any) -> None:
        match what, of:
            case "write", (at, kind, data):
                path = judged_paths(self.layout, at)[kind]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self.touched(path)
            case "remove", (at, kind):
                judged_paths(self.layout, at)[kind].unlink(missing_ok=True)
            case "records cut", (at, size) if self.records(at).exists():
                os.truncate(self.records(at), min(size, self.records(at).stat().st_size))
                self.touched(self.records(at))
            case "records lost", (at,):
                self.records(at).unlink(missing_ok=True)
            case "records damaged", (at,) if self.records(at).exists():
                self.records(at).write_bytes(b"x" * self.records(at).stat().st_size)
                self.touched(self.records(at))
            case "kept lost", ():
                self.kept.unlink(missing_ok=True)
            case "kept damaged", () if self.kept.exists():
                self.kept.write_bytes(self.kept.read_bytes()[:-7])
            case "kept copied", () if self.kept.exists():
                shutil.copy(self.kept, self.copy)
            case "kept of another time", () if self.copy.exists():
                self.kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.copy, self.kept)
            case "doubted", (at, kind):
                facts = list(judged_facts(self.layout, at))
                names = [fact.name(self.collector) for fact in facts[kind : kind + 1]]
                uploads.write_doubts(self.layout, self.url, names)
            case "no doubts", ():
                uploads.write_doubts(self.layout, self.url, [])
            case "bucket", (url,):
                self.url = url
            case "collector", (collector,):
                self.collector = collector
            case "wait", (seconds,):
                self.now_ns += seconds * SECOND_NS
            case "upload", (ends_early, is_killed):
                self.upload(ends_early=ends_early, is_killed=is_killed)
            case _:  # nothing is there to do it to
                pass

    def check(self) -> None:
        left = self.settled().left()
        assert [at for at in judged_days(self.layout) if at not in left and self.lacks(at)] == []

    def settle(self) -> None:
        """What stays as it is is looked at no more."""
        for _ in range(2):
            self.act("wait", 5)
            self.act("no doubts")
            self.act("upload", False, False)
        assert self.settled().left() == []


UPLOAD = ("upload", False, False)


@given(st.lists(acts, max_size=15))
@example([("write", DAYS[0], 2, b"a")])
@example([("write", DAYS[0], 0, b"cc"), UPLOAD, ("wait", 1), UPLOAD, ("records damaged", DAYS[0])])
@settings(deadline=None, max_examples=40)
def test_no_day_is_passed_over_of_which_the_bucket_lacks_something(script: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for at in DAYS:
            world.act("write", at, 0, b"a")
        world.settle()
        for one in script:
            world.act(*one)
            world.check()
        world.settle()


END_NS = Hour("2024-08-08", 23).end_ns
AT = DAYS[1]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.state.mkdir(parents=True)
    (made.state / "collector").write_text("c-test\n")
    for n, path in enumerate(judged_paths(made, AT)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"judged %d" % n)
        os.utime(path, ns=(1, 1))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(f"file://{tmp_path}/bucket")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Days whose records are read."""
    found: list[str] = []
    look = upload_judged_of

    def told(layout: Layout, at: SymbolDay, *args: Any, **options: Any) -> Any:
        found.append(at.day)
        return look(layout, at, *args, **options)

    monkeypatch.setattr(rim, "upload_judged_of", told)
    return found


def put(layout: Layout, store: Store, *, dry_run: bool = False) -> Any:
    """Five days later, so that it is finished; the records are then as old as if the next run came an hour later."""
    report = rim.upload(layout, store, clock=At(END_NS + 5 * 24 * 3600 * 10**9), dry_run=dry_run)
    assert report.problem == ""
    records = uploads.path_of(layout, AT.exchange, AT.symbol, AT.day)
    if records.exists():
        os.utime(records, ns=(1, 1))
    return report


def judge_anew(layout: Layout, store: Store) -> None:
    layout.verdicts(AT.exchange, AT.symbol, AT.day).write_bytes(b"judged 9")
    os.utime(layout.verdicts(AT.exchange, AT.symbol, AT.day), ns=(2, 2))


def lose_records(layout: Layout, store: Store) -> None:
    uploads.path_of(layout, AT.exchange, AT.symbol, AT.day).unlink()


def lose_object(layout: Layout, store: Store) -> None:
    """As a clean-up finds it out."""
    name = next(stored.name for stored in store.list("verdicts/"))
    (Path(store.url.removeprefix("file://")) / name).unlink()
    uploads.write_doubts(layout, store.url, [name])


def lose_what_is_kept(layout: Layout, store: Store) -> None:
    shutil.rmtree(layout.state / "settled")


def take_another_name(layout: Layout, store: Store) -> None:
    (layout.state / "collector").write_text("c-other\n")


@pytest.mark.parametrize(
    "harm", [judge_anew, lose_records, lose_object, lose_what_is_kept, take_another_name]
)
def test_a_settled_day_is_looked_at_again_when_anything_of_it_changed(
    layout: Layout, store: Store, looked_at: list[str], harm: Callable[[Layout, Store], None]
) -> None:
    assert put(layout, store).created.files == 3
    assert put(layout, store).created.files == 0
    assert looked_at == [AT.day] * 2
    put(layout, store)
    assert looked_at == [AT.day] * 2, "it is settled"
    harm(layout, store)
    planned = put(layout, store, dry_run=True).planned
    report = put(layout, store)
    assert looked_at == [AT.day] * 3
    assert report.created.files + report.found.files == len(planned)
    assert {store.read(name)[1] for name in (stored.name for stored in store.list())} >= {
        path.read_bytes() for path in judged_paths(layout, AT)
    }
    uploads.write_doubts(layout, store.url, [])
    put(layout, store)
    before = list(looked_at)
    put(layout, store)
    assert looked_at == before, "and is settled again"


def test_a_day_that_was_just_uploaded_is_not_settled_at_once(
    layout: Layout, store: Store, looked_at: list[str]
) -> None:
    """Within a tick of the clock its records might change and not look so."""
    put(layout, store)
    uploads.path_of(layout, AT.exchange, AT.symbol, AT.day).touch()
    put(layout, store)
    put(layout, store)
    assert looked_at == [AT.day] * 3
    put(layout, store)
    assert looked_at == [AT.day] * 3


def test_a_day_that_was_uploaded_when_it_was_just_written_is_settled_two_runs_later(
    layout: Layout, store: Store, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them reads its files once more."""
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: 1)  # when they were
        assert put(layout, store).created.files == 3
    records = uploads.read(layout, AT.exchange, AT.symbol, AT.day, store.url).values()
    assert {record.modified_ns for record in records} == {0}
    for _ in range(4):
        assert put(layout, store).created.files == 0
    assert looked_at == [AT.day] * 3


def test_a_day_of_which_a_file_can_not_be_looked_at_is_left_and_never_settled(layout: Layout) -> None:
    def settled() -> SettledDays:
        return SettledDays(layout, "file:///bucket", "c-test", frozenset())

    other = layout.report(AT.exchange, AT.symbol, "2024-08-09", "md")
    other.write_bytes(b"judged")
    os.utime(other, ns=(1, 1))
    days = judged_days(layout)
    assert len(days) == 2
    verdicts = layout.verdicts(AT.exchange, AT.symbol, AT.day)
    aside = verdicts.with_name("aside")
    for is_blocked, left in (
        (False, days),
        (False, []),
        (True, [AT]),
        (True, [AT]),
        (False, [AT]),
        (False, []),
    ):
        if is_blocked:
            verdicts.rename(aside)
            verdicts.symlink_to(verdicts.name)
        run = settled()
        assert run.left() == left
        for at in left:
            run.settle(at)
        run.keep()
        if is_blocked:
            aside.replace(verdicts)


def test_where_it_can_not_be_kept_the_upload_goes_well(layout: Layout, store: Store) -> None:
    (layout.state / "settled").write_bytes(b"in the way")
    put(layout, store)
    report = put(layout, store)
    assert (report.pending.files, report.created.files) == (0, 0)
    assert (layout.state / "settled").read_bytes() == b"in the way"
