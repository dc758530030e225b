"""The registry on loopback that plays Docker Hub."""

from __future__ import annotations

from pathlib import Path

from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.distribution import RegistryConfig

DOCKER_HUB_NAMES = ("registry-1.docker.io", "index.docker.io", "auth.docker.io", "docker.io")
"""The names under which OCI clients know Docker Hub. The real one serves tokens at
auth.docker.io; this one asks for none, so that name is only there to be reachable."""


def upstream_config(
    folder: Path, authority: Authority, address: str = "127.0.0.1:0"
) -> RegistryConfig:
    """Describe the upstream registry: HTTPS under all of Docker Hub's names, with access log.

    `address` is host:port, port 0 takes a free one; an IP host other than loopback (for a node in
    its own network namespace) is put into the certificate too. Start it with
    `RegistryProcess(config, binary)` or run `config.command(binary)` yourself with output to
    `config.log`, where `distribution.listening_port` finds the port.
    """
    host = address.rsplit(":", 1)[0]
    names = [*DOCKER_HUB_NAMES, "localhost", "127.0.0.1"]
    if host not in names:
        names.append(host)
    return RegistryConfig(
        folder=folder,
        address=address,
        tls=authority.issue(names, folder / "tls"),
    )
