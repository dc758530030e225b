"""A proxy that serves a thousand Docker Hub namespaces."""

from __future__ import annotations

from components.types import Engine
from tests.conformance.test_pods import images, pod
from tests.support.harness import DOMAIN, Cluster, docker_hub


def test_a_thousand_namespaces_are_served(cluster: Cluster, engine: Engine) -> None:
    names = ["library", *(f"namespace{at:04}" for at in range(999))]
    written = ["namespace0998/x:1", "namespace0999/x:1", "nginx"]
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "test-"},
        "spec": {
            "containers": [{"name": f"c{at}", "image": image} for at, image in enumerate(written)]
        },
    }
    with cluster.policy(engine, [docker_hub(*names)]):
        found = cluster.create(document)
    assert [each["image"] for each in found["spec"]["containers"]] == [
        f"{DOMAIN}/namespace0998/x:1",
        "namespace0999/x:1",
        f"{DOMAIN}/library/nginx",
    ]


def test_a_pod_of_a_hundred_containers_is_redirected_beside_a_thousand_namespaces(
    cluster: Cluster, engine: Engine
) -> None:
    """CEL has a cost limit in the API server; a Pod over it would be left as written."""
    names = [f"namespace-{at:04}" for at in range(1000)]
    written = [f"{names[at * 10]}/some/image:{at}" for at in range(100)]
    with cluster.policy(engine, [docker_hub(*names)]):
        found = cluster.create(pod(*written))
    assert images(found) == [f"{DOMAIN}/{each}" for each in written]
