"""Conditions: what fires, what does not, and what can't be told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import KINDS, START_NS, connection, snapshot, snapshots, stream, symbol, writer

from crypto_lake.capture.snapshot import CollectorSnapshot, StreamSnapshot
from crypto_lake.config.schema import Condition
from crypto_lake.lake.tasks import TASKS, TaskReport
from crypto_lake.model.alerting import RULES, effective
from crypto_lake.watch.conditions import Alert, ConditionState, evaluate
from crypto_lake.watch.conditions_checks import CHECKS
from crypto_lake.watch.conditions_look import Look
from crypto_lake.watch.conditions_memory import DISK_SAMPLE_NS, DiskSample, disk_full_in_seconds
from crypto_lake.watch.disk import NOTHING
from crypto_lake.watch.status import Observation

NOW_NS = 1_800_000_000_000_000_000  # real time, which need not be the lake's
SECOND = 10**9
MINUTE = 60 * SECOND
ROOMY = msgspec.structs.replace(NOTHING, total_bytes=1000, free_bytes=500)


def look(taken: CollectorSnapshot | None, at_ns: int = NOW_NS, **changes: Any) -> Look:
    of_look = {
        k: changes.pop(k) for k in ("expected_tasks", "quarantined", "quarantine_last") if k in changes
    }
    values: dict[str, Any] = {
        "taken_at": "2024-08-09T00:00:00Z",
        "data": "data",
        "locked": taken is not None,
        "snapshot": taken,
        "snapshot_age_seconds": 1.0,
        "transform": None,
        "transform_age_seconds": None,
        "disk": ROOMY,
    }
    return Look(Observation(**values | changes), at_ns, **of_look)


class Watch:
    """Looks one after the other, as the loop makes them."""

    def __init__(self, *changed: Condition) -> None:
        self.rules = effective(
            changed, transform_every_minutes=60, upload_every_minutes=60, cleanup_every_minutes=60
        )
        self.state = ConditionState()

    def see(self, one: Look) -> dict[str, Alert]:
        alerts, self.state = evaluate(one, self.rules, self.state, settle_seconds=15)
        # It survives a restart.
        self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=ConditionState)
        return {alert.key: alert for alert in alerts}

    def settled(self, one: Look, for_seconds: int = 300) -> dict[str, Alert]:
        """The same look again and again for a while."""
        seen: dict[str, Alert] = {}
        for passed in range(0, for_seconds + 1, 15):
            seen = self.see(msgspec.structs.replace(one, now_ns=one.now_ns + passed * SECOND))
        return seen


def test_every_condition_has_its_check_and_the_other_way_round() -> None:
    assert CHECKS.keys() == RULES.keys()
    assert {f"{task}_failed" for task in TASKS} <= RULES.keys()


@settings(max_examples=100)
@given(
    snapshots() | st.none(),
    snapshots() | st.none(),
    st.integers(0, 10**14),
    st.dictionaries(st.sampled_from(TASKS), st.builds(TaskReport, st.just("x"), st.integers(0, 2**60))),
    st.floats(0, 1000),
)
def test_whatever_is_seen_can_be_judged(
    first: CollectorSnapshot | None,
    second: CollectorSnapshot | None,
    passed_ns: int,
    tasks: dict[str, TaskReport],
    age: float,
) -> None:
    watch = Watch()
    watch.see(look(first, tasks=tasks))
    alerts = watch.see(look(second, NOW_NS + passed_ns, tasks=tasks, snapshot_age_seconds=age, quarantined=3))
    for key, alert in alerts.items():
        assert key == (f"{alert.type}:{alert.subject}" if alert.subject else alert.type)
        assert 0 < alert.since_ns <= NOW_NS + passed_ns
        assert alert.message.endswith((".", "again."))


def test_a_well_lake_fires_nothing() -> None:
    assert Watch().settled(look(snapshot()), 3600) == {}


# -- silence


def market(
    silent_seconds: dict[str, int], *, messages: int = 50, live: int | None = None, **changes: Any
) -> CollectorSnapshot:
    """A collector that ran for an hour; each symbol has been silent for so long. `messages`: of each stream."""
    taken_ns = START_NS + 3600 * SECOND
    streams = [
        stream(name, kind, messages=messages, last_received_ns=taken_ns - seconds * SECOND)
        for name, seconds in silent_seconds.items()
        for kind in KINDS
    ]
    values: dict[str, Any] = {
        "taken_ns": taken_ns,
        "streams": streams,
        "symbols": [symbol(name) for name in silent_seconds],
        "connections": [connection(len(streams) if live is None else live)],
        "writer": writer(last_fsync_ns=taken_ns),
    }
    return snapshot(**values | changes)


def test_klines_do_not_hide_that_a_market_is_silent_nor_make_a_quiet_one_look_so() -> None:
    silent = market({"BTCUSDT": 601, "ETHUSDT": 1}, messages=20)
    kline = stream("BTCUSDT", "kline_1s", messages=3600, last_received_ns=silent.taken_ns - SECOND)

    def fired(streams: list[StreamSnapshot]) -> list[str]:
        seen = Watch().settled(look(msgspec.structs.replace(silent, streams=streams)), 15)
        return [key for key in seen if key.startswith("data_gap")]

    assert fired([*silent.streams, kline]) == fired(silent.streams) == ["data_gap:binance/BTCUSDT"]
    # The exchange says that nothing was missed.
    quiet = [msgspec.structs.replace(one, liveness="quiet") for one in silent.streams]
    assert fired([*quiet, kline]) == []
    # The klines alone went silent, and of those it says nothing.
    gone = msgspec.structs.replace(kline, last_received_ns=silent.taken_ns - 601 * SECOND)
    speaking = market({"BTCUSDT": 1, "ETHUSDT": 1}).streams
    assert fired([*speaking, gone]) == fired([*quiet, gone]) == ["data_gap:binance/BTCUSDT/kline_1s"]
    # Where nothing else is collected they are all there is.
    assert fired([gone, stream("ETHUSDT", "kline_1s", last_received_ns=silent.taken_ns)]) == [
        "data_gap:binance/BTCUSDT"
    ]


@pytest.mark.parametrize(
    ("taken", "keys"),
    [
        # It spoke 20 times a minute and says nothing while the other moves.
        (market({"BTCUSDT": 301, "ETHUSDT": 1}, messages=1000), ["data_gap:binance/BTCUSDT"]),
        (market({"BTCUSDT": 299, "ETHUSDT": 1}, messages=1000), []),
        # Quiet by itself, all streams live: it is given twice the time.
        (market({"BTCUSDT": 599, "ETHUSDT": 1}, messages=20), []),
        (market({"BTCUSDT": 601, "ETHUSDT": 1}, messages=20), ["data_gap:binance/BTCUSDT"]),
        # The same, but a subscription is known to be missing.
        (market({"BTCUSDT": 301, "ETHUSDT": 1}, messages=20, live=3), ["data_gap:binance/BTCUSDT"]),
        # Nothing from anybody is one alert.
        (market({"BTCUSDT": 301, "ETHUSDT": 302}, messages=1000), ["data_gap:binance"]),
        (market({"BTCUSDT": 301, "ETHUSDT": 302}, messages=5), []),
        (market({"BTCUSDT": 301, "ETHUSDT": 302}, messages=5, live=0), ["data_gap:binance"]),
        (market({"BTCUSDT": 599}, messages=5), []),
        (market({"BTCUSDT": 601}, messages=5), ["data_gap:binance"]),
        # A clock without a speed of its own knows no silence.
        (market({"BTCUSDT": 601, "ETHUSDT": 1}, messages=1000, clock_speed=0.0), []),
    ],
)
def test_silence_and_what_it_rests_on(taken: CollectorSnapshot, keys: list[str]) -> None:
    fired = Watch().settled(look(taken), 15)
    assert [key for key in fired if key.startswith("data_gap")] == keys
    for key in keys:
        assert fired[key].details["silent_seconds"] >= 300
        assert fired[key].started_ns <= NOW_NS + (15 - 300) * SECOND


def test_a_dead_stream_of_a_symbol_that_speaks() -> None:
    taken = market({"BTCUSDT": 1, "ETHUSDT": 1}, messages=2000)

    def with_trades(silent_seconds: int, messages: int) -> CollectorSnapshot:
        trades: StreamSnapshot = msgspec.structs.replace(
            taken.streams[0], messages=messages, last_received_ns=taken.taken_ns - silent_seconds * SECOND
        )
        return msgspec.structs.replace(taken, streams=[trades, *taken.streams[1:]])

    assert list(Watch().settled(look(with_trades(301, 2000)), 15)) == ["data_gap:binance/BTCUSDT/trade"]
    # One that is traded now and then has quotes and no trade for long.
    assert Watch().settled(look(with_trades(3000, 5)), 15) == {}


def test_a_symbol_that_was_just_added_is_given_its_time() -> None:
    watch = Watch()
    old = market({"ETHUSDT": 1})
    watch.see(look(old))
    added = stream("NEWUSDT", "trade", messages=0, last_received_ns=0)

    def after(seconds: int) -> Look:
        taken_ns = old.taken_ns + seconds * SECOND
        others = [msgspec.structs.replace(s, last_received_ns=taken_ns) for s in old.streams]
        taken = msgspec.structs.replace(
            old,
            taken_ns=taken_ns,
            streams=[*others, added],
            connections=[connection(3)],
            writer=writer(last_fsync_ns=taken_ns),
        )
        return look(taken, NOW_NS + seconds * SECOND)

    assert [watch.see(after(s)) for s in (10, 400, 599)] == [{}, {}, {}]
    watch.see(after(620))
    assert list(watch.see(after(640))) == ["data_gap:binance/NEWUSDT"]


def test_without_a_collector_nothing_is_known_of_symbols() -> None:
    watch = Watch()
    gone = market({"BTCUSDT": 301, "ETHUSDT": 1}, messages=1000)
    fired = watch.settled(look(gone), 15)
    assert list(fired) == ["data_gap:binance/BTCUSDT"]
    dead = watch.settled(look(gone, NOW_NS + MINUTE, locked=False, snapshot_age_seconds=70.0), 15)
    assert set(dead) == {"collector_down", "data_gap:binance/BTCUSDT"}
    assert dead["data_gap:binance/BTCUSDT"] == fired["data_gap:binance/BTCUSDT"]
    assert "data_gap" in watch.state.unknown
    back = watch.settled(look(market({"BTCUSDT": 1, "ETHUSDT": 1}), NOW_NS + 5 * MINUTE), 30)
    assert back == {}


# -- the others


def test_a_collector_that_is_soon_back_is_no_alert() -> None:
    watch = Watch()
    down = look(snapshot(), locked=False, snapshot_age_seconds=2.0)
    assert watch.see(down) == {}
    assert watch.settled(look(snapshot(), NOW_NS + 30 * SECOND), 30) == {}
    assert list(watch.settled(msgspec.structs.replace(down, now_ns=NOW_NS + 90 * SECOND), 75)) == [
        "collector_down"
    ]


def test_a_hung_collector_is_down() -> None:
    fired = Watch().see(look(snapshot(), snapshot_age_seconds=90.0))
    assert list(fired) == ["collector_down"]
    assert fired["collector_down"].started_ns == NOW_NS - 90 * SECOND


def test_writes_that_fail_fire_at_once_and_until_ten_minutes_after() -> None:
    watch = Watch()
    watch.see(look(snapshot()))
    failing = snapshot(writer=writer(write_errors=3, trouble="disk_full", trouble_since_ns=START_NS, last_error="no space", last_error_ns=START_NS))  # fmt: skip
    fired = watch.see(look(failing, NOW_NS + MINUTE))
    assert list(fired) == ["not_writing"]
    assert "no space" in fired["not_writing"].message
    over = snapshot(writer=writer(write_errors=3, last_error="no space", last_error_ns=START_NS))
    assert list(watch.see(look(over, NOW_NS + 5 * MINUTE))) == ["not_writing"]
    assert watch.settled(look(over, NOW_NS + 13 * MINUTE), 15) == {}


def test_only_what_is_newly_missing_counts() -> None:
    watch = Watch()

    def missing(ids: int, minutes: int) -> Look:
        taken = snapshot(symbols=[symbol("BTCUSDT", holes_open=1, ids_missing=ids), symbol("ETHUSDT")])
        return look(taken, NOW_NS + minutes * MINUTE)

    assert watch.settled(missing(500, 0)) == {}  # it was so when we came
    watch.see(missing(507, 10))
    fired = watch.see(missing(507, 13))
    assert list(fired) == ["holes:binance"]
    assert fired["holes:binance"].details == {"ids_missing": {"BTCUSDT": 7}}
    assert watch.settled(missing(507, 72), 15) == {}
    watch.see(missing(520, 80))
    assert watch.settled(missing(0, 81)) == {}  # all filled


def test_the_disk_is_judged_by_bytes_and_inodes_and_does_not_flap() -> None:
    watch = Watch()

    def used(percent: int, inodes: int = 0) -> dict[str, Alert]:
        disk = msgspec.structs.replace(
            ROOMY, free_bytes=1000 - 10 * percent, total_inodes=100, free_inodes=100 - inodes
        )
        return watch.settled(look(snapshot(), disk=disk), 30)

    assert used(79) == {}
    assert used(80)["disk_usage"].severity == "warning"
    assert list(used(79)) == ["disk_usage"]
    assert used(77) == {}
    assert used(96)["disk_usage"].severity == "critical"
    assert list(used(10, inodes=99)) == ["disk_usage:inodes"]
    # What the lake may take of a disk that it shares counts as its disk.
    shared = msgspec.structs.replace(ROOMY, free_bytes=900, lake_bytes=81, limit_bytes=100)
    fired = Watch().settled(look(snapshot(), disk=shared), 30)
    assert list(fired) == ["disk_usage"]
    assert "disk.limit_gb`) is 81% full, 0.0 GB are free" in fired["disk_usage"].message


@given(
    st.floats(1e3, 1e9),
    st.integers(8, 72),
    st.integers(0, 2**50),
    st.integers(0, 2**45),
    st.lists(st.floats(-1, 1), min_size=72, max_size=72),
)
def test_the_projection_follows_the_rate(
    bytes_per_second: float, count: int, used: int, free: int, noise: list[float]
) -> None:
    step_seconds = DISK_SAMPLE_NS / 1e9
    wobble = bytes_per_second * step_seconds / 10
    samples = [
        DiskSample(
            NOW_NS + i * DISK_SAMPLE_NS, int(used + i * step_seconds * bytes_per_second + noise[i] * wobble)
        )
        for i in range(count)
    ]
    seconds = disk_full_in_seconds(samples, free)
    assert seconds is not None
    assert seconds == pytest.approx(free / bytes_per_second, rel=0.1, abs=1)
    falling = [
        msgspec.structs.replace(s, used_bytes=t.used_bytes)
        for s, t in zip(samples, reversed(samples), strict=True)
    ]
    assert disk_full_in_seconds(falling, free) is None
    assert disk_full_in_seconds(samples[:2], free) is None


def test_the_disk_will_be_full() -> None:
    watch = Watch()
    fired: dict[str, Alert] = {}
    for minutes in range(0, 45, 5):
        disk = msgspec.structs.replace(ROOMY, free_bytes=500 - minutes)
        fired = watch.see(look(snapshot(), NOW_NS + minutes * MINUTE, disk=disk))
        assert bool(fired) == (minutes >= 30)
    assert "full in 8 h" in fired["disk_full_in"].message


def test_the_lakes_part_of_a_disk_will_be_full() -> None:
    watch = Watch()
    fired: dict[str, Alert] = {}
    for minutes in range(0, 45, 5):
        disk = msgspec.structs.replace(ROOMY, free_bytes=900, lake_bytes=10 + minutes, limit_bytes=200)
        fired = watch.see(look(snapshot(), NOW_NS + minutes * MINUTE, disk=disk))
    assert list(fired) == ["disk_full_in"]
    assert "disk.limit_gb`) is full in 2 h" in fired["disk_full_in"].message


def test_tasks_that_fail_or_do_not_come() -> None:
    hour_ago = NOW_NS - 60 * MINUTE

    def fired(task: str, expected: tuple[str, ...] = (), **fields: Any) -> list[str]:
        report = TaskReport(task, **{"started_ns": hour_ago, "ended_ns": hour_ago} | fields)
        return list(Watch().see(look(snapshot(), tasks={task: report}, expected_tasks=expected)))

    well = {"ok": True, "last_ok_ns": hour_ago}
    failed = {"ok": False, "problem": "why", "last_ok_ns": hour_ago}
    for task in TASKS:
        assert fired(task, **well) == []
        first = fired(task, **failed, failures=1)
        assert first == ([f"{task}_failed"] if RULES[f"{task}_failed"].limit == 1 else [])
        assert fired(task, **failed, failures=2) == [f"{task}_failed"]
    assert fired("upload", **failed, failures=1, figures={"conflicts": 2}) == ["upload_failed"]
    assert fired("upload", ok=True, last_ok_ns=NOW_NS - 181 * MINUTE) == ["upload_late"]
    assert fired("transform", ok=True, last_ok_ns=NOW_NS - 181 * MINUTE) == ["transform_late"]
    assert fired("cleanup", ok=True, last_ok_ns=NOW_NS - 181 * MINUTE) == ["cleanup_late"]
    assert fired("verify", ok=True, last_ok_ns=NOW_NS - 10**6 * MINUTE) == []
    # A report of the transformer itself, where nobody brackets it.
    assert list(Watch().see(look(snapshot(), transform={"failed": {"X": "why"}}, transform_age_seconds=1.0))) == ["transform_failed"]  # fmt: skip
    assert list(Watch().see(look(snapshot(), transform={}, transform_age_seconds=3 * 3600 + 1.0))) == ["transform_late"]  # fmt: skip


def test_a_lake_that_was_off_is_not_late_at_once() -> None:
    watch = Watch()
    tasks = {"upload": TaskReport("upload", NOW_NS, NOW_NS, ok=True, last_ok_ns=NOW_NS)}
    later = NOW_NS + 5000 * MINUTE  # nobody looked meanwhile
    assert watch.see(look(snapshot(), NOW_NS, tasks=tasks)) == {}
    assert watch.see(look(snapshot(), later, tasks=tasks)) == {}
    for minutes in range(9, 178, 9):
        assert watch.see(look(snapshot(), later + minutes * MINUTE, tasks=tasks)) == {}
    assert list(watch.see(look(snapshot(), later + 181 * MINUTE, tasks=tasks))) == ["upload_late"]


@pytest.mark.parametrize("task", ["transform", "upload", "cleanup"])
def test_a_task_that_never_ran_is_late_only_where_it_is_expected(task: str) -> None:
    for expected, keys in (((), []), ((task,), [f"{task}_late"])):
        watch = Watch()
        for minutes in range(0, 181, 9):
            assert watch.see(look(snapshot(), NOW_NS + minutes * MINUTE, expected_tasks=expected)) == {}
        late = look(snapshot(), NOW_NS + 181 * MINUTE, expected_tasks=expected)
        assert list(watch.see(late)) == keys


def test_the_quarantine_is_judged_by_its_growth_in_an_hour() -> None:
    watch = Watch()
    assert watch.see(look(snapshot(), quarantined=9)) == {}
    fired = watch.see(look(snapshot(), NOW_NS + MINUTE, quarantined=1, quarantine_last="why, from where"))
    assert "10 messages" in fired["quarantine"].message
    assert "why, from where" in fired["quarantine"].message
    assert watch.settled(look(snapshot(), NOW_NS + 62 * MINUTE), 15) == {}


def test_the_clock() -> None:
    assert list(Watch().see(look(snapshot(clock_offset_us=-1_200_000)))) == ["clock_offset"]
    assert Watch().see(look(snapshot(clock_offset_us=900_000))) == {}


def test_an_entry_changes_its_condition_alone() -> None:
    rules = effective(
        [Condition(type="disk_usage", threshold=90), Condition(type="holes", enabled=False)],
        transform_every_minutes=5,
        upload_every_minutes=10,
        cleanup_every_minutes=20,
    )
    assert rules["disk_usage"].limit == 90
    assert not rules["holes"].enabled
    assert [rules[f"{task}_late"].limit for task in ("transform", "upload", "cleanup")] == [15, 30, 60]
    assert rules["data_gap"] == RULES["data_gap"]
    watch = Watch(Condition(type="clock_offset", enabled=False))
    assert watch.see(look(snapshot(clock_offset_us=-9_000_000))) == {}


def test_what_the_exchange_says_is_quiet_is_no_gap() -> None:
    """However long, and however much was due: it was asked, and has nothing newer."""

    def taken(liveness: str, of: tuple[str, ...] = KINDS) -> CollectorSnapshot:
        before = market({"BTCUSDT": 3000, "ETHUSDT": 1}, messages=5000)
        streams = [
            msgspec.structs.replace(one, liveness=liveness)
            if one.symbol == "BTCUSDT" and one.kind in of
            else one
            for one in before.streams
        ]
        return msgspec.structs.replace(before, streams=streams)

    for liveness in ("quiet", "halted"):
        assert not Watch().settled(look(taken(liveness)))
    for liveness in ("", "unknown", "symbol_silent"):
        assert "data_gap:binance/BTCUSDT" in Watch().settled(look(taken(liveness)))
    # Of its other stream nothing is known.
    assert "data_gap:binance/BTCUSDT" in Watch().settled(look(taken("quiet", KINDS[:1])))


def test_bars_that_are_not_the_exchanges_are_an_alert_until_a_check_finds_none() -> None:
    def checked(unexplained: int, **fields: Any) -> Look:
        figures = {"bars_unexplained": unexplained, "bars_verified": 86_000}
        report = TaskReport("check", 1, **{"ended_ns": 2, "ok": True, "figures": figures} | fields)
        return look(snapshot(), tasks={"check": report})

    watch = Watch()
    assert watch.see(checked(0)) == {}
    fired = watch.see(checked(3))
    assert list(fired) == ["bars_differ"]
    assert fired["bars_differ"].severity == "critical"
    assert "3 bars differ" in fired["bars_differ"].message
    # Also of a check that failed on something else: what it compared, it compared.
    assert "bars_differ" in watch.see(checked(1, ok=False, problem="no answer", failures=1))
    assert "bars_differ" not in watch.settled(checked(0), 60)
    assert "bars_differ" not in Watch().see(look(snapshot()))
