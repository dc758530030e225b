"""The registries that proxies are in front of: one small real one for each upstream host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.cloud.registries import distribution
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.images import DOCKER_HUB, SampleImage, publish
from rehearsal.processes import Processes

PARTS = ("registry", "crane", "nginx")
"""The parts an upstream registry is started from."""

DOCKER_HUB_NAMES = ("registry-1.docker.io", "index.docker.io", "auth.docker.io", "docker.io")
"""The names under which OCI clients know Docker Hub. The real one serves tokens at
auth.docker.io; this one asks for none, so that name is only there to be reachable."""


def names_of(host: str) -> tuple[str, ...]:
    """The names that lead to an upstream host, `host` as images name it."""
    return DOCKER_HUB_NAMES if host == DOCKER_HUB else (host,)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A running upstream registry."""

    host: str
    """The host it plays, as images name it: `docker.io`, `ghcr.io`."""
    url: str
    log: Path
    digests: Mapping[str, str]
    """The digest of each `repository:tag`."""


def start(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    authority: Authority,
    images: Sequence[SampleImage],
    *,
    host: str = DOCKER_HUB,
    address: str = "127.0.0.1:0",
) -> Upstream:
    """Start the registry of an upstream host and publish those of the images that are of it.

    `address` is IP:port, port 0 takes a free one. It serves HTTPS under all names of its host.

    Raises:
        ProcessError: when it does not start; the message names its log file.
        PublishError: when an image cannot be published.
    """
    served = address.rpartition(":")[0]
    names = list(dict.fromkeys((*names_of(host), "localhost", "127.0.0.1", served)))
    name = f"upstream-{host}"
    port = distribution.start(
        processes,
        name,
        parts["registry"],
        folder / host,
        address=address,
        tls=authority.issue(names, folder / host / "tls"),
    )
    registry = f"{served}:{port}"
    digests = publish(
        [each for each in images if each.host == host],
        program=parts["nginx"],
        registry=registry,
        crane=parts["crane"],
        ca_certificate=authority.certificate,
        folder=folder / "images",
    )
    log = processes.logs / f"{name}.log"
    return Upstream(host=host, url=f"https://{registry}", log=log, digests=digests)
