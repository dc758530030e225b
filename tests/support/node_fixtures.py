"""Fixtures: nodes with a real containerd, a proxy registry and a Docker Hub on port 443.

A test module names this one in `pytest_plugins`, and imports what else it needs from
node_stage.py.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rehearsal.cloud.registries.access_log import log_file
from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cloud.registries.login import AuthMode
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd
from rehearsal.parts import debian
from rehearsal.parts.debian import PackageError
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from tests.support.containerd import ContainerdNode
from tests.support.machine import need
from tests.support.node_stage import (
    FRESH,
    NAMESPACES,
    Node,
    Scripted,
    World,
    Worlds,
)
from tests.support.servers import loopback_address, serving
from tests.support.volcengine_stage import Upstreams, config_of, proxy_of, run_emulator


@contextmanager
def _worlds(
    upstream: Upstreams, folder: Path, auth: AuthMode, hosts: Sequence[str]
) -> Iterator[dict[str, World]]:
    """A proxy registry of each host, which takes its login in one of the ways; by host."""
    need(real_node.supported(in_a_cluster=False))
    addresses = {host: loopback_address() for host in hosts}
    plane = upstream.data_plane(folder, addresses=list(addresses.values()), port=443, auth=auth)
    with ExitStack() as stack:
        api = stack.enter_context(run_emulator(config_of(data_plane=plane)))
        found = {}
        for host, address in addresses.items():
            name = "mirror" if host == DOCKER_HUB else host.partition(".")[0]
            own = {} if host == DOCKER_HUB else {"ProxyCache": proxy_of(host)}
            password = f"Passw0rd-{name}"
            login = api.make_proxy(name, NAMESPACES[host], password=password, **own)
            found[host] = World(
                host=host,
                api=api,
                registry=name,
                domain=login.domain,
                username=login.username,
                proxy_address=address,
                upstream=upstream.by_host[host],
                ca_certificate=upstream.authority.certificate,
                access_log=log_file(folder, login.domain),
                passwords=[password],
            )
        yield found


@pytest.fixture(scope="session")
def worlds(upstream: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """The proxies by their upstream's host."""
    folder = tmp_path_factory.mktemp("proxies")
    with _worlds(upstream, folder, AuthMode.BOTH, list(NAMESPACES)) as started:
        yield started


@pytest.fixture(scope="session")
def world(worlds: Worlds) -> World:
    """Docker Hub's proxy."""
    return worlds[DOCKER_HUB]


@pytest.fixture(scope="session")
def ghcr(worlds: Worlds) -> World:
    """The proxy of ghcr.io."""
    return worlds["ghcr.io"]


@pytest.fixture
def worlds_that_take(
    upstream: Upstreams, tmp_path: Path, node: Node
) -> Iterator[Callable[[AuthMode, Sequence[str]], Worlds]]:
    """The same proxies, for one test, as ones that take the login in another way."""
    with ExitStack() as stack:

        def start(auth: AuthMode, hosts: Sequence[str]) -> Worlds:
            started = stack.enter_context(_worlds(upstream, tmp_path / f"{auth}", auth, hosts))
            for each in started.values():
                stack.enter_context(node.proxy_at(each.proxy_address, each.domain))
            return started

        yield start


@pytest.fixture
def proxy_that_takes(
    worlds_that_take: Callable[[AuthMode, Sequence[str]], Worlds], node: Node
) -> Callable[[AuthMode], World]:
    """Docker Hub's proxy, for one test, as one that takes the login in another way."""

    def start(auth: AuthMode) -> World:
        started = worlds_that_take(auth, [DOCKER_HUB])[DOCKER_HUB]
        (node.login / "password").write_text(started.passwords[-1])
        return started

    return start


@pytest.fixture
def bearer_only(proxy_that_takes: Callable[[AuthMode], World]) -> World:
    """The same proxy, for one test, as one that takes the login for Bearer tokens alone."""
    return proxy_that_takes(AuthMode.BEARER)


@pytest.fixture
def scripted(world: World, upstream: Upstreams, node: Node, tmp_path: Path) -> Iterator[Scripted]:
    """A server in the proxy's place for one test, whose answers the test gives."""
    certificate = upstream.authority.issue([world.domain], tmp_path / "scripted")
    server = Scripted(loopback_address())
    with serving(server, certificate), node.proxy_at(server.address):
        yield server


@pytest.fixture(scope="session")
def shell() -> str:
    """The shell in the DaemonSet's image, busybox's, where it can be had."""
    try:
        return str(debian.obtain(("busybox-static",), Progress())["busybox-static"])
    except PackageError:
        return "/bin/sh"


@pytest.fixture(scope="session")
def binaries_of() -> Callable[[str], Path]:
    """The folder with containerd of a version, ctr and the shim."""

    def found(version: str) -> Path:
        missing = [tool for tool in debian.TOOLS if version == "1.6" and not shutil.which(tool)]
        need(f"Debian's containerd needs {', '.join(missing)}" if missing else None)
        return real_node.containerd_binary(Containerd(version), Progress()).parent

    return found


@pytest.fixture(scope="session", params=["1.6", "2.4"])
def containerd(
    request: pytest.FixtureRequest, worlds: Worlds, binaries_of: Callable[[str], Path]
) -> Iterator[ContainerdNode]:
    """A node of each version."""
    binaries = binaries_of(request.param)
    folder = Path(tempfile.mkdtemp(prefix="node-"))
    hosts = {each.domain: each.proxy_address for each in worlds.values()}
    for host, each in worlds.items():
        name = "registry-1.docker.io" if host == DOCKER_HUB else host
        hosts[name] = str(urlsplit(each.upstream.url).hostname)
    with Processes(folder) as processes:
        authority = worlds[DOCKER_HUB].ca_certificate
        yield ContainerdNode(processes, folder, binaries, hosts, authority)
    shutil.rmtree(folder)


@pytest.fixture
def node(
    containerd: ContainerdNode,
    worlds: Worlds,
    world: World,
    tmp_path: Path,
    request: pytest.FixtureRequest,
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
    for each in worlds.values():
        each.fault(None)


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
