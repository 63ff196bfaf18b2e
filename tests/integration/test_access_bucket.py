"""A lake in a bucket, read with the client library: the same answers, few requests, one version of each object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crypto_lake import Lake
from crypto_lake.access import bucket as bucket_
from crypto_lake.access.bucket import BucketPlace
from crypto_lake.access.errors import ReplacedError, UnreachableError
from crypto_lake.access.files import LakeFiles
from crypto_lake.access.places import DayFile
from crypto_lake.access.session import asking, open_session
from support.bar_rows import Second, write_days
from support.fake_gcs import FakeGcs
from support.fake_gcs.state import Digest
from support.lakes import command

URL = "gs://lake/prod"
START = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())
DAYS = ("2024-08-08", "2024-08-09", "2024-08-10")
ROWS = 3000


def put(server: FakeGcs, name: str, data: bytes) -> None:
    digest = Digest()
    digest.update(data)
    server.state.make("lake", {"name": name}, None, digest, data)


def publish(server: FakeGcs, root: Path) -> None:
    for path in sorted((root / "parquet").rglob("*.parquet")):
        put(server, f"prod/{path.relative_to(root)}", path.read_bytes())


def write(root: Path, version: int) -> Path:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for number, _ in enumerate(DAYS):
            at = START + number * 86400
            rows = [
                Second(at + n, version, ((n, version, version * 10**8, True),), quote=(1, 2, 3, 4))
                for n in range(ROWS * version)
            ]
            write_days(root, symbol, rows)
    return root


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGcs]:
    with FakeGcs() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        publish(running, write(tmp_path / "v1", 1))
        put(running, "prod/parquet/macro/VIX/year=2024/series.parquet", b"no bars")
        put(running, "prod/parquet/binance/BTCUSDT/notes.txt", b"no bars either")
        running.requests.clear()
        yield running


def fetched(server: FakeGcs) -> set[str]:
    return {sent.name.removeprefix("prod/parquet/binance/") for sent in server.sent("media")}


def test_a_bucket_answers_as_a_folder_does(server: FakeGcs, tmp_path: Path) -> None:
    here, there = Lake(tmp_path / "v1"), Lake(URL)
    assert (there.exchange, there.symbols(), there.days()) == ("binance", ["BTCUSDT", "ETHUSDT"], list(DAYS))
    for every in ("1m", "1d"):
        one, other = (lake.bars(["BTCUSDT", "ETHUSDT"], every=every).collect() for lake in (here, there))
        assert one.equals(other)
    assert here.coverage("BTCUSDT").equals(there.coverage("BTCUSDT"))
    with there.connect(read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM bars_1s").fetchall() == [(6 * ROWS,)]
    done = command("query", "ETHUSDT", "--every", "1d", "--data", URL, "--columns", "trade_count")
    assert done.stdout.split() == ["trade_count", *[str(ROWS)] * 3]


def test_only_what_is_asked_for_is_fetched(server: FakeGcs) -> None:
    lake = Lake(URL)
    lake.bars("ETHUSDT", "2024-08-09", "2024-08-10", columns=["window_start", "close"]).collect()
    assert fetched(server) == {"ETHUSDT/year=2024/month=08/day=09/bars.parquet"}
    server.requests.clear()
    lake.bars("ETHUSDT", "2024-08-09", "2024-08-10", columns=["window_start", "close"]).collect()
    assert not server.sent("media")  # it is kept, for a generation never changes
    assert not server.sent("list")
    with lake.connect() as connection:
        server.requests.clear()
        connection.sql("FROM volume('BTCUSDT', '2024-08-10', '2024-08-11')").fetchall()
        assert fetched(server) - {"BTCUSDT/year=2024/month=08/day=08/bars.parquet"} == {
            "BTCUSDT/year=2024/month=08/day=10/bars.parquet"
        }


class ReplacedOnce(BucketPlace):
    """All objects are replaced after the listing, before the first byte is read."""

    def __init__(self, url: str, server: FakeGcs, other: Path) -> None:
        super().__init__(url)
        self.server, self.other, self.replaced = server, other, 0

    def read(self, file: DayFile, offset: int, length: int) -> bytes:
        if not self.replaced:
            self.replaced += 1
            publish(self.server, self.other)
        return super().read(file, offset, length)


def test_what_is_replaced_meanwhile_is_read_anew_in_python_and_told_in_sql(
    server: FakeGcs, tmp_path: Path
) -> None:
    other = write(tmp_path / "v2", 2)
    lake = Lake(URL)
    place = lake._files.place = lake._place = ReplacedOnce(URL, server, other)
    bars = lake.bars("BTCUSDT", every="1d", columns=["trade_count", "volume_base"]).collect()
    assert place.replaced == 1
    assert [(count, int(volume)) for count, volume in bars.rows()] == [(2 * ROWS, 4 * ROWS)] * 3

    place = ReplacedOnce(URL, server, tmp_path / "v1")
    files = LakeFiles(place)
    with open_session(files, views=False) as connection:
        question = "SELECT sum(trade_count)::BIGINT, sum(volume_base)::BIGINT FROM read_parquet('lake://*/*')"
        with pytest.raises(ReplacedError, match="run the query again"), asking(files):
            connection.sql(question).fetchall()
        assert connection.sql(question).fetchall() == [(6 * ROWS, 6 * ROWS)]


def test_new_days_are_seen_when_the_listing_is_a_minute_old(
    server: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(URL)
    assert len(lake.days("BTCUSDT")) == 3
    name = "prod/parquet/binance/BTCUSDT/year=2024/month=08/day={}/bars.parquet"
    put(server, name.format("11"), server.objects[name.format("10")].data or b"")
    assert len(lake.days("BTCUSDT")) == 3
    now = bucket_.time.monotonic()
    monkeypatch.setattr(bucket_.time, "monotonic", lambda: now + 61)
    assert len(lake.days("BTCUSDT")) == 4


def test_refusals_say_what_to_do(server: FakeGcs) -> None:
    with pytest.raises(UnreachableError, match="there is no such bucket"):
        Lake("gs://another/prod").symbols()
    server.deny("prod/", "list")
    with pytest.raises(UnreachableError, match=r"reading is refused .* storage.objects.list"):
        Lake(URL).symbols()
    done = command("query", "BTCUSDT", "--data", URL)
    assert (done.returncode, done.stdout) == (4, "")
    assert "Storage Object Viewer" in done.stderr
    server.bucket.denied.clear()
    server.deny("prod/", "get")
    with pytest.raises(UnreachableError, match=r"storage.objects.get"):
        Lake(URL).bars("BTCUSDT").collect()


def test_without_credentials_it_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UnreachableError, match="gcloud auth application-default login"):
        Lake(URL)
