"""Run the fake as a process of its own: see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from fake_gcs import FakeGcs

    parser = argparse.ArgumentParser()
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--discard", action="store_true", help="keep checksums and no bytes")
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT", help="of a server that outlives its standard input"
    )
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    if options.address:  # before there are threads, which take the mask over
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with FakeGcs(
        buckets=options.bucket or ["lake"],
        discard=options.discard,
        address=(host or "127.0.0.1", int(port or 0)),
    ) as server:
        print(json.dumps({"url": server.url, "pid": os.getpid()}), flush=True)
        if options.address:
            signal.sigwait({signal.SIGTERM, signal.SIGINT})
        else:
            sys.stdin.read()
