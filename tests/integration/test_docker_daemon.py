"""The Docker daemon, from Debian's package, with the proxy as its mirror of Docker Hub."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehearsal.parts import debian
from rehearsal.parts.debian import PackageError
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from tests.support.machine import CANNOT
from tests.support.volcengine_stage import PASSWORD, Stage

pytest_plugins = ("tests.support.volcengine_fixtures",)

Docker = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def served(stage: Stage) -> str:
    """The domain of a proxy that serves `library` to everyone and `bitnami` with a login."""
    return stage.api.make_proxy("mirror", {"library": "Public", "bitnami": "Private"}).domain


@pytest.fixture
def exec_root() -> Iterator[str]:
    """A folder with a short path, for sockets: theirs are limited."""
    with tempfile.TemporaryDirectory(prefix="docker-") as folder:
        yield folder


@pytest.fixture
def docker(stage: Stage, served: str, tmp_path: Path, exec_root: str) -> Iterator[Docker]:
    """Docker's command line, at a daemon that runs as docs/with-other-tools.md has it set up."""
    if os.geteuid() != 0:
        pytest.skip(f"{CANNOT}: the daemon runs as root")
    try:
        programs = debian.obtain(("docker.io", "containerd", "runc"), Progress())
    except PackageError as error:
        pytest.skip(f"{CANNOT}: {error}")
    config = tmp_path / "daemon.json"
    config.write_text(
        json.dumps(
            {
                "registry-mirrors": [f"https://{served}"],
                "bridge": "none",
                "iptables": False,
                "storage-driver": "vfs",
                "data-root": str(tmp_path / "data"),
                "exec-root": exec_root,
                "pidfile": str(tmp_path / "docker.pid"),
                "hosts": [f"unix://{exec_root}/docker.sock"],
            }
        )
    )
    environment = {
        "PATH": f"{programs['containerd'].parent}:{programs['runc'].parent}:{os.environ['PATH']}",
        "HTTPS_PROXY": str(stage.api.names_url),
        "NO_PROXY": "",
        "SSL_CERT_FILE": str(stage.upstream.authority.certificate),
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{exec_root}/docker.sock",
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs["docker"], *words],
            env={**os.environ, **environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    with Processes(tmp_path / "logs") as processes:
        processes.start(
            "dockerd",
            [programs["dockerd"], f"--config-file={config}"],
            environment=environment,
            ready=lambda: run("version").returncode == 0,
        )
        yield run


def content(stage: Stage, domain: str) -> set[str]:
    """The repositories whose images the proxy gave."""
    records = stage.access_log(domain)
    return {
        each.path.removeprefix("/v2/").partition("/manifests/")[0]
        for each in records
        if "/manifests/" in each.path and each.status == 200
    }


@pytest.mark.parametrize("kit", ["0", "1"], ids=["the daemon itself", "its BuildKit"])
def test_a_build_takes_what_everyone_may_pull_from_the_proxy_and_the_rest_from_docker_hub(
    docker: Docker, stage: Stage, served: str, tmp_path: Path, kit: str
) -> None:
    """The daemon sends mirrors no login, so a private namespace is Docker Hub's."""
    for base in ("nginx:latest", "bitnami/redis:7.2"):
        before = stage.upstream.content_requests("bitnami/redis")
        file = tmp_path / "Dockerfile"
        file.write_text(f"FROM {base}\nLABEL built=here\n")
        built = docker("build", f"--file={file}", str(tmp_path / "logs"), DOCKER_BUILDKIT=kit)
        assert built.returncode == 0, built.stderr
    assert content(stage, served) == {"library/nginx"}
    assert len(stage.upstream.content_requests("bitnami/redis")) > len(before)


def test_the_proxys_own_name_takes_its_login(docker: Docker, stage: Stage, served: str) -> None:
    image = f"{served}/bitnami/redis:7.2"
    assert docker("pull", image).returncode != 0
    login = stage.api.login("mirror", served, PASSWORD)
    docker("login", served, f"--username={login.username}", f"--password={PASSWORD}")
    pulled = docker("pull", image)
    assert pulled.returncode == 0, pulled.stderr
    assert content(stage, served) == {"bitnami/redis"}
