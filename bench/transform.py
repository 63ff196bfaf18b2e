"""Raw to one-second bars with best quotes: ours against pandas and DuckDB, on the same lines, in one run.

    python bench/transform.py [--mb 500] [--rounds 3]

Each runs in a process of its own, in turn, `--rounds` times; the figures are medians of the whole process's wall
time, and the greatest memory of it and its children at a time (RSS, looked at each 20 ms). All make the same of it: by
second open, high, low, close, volumes, count, taker volumes, id range, last quote and spread. Ours reads zstd parts,
checks every line, sums exactly, finds holes, and writes Parquet and manifests; the others write nothing. DuckDB reads
the same parts, pandas the same lines unpacked.

`pandas` is read_json(lines=True) and groupby; `pandas by hand` takes json.loads line by line and keeps only what is
needed, which is as far as one gets with it, and has no target. Ends with 1 where a target is missed: at least 7
times as fast as pandas, not slower than DuckDB, below 400 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

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
GROUPBY = """
def second_bars(trades, quotes):
    trades = trades.drop_duplicates("t").sort_values("t")
    trades["quote"] = trades["p"] * trades["q"]
    taken = ~trades["m"].astype(bool)
    trades["taken"], trades["taken_quote"] = trades["q"].where(taken, 0.0), trades["quote"].where(taken, 0.0)
    bars = trades.groupby(trades["T"] // 1000).agg(
        open=("p", "first"), high=("p", "max"), low=("p", "min"), close=("p", "last"), volume=("q", "sum"),
        quote=("quote", "sum"), count=("t", "size"), taken=("taken", "sum"), taken_quote=("taken_quote", "sum"),
        first=("t", "first"), last=("t", "last"))
    quotes = quotes.sort_values(["received_ns", "u"])
    quotes["spread"] = quotes["a"] - quotes["b"]
    seconds = quotes.groupby(quotes["received_ns"] // 10**9).agg(
        bid=("b", "last"), bid_size=("B", "last"), ask=("a", "last"), ask_size=("A", "last"),
        spread_min=("spread", "min"), spread_mean=("spread", "mean"), spread_max=("spread", "max"), n=("u", "size"))
    return bars.join(seconds, how="outer")
"""
PANDAS = (
    """
import sys
from pathlib import Path
import pandas as pd
"""
    + GROUPBY
    + """
count = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    frames = []
    for path in sorted(folder.iterdir()):
        lines = pd.read_json(path, lines=True)
        frame = pd.DataFrame([message["data"] for message in lines["message"]])
        frame["received_ns"] = lines["received_ns"]
        frames.append(frame)
    frame = pd.concat(frames)
    is_trade = frame["t"].notna()
    trades = frame.loc[is_trade, ["T", "t", "p", "q", "m"]].astype({"T": "int64", "t": "int64", "p": float, "q": float})
    quotes = frame.loc[~is_trade, ["received_ns", "u", "b", "B", "a", "A"]].astype(
        {"u": "int64", "b": float, "B": float, "a": float, "A": float})
    count += int(second_bars(trades, quotes)["count"].sum())
print(count)
"""
)
PANDAS_BY_HAND = (
    """
import json, sys
from pathlib import Path
import pandas as pd
"""
    + GROUPBY
    + """
count = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    trades, quotes = [], []
    for path in sorted(folder.iterdir()):
        with path.open() as file:
            for line in file:
                row = json.loads(line)
                d = row["message"]["data"]
                if "t" in d:
                    trades.append((d["T"], d["t"], float(d["p"]), float(d["q"]), d["m"]))
                else:
                    prices = float(d["b"]), float(d["B"]), float(d["a"]), float(d["A"])
                    quotes.append((row["received_ns"], d["u"], *prices))
    bars = second_bars(pd.DataFrame(trades, columns=["T", "t", "p", "q", "m"]),
                       pd.DataFrame(quotes, columns=["received_ns", "u", "b", "B", "a", "A"]))
    count += int(bars["count"].sum())
print(count)
"""
)
DUCKDB = """
import sys
import duckdb
db = duckdb.connect()
db.execute("SET threads = 2")
db.execute("SET enable_progress_bar = false")
db.execute('''
    -- Not a STRUCT: names of its fields differ by case alone (t, T), which DuckDB takes for one.
    CREATE TEMP TABLE lines AS
        SELECT received_ns, json_extract_string(message, ['$.data.s', '$.data.t', '$.data.T', '$.data.p', '$.data.q',
               '$.data.m', '$.data.u', '$.data.b', '$.data.B', '$.data.a', '$.data.A']) AS f
        FROM read_json(?, format = 'newline_delimited', columns = {received_ns: 'BIGINT', message: 'JSON'})
''', [sys.argv[1] + "/raw/binance/*/*/part_*.jsonl.zst"])
rows = db.execute('''
    WITH trades AS (
        SELECT f[1] AS s, CAST(f[2] AS BIGINT) AS t, CAST(f[3] AS BIGINT) // 1000 AS second,
               CAST(f[4] AS DECIMAL(38,8)) AS p, CAST(f[5] AS DECIMAL(38,8)) AS q, f[6] = 'false' AS taken
        FROM lines WHERE f[2] IS NOT NULL),
    quotes AS (
        SELECT f[1] AS s, received_ns // 1000000000 AS second, CAST(f[7] AS BIGINT) AS u,
               CAST(f[8] AS DECIMAL(38,8)) AS b, CAST(f[9] AS DECIMAL(38,8)) AS bs,
               CAST(f[10] AS DECIMAL(38,8)) AS a, CAST(f[11] AS DECIMAL(38,8)) AS az
        FROM lines WHERE f[7] IS NOT NULL),
    bars AS (
        SELECT s, second, arg_min(p, t) AS open, max(p) AS high, min(p) AS low, arg_max(p, t) AS close,
               sum(q) AS volume, sum(CAST(p AS DOUBLE) * CAST(q AS DOUBLE)) AS quote, count(*) AS n,
               sum(q) FILTER (taken) AS taken, min(t) AS first, max(t) AS last
        FROM trades GROUP BY ALL),
    best AS (
        SELECT s, second, arg_max(b, u) AS bid, arg_max(bs, u) AS bid_size, arg_max(a, u) AS ask,
               arg_max(az, u) AS ask_size, min(a - b) AS spread_min, avg(a - b) AS spread_mean,
               max(a - b) AS spread_max, count(*) AS updates
        FROM quotes GROUP BY ALL)
    SELECT * FROM bars FULL JOIN best USING (s, second)
''').fetchall()
print(sum(row[8] or 0 for row in rows))
"""


def run(script: str, argument: Path) -> tuple[float, float, int]:
    """Wall seconds, greatest RSS in MB, trades counted: of a process of its own and its children."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", script, str(argument)], stdout=subprocess.PIPE
    )
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, sum(p.memory_info().rss for p in [watched, *watched.children(recursive=True)]))
        time.sleep(0.02)
    seconds = time.monotonic() - started
    assert process.stdout is not None
    output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"a contender ended with {process.returncode}")
    return seconds, peak / 1e6, int(output)


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
        contenders |= {
            "duckdb": (DUCKDB, lake),
            "pandas": (PANDAS, jsonl),
            "pandas by hand": (PANDAS_BY_HAND, jsonl),
        }
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
    print(f"{trades.pop():,} trades\n\n{'':14} {'wall s':>8} {'ours is':>10} {'peak MB':>9}")
    for name in contenders:
        print(f"{name:14} {wall[name]:8.2f} {wall[name] / wall['crypto-lake']:9.2f}x {rss[name]:9.0f}")
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
