"""Fixtures of the tests that run the operator against a real API server: import those that a module needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support import apiserver
from tests.support.api_proxy import Proxy, proxying
from tests.support.apiserver import ApiServer
from tests.support.operator_world import SETTINGS, Collectors, Running, World, install, operating, world

__all__ = ["collectors", "here", "operator", "proxy", "server"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    try:
        apiserver.programs()
    except apiserver.ApiServerMissingError as error:
        pytest.skip(str(error))
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as running:
        install(running)
        yield running


@pytest.fixture(scope="module")
def collectors() -> Iterator[Collectors]:
    made = Collectors()
    yield made
    made.close()


@pytest.fixture
def here(server: ApiServer) -> World:
    return world(server)


@pytest.fixture
def proxy(server: ApiServer) -> Iterator[Proxy]:
    with proxying(server) as made:
        yield made


@pytest.fixture
def operator(here: World, proxy: Proxy, collectors: Collectors, tmp_path: Path) -> Iterator[Running]:
    """One that looks after the test's namespace, over the proxy."""
    settings = msgspec.structs.replace(SETTINGS, watch_namespaces=(here.namespace,))
    kubeconfig = proxy.kubeconfig(tmp_path / "kubeconfig")
    with operating(kubeconfig, settings, collector_port=collectors.port) as running:
        yield running
