"""Kyverno's chart, complete without any chart repository."""

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


def of_parts(parts: Mapping[str, Path], target: Path) -> None:
    """Put the chart of the pinned version into the folder `target`, which is replaced.

    The CRDs of `policies.kyverno.io` and of `openreports.io` come from the Go modules Kyverno
    itself is built with.
    """
    names = ("kyverno-api", "openreports")
    assemble(parts["chart"], {name: parts[f"chart-{name}"] for name in names}, target)


def assemble(chart: Path, dependencies: Mapping[str, Path], target: Path) -> str:
    """Put a chart with the charts it depends on into the folder `target`; its version.

    A chart names its dependencies by repository: what is neither in its own folder nor among
    `dependencies`, by name, is an empty chart of that name, for something that is off by default.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(chart, target)
    document = yaml.safe_load((target / "Chart.yaml").read_text())
    for each in document["dependencies"]:
        inner = target / "charts" / each["name"]
        if inner.exists():
            continue
        if each["name"] in dependencies:
            shutil.copytree(dependencies[each["name"]], inner)
        else:
            inner.mkdir()
        metadata = {"apiVersion": "v2", "name": each["name"], "version": each["version"]}
        (inner / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    return str(document["version"])
