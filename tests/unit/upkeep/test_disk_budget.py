"""How full a disk is, and what follows: without a file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.upkeep.disk_budget import Limits, Need, Usage, level, look, need, refusal, used_percent

GB = 10**9


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    total, inodes = draw(st.integers(1, 10**13)), draw(st.integers(0, 10**8))
    return Usage(
        total,
        draw(st.integers(0, total)),
        inodes,
        draw(st.integers(0, inodes)),
        draw(st.integers(0, 10**13)),
    )


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    shed = draw(st.floats(1, 100))
    return Limits(shed, draw(st.floats(shed, 100)), draw(st.sampled_from([0, GB, 10**12])))


@given(usages(), limits())
def test_what_is_freed_as_needed_is_enough_and_below_the_limit_nothing_is(
    usage: Usage, limit: Limits
) -> None:
    wanted = need(usage, limit)
    if level(usage, limit) == "ok":
        assert wanted == Need()
        return
    assert wanted.bytes or wanted.files
    assert not wanted.is_met(0, 0)
    freed = Usage(
        usage.total_bytes,
        min(usage.total_bytes, usage.free_bytes + wanted.bytes),
        usage.total_inodes,
        min(usage.total_inodes, usage.free_inodes + wanted.files),
        max(0, usage.lake_bytes - wanted.bytes),
    )
    assert level(freed, limit) == "ok" or used_percent(freed, limit) == 0


@given(usages(), limits())
def test_levels_rise_with_use(usage: Usage, limit: Limits) -> None:
    percent = used_percent(usage, limit)
    assert (level(usage, limit) != "ok") == (percent >= limit.shed_percent)
    assert (level(usage, limit) == "stop_derived") == (percent >= limit.stop_derived_percent)
    assert bool(refusal(usage, limit)) == (percent >= limit.stop_derived_percent)


def test_a_lake_on_a_shared_disk_has_a_share_of_its_own() -> None:
    limit = Limits(lake_bytes=100 * GB)
    roomy = Usage(1000 * GB, 500 * GB, lake_bytes=92 * GB)
    assert level(roomy, limit) == "shed"
    assert need(roomy, limit) == Need(7 * GB)
    assert level(Usage(1000 * GB, 500 * GB, lake_bytes=10 * GB), limit) == "ok"
    # The disk itself counts all the same: others have filled it.
    assert level(Usage(1000 * GB, 10 * GB, lake_bytes=10 * GB), limit) == "stop_derived"


def test_inodes_run_out_too() -> None:
    usage = Usage(1000 * GB, 900 * GB, 1000, 50)
    assert level(usage, Limits()) == "stop_derived"
    assert need(usage, Limits()) == Need(0, 100)


def test_the_machine_is_asked(tmp_path: Path) -> None:
    seen = look(tmp_path / "not" / "there", Limits())
    assert seen.total_bytes > 0
    assert seen.lake_bytes == 0
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert look(tmp_path, Limits(lake_bytes=1)).lake_bytes >= 100_000
