"""Uploads and clean-ups in a world where anything may be lost, changed or replaced in between.

An oracle of its own looks at every file that went: plain reading of what is in the bucket and in the bars.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from crypto_lake.bars.transform import transform
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store import open_store
from crypto_lake.store.errors import Unavailable
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.upload import upload
from support.kept_lakes import HOURS, NOW, bars_files, make_kept_lake, raw_names, settle
from support.lakes import EXCHANGE, At, lines_of

HOUR_NS = 3600 * 10**9
RAW = [
    f"raw/{EXCHANGE}/{symbol}/{hour.day}/hour_{hour.hour:02d}.jsonl.zst"
    for symbol in ("BTCUSDT", CONTROL)
    for hour in HOURS
]


class Flaky:
    """A store whose network fails after so many requests."""

    def __init__(self, store: Any, most: int) -> None:
        self._store, self._left = store, most

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("put", "stat", "read"):
            return found

        def asked(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Unavailable("no answer", at=self._store.url, hint="Later.")
            return found(*arguments, **options)

        return asked


class World(RuleBasedStateMachine):
    template: Path  # a lake that is ready to be uploaded

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.template.parent))
        shutil.copytree(self.template, self.folder / "data")
        (self.folder / "bucket").mkdir()
        self.layout = Layout(self.folder / "data")
        self.bucket = self.folder / "bucket"
        self.store = open_store(f"file://{self.bucket}")
        self.bars = bars_files(self.layout)
        self.changed: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.heal_and_finish()
            shutil.rmtree(self.folder)

    # what the lake does
    @rule(most=st.sampled_from([0, 3, 11, 10**6]))
    def uploads(self, most: int) -> None:
        upload(self.layout, Flaky(self.store, most), clock=At(NOW))  # pyright: ignore[reportArgumentType]

    @rule(age_hours=st.sampled_from([0, 50, 97, 98, 99, 10**4]), most=st.sampled_from([2, 10**6, 10**6]))
    def cleans_up(self, age_hours: int, most: int) -> None:
        before = {name: (self.layout.root / name).read_bytes() for name in raw_names(self.layout)}
        retention = Retention(age_hours * HOUR_NS)
        cleanup(self.layout, Flaky(self.store, most), retention=retention, clock=At(NOW))  # pyright: ignore[reportArgumentType]
        for name in before.keys() - raw_names(self.layout):
            self.justify(name, before[name], age_hours * HOUR_NS)

    @rule()
    def transforms(self) -> None:
        assert not transform(self.layout, EXCHANGE, clock=At(NOW), workers=1).failed

    # what happens to it
    @rule(name=st.sampled_from(RAW), at=st.integers(0, 10**6), what=st.sampled_from(["flip", "cut", "grow"]))
    def a_local_file_changes(self, name: str, at: int, what: str) -> None:
        path = self.layout.root / name
        if path.exists():
            change(path, at, what)
            self.changed.add(name)

    @rule(name=st.sampled_from(RAW), of_manifest=st.booleans())
    def an_object_is_deleted(self, name: str, of_manifest: bool) -> None:
        self.object_of(name, of_manifest).unlink(missing_ok=True)

    @rule(name=st.sampled_from(RAW), at=st.integers(0, 10**6), of_manifest=st.booleans())
    def an_object_is_another(self, name: str, at: int, of_manifest: bool) -> None:
        path = self.object_of(name, of_manifest)
        if path.exists():
            change(path, at, "flip")

    @rule(
        day=st.sampled_from([*(hour.day for hour in HOURS), "ledger"]), how=st.sampled_from(["lost", "torn"])
    )
    def records_are_lost(self, day: str, how: str) -> None:
        path = self.layout.state / "uploads" / EXCHANGE / "BTCUSDT" / f"{day}.jsonl"
        if path.exists():
            if how == "lost":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])

    @rule()
    def the_bucket_is_another_for_a_while(self) -> None:
        other = self.folder / "other"
        other.mkdir(exist_ok=True)
        upload(self.layout, open_store(f"file://{other}"), clock=At(NOW))

    @rule(day=st.sampled_from([hour.day for hour in HOURS]), what=st.sampled_from(["index", "bars"]))
    def bars_are_lost(self, day: str, what: str) -> None:
        if what == "index":
            (self.layout.state / "bars" / EXCHANGE / "BTCUSDT" / f"{day}.json").unlink(missing_ok=True)
        elif all((self.layout.root / name).exists() for name in RAW):
            # Only while raw is here: else nobody can make them again.
            self.layout.manifest(self.layout.bars(EXCHANGE, "BTCUSDT", day)).unlink(missing_ok=True)

    @rule(lines=st.integers(1, 3))
    def the_ledger_is_behind(self, lines: int) -> None:
        path = self.layout.ledger(EXCHANGE, "BTCUSDT")
        kept = path.read_bytes().splitlines(keepends=True)
        if len(kept) > lines and all((self.layout.root / name).exists() for name in RAW):
            path.write_bytes(b"".join(kept[:-lines]))
            shutil.rmtree(self.layout.state / "ledger", ignore_errors=True)

    # the oracle
    def object_of(self, name: str, of_manifest: bool = False) -> Path:
        pieces = name.split("/")
        there = "/".join([*pieces[:-1], "c-test", pieces[-1]])
        return self.bucket / (f"manifests/{there}.json" if of_manifest else there)

    def justify(self, name: str, data: bytes, age_ns: int) -> None:
        """Why this file could go: all of it, and all that it stood for, is there."""
        assert self.object_of(name).read_bytes() == data
        assert name in deleted_paths(self.layout)
        manifest = json.loads(self.object_of(name, of_manifest=True).read_bytes())
        assert manifest["bytes"] == len(data)
        assert manifest["path"] == name
        here = json.loads((self.layout.root / "manifests" / f"{name}.json").read_bytes())
        assert here["sha256"] == manifest["sha256"]
        _, _, symbol, day, file = name.split("/")
        (hour,) = [h for h in HOURS if h.day == day and f"hour_{h.hour:02d}" in file]
        assert hour.end_ns + age_ns <= NOW
        if symbol == CONTROL:
            # Raw of the next day as well may have come over a connection of which they tell.
            next_day = Hour.of_ns(hour.start_ns + 24 * HOUR_NS).day
            assert not [
                raw for raw in raw_names(self.layout) if CONTROL not in raw and raw.split("/")[3] <= next_day
            ]
            return
        copied = self.folder / "copy.zst"
        copied.write_bytes(data)
        ids = [json.loads(line)["message"]["data"]["t"] for line in lines_of(copied) if b"@trade" in line]
        assert ids
        pieces = sorted((self.bucket / "ledger" / EXCHANGE / symbol).glob("*/c-test.jsonl"))
        lines = [json.loads(line) for piece in pieces for line in piece.read_bytes().splitlines()]
        in_ledger = {i for x in lines if x["kind"] == "seen" for i in range(x["first_id"], x["last_id"] + 1)}
        assert in_ledger.issuperset(ids)
        rows = pl.concat(
            [
                pl.read_parquet(path)
                for path in (self.layout.root / "parquet").glob(f"*/{symbol}/*/*/*/*.parquet")
            ]
        )
        traded = rows.filter(pl.col("trade_count") > 0).select("first_trade_id", "last_trade_id").rows()
        in_bars = {i for first, last in traded for i in range(first, last + 1)}
        assert in_bars.issuperset(ids)

    @invariant()
    def bars_stand(self) -> None:
        if hasattr(self, "bars") and not self.changed:  # bars made anew of damaged raw are others
            assert bars_files(self.layout) == self.bars

    @staticmethod
    def is_another(there: Path, here: Path) -> bool:
        return there.exists() and there.read_bytes() != here.read_bytes()

    def heal_and_finish(self) -> None:
        """When nothing happens any more all goes that is what it was, here or there."""
        settle(self.layout)
        # That an object is gone is found when its file is to go, and control records may go when all else went.
        for _ in range(4):
            upload(self.layout, self.store, clock=At(NOW))
            report = cleanup(self.layout, self.store, retention=Retention(0), clock=At(NOW))
        left = raw_names(self.layout)
        stuck = {
            name
            for name in left
            if name in self.changed
            or beside(name, self.changed)  # bars of an hour take trades from the file after it
            or self.is_another(self.object_of(name), self.layout.root / name)
            or self.is_another(
                self.object_of(name, of_manifest=True), self.layout.root / f"manifests/{name}.json"
            )
        }
        market_left = {name for name in left if CONTROL not in name}
        allowed = stuck | ({name for name in left if CONTROL in name} if market_left else set())
        assert left <= allowed, report
        self.bars_stand()


def beside(name: str, others: set[str]) -> bool:
    """Whether one of them is of the hour before or after."""
    at = RAW.index(name)
    return any(RAW[n] in others for n in (at - 1, at + 1) if 0 <= n < len(RAW))


def change(path: Path, at: int, what: str) -> None:
    data = bytearray(path.read_bytes())
    match what:
        case "flip":
            data[at % len(data)] ^= 1
        case "cut":
            del data[at % len(data) :]
        case _:
            data += b"\0"
    path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kept_lake(tmp_path_factory.mktemp("world") / "data", symbols=("BTCUSDT",), trades=8).root


def run_worlds(template: Path, examples: int) -> None:
    machine: Callable[[], RuleBasedStateMachine] = type("TheWorld", (World,), {"template": template})
    run_state_machine_as_test(
        machine,  # pyright: ignore[reportArgumentType]
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_only_what_is_proven_goes_and_all_of_it(template: Path) -> None:
    run_worlds(template, 8)


@pytest.mark.faults
def test_only_what_is_proven_goes_in_many_worlds(template: Path) -> None:
    run_worlds(template, 300)
