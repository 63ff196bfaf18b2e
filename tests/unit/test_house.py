"""The repository's own rules: that they hold, and that their checks notice when they do not."""

from __future__ import annotations

import configparser
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


house = tool("check_house")
environment = tool("environment")


def test_the_repository_keeps_its_rules() -> None:
    assert list(house.check(ROOT)) == []


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "https://" + "pypi" + ".org/simple",
        "pip install -i https://mirror.example/" + "simple/ x",
        "see /" + "work/shared/data",
        "/" + "home/anna/crypto-lake",
        "registry." + "npmjs.org",
    ],
)
def test_an_address_that_has_no_place_here_is_found_on_its_line(line: str) -> None:
    (problem,) = house.addresses(f"first\n{line}\nlast\n")
    assert problem.startswith("2: ")


@pytest.mark.parametrize(
    "line", ["~/work/x", "docs/home/page", "../shared/data", "PIP_INDEX_URL", "a/root/b"]
)
def test_other_text_is_left_alone(line: str) -> None:
    assert list(house.addresses(line)) == []


# --- locks ---------------------------------------------------------------------------------------------------------

hashes = st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=3)
names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
markers = st.sampled_from(["", " ; python_full_version < '3.14'"])
entries = st.tuples(names, st.sampled_from(["1.0", "2.4.1"]), markers, hashes)


def written(entry: tuple[str, str, str, list[str]]) -> str:
    name, version, marker, digests = entry
    return f"{name}=={version}{marker}" + "".join(f" \\\n    --hash=sha256:{d}" for d in digests) + "\n"


@given(st.lists(entries, min_size=1, max_size=5))
def test_a_lock_of_pinned_and_hashed_requirements_is_good(
    found: list[tuple[str, str, str, list[str]]],
) -> None:
    assert list(house.lock_problems("".join(map(written, found)))) == []


@given(
    st.lists(entries, max_size=4),
    st.sampled_from(
        [
            "--index-url https://mirror.example/x\n",
            "-f wheels\n",
            "--extra-index-url=x\n",
            "click==8.5.1\n",
            "click>=8 \\\n    --hash=sha256:" + "a" * 64 + "\n",
            "click==8.5.1 \\\n    --hash=md5:" + "a" * 32 + "\n",
            "click @ https://host.example/click.whl \\\n    --hash=sha256:" + "a" * 64 + "\n",
            "-e .\n",
        ]
    ),
    st.integers(0, 4),
)
def test_a_line_that_is_not_pinned_and_hashed_is_found(
    found: list[tuple[str, str, str, list[str]]], bad: str, place: int
) -> None:
    lines = [written(entry) for entry in found]
    lines.insert(place, bad)
    assert list(house.lock_problems("".join(lines)))


@given(entries)
def test_locks_that_hold_a_package_in_different_versions_disagree(
    entry: tuple[str, str, str, list[str]],
) -> None:
    other = (entry[0], "9.9", entry[2], entry[3])
    assert list(house.disagreements({"run": written(entry), "dev": written(entry)})) == []
    assert list(house.disagreements({"run": written(entry), "dev": written(other)}))


def test_a_requirement_that_the_lock_does_not_cover_is_found() -> None:
    lock = written(("click", "8.5.1", "", ["a" * 64]))
    assert list(house.uncovered("click>=8.2,<9", lock)) == []
    assert list(house.uncovered("click>=9", lock))
    assert list(house.uncovered("rich", lock))


# --- rooms ---------------------------------------------------------------------------------------------------------

ROW = re.compile(r"^\| `(?P<room>\w+)/` \| [^|]+ \| (?P<may>[^|]+) \|$", re.M)


def table() -> dict[str, set[str]]:
    """The rooms of docs/architecture.md, and what each may import."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    text = text.split("\n## Rooms\n")[1].split("\n## ")[0]
    return {row["room"]: set(re.findall(r"`(\w+)`", row["may"])) for row in ROW.finditer(text)}


def contracts() -> dict[str, set[str]]:
    """source module -> forbidden modules, of the contracts that stand for a row."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return {
        section["source_modules"].strip(): set(section["forbidden_modules"].split())
        for name, section in parser.items()
        if name.startswith("importlinter:contract:") and not name.endswith(":pure")
    }


def test_every_room_has_its_row_and_every_row_its_contract() -> None:
    rooms = {path.parent.name for path in (ROOT / "app" / "crypto_lake").glob("*/__init__.py")}
    rows = table()
    assert rows.keys() == rooms
    everything = {f"crypto_lake.{room}" for room in rooms} | {"crypto_lake_operator"}
    found = contracts()
    for room, may in rows.items():
        allowed = {f"crypto_lake.{name}" for name in may | {room}}
        assert found.pop(f"crypto_lake.{room}") == everything - allowed, room
    assert found == {"crypto_lake_operator": {f"crypto_lake.{room}" for room in rooms - {"config", "model"}}}


def test_an_import_against_the_table_is_refused(tmp_path: Path) -> None:
    for room in ["", *table()]:
        (tmp_path / "crypto_lake" / room).mkdir()
        (tmp_path / "crypto_lake" / room / "__init__.py").touch()
    (tmp_path / "crypto_lake_operator").mkdir()
    operator = tmp_path / "crypto_lake_operator" / "__init__.py"
    operator.write_text("import crypto_lake.config\n")
    (tmp_path / "crypto_lake" / "capture" / "__init__.py").write_text("import crypto_lake.lake\n")

    def linted() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                Path(sys.executable).with_name("lint-imports"),
                "--no-cache",
                "--config",
                ROOT / ".importlinter",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    assert linted().returncode == 0
    operator.write_text("import crypto_lake.capture\n")
    refused = linted()
    assert refused.returncode == 1
    assert "crypto_lake_operator is not allowed to import crypto_lake.capture" in refused.stdout


# --- the environment -----------------------------------------------------------------------------------------------

digests = st.sampled_from(["d1", "d2"])
states = st.builds(
    environment.State,
    python=st.sampled_from(["3.11", "3.12"]),
    location=st.sampled_from(["/a", "/b"]),
    locks=st.fixed_dictionaries({"run": digests, "dev": digests, "bench": digests}),
    project=digests,
)


@given(states, st.sets(st.sampled_from(environment.LOCKS)), states, st.sampled_from(environment.LOCKS))
def test_an_environment_is_kept_only_where_all_it_holds_is_current(
    before: Any, held: set[str], current: Any, lock: str
) -> None:
    found = dataclasses.replace(before, locks={n: d for n, d in before.locks.items() if n in held})
    step = environment.decide(found, current, lock)
    same_place = (found.python, found.location) == (current.python, current.location)
    stale = any(current.locks[name] != digest for name, digest in found.locks.items())
    assert (step == "make anew") == (stale or not same_place)
    if step == "nothing":
        assert lock in found.locks
        assert found.project == current.project
    if step == "install project":
        assert lock in found.locks
    assert environment.decide(None, current, lock) == "make anew"
    # Done, it is done.
    after = dataclasses.replace(
        current, locks={**({} if step == "make anew" else found.locks), lock: current.locks[lock]}
    )
    assert environment.decide(after, current, lock) == "nothing"


def test_settings_of_linters_do_not_count_as_the_project() -> None:
    base = '[project]\nname = "x"\ndependencies = ["a"]\n'
    same = environment.project_digest(base + "[tool.ruff]\nline-length = 1\n")
    assert same == environment.project_digest(base)
    assert same != environment.project_digest(base.replace('"a"', '"b"'))


BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr("tiny.pth", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return name

build_wheel = build_editable
"""


def test_an_environment_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "requirements").mkdir()
    script = tmp_path / "tools" / "environment.py"
    script.write_text((ROOT / "tools" / "environment.py").read_text())
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1.0"\n'
    )
    for name in environment.LOCKS:
        (tmp_path / "requirements" / f"{name}.lock").write_text("# nothing\n")
    stamp = tmp_path / ".venv" / environment.STAMP

    def make(lock: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, script, lock],
            env={**os.environ, "PIP_NO_INDEX": "1"},
            capture_output=True,
            text=True,
        )

    missing = f"no-such-package==1.0 \\\n    --hash=sha256:{'a' * 64}\n"
    (tmp_path / "requirements" / "dev.lock").write_text(missing)
    failed = make("dev")
    assert failed.returncode != 0
    assert "no-such-package" in failed.stderr
    assert (tmp_path / ".venv" / "bin" / "python").exists()  # it does look like one
    assert not stamp.exists()

    left_over = tmp_path / ".venv" / "left over"
    left_over.touch()
    made = make("run")
    assert made.returncode == 0, made.stderr
    assert "make anew" in made.stderr
    assert not left_over.exists()
    assert json.loads(stamp.read_text())["locks"].keys() == {"run"}
    assert make("run").stderr == ""

    # Further packages that can't be had: what was good before does not count any more.
    assert make("dev").returncode != 0
    assert not stamp.exists()


# --- what a person meets first -------------------------------------------------------------------------------------


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^\.PHONY: ([a-z]\w*)$", (ROOT / "Makefile").read_text(), re.M))
    assert targets >= {"run", "test", "lint", "type", "bench", "e2e", "faults", "lock", "image", "clean"}
    assert targets == set(re.findall(r"^  (\w+) ", listed, re.M))


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")],
    ids=lambda page: page.name,
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_public_workflows_run_only_actions_pinned_by_their_commit() -> None:
    used = [
        line.split("uses:")[1].strip()
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert used
    assert [line for line in used if not re.match(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+$", line)] == []
