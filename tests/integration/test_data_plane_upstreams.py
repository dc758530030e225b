"""Proxies of other upstreams than Docker Hub, beside its own, in one account.

Tried on the emulator, whose rules for them are assumed (rehearsal/cloud/api/rules.py); not on
Volcengine.
"""

from __future__ import annotations

import pytest

from rehearsal import wait
from rehearsal.cloud.registries.client import PullError
from rehearsal.cloud.registries.images import SampleImage
from tests.support.volcengine_stage import MICRO_PROXY, Stage, proxy_of

pytest_plugins = ("tests.support.volcengine_fixtures",)

PODINFO = "stefanprodan/podinfo:6.9.0"


@pytest.fixture
def ghcr(stage: Stage) -> str:
    """The domain of a proxy of ghcr.io."""
    cache = proxy_of("ghcr.io")
    return stage.api.make_proxy("ghcr", {"stefanprodan": "Public"}, ProxyCache=cache).domain


@pytest.fixture
def hub(stage: Stage) -> str:
    """The domain of a proxy of Docker Hub."""
    namespaces = {"library": "Public", "stefanprodan": "Public"}
    return stage.api.make_proxy("hub", namespaces).domain


def test_each_proxy_serves_the_images_of_its_own_upstream(
    stage: Stage, ghcr: str, hub: str
) -> None:
    digests = stage.upstream.by_host["ghcr.io"].digests
    assert stage.client.pull(f"{ghcr}/{PODINFO}") == digests[PODINFO]
    assert stage.client.pull(f"{hub}/library/nginx:latest")
    with pytest.raises(PullError, match="MANIFEST_UNKNOWN"):
        stage.client.pull(f"{hub}/{PODINFO}")


def test_an_upstream_is_reached_by_its_own_name(stage: Stage) -> None:
    digests = stage.upstream.by_host["ghcr.io"].digests
    assert stage.client.pull(f"ghcr.io/{PODINFO}") == digests[PODINFO]


def test_the_proxy_is_described_with_its_type_and_endpoint(stage: Stage, ghcr: str) -> None:
    (found,) = stage.api.call("ListRegistries", Filter={"Names": ["ghcr"]})["Items"]
    assert found["ProxyCache"] == {
        "Type": "DockerRegistry",
        "Endpoint": "https://ghcr.io",
        "Username": "",
        "SkipSSLVerify": False,
    }
    assert ghcr == "ghcr-cn-beijing.cr.volces.com"


def test_a_dead_upstream_fails_its_own_proxy_alone_until_it_is_healed(
    stage: Stage, ghcr: str, hub: str
) -> None:
    stage.api.administer("PUT", "upstreams/ghcr.io/fault", {"kind": "status", "status": 503})
    with pytest.raises(PullError):
        stage.client.pull(f"{ghcr}/{PODINFO}")
    assert stage.client.pull(f"{hub}/library/nginx:latest")
    stage.api.administer("DELETE", "upstreams/ghcr.io/fault")
    assert stage.client.pull(f"{ghcr}/{PODINFO}")


def test_what_is_cached_is_served_while_upstream_is_dead(stage: Stage, ghcr: str) -> None:
    digest = stage.client.pull(f"{ghcr}/{PODINFO}")
    stage.api.administer("PUT", "upstreams/ghcr.io/fault", {"kind": "drop"})
    repository = PODINFO.partition(":")[0]
    assert stage.client.pull(f"{ghcr}/{repository}@{digest}") == digest


def test_a_proxy_of_an_upstream_that_nothing_plays_fails(stage: Stage) -> None:
    cache = proxy_of("gcr.io")
    stage.api.call("CreateRegistry", Name="gcr", **{**MICRO_PROXY, "ProxyCache": cache})
    wait.until(lambda: stage.api.phase("gcr") == "Failed", "the registry has failed")
    assert stage.api.refusal("GetUser", Registry="gcr").code == "OperationDenied.RegistryStatus"
    stage.api.call("DeleteRegistry", Name="gcr", DeleteImmediately=True)
    wait.until(lambda: stage.api.phase("gcr") is None, "the registry is gone")


def test_an_image_can_be_made_for_any_name_of_any_upstream() -> None:
    image = SampleImage.named("ghcr.io/kyverno/kyverno:v1.19.1")
    assert (image.host, image.repository, image.tags) == (
        "ghcr.io",
        "kyverno/kyverno",
        ("v1.19.1",),
    )
