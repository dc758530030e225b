"""`python -m bench.preview N`: run the program as a preview does, for a stack of N clusters.

Nothing answers but mocks, so what takes time is the program itself: time it as a whole process.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from rehearsal.deploy.embedded import run
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.locations import CHECKOUT

PROJECT = "vke-dockerhub-proxy"


class Preview(Mocks):
    """Answers look-ups; everything to be made is unknown yet."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Take note of nothing."""
        return None if args.custom else args.name, dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """A cluster, or its kubeconfig."""
        if args.token.endswith("getClusters"):
            network = {"vpcId": f"vpc-{args.args['ids'][0]}", "subnetIds": ["subnet-1"]}
            cluster = {"id": args.args["ids"][0], "kubernetesVersion": "v1.34.1"}
            return {"clusters": [{**cluster, "clusterConfig": network}]}, []
        (cluster_id,) = args.args["clusterIds"]
        kubeconfig = {
            "id": "kc-1",
            "clusterId": cluster_id,
            "type": args.args["types"][0],
            "createTime": "2026-01-01T00:00:00Z",
            "kubeconfig": base64.b64encode(b"apiVersion: v1").decode(),
        }
        return {"kubeconfigs": [kubeconfig]}, []


def config(clusters: int) -> StackConfig:
    """An Enterprise stack of so many clusters."""
    sections: dict[str, Any] = {
        "registry": {
            "name": "hub",
            "edition": "Enterprise",
            "namespaces": [{"name": "library", "access": "Public"}],
        },
        "clusters": [
            {"name": f"c{index}", "clusterId": f"cc{index:08}"} for index in range(clusters)
        ],
    }
    values = {f"{PROJECT}:{name}": json.dumps(value) for name, value in sections.items()}
    return StackConfig(
        values={**values, "volcengine:region": "cn-beijing"}, secret_keys=frozenset()
    )


def main() -> None:
    """Run once."""
    run(CHECKOUT, "bench", config(int(sys.argv[1])), Preview(), preview=True)


if __name__ == "__main__":
    main()
