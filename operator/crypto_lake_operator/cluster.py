"""The commands that a release's hooks run: `apply-crd` and `check`. One request after another, by the official client."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import click

from crypto_lake_operator import api, applied, crd, crd_apply, kinds, naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.crd_apply import ClusterError, NoDefinitionError, NotEstablishedError, Request
from crypto_lake_operator.observed import Child, Key, Observed, child_of

TIMEOUT_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 2.0
# What the API server, or the road to it, may be over in a moment.
_PASSING: Final = frozenset({0, 429, 500, 502, 503, 504})


class NotAsWantedError(click.ClickException):
    """Something in the cluster is not as it should be."""

    exit_code = 1


class UnreachableError(click.ClickException):
    """The API server can't be reached, or refuses."""

    exit_code = 4


def connect(patience_seconds: float = 60.0) -> Request:
    """Requests of the cluster that the pod runs in, else of the one that kubeconfig names.

    What passes by itself is tried again until `patience_seconds` are over. Raises UnreachableError.
    """
    # Here, not above: it takes half a second and 60 MB, which `render` need not pay.
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    loading, made = cast("Any", config), cast("Any", client.ApiClient)  # its types are but partly known
    try:
        try:
            loading.load_incluster_config()
        except config.ConfigException:
            loading.load_kube_config()
    except (config.ConfigException, OSError) as error:
        raise UnreachableError(f"no cluster is configured: {error}") from None
    made = made()
    until = time.monotonic() + patience_seconds

    def once(method: str, path: str, body: object, content_type: str) -> Any:
        query_free, _, query = path.partition("?")
        pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")] if query else None
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        sent = made.param_serialize(
            method,
            query_free,
            query_params=pairs,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = made.call_api(*sent, _request_timeout=TIMEOUT_SECONDS)
            text = cast("bytes", answer.read())
        except HTTPError as error:
            raise ClusterError(0, f"the API server can't be reached: {error}") from None
        if not 200 <= answer.status < 300:
            raise ClusterError(answer.status, _message(text, answer.status))
        return json.loads(text)

    def request(method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        while True:
            try:
                return once(method, path, body, content_type)
            except ClusterError as error:
                if error.code not in _PASSING or time.monotonic() > until:
                    raise
            time.sleep(_POLL_SECONDS)

    return request


def _message(text: bytes, status: int) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"


@click.command("apply-crd")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds, until it is served.",
)
@click.option(
    "--field-manager",
    default=crd_apply.FIELD_MANAGER,
    show_default=True,
    help="Who then owns the definition's fields; `helm` where Helm applies it, too.",
)
def apply_crd(wait: float, field_manager: str) -> None:
    """Bring the CustomResourceDefinition in the cluster up to date.

    It must be there. One of a newer version is left alone. Exit codes: 0 done or nothing to do, 1 it is not there or is
    not served, 4 the API server can't be reached or refuses.
    """
    try:
        outcome = crd_apply.apply(connect(), field_manager=field_manager, wait_seconds=wait)
    except (NoDefinitionError, NotEstablishedError) as error:
        raise NotAsWantedError(str(error)) from None
    except ClusterError as error:
        raise UnreachableError(f"{crd.CRD_NAME}: {error}") from None
    click.echo(f"{crd.CRD_NAME} {outcome}")


@click.command()
@click.option(
    "--operator", "operator_url", metavar="URL", help="Of the operator's own port: http://host:9465."
)
@click.option("--lake", metavar="NAMESPACE/NAME", help="A CryptoLake that must be Ready.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds, until all is well."
)
def check(operator_url: str | None, lake: str | None, wait: float) -> None:
    """Tell whether an installation works: the definition is served, the operator and a lake are ready.

    Exit codes: 0 it does, 1 something is not as it should be, 2 usage, 4 the API server can't be reached.
    """
    namespace, _, name = (lake or "").partition("/")
    if lake and not (namespace and name):
        raise click.BadParameter("expected NAMESPACE/NAME", param_hint="--lake")
    request = connect(wait)
    until = time.monotonic() + wait
    while True:
        try:
            problems = _definition_problems(request)
            problems += _operator_problems(operator_url) if operator_url else []
            problems += _lake_problems(request, namespace, name) if lake else []
        except ClusterError as error:
            raise UnreachableError(str(error)) from None
        if not problems:
            break
        if time.monotonic() >= until:
            raise NotAsWantedError("\n".join(problems))
        time.sleep(_POLL_SECONDS)
    click.echo(f"{crd.CRD_NAME} is served")
    if operator_url:
        click.echo(f"the operator at {operator_url} is ready")
    if lake:
        click.echo(f"the lake {lake} is Ready")


def _definition_problems(request: Request) -> list[str]:
    try:
        served = crd_apply.is_established(request("GET", crd_apply.PATH))
    except ClusterError as error:
        if error.code != 404:
            raise
        return [f"there is no CustomResourceDefinition {crd.CRD_NAME}"]
    return [] if served else [f"{crd.CRD_NAME} is not served: see kubectl describe crd {crd.CRD_NAME}"]


def _operator_problems(url: str) -> list[str]:
    address = f"{url.rstrip('/')}/readyz"
    if not address.startswith(("http://", "https://")):
        raise click.BadParameter("expected http://host:port", param_hint="--operator")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS):  # noqa: S310  # checked above
            return []
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(2000).decode(errors="replace").strip()
        return [f"the operator is not ready: {address} answers {error.code}: {said}"]
    except OSError as error:
        return [f"the operator does not answer at {address}: {getattr(error, 'reason', error)}"]


def _lake_problems(request: Request, namespace: str, name: str) -> list[str]:
    path = f"/apis/{api.API_VERSION}/namespaces/{namespace}/{api.PLURAL}/{name}"
    try:
        found = request("GET", path)
    except ClusterError as error:
        if error.code != 404:
            raise
        return [f"there is no CryptoLake {namespace}/{name}"]
    conditions = cast("list[dict[str, str]]", found.get("status", {}).get("conditions", []))
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    if ready is None:
        return [f"the lake {namespace}/{name} has no status yet: does the operator look after its namespace?"]
    if ready["status"] == "True":
        return []
    return [
        f"the lake {namespace}/{name} is not Ready: {ready.get('reason', '')}: {ready.get('message', '')}".rstrip(
            ": "
        )
    ]


# What `diff` looks at.


def would_become(request: Request, lake: Mapping[str, Any]) -> Mapping[str, Any]:
    """The lake as it would be stored if it were applied; itself where there is none of its name. Nothing is written.

    Raises ClusterError.
    """
    stored = live(request, lake)
    if stored is None:
        return lake
    question = applied.question(stored, lake)
    metadata = lake["metadata"]
    path = kinds.LAKE.path(metadata["namespace"], metadata["name"])
    return request("PATCH", f"{path}?{question.query}", question.body, question.content_type)


def live(request: Request, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object of that name; None where there is none. Raises ClusterError."""
    metadata = manifest["metadata"]
    return _found(request, kinds.of(manifest["kind"]).path(metadata["namespace"], metadata["name"]))


def around(request: Request, lake: CryptoLake) -> Observed:
    """As much of what there is as who collects what depends on, and which optional kinds the cluster has."""
    namespace, name = lake.metadata.namespace, lake.metadata.name
    children: dict[Key, Child] = {}
    for replica in naming.REPLICAS:
        for kind, child in (
            ("ConfigMap", naming.config_map(name, replica)),
            ("StatefulSet", naming.stateful_set(name, replica)),
        ):
            found = _found(request, kinds.of(kind).path(namespace, child))
            if found is not None:
                children[Key(kind, child)] = child_of(found)
    served = frozenset(
        api_name
        for api_name, kind in kinds.OPTIONAL.items()
        if any(
            resource["name"] == kind.plural
            for resource in (_found(request, f"/apis/{kind.api_version}") or {}).get("resources", ())
        )
    )
    return Observed(taken_at=datetime.now(UTC), children=children, apis=served)


def _found(request: Request, path: str) -> dict[str, Any] | None:
    try:
        return request("GET", path)
    except ClusterError as error:
        if error.code != 404:
            raise
        return None
