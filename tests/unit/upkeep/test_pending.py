"""What is pending is what `upload` would still put, or waits for; 0 only where nothing is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.kept_lakes import DAY_NS, HOURS, NOW, add_hours, enter_ledgers, make_kept_lake, settle
from tests.support.lakes import At

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store import open_store
from crypto_lake.upkeep import pending, upload
from crypto_lake.upkeep.pending import PendingLook

LATER = 2 * NOW  # so that nothing is too young to be remembered


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kept") / "data"
    make_kept_lake(root, trades=10)
    return root


def uploaded_bytes(layout: Layout, url: str) -> int:
    """By the records, of what is here."""
    found = 0
    for exchange in layout.exchanges():
        for symbol in [*layout.symbols(exchange), "_control"]:
            for day in [*layout.raw_days(exchange, symbol), uploads.LEDGER]:
                found += sum(
                    record.bytes for record in uploads.read(layout, exchange, symbol, day, url).values()
                )
    return found


def local_bytes(layout: Layout) -> int:
    """Of all that `upload` takes: raw, its manifests, ledgers."""
    return sum(
        path.stat().st_size
        for top in ("raw", "manifests/raw", "ledger")
        for path in (layout.root / top).rglob("*")
        if path.is_file()
    )


def test_it_falls_to_nothing_as_all_is_uploaded(kept: Path, tmp_path: Path) -> None:
    root, url = tmp_path / "data", f"file://{tmp_path}/bucket"
    (tmp_path / "bucket").mkdir()
    shutil.copytree(kept, root)
    layout = Layout(root)
    look = PendingLook(layout, lambda: LATER)
    assert look.look(url).bytes == local_bytes(layout)
    # While the last day is not over its ledger waits, though all raw is there.
    early = HOURS[-1].end_ns + 10**9
    assert upload.upload(layout, open_store(url), clock=At(early)).problem == ""
    left = look.look(url)
    assert 0 < left.bytes == local_bytes(layout) - uploaded_bytes(layout, url)
    assert left.files == 2
    assert upload.upload(layout, open_store(url), clock=At(NOW)).problem == ""
    assert look.look(url) == pending.Pending(0, 0)
    assert look.look(f"file://{tmp_path}/other").bytes == local_bytes(layout)
    assert look.look(url) == pending.Pending(0, 0)
    # What a clean-up did not find as it is recorded is to be put again.
    record = next(iter(uploads.read(layout, "binance", "BTCUSDT", HOURS[0].day, url).values()))
    uploads.write_doubts(layout, url, [record.name])
    assert look.look(url).bytes >= record.bytes > 0
    assert upload.upload(layout, open_store(url), clock=At(NOW)).problem == ""
    assert look.look(url).bytes > 0  # until a clean-up has found it
    uploads.write_doubts(layout, url, [])
    assert look.look(url).bytes == 0


deeds = st.sampled_from(
    ["part", "open", "grow", "close", "seal", "upload", "upload early", "ledger", "spoil"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(deeds, max_size=6))
def test_a_look_that_remembers_says_what_a_new_one_says(chosen: list[str], kept: Path) -> None:
    """And that is: all files here, less what is recorded as uploaded."""
    with tempfile.TemporaryDirectory() as folder:
        layout, url = Layout(Path(folder) / "data"), f"file://{folder}/bucket"
        (Path(folder) / "bucket").mkdir()
        shutil.copytree(kept, layout.root)
        look = PendingLook(
            layout
        )  # what is as young as this is never remembered, so its memory is aged below
        hours = [Hour("2024-08-09", n) for n in range(2, 20)]
        spoiled = False
        for deed in chosen:
            opened = list(layout.open_parts())
            match deed:
                case "part":
                    add_hours(layout, "BTCUSDT", [hours.pop(0)], trades=3, first_id=5000)
                case "open":
                    path = layout.part("binance", "BTCUSDT", hours[0], 90)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.with_name(f"{path.name}.open").write_bytes(b"x" * 50)
                case "grow" if opened:
                    with opened[0].open("ab") as file:
                        file.write(b"y" * 7)
                case "close" if opened:
                    opened[0].unlink()
                case "seal" if not opened:
                    settle(layout)
                case "upload":
                    upload.upload(layout, open_store(url), clock=At(NOW))
                case "upload early":
                    upload.upload(layout, open_store(url), clock=At(HOURS[2].start_ns))
                case "ledger" if not opened:
                    enter_ledgers(layout)
                case "spoil":
                    sealed = next(iter(sorted(layout.root.glob("raw/*/BTCUSDT/*/hour_*"))), None)
                    if sealed is not None:
                        sealed.write_bytes(sealed.read_bytes() + b"z")
                        spoiled = True
                case _:
                    continue
            _age(layout.root)
            seen = look.look(url)
            assert seen == PendingLook(layout).look(url)
            left = local_bytes(layout) - uploaded_bytes(layout, url)
            # A file that is not what its manifest says can't be uploaded, so that something is always left.
            assert seen.bytes > 0 if spoiled else seen.bytes == left


def _age(root: Path) -> None:
    """As if minutes had passed since each change: what the look has seen may then be remembered."""
    for path in [root, *root.rglob("*")]:
        seen = path.stat()
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns - 600 * 10**9))


def test_what_changes_within_the_clocks_tick_is_not_missed(kept: Path, tmp_path: Path) -> None:
    """A part that comes right after a look, in the same tick of the file system's clock: the folder's time is the same."""
    layout, url = Layout(tmp_path / "data"), f"file://{tmp_path}/bucket"
    shutil.copytree(kept, layout.root)
    look = PendingLook(layout)
    folder = layout.raw_day("binance", "BTCUSDT", HOURS[0].day)
    os.utime(folder)
    at = folder.stat()
    before = look.look(url)
    (folder / "part_22_0090.jsonl.zst").write_bytes(b"x" * 11)
    os.utime(folder, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert look.look(url).bytes == before.bytes + 11


def test_a_symbol_that_never_traded_leaves_nothing_behind(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.raw_root().mkdir()
    for symbol in ("BTCUSDT",):
        layout.raw_day("binance", symbol, "2024-08-08").mkdir(parents=True)
    enter_ledgers(layout)
    assert layout.ledger("binance", "BTCUSDT").stat().st_size > 0
    assert PendingLook(layout).look("file:///bucket") == pending.Pending(0, 0)


def test_a_broken_ledger_counts_whole(kept: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    shutil.copytree(kept, layout.root)
    path = layout.ledger("binance", "BTCUSDT")
    path.write_bytes(b"{}\n" + path.read_bytes())
    assert PendingLook(layout).look("file:///bucket").bytes == local_bytes(layout)


def test_days_are_not_read_again_while_nothing_changes(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "data")
    shutil.copytree(kept, layout.root)
    look = PendingLook(layout, lambda: LATER + DAY_NS)
    first = look.look("file:///bucket")
    read: list[str] = []
    for name in ("day_facts", "scan_ledger"):
        monkeypatch.setattr(pending, name, lambda *_, name=name: read.append(name))
    assert look.look("file:///bucket") == first
    assert read == []
