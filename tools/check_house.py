"""Rules of this repository that no other tool holds: `python tools/check_house.py` tells what breaks them.

- operator/ is no package (its name would shadow the standard library's module).
- No file names a package registry, a folder of somebody's machine, or another setting of pip.
- The lock files name every file by its hash, agree with each other, and cover what pyproject.toml asks for.
- The version stands in two places and is the same in both.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SKIPPED_FOLDERS = {".git", ".venv", ".cache", "data", "dist", "node_modules", "__pycache__"}

# The brackets keep these patterns from matching themselves.
_REGISTRIES = re.compile(
    r"[p]ypi\.org|[p]ythonhosted\.org|registry\.[n]pmjs\.org|[d]eb\.debian\.org|[i]ndex\.crates\.io"
    r"|proxy\.[g]olang\.org|https?://[^\s\"']+/[s]imple\b"
)
_MACHINES = re.compile(r"(?<![\w.~}-])/(?:[w]ork|[w]orkspace|[h]ome/\w+|[U]sers/\w+|[r]oot)/")
_INDEX_SETTING = re.compile(
    r"^\s*(?:-i|-f|--(?:extra-)?index-url|--find-links|--trusted-host|--no-index)\b", re.M
)

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?P<marker> ; [^\\]+?)?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


def main() -> None:
    problems = list(check(ROOT))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise SystemExit(f"{len(problems)} rule(s) of the house broken")


def check(root: Path) -> Iterator[str]:
    if (root / "operator" / "__init__.py").exists():
        yield "operator/__init__.py: remove it, it would shadow the module `operator` of the standard library"
    for path in project_files(root):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # an image or a recording: no place for an address
        yield from (f"{path.relative_to(root)}:{problem}" for problem in addresses(text))

    locks = {path.stem: path.read_text() for path in sorted((root / "requirements").glob("*.lock"))}
    for name, text in locks.items():
        yield from (f"requirements/{name}.lock: {problem}" for problem in lock_problems(text))
    yield from disagreements(locks)
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    for requirement in pyproject["project"]["dependencies"]:
        yield from (
            f"requirements/{name}.lock: {p}" for name in locks for p in uncovered(requirement, locks[name])
        )

    package = (root / "app" / "crypto_lake" / "__init__.py").read_text()
    if f'__version__ = "{pyproject["project"]["version"]}"' not in package:
        yield "pyproject.toml and app/crypto_lake/__init__.py: they name different versions"


def project_files(root: Path) -> list[Path]:
    """What git tracks or would track; without git all files but those of known caches."""
    listed = (
        subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
            cwd=root,
            capture_output=True,
            check=False,
        )
        if (root / ".git").exists()
        else None
    )
    if listed is not None and listed.returncode == 0:
        found: Iterable[Path] = (root / name for name in listed.stdout.decode().split("\0") if name)
    else:
        found = (p for p in root.rglob("*") if not SKIPPED_FOLDERS & set(p.relative_to(root).parts))
    return sorted(path for path in found if path.is_file())


def addresses(text: str) -> Iterator[str]:
    """`line: what is wrong` of each address that has no place in a public repository."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _REGISTRIES.search(line):
            yield f"{number}: address of a package registry: {found[0]}"
        if found := _MACHINES.search(line):
            yield f"{number}: path of one machine: {found[0]}"


def lock_problems(text: str) -> Iterator[str]:
    if found := _INDEX_SETTING.search(text):
        yield f"holds a setting of pip: {found[0].strip()}"
    if "://" in text:
        yield "holds an address"
    rest = _ENTRY.sub("", text).strip()
    if rest:
        yield f"holds a line that is no pinned requirement with sha256 hashes: {rest.splitlines()[0]}"
    if not _ENTRY.search(text):
        yield "holds no requirement"


def pins(text: str) -> dict[str, set[str]]:
    """Name -> versions (several where markers tell them apart)."""
    found: dict[str, set[str]] = {}
    for entry in _ENTRY.finditer(text):
        found.setdefault(canonicalize_name(entry["name"]), set()).add(entry["version"])
    return found


def disagreements(locks: dict[str, str]) -> Iterator[str]:
    """Packages that two locks hold in different versions: what is tested would not be what runs."""
    first: dict[str, tuple[str, set[str]]] = {}
    for lock, text in locks.items():
        for name, versions in pins(text).items():
            other, expected = first.setdefault(name, (lock, versions))
            if versions != expected:
                yield (
                    f"requirements/{lock}.lock: {name} {sorted(versions)}, in {other}.lock {sorted(expected)}: "
                    f"make all locks together with `make lock`"
                )


def uncovered(requirement: str, lock: str) -> Iterator[str]:
    """What a lock lacks of a requirement of the project."""
    wanted = Requirement(requirement)
    versions = pins(lock).get(canonicalize_name(wanted.name), set())
    if not versions or not all(wanted.specifier.contains(version, prereleases=True) for version in versions):
        yield f"{requirement} is asked for, {sorted(versions) or 'nothing'} is locked: run `make lock`"


if __name__ == "__main__":
    main()
