"""The Kyverno chart of the pinned version, complete without any chart repository."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml


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
