"""A proxy that serves a thousand Docker Hub namespaces."""

from __future__ import annotations

import pytest

from components.types import DOCKER_HUB, Access, Engine, Proxy
from tests.support.harness import DOMAIN, Cluster, docker_hub
from tests.support.pods import images, pod


def test_a_thousand_namespaces_are_served(cluster: Cluster, engine: Engine) -> None:
    names = ["library", *(f"namespace{at:04}" for at in range(999))]
    with cluster.policy(engine, [docker_hub(*names)]):
        found = cluster.create(pod("namespace0998/x:1", "namespace0999/x:1", "nginx"))
    assert images(found) == [
        f"{DOMAIN}/namespace0998/x:1",
        "namespace0999/x:1",
        f"{DOMAIN}/library/nginx",
    ]


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([DOCKER_HUB], id="one-host"),
        pytest.param(
            [DOCKER_HUB, "ghcr.io", "quay.io", "public.ecr.aws", "registry.k8s.io"], id="five-hosts"
        ),
    ],
)
def test_a_pod_of_a_hundred_containers_is_redirected_beside_a_thousand_namespaces(
    cluster: Cluster, engine: Engine, hosts: list[str]
) -> None:
    """CEL has a cost limit in the API server; a Pod over it would be left as written."""
    each = 1000 // len(hosts)
    names = [f"namespace-{at:04}" for at in range(each)]
    proxies = [
        Proxy(host=host, domain=f"{host}.example", namespaces=dict.fromkeys(names, Access.PUBLIC))
        for host in hosts
    ]
    paths = [f"{names[at * each // 100]}/some/image:{at}" for at in range(100)]
    written = [hosts[at % len(hosts)] for at in range(100)]
    with cluster.policy(engine, proxies):
        found = cluster.create(
            pod(*(f"{host}/{path}" for host, path in zip(written, paths, strict=True)))
        )
    assert images(found) == [
        f"{host}.example/{path}" for host, path in zip(written, paths, strict=True)
    ]
