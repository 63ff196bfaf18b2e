"""The API server by the official client's asyncio half: connections, credentials and TLS are its, the calls are ours.

Its generated methods are not used: they make a model of each object and drop fields that they do not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException

from crypto_lake_operator import access, kinds
from crypto_lake_operator.client import (
    PAGE,
    NotFoundError,
    Object,
    Page,
    ThrottledError,
    UnavailableError,
    WatchEvent,
)
from crypto_lake_operator.client_answers import error_of_answer, events_of, no_answer
from crypto_lake_operator.drift import FIELD_MANAGER
from crypto_lake_operator.kinds import Kind

CALL_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 300
# The API server sends a bookmark each minute; a connection that is silent for longer is dead.
SILENCE_SECONDS: Final = 90.0
ATTEMPTS: Final = 3
LONGEST_RETRY_SECONDS: Final = 5.0
# The client is typed only in part.
_config: Any = kube_config
_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"
_JSON_PATCH: Final = "application/json-patch+json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_CODES_RETRIED: Final = frozenset({429, 500, 502, 503, 504})

# verb, resource, HTTP code as text (`error` without an answer), seconds.
OnCall = Callable[[str, str, str, float], None]


class NoClusterError(Exception):
    """No cluster is configured; the message says where it was looked for."""


class NotInAccessError(RuntimeError):
    """A call that access.py does not list: the operator's Role would not allow it."""


async def configured(kubeconfig: Path | None = None) -> Configuration:
    """How to reach the API server: by a kubeconfig, else as a pod, else by the user's kubeconfig.

    Raises NoClusterError.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            with contextlib.suppress(ConfigException):
                _config.load_incluster_config(configuration)
                return configuration
        file = None if kubeconfig is None else str(kubeconfig)
        await _config.load_kube_config(file, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, KeyError, TypeError, ValueError) as error:
        raise NoClusterError(f"no cluster is configured: {error}") from None
    return configuration


class KubeApi:
    """`client.Api`. Close it at the end."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        on_call: OnCall | None = None,
        connections: int = 64,
        attempts: int = ATTEMPTS,
    ) -> None:
        configuration.connection_pool_maxsize = connections
        configuration.retries = None  # ours know Retry-After, and count
        self._client: Any = ApiClient(configuration)
        self._on_call = on_call
        self._attempts = attempts

    async def close(self) -> None:
        await self._client.close()
        await asyncio.sleep(0.05)  # connections need a turn to close

    async def __aenter__(self) -> KubeApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # The calls

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._call("get", kind, "GET", kind.path(namespace, name))

    async def list_page(
        self,
        kind: Kind,
        namespace: str,
        selector: str,
        *,
        limit: int = PAGE,
        resume: str = "",
        fields: str = "",
    ) -> Page:
        query = {"limit": str(limit)}
        if selector:
            query["labelSelector"] = selector
        if fields:
            query["fieldSelector"] = fields
        if resume:
            query["continue"] = resume
        answer = await self._call("list", kind, "GET", kind.path(namespace), query)
        metadata = answer["metadata"]
        # The items of a list do not say what they are.
        for item in answer["items"]:
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return Page(answer["items"], metadata["resourceVersion"], metadata.get("continue", ""))

    def watch(
        self, kind: Kind, namespace: str, selector: str, resource_version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            # Spread, so that not all watches begin anew at once.
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.8, 1.2))),  # noqa: S311
        }
        if selector:
            query["labelSelector"] = selector
        return self._watch(kind, namespace, query)

    async def apply(self, manifest: Object, *, create_only: bool = False) -> Object:
        kind = kinds.of(manifest["kind"])
        metadata = manifest["metadata"]
        verb = "create" if create_only else "patch"
        if create_only:
            # No live object has this version, so one that is there makes a conflict; without one it is passed over.
            manifest = manifest | {"metadata": metadata | {"resourceVersion": "1"}}
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._call(verb, kind, "PATCH", path, query, manifest, _APPLY)

    async def json_patch(
        self, kind: Kind, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Object:
        path, query = kind.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return await self._call("patch", kind, "PATCH", path, query, list(operations), _JSON_PATCH)

    async def merge_patch(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        path, query = kind.path(namespace, name, subresource), {"fieldManager": FIELD_MANAGER}
        body = dict(patch)
        return await self._call("patch", kind, "PATCH", path, query, body, _MERGE_PATCH, subresource)

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",
    ) -> None:
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {"propagationPolicy": propagation, "preconditions": preconditions}
        await self._call("delete", kind, "DELETE", kind.path(namespace, name), None, body)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("create", kind, "POST", kind.path(namespace), query, body)

    async def evict(self, namespace: str, pod: str, *, uid: str) -> None:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = kinds.POD.path(namespace, pod, "eviction")
        # A 429 is the disruption budget's word here: to ask again at once would not help.
        await self._call("create", kinds.POD, "POST", path, None, body, _JSON, "eviction", attempts=1)

    async def serves(self, kind: Kind) -> bool:
        path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        try:
            found = await self._send("discover", kind, "GET", path, {}, None, _JSON, self._attempts)
        except NotFoundError:
            return False
        return any(resource["name"] == kind.plural for resource in found.get("resources", ()))

    # How they are made

    async def _call(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        subresource: str = "",
        *,
        attempts: int | None = None,
    ) -> Object:
        _check(kind, verb, subresource)
        return await self._send(
            verb, kind, method, path, query or {}, body, content_type, attempts or self._attempts
        )

    async def _send(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object,
        content_type: str,
        attempts: int,
    ) -> Object:
        """With what passes by itself tried again. Every call may be made twice: applies, patches with a test, deletes
        with a precondition; only an event may then stand there twice.
        """
        for attempt in range(1, attempts + 1):
            try:
                return await self._once(verb, kind, method, path, query, body, content_type)
            except UnavailableError as error:
                # Without an answer nobody knows when to come back; the worker then waits for all calls together.
                if attempt == attempts or error.code not in _CODES_RETRIED:
                    raise
                wait_seconds = 0.2 * 2**attempt * random.uniform(0.5, 1)  # noqa: S311
                if isinstance(error, ThrottledError):
                    if error.retry_after_seconds > LONGEST_RETRY_SECONDS:
                        raise
                    wait_seconds = max(wait_seconds, error.retry_after_seconds)
                await asyncio.sleep(wait_seconds)
        raise AssertionError("there is at least one attempt")

    async def _once(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object,
        content_type: str,
    ) -> Object:
        began, code = time.monotonic(), "error"
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            response = await self._request(method, path, query, body, content_type, timeout)
            try:
                code = str(response.status)
                text = await response.read()
            finally:
                response.release()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(error) from error
        finally:
            if self._on_call is not None:
                self._on_call(verb, kind.plural, code, time.monotonic() - began)
        if response.status >= 400:
            raise error_of_answer(response, text)
        return cast("Object", msgspec.json.decode(text))

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        await self._client.update_params_for_auth(headers, None, ["BearerToken"], path, method, body)
        url = f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = await self._client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=limits
        )
        return cast("aiohttp.ClientResponse", answer.response)

    @contextlib.asynccontextmanager
    async def _watch(
        self, kind: Kind, namespace: str, query: Mapping[str, str]
    ) -> AsyncGenerator[AsyncIterator[WatchEvent]]:
        _check(kind, "watch", "")
        timeout = aiohttp.ClientTimeout(
            total=WATCH_SECONDS * 1.5, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
        )
        began, code = time.monotonic(), "error"
        try:
            response = await self._request("GET", kind.path(namespace), query, None, _JSON, timeout)
            code = str(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(error) from error
        finally:
            if self._on_call is not None:
                self._on_call("watch", kind.plural, code, time.monotonic() - began)
        try:
            if response.status >= 400:
                raise error_of_answer(response, await response.read())
            yield events_of(response)
        finally:
            response.close()


def _check(kind: Kind, verb: str, subresource: str) -> None:
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    if not access.allows(kind.group, resource, verb):
        raise NotInAccessError(f"access.py has no rule to {verb} {resource} of {kind.group or 'core'}")
