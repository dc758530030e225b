"""Fixtures for tests of the Volcengine emulator and its data plane, all on real parts.

A test module names this one in `pytest_plugins`, and imports what else it needs from
volcengine_stage.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rehearsal import wait
from rehearsal.cloud.api.config import Cluster, DataPlaneSettings
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.distribution import listening_port
from rehearsal.cloud.registries.images import SAMPLE_IMAGES, publish
from rehearsal.cloud.registries.login import AuthMode
from rehearsal.cloud.registries.upstream import upstream_config
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from tests.support.volcengine_stage import (
    RunningEmulator,
    Stage,
    Upstream,
    config_of,
    run_emulator,
)


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., RunningEmulator]]:
    """Starts emulators with the settings given; all end with the test."""
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
def upstream(
    binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upstream]:
    """A running upstream registry."""
    folder = tmp_path_factory.mktemp("upstream")
    authority = Authority.create(folder / "authority")
    config = upstream_config(folder / "registry", authority)
    command = config.command(binaries["registry"])
    with config.log.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait.until(lambda: listening_port(config.log) is not None, "the upstream registry listens")
        address = f"127.0.0.1:{listening_port(config.log)}"
        digests = publish(
            SAMPLE_IMAGES,
            program=binaries["nginx"],
            registry=address,
            crane=binaries["crane"],
            ca_certificate=authority.certificate,
            folder=folder / "images",
        )
        yield Upstream(
            url=f"https://{address}",
            log=config.log,
            authority=authority,
            digests=digests,
            crane=binaries["crane"],
            registry=binaries["registry"],
        )
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def start_stage(
    upstream: Upstream, start_emulator: Callable[..., RunningEmulator], tmp_path: Path
) -> Callable[..., Stage]:
    """Starts an emulator with a data plane; settings beside that are the emulator's."""

    def start(auth: AuthMode = AuthMode.BOTH, **settings: Any) -> Stage:
        proxies = tmp_path / "proxies"
        emulator_ = start_emulator(
            data_plane=DataPlaneSettings(
                registry_binary=upstream.registry,
                work_dir=proxies,
                upstream_url=upstream.url,
                ca_certificate=upstream.authority.certificate,
                ca_key=upstream.authority.key,
                auth=auth,
            ),
            **settings,
        )
        return Stage(api=emulator_, upstream=upstream, proxies=proxies)

    return start


@pytest.fixture
def stage(start_stage: Callable[..., Stage]) -> Stage:
    """An emulator with a data plane."""
    return start_stage()
