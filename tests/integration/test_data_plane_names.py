"""The CONNECT proxy: the rehearsal's names and nothing else."""

from __future__ import annotations

import httpx
import pytest

from tests.support.volcengine_stage import MICRO_PROXY, Stage

pytest_plugins = ("tests.support.volcengine_fixtures",)


def test_docker_hub_is_the_upstream_registry(stage: Stage) -> None:
    for image in ("nginx", "library/nginx:latest", "docker.io/library/nginx", "nginx:1.28"):
        assert stage.client.pull(image) == stage.upstream.digests["library/nginx:latest"]


@pytest.mark.parametrize(
    "url",
    [
        "https://quay.io/v2/",
        "https://mirror-cn-beijing.cr.volces.com/v2/",
        "https://registry-1.docker.io:444/v2/",
        "https://127.0.0.1/v2/",
        "https://localhost:22/",
        "https://xregistry-1.docker.io/v2/",
    ],
)
def test_a_name_that_is_not_the_rehearsals_is_refused(stage: Stage, url: str) -> None:
    with (
        httpx.Client(proxy=stage.api.names_url, trust_env=False) as client,
        pytest.raises(httpx.ProxyError, match="403"),
    ):
        client.get(url)


def test_a_request_other_than_connect_is_refused(stage: Stage) -> None:
    assert stage.api.names_url is not None
    answer = httpx.get("http://ghcr.io/v2/", proxy=stage.api.names_url, trust_env=False)
    assert answer.status_code == 405


def test_the_table_follows_the_registries(stage: Stage) -> None:
    hub = {"registry-1.docker.io", "index.docker.io", "auth.docker.io", "docker.io"}
    upstreams = {*hub, "ghcr.io"}
    assert set(stage.api.administer("GET", "names")) == upstreams
    domain = stage.api.make_registry("mirror", **MICRO_PROXY)
    assert set(stage.api.administer("GET", "names")) == {domain, *upstreams}


def test_a_registry_presents_a_certificate_for_its_own_domain(stage: Stage) -> None:
    domain = stage.api.make_registry("mirror", **MICRO_PROXY)
    shown = stage.api.administer("GET", "registries")[0]
    with stage.http(domain) as client:
        assert client.get("/v2/").status_code == 401
    with (
        httpx.Client(verify=stage.upstream.authority.context(), trust_env=False) as client,
        pytest.raises(httpx.ConnectError, match="certificate verify failed"),
    ):
        client.get(f"https://localhost:{shown['port']}/v2/")
