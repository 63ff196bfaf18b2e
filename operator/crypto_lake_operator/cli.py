"""`crypto-lake-operator`: render, crds, diff. Exit codes: 0 ok, 1 differences, 2 a lake or the command line is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import msgspec
import yaml

from crypto_lake_operator import api, cluster, crd
from crypto_lake_operator.config import OperatorSettings, SettingsError, read_settings
from crypto_lake_operator.crd_apply import ClusterError
from crypto_lake_operator.observed import Manifest, Observed
from crypto_lake_operator.render import render as render_lake
from crypto_lake_operator.render.context import ANNOTATION_RENDERED
from crypto_lake_operator.validate import SpecError, read_lake

PROGRAM = "crypto-lake-operator"
# Of what is rendered without a cluster: decisions do not look at it.
_NOWHEN = datetime(1970, 1, 1, tzinfo=UTC)


class ExitCode(IntEnum):
    """Documented in docs/cryptolake.md; scripts may rely on it."""

    OK = 0
    DIFFERENT = 1
    USAGE = 2
    UNAVAILABLE = 4


class SettingsWrongError(click.ClickException):
    """The environment can't be used."""

    exit_code = int(ExitCode.USAGE)


class LakeFileError(click.ClickException):
    """A file that holds no usable CryptoLake."""

    exit_code = int(ExitCode.USAGE)


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="How to print.",
)
files_argument = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True)
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 differences found, 2 usage or a wrong lake, 4 the API server can't be reached or refuses.",
)
def cli() -> None:
    """Turn CryptoLakes into running lakes."""


@cli.command()
@files_argument
@click.option("-n", "--namespace", default="default", show_default=True, help="Of lakes that name none.")
@click.option("--image", default=None, help="Of lakes that name none.")
@click.option(
    "--api",
    "apis",
    multiple=True,
    metavar="GROUP/VERSION/KIND",
    help="An optional kind that the cluster has, such as monitoring.coreos.com/v1/ServiceMonitor. May be repeated.",
)
@output_option
def render(
    files: tuple[Path, ...], namespace: str, image: str | None, apis: tuple[str, ...], output: str
) -> None:
    """Print the children of CryptoLakes in FILES (- for stdin), as the operator would apply them.

    A cluster is not asked; the lake's uid, which it alone knows, is left out of ownerReferences.
    """
    settings = OperatorSettings(image=image) if image else OperatorSettings()
    observed = Observed(taken_at=_NOWHEN, apis=frozenset(apis))
    manifests: list[Manifest] = []
    for document in lakes_in(files, namespace):
        manifests += [_without_owner(m) for m in render_lake(read_lake(document), settings, observed)]
    click.echo(written(manifests, output), nl=False)


@cli.command()
@output_option
def crds(output: str) -> None:
    """Print the CustomResourceDefinition."""
    click.echo(written([crd.crd()], output), nl=False)


def lakes_in(files: Sequence[Path], namespace: str) -> list[dict[str, Any]]:
    """The CryptoLakes of these files, with a namespace each. Raises LakeFileError with every problem found."""
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for path in files:
        try:
            text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
            documents = [document for document in yaml.safe_load_all(text) if document is not None]
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            problems.append(f"{path}: not valid YAML: {' '.join(str(error).split())}")
            continue
        maps = cast(
            "list[dict[str, Any]]", [document for document in documents if isinstance(document, dict)]
        )
        lakes = [document for document in maps if document.get("kind") == api.KIND]
        if not lakes:
            problems.append(f"{path}: holds no {api.KIND}")
        for lake in lakes:
            problems += [f"{path}: {problem}" for problem in _problems(lake)]
            metadata = cast("dict[str, Any]", lake.get("metadata") or {})
            found.append(lake | {"metadata": {"namespace": namespace} | metadata})
    if problems:
        raise LakeFileError("\n".join(problems))
    return found


def _problems(lake: dict[str, Any]) -> list[str]:
    unknown = crd.unknown_fields(lake.get("spec"), crd.spec_schema(), "spec")
    try:
        read_lake(lake)
    except SpecError as error:
        return [*map(str, error.problems), *(f"{path}: unknown field" for path in unknown)]
    return [f"{path}: unknown field" for path in unknown]


def _without_owner(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    return manifest | {"metadata": metadata}


def _without_hash(manifest: Manifest) -> Manifest:
    """What was rendered of a file has another hash: it knows no uid."""
    annotations = dict(manifest["metadata"].get("annotations", {}))
    annotations.pop(ANNOTATION_RENDERED, None)
    return manifest | {"metadata": manifest["metadata"] | {"annotations": annotations}}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors: for people."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _text)


def written(manifests: Sequence[Manifest], output: str) -> str:
    """YAML documents one after another, or a JSON List."""
    if output == "json":
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
    return "---\n".join(
        yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)  # pyright: ignore[reportUnknownMemberType]
        for manifest in manifests
    )


def add_command(command: click.Command) -> None:
    """For the commands that need a client: `run`, `diff`."""
    cli.add_command(command)


# What the chart's hooks run.
add_command(cluster.apply_crd)
add_command(cluster.check)

Fetch = Callable[[Manifest], Manifest | None]


def differences(manifests: Sequence[Manifest], fetch: Fetch) -> list[str]:
    """What `diff` tells: a line for each child that is not there or not as rendered. `fetch` gives the live one."""
    from crypto_lake_operator import drift

    found: list[str] = []
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        live = fetch(manifest)
        if live is None:
            found.append(f"{name}: would be created")
        elif path := drift.covers(live, _without_hash(_without_owner(manifest))):
            found.append(f"{name}: differs at {path}")
    return found


@cli.command()
@files_argument
@click.option("-n", "--namespace", default="default", show_default=True, help="Of lakes that name none.")
@click.option("--image", default=None, help="Of lakes that name none; as the operator has it.")
def diff(files: tuple[Path, ...], namespace: str, image: str | None) -> int:
    """Tell what the operator would change if the CryptoLakes in FILES (- for stdin) were applied. Nothing is written.

    What a lake that is there would become, the API server is asked by a dry run, for which it wants the right to patch
    cryptolakes. Settings of the operator are taken from the same variables.

    Exit codes: 0 nothing, 1 something, 2 usage or a wrong lake, 4 the API server can't be reached or refuses.
    """
    settings = _settings()
    if image:
        settings = msgspec.structs.replace(settings, image=image)
    documents = lakes_in(files, namespace)
    request = cluster.connect(cluster.TIMEOUT_SECONDS)
    found: list[str] = []
    for document in documents:
        name = f"{document['metadata']['namespace']}/{document['metadata']['name']}"
        try:
            lake = read_lake(cluster.would_become(request, document))
            manifests = render_lake(lake, settings, cluster.around(request, lake))
            found += [f"{name}: {line}" for line in differences(manifests, partial(cluster.live, request))]
        except ClusterError as error:
            raise cluster.UnreachableError(f"{name}: {error}") from None
        except SpecError as error:
            raise LakeFileError("\n".join(f"{name}: {problem}" for problem in error.problems)) from None
    for line in found:
        click.echo(line)
    return int(ExitCode.DIFFERENT if found else ExitCode.OK)


def _settings() -> OperatorSettings:
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        raise SettingsWrongError(str(error)) from None


@cli.command()
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), help="Instead of the pod's own account."
)
def run(kubeconfig: Path | None) -> int:
    """Look after CryptoLakes until SIGTERM. Settings are variables CRYPTO_LAKE_OPERATOR_….

    Exit codes: 0 stopped, 1 the lease was lost or a fault, 2 a wrong setting, 4 no cluster is configured.
    """
    settings = _settings()
    # Here, not above: the client takes a second and 40 MB, which `render` need not pay.
    from crypto_lake_operator import run as running

    return running.main(settings, kubeconfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Errors are lines on stderr."""
    try:
        returned = cli.main(
            args=list(sys.argv[1:] if argv is None else argv), prog_name=PROGRAM, standalone_mode=False
        )
        return int(returned) if isinstance(returned, int) else ExitCode.OK
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    except click.ClickException as error:
        for line in error.format_message().splitlines():
            print(f"{PROGRAM}: {line}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
