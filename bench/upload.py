"""What an upload takes: MB a second and the peak memory of the process, on a strict fake of Cloud Storage on loopback.

    python bench/upload.py [--mib 1024] [--files 1] [--workers 1] [--limit-mib 0] [--to gs|file]

Random files of `--mib` altogether are measured (size and three checksums) and put. The fake runs as a process of its
own, checks CRC32C and MD5 as the real one does, and keeps no bytes; on two cores it is the slower side of the two. The
peak is the uploading process's alone. Exit code 1 where it is above 100 MiB and 20 MiB a worker.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crypto_lake.store import Created, Job, Limiter, measure, open_store, put_many

FAKE = Path(__file__).parent.parent / "tests" / "support" / "fake_gcs"
MIB = 2**20


def upload(url: str, folder: Path, workers: int, limit_mib: float) -> dict[str, float]:
    """In this process: measure and put every file of the folder."""
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = open_store(url)
    paths = sorted(folder.iterdir())
    start = time.monotonic()
    declared = {path: measure(path) for path in paths}
    measured = time.monotonic()
    jobs = (Job(path, f"raw/{path.name}", declared[path]) for path in paths)
    limiter = Limiter(limit_mib * MIB) if limit_mib else None
    for job, outcome in put_many(store, jobs, workers=workers, limiter=limiter):
        assert isinstance(outcome, Created), (job, outcome)
    ended = time.monotonic()
    store.close()
    size = sum(one.bytes for one in declared.values()) / 1e6
    return {
        "measure_mb_per_second": size / (measured - start),
        "put_mb_per_second": size / (ended - measured),
        "rss_before_mib": began / 1024,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit-mib", type=float, default=0.0)
    parser.add_argument("--to", choices=["gs", "file"], default="gs")
    parser.add_argument("--child", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(
            json.dumps(upload(options.child[0], Path(options.child[1]), options.workers, options.limit_mib))
        )
        return

    with tempfile.TemporaryDirectory() as name:
        folder, bucket = Path(name) / "files", Path(name) / "bucket"
        folder.mkdir()
        bucket.mkdir()
        for n in range(options.files):
            with (folder / f"{n:04d}").open("wb") as file:
                for _ in range(options.mib // options.files):
                    file.write(os.urandom(MIB))
        fake = subprocess.Popen(
            [sys.executable, str(FAKE), "--discard"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert fake.stdout is not None
        try:
            environment = os.environ | {"STORAGE_EMULATOR_HOST": json.loads(fake.stdout.readline())["url"]}
            url = "gs://lake/bench" if options.to == "gs" else f"file://{bucket}"
            passed_on = ["--workers", str(options.workers), "--limit-mib", str(options.limit_mib)]
            child = subprocess.run(
                [sys.executable, __file__, *passed_on, "--child", url, str(folder)],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
        finally:
            fake.communicate()
    found = json.loads(child.stdout)
    print(f"{options.files} file(s), {options.mib} MiB, {options.workers} worker(s), to {options.to}")
    print(f"measured (CRC32C, MD5, SHA-256): {found['measure_mb_per_second']:8.0f} MB/s")
    print(f"put and proven:                  {found['put_mb_per_second']:8.0f} MB/s")
    print(
        f"peak memory:                     {found['peak_rss_mib']:8.0f} MiB ({found['rss_before_mib']:.0f} before)"
    )
    allowed = 100 + 20 * options.workers
    if found["peak_rss_mib"] > allowed:
        raise SystemExit(f"the peak is above {allowed} MiB")


if __name__ == "__main__":
    main()
