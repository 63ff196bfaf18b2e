"""What is to be sealed of a day: decided by what lies there alone, whatever a run before left."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.lake.layout import RawFile, parse_raw_name
from crypto_lake.lake.manifests import Input
from crypto_lake.lake.raw_manifests import RawManifest
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.seal_plan import DayState, plan

DAY = "2024-08-08"
FOLDER = Path("raw/binance/BTCUSDT") / DAY
MARGIN_NS = 60 * 10**9


def raw_file(name: str) -> RawFile:
    found = parse_raw_name(DAY, FOLDER / name)
    assert found is not None
    return found


def part(hour: int, number: int, suffix: str = "") -> str:
    return f"part_{hour:02d}_{number:04d}.jsonl.zst{suffix}"


def manifest_of(name: str, parts: list[str], size: int = 10) -> RawManifest:
    return RawManifest(
        path=str(FOLDER / name),
        kind="hour",
        exchange="binance",
        symbol="BTCUSDT",
        day=DAY,
        hour=raw_file(name).hour.hour,
        bytes=size,
        sha256="",
        crc32c="",
        md5="",
        content_sha256="",
        lines=1,
        trades=0,
        quotes=0,
        others=1,
        unreadable=0,
        damaged_bytes=0,
        first_received_ns=None,
        last_received_ns=None,
        first_id=None,
        last_id=None,
        id_runs=(),
        holes=(),
        inputs=tuple(Input(str(FOLDER / part), 10, "") for part in parts),
        collector="c",
        program="0",
        sealed_ns=0,
    )


def state(names: list[str], *manifests: RawManifest, sizes: dict[str, int] | None = None) -> DayState:
    files = sorted(raw_file(name) for name in names)
    return DayState(
        DAY,
        files,
        dict.fromkeys(names, 10) | (sizes or {}),
        {Path(m.path).name: m for m in manifests},
    )


LATE_NS = Hour(DAY, 23).end_ns * 2


@given(
    parts=st.lists(
        st.tuples(st.integers(0, 23), st.integers(1, 300), st.booleans()), unique_by=lambda p: p[1]
    ),
    now_hour=st.integers(0, 25),
)
def test_each_closed_part_of_a_finished_hour_is_in_one_job_in_its_order(
    parts: list[tuple[int, int, bool]], now_hour: int
) -> None:
    now_ns = Hour(DAY, 0).start_ns + now_hour * 3600 * 10**9 + MARGIN_NS
    names = [part(hour, number, ".open" if is_open else "") for hour, number, is_open in parts]
    made = plan(state(names), now_ns, MARGIN_NS)
    writing = {hour for hour, _, is_open in parts if is_open}
    due = [(hour, number) for hour, number, is_open in parts if hour < now_hour and hour not in writing]
    assert [(f.hour.hour, f.number) for job in made.seal for f in job.parts] == sorted(due)
    assert len({job.hour for job in made.seal}) == len(made.seal)
    assert {job.number for job in made.seal} <= {1}
    assert {w.hour.hour for w in made.wait} == {hour for hour, _, _ in parts} - {hour for hour, _ in due}


def test_an_hour_is_finished_a_margin_after_its_end() -> None:
    end = Hour(DAY, 13).end_ns
    assert not plan(state([part(13, 1)]), end + MARGIN_NS - 1, MARGIN_NS).seal
    assert plan(state([part(13, 1)]), end + MARGIN_NS, MARGIN_NS).seal


def test_late_parts_take_a_number_that_was_never_used() -> None:
    one, two = (
        manifest_of("hour_13.jsonl.zst", [part(13, 1)]),
        manifest_of("hour_13_2.jsonl.zst", [part(13, 2)]),
    )
    for there in (
        ["hour_13.jsonl.zst", "hour_13_2.jsonl.zst"],
        ["hour_13.jsonl.zst"],
        [],
    ):  # gone to the bucket
        made = plan(state([*there, part(13, 3), part(12, 4)], one, two), LATE_NS)
        assert [(job.hour.hour, job.number) for job in made.seal] == [(12, 1), (13, 3)]


def test_a_manifest_whose_file_never_got_its_name_is_done_over() -> None:
    cut_off = manifest_of("hour_13.jsonl.zst", [part(13, 1), part(13, 2)])
    made = plan(state([part(13, 1), part(13, 2), part(13, 3)], cut_off), LATE_NS)
    [job] = made.seal
    assert (job.number, [f.number for f in job.parts]) == (1, [1, 2, 3])


def test_parts_of_a_sealed_hour_are_deleted_and_not_sealed_again() -> None:
    sealed = manifest_of("hour_13.jsonl.zst", [part(13, 1), part(13, 2)])
    made = plan(state(["hour_13.jsonl.zst", part(13, 2)], sealed), LATE_NS)
    assert [f.manifest for f in made.finish] == [sealed]
    assert not made.seal
    done = plan(state(["hour_13.jsonl.zst"], sealed), LATE_NS)
    assert (done.finish, done.seal, done.attest, done.odd) == ([], [], [], [])


def test_what_is_not_as_it_should_be_is_told_and_left() -> None:
    sealed = manifest_of("hour_13.jsonl.zst", [part(13, 1)])
    cut = plan(state(["hour_13.jsonl.zst", part(13, 1)], sealed, sizes={"hour_13.jsonl.zst": 9}), LATE_NS)
    assert [odd.name for odd in cut.odd] == ["hour_13.jsonl.zst"]
    assert not cut.finish  # the part is what is left of the hour
    other = plan(state(["hour_13.jsonl.zst", part(13, 1)], sealed, sizes={part(13, 1): 11}), LATE_NS)
    assert [odd.name for odd in other.odd] == [part(13, 1)]
    assert not other.seal


def test_healed_files_and_hours_without_a_manifest_are_attested() -> None:
    names = ["healed_13_1-2.jsonl.zst", "hour_12.jsonl.zst"]
    assert {job.file.path.name for job in plan(state(names), LATE_NS).attest} == set(names)
    unreadable = msgspec.structs.replace(manifest_of(names[0], []), kind="healed")
    told = DayState(
        DAY, [raw_file(n) for n in names], dict.fromkeys(names, 10), {names[0]: unreadable, names[1]: None}
    )
    assert [job.file.path.name for job in plan(told, LATE_NS).attest] == [names[1]]
