"""Raw to one-second bars: ours against pandas and DuckDB, on the same lines, in one run.

    python bench/transform.py [--mb 500] [--rounds 3]

Each runs in a process of its own, in turn, `--rounds` times; the figures are medians of the whole process's wall
time and peak RSS. Ours reads zstd parts, checks every line and makes whole bars (quotes, states, exact sums, a
manifest); the others read the same lines unpacked and make OHLCV by second. Ends with 1 where a target is missed:
at least 7 times as fast as pandas, not slower than DuckDB, below 400 MB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raw_generator import generate

OURS = """
import sys
from pathlib import Path
from crypto_lake.bars.transform import transform
from crypto_lake.lake.layout import Layout
report = transform(Layout(Path(sys.argv[1])), "binance", rebuild=True)
assert not report.failed and not report.unreadable, report
print(report.trades)
"""
PANDAS = """
import json, sys
from pathlib import Path
import pandas as pd
count = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    rows = []
    for path in sorted(folder.iterdir()):
        with path.open() as file:
            for line in file:
                message = json.loads(line)["message"]["data"]
                if "t" in message:
                    rows.append((message["T"], message["t"], float(message["p"]), float(message["q"]), message["m"]))
    frame = pd.DataFrame(rows, columns=["T", "t", "p", "q", "m"]).drop_duplicates("t").sort_values("t")
    frame["quote"] = frame["p"] * frame["q"]
    bars = frame.groupby(frame["T"] // 1000).agg(
        open=("p", "first"), high=("p", "max"), low=("p", "min"), close=("p", "last"),
        volume=("q", "sum"), quote=("quote", "sum"), count=("t", "size"))
    count += int(bars["count"].sum())
print(count)
"""
DUCKDB = """
import sys
import duckdb
db = duckdb.connect()
db.execute("SET threads = 2")
db.execute("SET enable_progress_bar = false")
rows = db.execute('''
    -- Not a STRUCT: names of its fields differ by case alone (t, T), which DuckDB takes for one.
    WITH lines AS (
        SELECT json_extract_string(message, ['$.data.s', '$.data.t', '$.data.T', '$.data.p', '$.data.q']) AS f
        FROM read_json(?, format = 'newline_delimited', columns = {message: 'JSON'})),
    trades AS (
        SELECT f[1] AS s, CAST(f[2] AS BIGINT) AS t, CAST(f[3] AS BIGINT) AS time_ms,
               CAST(f[4] AS DECIMAL(38,8)) AS p, CAST(f[5] AS DECIMAL(38,8)) AS q
        FROM lines WHERE f[2] IS NOT NULL)
    SELECT s, time_ms // 1000 AS second, arg_min(p, t) AS open, max(p) AS high, min(p) AS low,
           arg_max(p, t) AS close, sum(q) AS volume, count(*) AS n
    FROM trades GROUP BY ALL
''', [sys.argv[1] + "/*/*.jsonl"]).fetchall()
print(sum(row[-1] for row in rows))
"""


def run(script: str, argument: Path) -> tuple[float, float, int]:
    """Wall seconds, peak RSS in MB, trades counted: of a process of its own."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", script, str(argument)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"a contender ended with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024, int(output)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=float, default=500, help="lines to make, in MB (unpacked)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder for the lines, used again where it has them")
    parser.add_argument("--only", choices=["ours"], help="measure this one alone, without targets")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="crypto-lake-bench-"))
    try:
        return measure(folder, options.mb, options.rounds, options.only)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


def measure(folder: Path, megabytes: float, rounds: int, only: str | None) -> int:
    lake, jsonl = folder / "lake", folder / "jsonl"
    if not lake.is_dir():
        lines, size = generate(lake, megabytes, jsonl)
        print(f"{lines:,} lines, {size / 1e6:,.0f} MB unpacked, {os.cpu_count()} cores", flush=True)
    contenders = {"crypto-lake": (OURS, lake)}
    if only is None:
        contenders |= {"duckdb": (DUCKDB, jsonl), "pandas": (PANDAS, jsonl)}
    figures: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (script, argument) in contenders.items():
            figures[name].append(run(script, argument))
    trades = {trades for measured in figures.values() for _, _, trades in measured}
    if len(trades) != 1:
        print(f"the contenders counted different trades: {trades}")
        return 1
    wall = {name: statistics.median(m[0] for m in measured) for name, measured in figures.items()}
    rss = {name: statistics.median(m[1] for m in measured) for name, measured in figures.items()}
    print(f"{trades.pop():,} trades\n\n{'':12} {'wall s':>8} {'ours is':>10} {'peak MB':>9}")
    for name in contenders:
        print(f"{name:12} {wall[name]:8.2f} {wall[name] / wall['crypto-lake']:9.2f}x {rss[name]:9.0f}")
    if only is not None:
        return 0
    targets = {
        "at least 7x as fast as pandas": wall["pandas"] >= 7 * wall["crypto-lake"],
        "not slower than DuckDB": wall["crypto-lake"] <= wall["duckdb"],
        "below 400 MB": max(m[1] for m in figures["crypto-lake"]) < 400,
    }
    print()
    for target, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'} {target}")
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
