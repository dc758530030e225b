"""The Kyverno chart of the pinned version, complete without any chart repository."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_KYVERNO_HOST = "reg.kyverno.io"
"""Kyverno's own name for its images; it leads to ghcr.io."""


def images(helm: Path, chart: Path) -> list[str]:
    """Every image of the rendered chart, those of hook Jobs and test Pods too, each once.

    By its name at the registry that has it: ghcr.io for what is behind Kyverno's own name.
    """
    rendered = subprocess.run(
        [helm, "template", "kyverno", chart, "--namespace=kyverno"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    documents = yaml.load_all(rendered, Loader=yaml.CSafeLoader)
    found = {image for each in documents for image in images_in(each)}
    return sorted(
        f"ghcr.io{image.removeprefix(_KYVERNO_HOST)}"
        if image.startswith(f"{_KYVERNO_HOST}/")
        else image
        for image in found
    )


def images_in(manifest: Any) -> Iterator[str]:
    """The images that a manifest names, wherever in it."""
    if isinstance(manifest, dict):
        if isinstance(manifest.get("image"), str):
            yield manifest["image"]
        for value in manifest.values():
            yield from images_in(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from images_in(value)


def assemble(parts: Mapping[str, Path], target: Path) -> None:
    """Put the chart with the charts it depends on into the folder `target`.

    The chart's own module names its dependencies by repository. Two of them, the CRDs of
    `policies.kyverno.io` and of `openreports.io`, come from the Go modules Kyverno itself is built
    with; the reports server, off by default, is an empty chart of its name.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(parts["chart"], target)
    inner = target / "charts"
    shutil.copytree(parts["chart-kyverno-api"], inner / "kyverno-api")
    shutil.copytree(parts["chart-openreports"], inner / "openreports")
    declared = yaml.safe_load((target / "Chart.yaml").read_text())["dependencies"]
    wanted = {each["name"]: each["version"] for each in declared}
    empty = inner / "reports-server"
    empty.mkdir()
    (empty / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "reports-server", "version": "0"})
    )
    for name in ("kyverno-api", "openreports", "reports-server"):
        metadata = inner / name / "Chart.yaml"
        document = yaml.safe_load(metadata.read_text())
        document["version"] = wanted[name]
        metadata.write_text(yaml.safe_dump(document, sort_keys=False))
