"""What names everything the stack makes in a cluster: its labels and its namespace."""

from __future__ import annotations

from typing import Final

LABELS: Final = {
    "app.kubernetes.io/part-of": "vke-dockerhub-proxy",
    "app.kubernetes.io/managed-by": "pulumi",
}
"""The labels of every object the stack makes in a cluster; selects them all."""
NAMESPACE: Final = "dockerhub-proxy"
"""The namespace of all that is namespaced and runs under Pod Security's `restricted` level."""
NODES_NAMESPACE: Final = "dockerhub-proxy-nodes"
"""The namespace of the node mirror, whose Pods need the level `privileged`."""
