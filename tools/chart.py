"""Writes what of the chart and its pages is made rather than written: `python tools/chart.py`, or `--check` to compare.

manifests/install.yaml is the chart with its defaults, as `helm template` renders it; without helm it is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from crypto_lake_operator.chart import files
from crypto_lake_operator.cli import written

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "manifests/install.yaml"
NAMESPACE = "crypto-lake-system"
_HEAD = f"""# The chart with its defaults, for `kubectl apply --server-side -f`. Made by `make chart`; changes are lost.
# The operator looks after the CryptoLakes in {NAMESPACE}.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a file differs"
    )
    check: bool = parser.parse_args().check
    different = differing(write=not check)
    for path in different:
        print(f"{path}: {'is not as it would be made: run `make chart`' if check else 'written'}")
    if check and different:
        raise SystemExit(1)


def differing(*, write: bool) -> list[str]:
    """Paths of the files that are not as they would be made."""
    found: list[str] = []
    made = files.made(lambda path: (ROOT / path).read_text(encoding="utf-8"))
    found += [path for path, text in made.items() if _settle(path, text, write)]
    # After the others: it is made of them.
    helm = shutil.which("helm")
    if helm is None:
        print(f"no helm on this machine: {INSTALL} is left as it is", file=sys.stderr)
    elif _settle(INSTALL, install(helm), write):
        found.append(INSTALL)
    return found


def _settle(path: str, text: str, write: bool) -> bool:
    """Whether the file differs."""
    file = ROOT / path
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return True


def install(helm: str) -> str:
    """manifests/install.yaml: namespace, definition, and the chart's objects without its hooks. helm 3 and 4 agree."""
    rendered = subprocess.run(
        [
            *(helm, "template", "crypto-lake", str(ROOT / files.CHART), "--namespace", NAMESPACE),
            *("--include-crds", "--no-hooks", "--skip-tests", "--kube-version", "1.34.0"),
        ],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    ).stdout
    documents = [document for document in yaml.safe_load_all(rendered) if document]
    order = {"CustomResourceDefinition": 0, "ServiceAccount": 1}
    documents.sort(key=lambda document: (order.get(document["kind"], 2), document["kind"]))
    return _HEAD + "".join(f"---\n{text}" for text in map(_text, documents))


def _text(document: dict[str, object]) -> str:
    _without_helm(document)
    return written([document], "yaml")


def _without_helm(value: object) -> None:
    """What says that helm looks after it is not so here."""
    if isinstance(value, dict):
        labels = value.get("labels")
        if isinstance(labels, dict):
            labels.pop("helm.sh/chart", None)
            labels.pop("app.kubernetes.io/managed-by", None)
        for inner in value.values():
            _without_helm(inner)
    elif isinstance(value, list):
        for inner in value:
            _without_helm(inner)


if __name__ == "__main__":
    main()
