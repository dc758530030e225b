"""Fixtures for tests of the Volcengine emulator and its data plane, all on real parts.

A test module names this one in `pytest_plugins`, and imports what else it needs from
volcengine_stage.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud.api.config import Cluster
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cloud.registries.login import AuthMode
from rehearsal.parts.build import obtain
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from tests.support.servers import loopback_address
from tests.support.volcengine_stage import (
    RunningEmulator,
    Stage,
    Upstreams,
    config_of,
    run_emulator,
)


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., RunningEmulator]]:
    """Starts emulators with these settings; all end with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(run_emulator(config_of(**settings)))


@pytest.fixture
def api(start_emulator: Callable[..., RunningEmulator]) -> RunningEmulator:
    """An emulator without delays and without a data plane."""
    return start_emulator()


@pytest.fixture
def clusters(tmp_path: Path) -> list[Cluster]:
    """A cluster with a public address and one without."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("apiVersion: v1\nkind: Config\n")
    return [
        Cluster(
            id=f"cc{name}",
            name=name,
            vpc_id=f"vpc-{name}",
            subnet_ids=[f"subnet-{name}-a", f"subnet-{name}-b"],
            kubeconfig_path=kubeconfig,
            public=name == "open",
        )
        for name in ("open", "closed")
    ]


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """The real binaries these tests run."""
    return obtain(("registry", "crane", "nginx"), Progress())


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstreams]:
    """Running upstream registries: Docker Hub's and ghcr.io's, on port 443 for root."""
    folder = tmp_path_factory.mktemp("upstream")
    hosts = {
        host: "127.0.0.1:0" if os.geteuid() else f"{loopback_address()}:443"
        for host in (DOCKER_HUB, "ghcr.io")
    }
    with Processes(folder / "logs") as processes:
        authority = Authority.create(folder / "authority")
        yield Upstreams.start(processes, folder, authority, hosts)


@pytest.fixture
def start_stage(
    upstream: Upstreams, start_emulator: Callable[..., RunningEmulator], tmp_path: Path
) -> Callable[..., Stage]:
    """Starts an emulator with a data plane; settings beside that are the emulator's."""

    def start(auth: AuthMode = AuthMode.BOTH, **settings: Any) -> Stage:
        proxies = tmp_path / "proxies"
        emulator_ = start_emulator(data_plane=upstream.data_plane(proxies, auth=auth), **settings)
        return Stage(api=emulator_, upstream=upstream, proxies=proxies)

    return start


@pytest.fixture
def stage(start_stage: Callable[..., Stage]) -> Stage:
    """An emulator with a data plane."""
    return start_stage()
