"""`python -m bench.preview N`: run the program as a preview does, for a stack of N clusters.

Nothing answers but mocks, so what takes time is the program itself: time it as a whole process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rehearsal.deploy.embedded import run
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.locations import CHECKOUT
from rehearsal.preview import Nothing

PROJECT = "vke-dockerhub-proxy"


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
    run(CHECKOUT, "bench", config(int(sys.argv[1])), Nothing(), preview=True)


if __name__ == "__main__":
    main()
