"""Make the virtual environment that a Makefile target needs, or leave it where it is right already.

    python3 tools/environment.py run|dev|bench [--venv .venv]

What is installed is exactly a lock file of requirements/, each file by its hash, and the project itself in
editable form. pip's own settings (PIP_INDEX_URL, PIP_CERT, pip.conf, ...) are honoured.

A stamp in the environment says what it holds. It is removed before anything changes and written when everything
is there, so an environment that was left half made is made anew. Two of these at once wait for each other.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("run", "dev", "bench")
STAMP = "crypto-lake.json"
Step = Literal["nothing", "install project", "add packages", "make anew"]


@dataclass(frozen=True)
class State:
    """What an environment holds: by which Python, where, and of which files."""

    python: str
    location: str
    locks: dict[str, str]  # lock -> its digest
    project: str


def decide(found: State | None, current: State, lock: str) -> Step:
    """What is to be done so that an environment holds `lock`. `current` names the digests of all locks.

    Packages are added to what is there (run, then dev), but never upgraded in place: what a new lock no longer
    names would stay, and hide that it is missing.
    """
    if found is None or (found.python, found.location) != (current.python, current.location):
        return "make anew"
    if any(current.locks.get(name) != held for name, held in found.locks.items()):
        return "make anew"
    if lock not in found.locks:
        return "add packages"
    return "nothing" if found.project == current.project else "install project"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def project_digest(pyproject: str) -> str:
    """Of what an editable installation depends on; settings of linters do not count."""
    read = tomllib.loads(pyproject)
    parts = [read.get("build-system"), read.get("project"), read.get("tool", {}).get("hatch")]
    return digest(json.dumps(parts, sort_keys=True).encode())


def read_stamp(venv: Path) -> State | None:
    try:
        state = State(**json.loads((venv / STAMP).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return state if (venv / "bin" / "python").exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lock", choices=LOCKS)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    arguments = parser.parse_args()
    lock, venv = str(arguments.lock), Path(arguments.venv).absolute()

    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / f"{venv.name.lstrip('.')}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        prepare(lock, venv)


def prepare(lock: str, venv: Path) -> None:
    paths = {name: ROOT / "requirements" / f"{name}.lock" for name in LOCKS}
    current = State(
        python=sys.version,
        location=str(venv),
        locks={name: digest(path.read_bytes()) for name, path in paths.items()},
        project=project_digest((ROOT / "pyproject.toml").read_text()),
    )
    found = read_stamp(venv)
    step = decide(found, current, lock)
    if step == "nothing":
        return

    print(f"{venv.name}: {step} (requirements/{lock}.lock)", file=sys.stderr, flush=True)
    (venv / STAMP).unlink(missing_ok=True)
    if step == "make anew":
        create(venv)
    pip = installer(venv)
    if step != "install project":
        run([*pip, "install", "--quiet", "--require-hashes", "-r", str(paths[lock])])
    run([*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])

    held = found.locks if found is not None and step != "make anew" else {}
    stamp = replace(current, locks={**held, lock: current.locks[lock]})
    temporary = venv / f"{STAMP}.new"
    temporary.write_text(json.dumps(asdict(stamp), indent=1) + "\n")
    temporary.replace(venv / STAMP)


def create(venv: Path) -> None:
    """An empty environment; without a pip of its own where this Python can't give it one."""
    shutil.rmtree(venv, ignore_errors=True)
    plain = [sys.executable, "-m", "venv", str(venv)]
    if has("ensurepip"):
        run(plain)
    elif has("pip"):
        run([*plain, "--without-pip"])
    else:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SystemExit(
            f"{sys.executable} can't make virtual environments: it has neither ensurepip nor pip.\n"
            f"Install them (Debian, Ubuntu: apt-get install python3-venv, or python{version}-venv) and try again."
        )


def installer(venv: Path) -> list[str]:
    python = str(venv / "bin" / "python")
    own = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    return [python, "-m", "pip"] if own.returncode == 0 else [sys.executable, "-m", "pip", "--python", python]


def has(module: str) -> bool:
    """Asked of a fresh process: Debian's ensurepip is there only in part, and fails when it is imported."""
    asked = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False)
    return asked.returncode == 0


def run(command: list[str]) -> None:
    # A system-wide «only in virtual environments» or «--user» of the person's settings must not stop us.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"failed ({done.returncode}): {' '.join(command)}\nNothing of it counts; the next try starts anew."
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the environment is made anew the next time") from None
