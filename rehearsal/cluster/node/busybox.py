"""A busybox image whose shell and tools are real, for Pods that run scripts on a real node."""

from __future__ import annotations

from pathlib import Path

from rehearsal.cloud.registries.images import SampleImage, publish
from rehearsal.parts import debian
from rehearsal.progress import Progress

IMAGE = SampleImage(
    repository="library/busybox",
    tags=("latest", "stable"),
    version="1.35",
    entrypoint=(),
    command=("sh",),
)
"""Debian's static busybox, in place of the sample image. Few of its programs are files; its shell
knows them all."""


def publish_busybox(
    *, registry: str, crane: Path, ca_certificate: Path, folder: Path, progress: Progress
) -> None:
    """Push the image; `registry` is host:port of the upstream registry, `folder` for scratch.

    Raises PackageError or PublishError.
    """
    program = debian.obtain(("busybox-static",), progress)["busybox-static"]
    publish(
        [IMAGE],
        program=program,
        registry=registry,
        crane=crane,
        ca_certificate=ca_certificate,
        folder=folder,
    )
