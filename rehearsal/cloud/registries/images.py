"""Small images for the purpose, and how they get into the upstream registry.

Every image holds one static program (rehearsal/parts/go/nginx) under the names that Pods call, so
it really runs on a node. The same program makes the same digests: no time stamps, fixed order.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rehearsal.errors import RehearsalError

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_LINKS = ("bin/sh", "bin/busybox", "bin/true", "bin/false", "bin/echo", "bin/sleep", "pause")
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


DOCKER_HUB = "docker.io"
"""Docker Hub's host, as the names of images have it."""


@dataclass(frozen=True, kw_only=True)
class SampleImage:
    """One image of an upstream registry."""

    repository: str
    """Its name with its namespace and without its host, such as library/nginx."""
    tags: Sequence[str]
    """All point to this one image."""
    version: str
    """Goes into its labels and its layer, so that versions share no content."""
    entrypoint: Sequence[str] = ("/usr/sbin/nginx",)
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = DOCKER_HUB
    """The upstream it is published in."""

    @classmethod
    def named(cls, reference: str) -> SampleImage:
        """An image under a name with host and tag: `ghcr.io/kyverno/kyverno:v1.19.1`.

        It serves, but for a command line's, which ends.
        """
        name, _, tag = reference.rpartition(":")
        host, _, repository = name.partition("/")
        return cls(
            host=host,
            repository=repository,
            tags=(tag,),
            version=tag,
            entrypoint=("/bin/true" if repository.endswith("-cli") else "/usr/sbin/nginx",),
        )


SAMPLE_IMAGES: Sequence[SampleImage] = (
    SampleImage(repository="library/nginx", tags=("latest", "1.28"), version="1.28"),
    SampleImage.named("docker.io/library/nginx:1.27"),
    SampleImage.named("docker.io/library/nginx:1.26"),
    SampleImage(
        repository="library/busybox",
        tags=("latest", "1.37"),
        version="1.37",
        entrypoint=(),
        command=("sh",),
    ),
    SampleImage(
        repository="bitnami/redis",
        tags=("7.2", "latest"),
        version="7.2",
        environment={"PORT": "6379"},
    ),
    SampleImage(repository="rehearsal/pause", tags=("1",), version="1", entrypoint=("/pause",)),
    SampleImage.named("ghcr.io/stefanprodan/podinfo:6.9.0"),
    SampleImage.named("quay.io/prometheus/node-exporter:v1.9.1"),
)


class PublishError(RehearsalError):
    """An image could not be created or pushed; the text says why."""


def machine_architecture() -> str:
    """Return this machine's architecture as OCI names it. Raises PublishError."""
    machine = platform.machine().lower()
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise PublishError(
            f"no sample images for {machine}; known: {', '.join(sorted(_ARCHITECTURES))}"
        ) from None


def write_layout(image: SampleImage, program: Path, folder: Path) -> str:
    """Write an OCI image layout with one image index; return the index's digest."""
    layout = _Layout(folder)
    tar = _layer_tar(image, program)
    compressed = gzip.compress(tar, compresslevel=1, mtime=0)
    layer = layout.add(_LAYER, compressed)
    config = layout.add_json(_CONFIG, _image_config(image, tar))
    manifest = layout.add_json(
        _MANIFEST,
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": [layer]},
    )
    manifest["platform"] = {"architecture": machine_architecture(), "os": "linux"}
    index = layout.add_json(
        _INDEX, {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [manifest]}
    )
    layout.finish(index)
    return str(index["digest"])


def publish(
    images: Sequence[SampleImage],
    *,
    program: Path,
    registry: str,
    crane: Path,
    ca_certificate: Path,
    folder: Path,
) -> dict[str, str]:
    """Push images with all their tags; return the digest of each `repository:tag`.

    `registry` is host:port of the upstream registry, `folder` a scratch folder for the layouts.
    Raises PublishError.
    """
    digests: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "DOCKER_CONFIG": str(folder),
        "SSL_CERT_FILE": str(ca_certificate),
    }
    for image in images:
        layout = folder / f"{image.repository.replace('/', '_')}_{image.version}"
        digest = write_layout(image, program, layout)
        first, *more = image.tags
        name = f"{registry}/{image.repository}:{first}"
        _run([str(crane), "push", str(layout), name], environment=environment)
        for tag in more:
            _run([str(crane), "tag", name, tag], environment=environment)
        for tag in image.tags:
            digests[f"{image.repository}:{tag}"] = digest
    return digests


def _image_config(image: SampleImage, tar: bytes) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        + [f"{name}={value}" for name, value in sorted(image.environment.items())],
        "WorkingDir": "/",
        "Labels": {
            "org.opencontainers.image.title": image.repository,
            "org.opencontainers.image.version": image.version,
        },
    }
    if image.entrypoint:
        settings["Entrypoint"] = list(image.entrypoint)
    if image.command:
        settings["Cmd"] = list(image.command)
    return {
        "architecture": machine_architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "rehearsal"}],
    }


def _layer_tar(image: SampleImage, program: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ("bin", "etc", "tmp", "usr", "usr/sbin"):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        name = f"{image.repository} {image.version}\n".encode()
        for path, mode, content in (
            ("etc/image", 0o644, name),
            ("usr/sbin/nginx", 0o755, program.read_bytes()),
        ):
            entry = tarfile.TarInfo(path)
            entry.mode = mode
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for link in _LINKS:
            entry = tarfile.TarInfo(link)
            entry.type = tarfile.SYMTYPE
            entry.linkname = "/usr/sbin/nginx"
            tar.addfile(entry)
    return buffer.getvalue()


class _Layout:
    """An OCI image layout folder being written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def add(self, media_type: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (self._folder / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def add_json(self, media_type: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return self.add(media_type, json.dumps(content, sort_keys=True).encode())

    def finish(self, root: Mapping[str, Any]) -> None:
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self._folder / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [root]})
        )


def _run(command: Sequence[str], *, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PublishError(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()}")
