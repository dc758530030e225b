"""Fixtures: nodes with a real containerd, a proxy registry and a Docker Hub on port 443.

A test module names this one in `pytest_plugins`, and imports what else it needs from
node_stage.py.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rehearsal.cloud.registries.login import AuthMode
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd
from rehearsal.parts import debian
from rehearsal.parts.build import obtain
from rehearsal.parts.debian import PackageError
from rehearsal.progress import Progress
from tests.support.containerd import (
    ContainerdNode,
    NodeConfig,
    unavailable,
)
from tests.support.machine import need
from tests.support.node_stage import (
    FRESH,
    Node,
    Relay,
    Scripted,
    World,
    loopback_address,
)
from tests.support.volcengine_stage import Upstreams, config_of, run_emulator


@contextmanager
def _world(upstream: Upstreams, folder: Path, auth: AuthMode) -> Iterator[World]:
    """A proxy registry that takes the login in one of its ways, beside a Docker Hub."""
    reason = unavailable()
    need(f"a real containerd {reason}" if reason else None)
    proxy, hub_address = loopback_address(), loopback_address()
    host, _, port = upstream.url.removeprefix("https://").partition(":")
    config = config_of(
        data_plane=upstream.data_plane(folder, addresses=[proxy], port=443, auth=auth)
    )
    with Relay(hub_address, (host, int(port))) as hub, run_emulator(config) as api:
        serving = threading.Thread(target=hub.serve_forever)
        serving.start()
        login = api.make_proxy("mirror", {"library": "Private", "bitnami": "Public"})
        yield World(
            api=api,
            domain=login.domain,
            username=login.username,
            proxy_address=proxy,
            hub=hub,
            hub_address=hub_address,
            ca_certificate=upstream.authority.certificate,
            access_log=folder / login.domain / "access.log",
        )
        hub.shutdown()
        serving.join()


@pytest.fixture(scope="session")
def world(upstream: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with _world(upstream, tmp_path_factory.mktemp("proxies"), AuthMode.BOTH) as started:
        yield started


@pytest.fixture
def proxy_that_takes(
    upstream: Upstreams, tmp_path: Path, node: Node
) -> Iterator[Callable[[AuthMode], World]]:
    """The same proxy, for one test, as one that takes the login in another way."""
    with ExitStack() as stack:

        def start(auth: AuthMode) -> World:
            started = stack.enter_context(_world(upstream, tmp_path / f"{auth}", auth))
            stack.enter_context(node.proxy_at(started.proxy_address))
            (node.login / "password").write_text(started.passwords[-1])
            return started

        yield start


@pytest.fixture
def bearer_only(proxy_that_takes: Callable[[AuthMode], World]) -> World:
    """The same proxy, for one test, as one that takes the login for Bearer tokens alone."""
    return proxy_that_takes(AuthMode.BEARER)


@pytest.fixture
def scripted(world: World, upstream: Upstreams, node: Node, tmp_path: Path) -> Iterator[Scripted]:
    """A server in the proxy's place for one test, whose answers the test gives."""
    certificate = upstream.authority.issue([world.domain], tmp_path / "scripted")
    with (
        Scripted(loopback_address(), certificate.certificate, certificate.key) as server,
        node.proxy_at(server.address),
    ):
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture(scope="session")
def shell() -> str:
    """The shell in the DaemonSet's image, busybox's, where it can be had."""
    try:
        return str(debian.obtain(("busybox-static",), Progress())["busybox-static"])
    except PackageError:
        return "/bin/sh"


def _binaries(version: str) -> Path:
    if version == "1.7":
        return obtain(("containerd17",), Progress())["containerd"].parent
    return real_node.containerd_binary(Containerd(version), Progress()).parent


@pytest.fixture(scope="session")
def binaries_of() -> Callable[[str], Path]:
    """The folder with containerd of a version, ctr and the shim."""

    def found(version: str) -> Path:
        missing = [tool for tool in debian.TOOLS if version == "1.6" and not shutil.which(tool)]
        need(f"Debian's containerd needs {', '.join(missing)}" if missing else None)
        return _binaries(version)

    return found


@pytest.fixture(scope="session", params=["1.6", "1.7", "2.4"])
def containerd(
    request: pytest.FixtureRequest, world: World, binaries_of: Callable[[str], Path]
) -> Iterator[ContainerdNode]:
    """A node of each version.

    1.7 reads its config as 1.6 does: modules that are not about containerd itself leave it out.
    """
    binaries = binaries_of(request.param)
    folder = Path(tempfile.mkdtemp(prefix="node-"))
    node = ContainerdNode(
        NodeConfig(
            folder=folder,
            binaries=binaries,
            hosts={
                world.domain: world.proxy_address,
                "registry-1.docker.io": world.hub_address,
            },
            ca_certificate=world.ca_certificate,
        )
    )
    try:
        node.create()
        yield node
    finally:
        node.end()
        shutil.rmtree(folder)


@pytest.fixture
def node(
    containerd: ContainerdNode, world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Node]:
    """A node on which nothing was configured yet."""
    login = tmp_path / "login"
    login.mkdir()
    (login / "username").write_text(world.username)
    (login / "password").write_text(world.passwords[-1])
    version = request.node.callspec.params["containerd"]
    containerd.reset(FRESH[version])
    yield Node(
        containerd=containerd,
        world=world,
        login=login,
        version=version,
        run_folder=tmp_path / "run",
    )
    world.fault(None)


@pytest.fixture
def while_running() -> Callable[[Callable[[int], None], int, Callable[[], object], int], int]:
    """Does one thing so often while another is done at least so often; how often that was."""

    def run(
        one: Callable[[int], None], times: int, other: Callable[[], object], at_least: int
    ) -> int:
        ended = threading.Event()
        done = 0
        with ThreadPoolExecutor(1) as pool:

            def ones() -> None:
                try:
                    for turn in range(times):
                        one(turn)
                finally:
                    ended.set()

            running = pool.submit(ones)
            while not ended.is_set() or done < at_least:
                other()
                done += 1
            running.result()
        return done

    return run
