"""Kyverno's chart in each minor version whose Go module can be had, complete for Helm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehearsal.cluster.chart import assemble
from rehearsal.progress import Progress
from tests.support.modules import module_files

VERSIONS = ("1.13.6", "1.14.4", "1.15.2", "1.17.2", "1.18.2", "1.19.1")
"""Kyverno's versions; 1.16 cannot be had."""
OTHERS_POLICY: dict[str, Any] = {
    "apiVersion": "kyverno.io/v1",
    "kind": "ClusterPolicy",
    "metadata": {"name": "team-b-require-labels"},
    "spec": {
        "rules": [
            {
                "name": "r",
                "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
                "validate": {
                    "failureAction": "Audit",
                    "message": "m",
                    "pattern": {"metadata": {"labels": {"app": "?*"}}},
                },
            }
        ]
    },
}
"""A policy that somebody else put into the cluster."""
_API = "v0.0.1-alpha.3.0.20260723090831-fb2785727f98"


def chart(version: str, target: Path) -> str:
    """Put the chart of this Kyverno into the folder `target`; its own version.

    Of the charts it depends on, that of the CRDs of `policies.kyverno.io` is there.
    """
    source = f"github.com/kyverno/kyverno@v{version}//charts/kyverno"
    api = f"github.com/kyverno/api@{_API}//charts/kyverno-api"
    return assemble(
        module_files(source, f"kyverno-chart-{version}", Progress()),
        {"kyverno-api": module_files(api, f"kyverno-api-{_API}", Progress())},
        target,
    )
