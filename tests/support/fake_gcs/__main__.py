"""Run the fake as a process of its own: see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from fake_gcs import FakeGcs

    parser = argparse.ArgumentParser()
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--discard", action="store_true", help="keep checksums and no bytes")
    options = parser.parse_args()
    with FakeGcs(buckets=options.bucket or ["lake"], discard=options.discard) as server:
        print(json.dumps({"url": server.url, "pid": os.getpid()}), flush=True)
        sys.stdin.read()
