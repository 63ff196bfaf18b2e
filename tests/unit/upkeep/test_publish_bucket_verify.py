"""`verify_bucket`: what differs in a bucket is named, and a bucket that is whole has nothing to be named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from crypto_lake.cli.main import main
from crypto_lake.lake.vouched import vouched
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, measure
from crypto_lake.upkeep.bucket_verify import verify_bucket
from crypto_lake.upkeep.bucket_verify_report import BucketReport
from support import publishing as p
from support.publishing import DAY, DAY_NS, END_NS, HOUR_NS, SECOND_NS, Machine

LATER_NS = END_NS + 49 * HOUR_NS
RAW = "raw/binance/BTCUSDT/2024-08-08/a/hour_12.jsonl.zst"
BARS = "parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet"
LEDGER = "ledger/binance/BTCUSDT/2024-08-09/a.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket with two days of one collector, an hour that was healed, and a published day."""
    root = tmp_path_factory.mktemp("whole")
    store = p.bucket(root / "bucket")
    machine = Machine(root / "a", "a")
    machine.receive(p.trade(n, DAY_NS + 12 * HOUR_NS + n * SECOND_NS) for n in range(1, 30) if n != 4)
    machine.heal([p.healed(4, DAY_NS + 12 * HOUR_NS + 4 * SECOND_NS, END_NS)], Hour(DAY, 12))
    machine.receive(p.trade(n, END_NS + n * SECOND_NS) for n in range(30, 50))
    machine.send(store, LATER_NS)
    assert p.outcomes(p.run(store, LATER_NS))[DAY] == "published"
    store.close()
    return root / "bucket"


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return p.copy(whole, tmp_path / "bucket")


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = p.bucket(root)
    yield opened
    opened.close()


def verify(store: Store, *, deep: bool = False) -> BucketReport:
    return verify_bucket(store, deep=deep, again_seconds=0)


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_bucket(store: Store, deep: bool) -> None:
    report = verify(store, deep=deep)
    assert (report.differences, report.without_manifest, report.unknown) == ([], [], [])
    assert report.by_kind == {"raw": 3, "bars": 1, "ledger": 2}
    assert report.objects == 3 * 2 + 2 + 2
    read = {"ledger/"} | ({"raw/", "parquet/"} if deep else set())
    assert report.bytes_read == sum(s.bytes for s in store.list() if s.name.startswith(tuple(read)))
    assert report.lines == (49 if deep else 0) + 4


def flip(root: Path, name: str) -> None:
    path = root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def as_if_written(data: bytes) -> bytes:
    """Of a manifest: with its own checksum."""
    try:
        content = json.loads(data)
    except ValueError:
        return data
    return (
        vouched(msgspec.json.format(msgspec.json.encode(content), indent=1)) if content.pop(OWN, "") else data
    )


def edit(root: Path, name: str, old: str, new: str) -> None:
    """Another object under the name, put as one does, so that its checksums are its own."""
    store = p.bucket(root)
    stored, data = store.read(name)
    assert old.encode() in data
    changed = root.with_name("changed")
    changed.write_bytes(as_if_written(data.replace(old.encode(), new.encode(), 1)))
    store.put(changed, name, measure(changed), replaces=stored.generation, metadata=stored.metadata)


def lose(root: Path, name: str) -> None:
    (root / name).unlink()


def foreign_bars(root: Path) -> None:
    store = p.bucket(root)
    stored = store.stat(BARS)
    assert stored is not None
    store.put(root / RAW, BARS, measure(root / RAW), replaces=stored.generation)


OWN = "manifest_sha256"

DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a bit of raw": (lambda root: flip(root, RAW), RAW, "its CRC32C is"),
    "raw is gone": (lambda root: lose(root, RAW), RAW, "is missing; its manifest is there"),
    "raw that bars were made of": (lambda root: lose(root, RAW), BARS, f"was made of {RAW}, which is gone"),
    "a manifest that is none": (
        lambda root: edit(root, f"manifests/{RAW}.json", "{", "["),
        RAW,
        "its manifest can't be read",
    ),
    "a bit of a manifest": (lambda root: flip(root, f"manifests/{BARS}.json"), BARS, "was written with"),
    "a bit of a ledger": (lambda root: flip(root, LEDGER), LEDGER, "was written with"),
    "another's manifest": (
        lambda root: edit(root, f"manifests/{RAW}.json", "hour_12.jsonl.zst", "hour_13.jsonl.zst"),
        RAW,
        "its manifest is of raw/binance/BTCUSDT/2024-08-08/hour_13",
    ),
    "a file that another wrote": (foreign_bars, BARS, "another program wrote it"),
    "a file that is gone": (lambda root: lose(root, BARS), BARS, "is recorded, and there is no file"),
    "bars without a manifest": (lambda root: lose(root, f"manifests/{BARS}.json"), BARS, "has no manifest"),
    # That it is another line is told by the line after it, which is the first of the next day.
    "a line of the ledger": (
        lambda root: edit(root, LEDGER.replace("-09", "-08"), '"first_id":5', '"first_id":4'),
        LEDGER,
        "line 4",
    ),
    "a day of the ledger": (lambda root: lose(root, LEDGER.replace("-09", "-08")), LEDGER, "line 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_differs_is_named(root: Path, store: Store, damage: str) -> None:
    break_, name, problem = DAMAGES[damage]
    break_(root)
    report = verify(store)
    assert any(d.path == name and problem in d.problem for d in report.differences), report.differences
    assert {d.path for d in report.differences} <= {RAW, BARS, LEDGER}


@pytest.mark.parametrize("of", [RAW, BARS])
def test_a_manifest_that_is_not_what_was_written_is_named(root: Path, store: Store, of: str) -> None:
    name = f"manifests/{of}.json"
    stored, data = store.read(name)
    changed = root.with_name("changed")
    changed.write_bytes(data.replace(b'"program": "', b'"program": "0', 1))
    store.put(changed, name, measure(changed), replaces=stored.generation, metadata=stored.metadata)
    [found] = verify(store).differences
    assert (found.path, "its own checksum" in found.problem) == (name, True)


def test_what_only_a_deep_look_finds(root: Path, store: Store) -> None:
    edit(root, f"manifests/{RAW}.json", '"trades": 28', '"trades": 29')
    told = json.loads(store.read(f"manifests/{BARS}.json")[1])
    hour, record = max(told["hours"].items(), key=lambda item: item[1]["rows"])
    edit(root, f"manifests/{BARS}.json", record["digest"], "0" * 64)
    assert verify(store).differences == []
    found = verify(store, deep=True).differences
    assert [(d.path, d.hour) for d in found] == [(BARS, int(hour) % 24), (RAW, None)]
    assert "trades: 28, its manifest says 29" in found[1].problem


def test_what_nothing_vouches_for_and_what_is_not_the_lakes(root: Path, store: Store) -> None:
    lose(root, f"manifests/{RAW}.json")
    (root / "notes.txt").write_text("mine")
    report = verify(store)
    assert (report.differences, report.without_manifest, report.unknown) == ([], [RAW], ["notes.txt"])
    chosen = verify_bucket(store, symbols=["ETHUSDT"], again_seconds=0)
    assert chosen.objects == 0
    chosen = verify_bucket(store, days=["2024-08-09"], again_seconds=0)
    assert (chosen.by_kind, chosen.differences) == ({"raw": 1}, [])


def test_the_command_tells_what_differs_by_its_exit_code(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--bucket", f"file://{root}", "--deep"]) == 0
    assert "all as they should be" in capsys.readouterr().out
    flip(root, RAW)
    assert main(["verify", "--bucket", f"file://{root}", "-o", "json"]) == 3
    assert {one["path"] for one in json.loads(capsys.readouterr().out)["differences"]} == {RAW}
    assert main(["verify", "--bucket", f"file://{root}"]) == 3
    assert RAW in capsys.readouterr().out
    assert main(["verify", "--bucket", f"file://{root}", "--quick"]) == 2
    assert main(["verify", "--deep"]) == 2
    assert main(["verify", "--bucket", f"file://{root}/nothing"]) == 1
    assert "nothing" in capsys.readouterr().err
