"""The pages while the disk hangs, an exchange is away, or something has changed a moment ago."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import connection, snapshot, snapshots, stream, writer

from crypto_lake.capture.snapshot import CollectorSnapshot, Configuration, HealingSnapshot
from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.upkeep.pending import Pending
from crypto_lake.watch import lookout as lookout_module
from crypto_lake.watch.lookout import Around, Cached, Lookout, Uploads, Watched
from crypto_lake.watch.readiness import GRACE_SECONDS, Readiness
from crypto_lake.watch.serve import Server, document
from crypto_lake_operator.report import read_report

DEAD = {"connections": [connection(state="connecting")]}
BUCKET = Watched("file:///bucket")


def test_a_disk_that_hangs_holds_up_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen last is told; the loop turns all the while."""
    monkeypatch.setattr(lookout_module, "WAIT_SECONDS", 0.05)
    for name in ("FILES_SECONDS", "DISK_SECONDS", "PENDING_SECONDS"):
        monkeypatch.setattr(lookout_module, name, 0.0)
    go_on, hung = threading.Event(), threading.Event()

    def pending(_: str) -> Pending:
        if hung.is_set():
            fired.append(threading.current_thread())
            go_on.wait(60)
        return Pending(7, 1)

    def usage(*_: Any) -> Any:
        if hung.is_set():
            go_on.wait(60)
        return msgspec.structs.replace(lookout_module.NOTHING, total_bytes=100, free_bytes=40)

    fired: list[threading.Thread] = []
    monkeypatch.setattr(lookout_module, "usage_of", usage)
    layout = Layout(tmp_path)

    async def run() -> None:
        server = Server(snapshot, "127.0.0.1", 0, Lookout(layout, snapshot, BUCKET, pending))
        await server.start()
        url = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> str:
                async with session.get(url + path) as answer:
                    assert answer.status == 200
                    return await answer.text()

            # The first look may take longer than a page waits for it.
            deadline = time.monotonic() + 30
            before = json.loads(await get("/status"))
            while (before["pending_bytes"], before["disk"]["used_percent"]) != (7, 60.0):
                assert time.monotonic() < deadline, before
                before = json.loads(await get("/status"))
            hung.set()
            for _ in range(3):
                told = json.loads(await get("/status"))
                assert (told["pending_bytes"], told["disk"]["used_percent"]) == (7, 60.0)
                assert "crypto_lake_upload_pending_bytes 7.0" in await get("/metrics")
                assert await get("/healthz") == "ok\n"
                assert await get("/readyz") == "ready\n"
        assert len(fired) == 1  # one look hangs, not one for each request
        go_on.set()
        await server.close()

    asyncio.run(run())


def test_what_can_not_be_looked_at_is_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def pending(_: str) -> Pending:
        raise PermissionError(13, "not yours")

    async def run() -> None:
        lookout = Lookout(Layout(tmp_path), snapshot, BUCKET, pending)
        told = [document(snapshot(), await lookout.look()) for _ in range(3)]
        assert [one["pending_bytes"] for one in told] == [None, None, None]
        assert all(one["last_verified_upload_ns"] == 0 for one in told)

    asyncio.run(run())
    assert caplog.text.count("not yours") == 1


def test_what_healing_wrote_since_the_last_look_is_pending_at_once(tmp_path: Path) -> None:
    """Else a collector that goes would seem to have nothing left in the seconds after it fetched the last gap."""
    seen = [snapshot(healing=HealingSnapshot("healing", gaps_waiting=1, files=3))]

    async def run() -> None:
        lookout = Lookout(Layout(tmp_path), lambda: seen[0], BUCKET, lambda _: Pending(0, 0))
        around = await lookout.look()
        assert around.pending_bytes(seen[0]) == 0
        seen[0] = snapshot(healing=HealingSnapshot("idle", gaps_waiting=0, files=4))
        assert around.pending_bytes(seen[0])
        assert (await lookout.look()).pending_bytes(seen[0]), "the look is remembered, and tells all the same"
        lookout.follow(BUCKET)
        assert (await lookout.look()).pending_bytes(seen[0]) == 0

    asyncio.run(run())


def test_an_upload_that_ended_and_a_bucket_that_changed_are_looked_at_at_once(tmp_path: Path) -> None:
    layout, asked = Layout(tmp_path), list[str]()

    def pending(url: str) -> Pending:
        asked.append(url)
        return Pending(len(asked), 1)

    async def run() -> None:
        lookout = Lookout(layout, snapshot, BUCKET, pending)
        assert (await lookout.look()).pending_bytes(snapshot()) == 1
        assert (await lookout.look()).pending_bytes(snapshot()) == 1  # it is remembered
        tasks.end(layout, tasks.begin(layout, "upload", 1), time.time_ns(), "", {"last_verified_ns": 5})
        async with asyncio.timeout(90):
            while (around := await lookout.look()).pending_bytes(snapshot()) != 2:
                await asyncio.sleep(0.05)
        assert around.last_verified_upload_ns == 5
        lookout.follow(Watched("file:///other"))
        assert (await lookout.look()).pending_bytes(snapshot()) == 3
        lookout.follow(Watched())
        around = await lookout.look()
        assert around.pending_bytes(snapshot()) is None
        assert around.last_verified_upload_ns is None

    asyncio.run(run())
    assert asked == [BUCKET.bucket, BUCKET.bucket, "file:///other"]


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**9))
def test_nothing_is_pending_only_where_nothing_came_since(seen: int, at: int, now: int, queued: int) -> None:
    around = Around(BUCKET, uploads=Uploads(BUCKET.bucket, seen, 0, at))
    taken = snapshot(writer=writer(bytes_written=max(at, now), queue_bytes=queued))
    told = around.pending_bytes(taken)
    assert told is not None
    assert (told == 0) == (seen == 0 and now <= at and queued == 0)


@given(snapshots(), st.integers(0, 10**6))
def test_whatever_a_collector_says_the_operator_reads(taken: CollectorSnapshot, pending: int) -> None:
    for around in (None, Around(), Around(BUCKET, uploads=Uploads(BUCKET.bucket, pending, 1, 2**60))):
        report = read_report(msgspec.json.encode(document(taken, around)))
        assert report.collector == taken.collector
        assert len(report.symbols) == len(taken.symbols)
        if around is not None and around.uploads is not None:
            assert report.pending_bytes == pending + taken.writer.queue_bytes


def test_every_field_of_the_page_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/status.md").read_text()
    told = document(snapshot(), Around())
    inner = [
        told["disk"],
        *(msgspec.to_builtins(told[name][0]) for name in ("streams", "symbols", "connections")),
    ]
    inner.append(msgspec.to_builtins(Configuration()))
    inner.append(msgspec.to_builtins(HealingSnapshot()))
    named = {*told, *(name for fields in inner for name in fields)}
    assert [name for name in sorted(named) if f"`{name}`" not in text] == []


def test_a_look_that_began_before_is_no_answer_to_what_was_asked_after() -> None:
    begun, go_on = threading.Event(), threading.Event()
    numbers: Iterator[int] = iter(range(10))

    def look() -> int:
        number = next(numbers)
        if number == 0:
            begun.set()
            go_on.wait(60)
        return number

    async def run() -> None:
        cached = Cached(look, -1, 600, "a look")
        first = asyncio.create_task(cached.get())
        await asyncio.to_thread(begun.wait, 60)
        cached.forget()
        go_on.set()
        await first
        assert await cached.get() == 1
        assert await cached.get() == 1

    asyncio.run(run())


@given(st.lists(st.tuples(st.floats(0.1, 40), st.booleans()), min_size=1, max_size=20))
def test_one_that_was_ready_stays_so_while_the_exchange_is_away_for_a_moment(
    looks: list[tuple[float, bool]],
) -> None:
    now = 0.0
    readiness = Readiness(lambda: now)
    last_live: float | None = None
    for seconds, live in looks:
        now += seconds
        last_live = now if live else last_live
        reasons = readiness.judge(snapshot() if live else snapshot(**DEAD))
        assert (not reasons) == (last_live is not None and now - last_live < GRACE_SECONDS)
        # What can't be written is told at once.
        full = readiness.judge(snapshot(writer=writer(trouble="disk_full")))
        assert {reason.code for reason in full} == {"write_errors", "disk_full"}
        last_live = now


def test_who_is_idle_is_ready_and_who_was_never_subscribed_is_not() -> None:
    idle = snapshot(streams=[], symbols=[], connections=[], idle=True)
    assert Readiness().judge(idle) == []
    assert [reason.code for reason in Readiness().judge(snapshot(**DEAD))] == ["not_subscribed"]
    half = [stream("BTCUSDT", "trade", live=True), stream("BTCUSDT", "bookTicker", live=False)]
    assert [reason.code for reason in Readiness().judge(snapshot(streams=half))] == ["not_subscribed"]
